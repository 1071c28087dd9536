"""Addresses in the configuration: what they lead to, and whether that is safe."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from notifier.config.values import Secret


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RedisAddress(Struct, frozen=True):
    """What `redis.url` says. A port of 0 is the usual one."""

    tls: bool
    user: str
    password: Secret
    hosts: tuple[tuple[str, int], ...]
    database: int


_REDIS_URL = re.compile(
    r"(?P<scheme>rediss?)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?(?P<hosts>[^@/?#]+)"
    r"(?:/(?P<database>[0-9]{0,5}))?"
)


_REDIS_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+))(?::([0-9]{1,5}))?")


def redis_address(url: str) -> RedisAddress:
    """Raises ValueError for what is none; the text holds nothing of it."""
    match = _REDIS_URL.fullmatch(str.__str__(url))
    if match is None:
        raise ValueError(
            "expected redis://user:password@host:port/0 or rediss://…, nothing after it; other characters than letters "
            "and digits are percent-encoded in the password"
        )
    hosts = []
    for text in match["hosts"].split(","):
        host = _REDIS_HOST.fullmatch(text)
        if host is None or int(host[3] or 1) not in range(1, 65536):
            raise ValueError("expected host or host:port, an IPv6 address in brackets; several separated by commas")
        hosts.append((host[1] or host[2], int(host[3] or 0)))
    return RedisAddress(
        match["scheme"] == "rediss",
        unquote(match["user"] or ""),
        Secret(unquote(match["password"] or "")),
        tuple(hosts),
        int(match["database"] or 0),
    )


def is_trusted(url: str) -> bool:
    """Whether what is fetched from there can only come from that host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or port == 0 or parts.username is not None or parts.fragment or not url.isascii() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def is_stream_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("rabbitmq-stream", "rabbitmq-stream+tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
