"""The server API: one table of methods, and the HTTP that serves it."""
