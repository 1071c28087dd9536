"""The way to other workers, and to programs that answer clients' calls."""
