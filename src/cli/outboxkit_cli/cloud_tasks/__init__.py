"""A local stand-in for Google's Cloud Tasks and for what signs its identity tokens, kept in memory. See `server`."""
