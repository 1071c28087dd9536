"""Which origins may connect."""

from __future__ import annotations

import pytest

from notifier.config import Server
from notifier.transports.gate import Gate


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        ("https://app.example.com", "https://app.example.com", True),
        ("https://app.example.com", "https://app.example.com:443", True),
        ("https://app.example.com", "https://APP.example.com", True),
        ("https://app.example.com", "http://app.example.com", False),
        ("https://app.example.com", "https://app.example.com:8443", False),
        ("https://app.example.com", "https://app.example.com.evil.com", False),
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evilexample.com", False),
        ("https://*.example.com", "http://a.example.com", False),
        ("https://*.example.com", "https://a.example.com.evil.com", False),
        ("https://*.example.com", "https://evil.com/.example.com", False),
        ("https://*.example.com", "https://evil.com#.example.com", False),
        ("*", "https://anything.example", True),
        ("*", "null", False),
        ("*", "file://", False),
    ],
)
def test_which_origins_an_entry_lets_in(allowed: str, origin: str, *, may: bool) -> None:
    assert Gate(Server(host="0.0.0.0", allowed_origins=[allowed])).allows(origin) is may
