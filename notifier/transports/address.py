"""Address: where a request comes from, also when it has passed proxies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

from aiohttp import web

from notifier.config import Server

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS = 32
_REMEMBERED = 4096  # texts; a proxy's own comes with every connection
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([0-9.]+):[0-9]+")


class Addresses:
    """Believes what a header says of the way before only as far as trusted proxies have written it: what stands left of
    the last one of them, anybody may have made up."""

    def __init__(self, server: Server) -> None:
        self._trusted = [ipaddress.ip_network(text) for text in server.trusted_proxies]
        self._hops = _forwarded if server.proxy_header == "Forwarded" else _x_forwarded_for

    def of(self, request: web.Request) -> Address | None:
        """The last address on the way here that is not a trusted proxy's. None for a connection without one."""
        address = parse(request.remote or "")
        if address is None or not self._trusted or not self._trusts(address):
            return address
        for _, text in zip(range(MAX_HOPS), self._hops(request), strict=False):
            hop = parse(text)
            if hop is None:
                break  # hidden, or no address
            address = hop
            if not self._trusts(address):
                break
        return address

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


@lru_cache(_REMEMBERED)
def parse(text: str) -> Address | None:
    """An address with or without a port. One of IPv4 inside IPv6 is that of IPv4."""
    text = text.strip().strip('"')
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


def network_of(address: Address) -> bytes:
    """What one customer of a provider has: an address of IPv4, or 64 bits of one of IPv6 (RFC 6177)."""
    return address.packed if address.version == 4 else address.packed[:8]


def _x_forwarded_for(request: web.Request) -> Iterator[str]:
    """From the nearest hop on."""
    return reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(","))


def _forwarded(request: web.Request) -> Iterator[str]:
    """The same by RFC 7239."""
    return (element.get("for", "") for element in reversed(request.forwarded))
