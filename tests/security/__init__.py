"""Hostile peers on raw sockets. What the defences are for stands in `docs/security.md`."""
