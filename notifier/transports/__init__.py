"""Sockets around sessions: no decisions are made here but those of HTTP itself."""
