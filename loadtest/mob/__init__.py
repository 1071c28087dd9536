"""Connections that mean harm, many at once: against the own server, on loopback only."""
