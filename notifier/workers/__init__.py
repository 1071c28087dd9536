"""Several processes on one port: a parent that looks after them, and how they know of each other."""
