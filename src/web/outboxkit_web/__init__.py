"""The web role: an application's routes, with one transaction a request, idempotency keys, and health."""
