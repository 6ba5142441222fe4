"""The `outboxkit` command: it composes the roles, and imports each only when it is asked for."""
