"""Clients that come back: they keep their position, and find out whether anything was missed or came twice."""
