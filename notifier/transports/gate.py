"""Gate: what every request of a browser passes before anything is done for it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from aiohttp import web

from notifier.config import Limits, Server, is_loopback
from notifier.core.rates import Limiter, Rate
from notifier.core.stats import Stats
from notifier.transports import seats
from notifier.transports.address import Addresses, network_of
from notifier.transports.seats import Seats

FULL_S = 10.0  # until an address that has all its connections may ask again: nobody knows when one of them ends
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Gate:
    """Checks the origin of a request against the configured ones, how often its address connects, and how many
    connections it has.

    A browser tells a page's origin with every WebSocket handshake and every cross-origin request; a request without one
    is no page of somebody else's (OWASP, cross-site WebSocket hijacking, CWE-1385).
    """

    def __init__(self, server: Server, limits: Limits | None = None, stats: Stats | None = None) -> None:
        limits = limits or Limits()
        self._addresses = Addresses(server)
        self._connects: Limiter[bytes] = Limiter(_rate(limits))
        self._seats = Seats(limits.connections_per_address)
        self._stats = stats or Stats()
        self._everybody = "*" in server.allowed_origins
        self._allowed = {_normal(origin) for origin in server.allowed_origins if "*" not in origin}
        # `https://*.example.com`: what an origin begins with, and what it ends with.
        self._below = [
            tuple(_normal(origin).split("*", 1)) for origin in server.allowed_origins if "*" in origin and origin != "*"
        ]
        self._loopback = is_loopback(server.host)

    def reload(self, limits: Limits) -> None:
        """Other limits from now on; what was counted stays."""
        self._connects.change(_rate(limits))
        self._seats.most = limits.connections_per_address

    def origin(self, request: web.Request) -> str:
        """The allowed origin of a request, empty when it has none. Raises HTTPForbidden for any other."""
        found = request.headers.getall("Origin", [])
        if not found:
            return ""
        if len(found) == 1 and self.allows(found[0]):
            return found[0]
        raise web.HTTPForbidden(text="origin not allowed: add it to server.allowed_origins\n")

    def admit(self, request: web.Request, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Raises HTTPTooManyRequests, with the headers, when the address connects too often, or has all connections
        that it may have. Called before anything is done for the connection; never waits."""
        if wait_s := self.let_in(request):
            raise web.HTTPTooManyRequests(
                text="too many connections from this address\n",
                headers={**headers, "Retry-After": str(math.ceil(wait_s))},
            )

    def let_in(self, request: web.Request) -> float:
        """Count its connecting and give it its seat; 0 then, else the seconds until its address may try again."""
        address = self._addresses.of(request)
        if address is None or address.is_loopback:
            return 0.0
        network = network_of(address)
        if wait_s := self._connects.take(network, time.monotonic()):
            self._stats.refused["address_connects"] += 1
            return wait_s
        seat = self._seats.take(network)
        if seat is None:
            self._stats.refused["address_connections"] += 1
            return FULL_S
        request[seats.KEY] = seat
        return 0.0

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
    if not origin.isascii() or not origin.isprintable() or origin.endswith(":"):
        return ""  # what reads URLs would leave such characters out
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


def _rate(limits: Limits) -> Rate:
    return Rate(limits.connects_per_address, limits.connects_per_address_burst)
