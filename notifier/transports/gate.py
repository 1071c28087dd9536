"""Gate: what every request of a browser passes before anything is done for it."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from notifier.config import Server, is_loopback


class Gate:
    """Checks the origin of a request against the configured ones.

    A browser tells a page's origin with every WebSocket handshake and every cross-origin request; a request without one
    is no page of somebody else's (OWASP, cross-site WebSocket hijacking, CWE-1385).
    """

    def __init__(self, server: Server) -> None:
        self._everybody = "*" in server.allowed_origins
        self._allowed = {_normal(origin) for origin in server.allowed_origins if "*" not in origin}
        # `https://*.example.com`: what an origin begins with, and what it ends with.
        self._below = [
            tuple(_normal(origin).split("*", 1)) for origin in server.allowed_origins if "*" in origin and origin != "*"
        ]
        self._loopback = is_loopback(server.host)

    def origin(self, request: web.Request) -> str:
        """The allowed origin of a request, empty when it has none. Raises HTTPForbidden for any other."""
        found = request.headers.getall("Origin", [])
        if not found:
            return ""
        if len(found) == 1 and self.allows(found[0]):
            return found[0]
        raise web.HTTPForbidden(text="origin not allowed: add it to server.allowed_origins\n")

    def allows(self, origin: str) -> bool:
        normal = _normal(origin)
        if not normal:
            return False
        if self._everybody or normal in self._allowed or (self._loopback and _is_loopback_origin(normal)):
            return True
        return any(normal.startswith(begin) and normal.endswith(end) for begin, end in self._below)


def cors_headers(origin: str) -> dict[str, str]:
    """What lets the page of an allowed origin read the answer (Fetch standard, CORS protocol)."""
    if not origin:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}


def _normal(origin: str) -> str:
    """`scheme://host:port` in lower case with the port always there; empty for what is no origin."""
    try:
        parts = urlsplit(origin)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return ""
    rest = (parts.path, parts.query, parts.fragment, parts.username, parts.password)
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(rest) or not port:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _is_loopback_origin(normal: str) -> bool:
    host = urlsplit(normal).hostname or ""
    return is_loopback(host)
