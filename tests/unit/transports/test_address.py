"""Where a request comes from: what proxies say is believed as far as they are trusted (reliability.md, S44)."""

from __future__ import annotations

from ipaddress import ip_address
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from notifier.config import Limits, Server
from notifier.core.stats import Stats
from notifier.transports.address import Addresses, network_of, parse
from notifier.transports.gate import Gate

PROXIES = ["10.0.0.0/8", "fd00::/8"]


def request(peer: str, *headers: tuple[str, str]) -> web.Request:
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (peer, 1) if name == "peername" else default
    return make_mocked_request("GET", "/", headers=CIMultiDict(headers), transport=transport)


def seen(peer: str, *headers: tuple[str, str], header: str = "X-Forwarded-For") -> str:
    addresses = Addresses(Server(trusted_proxies=PROXIES, proxy_header=header))  # type: ignore[arg-type]
    return str(addresses.of(request(peer, *headers)))


XFF = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("peer", "told", "expected"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),  # not from a proxy
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # what is left of it anybody may have written
        ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.9.9.9", "203.0.113.9"),
        ("10.0.0.1", "10.9.9.9", "10.9.9.9"),
        ("10.0.0.1", "203.0.113.9, rubbish", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, rubbish, 10.2.2.2", "10.2.2.2"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_x_forwarded_for(peer: str, told: str, expected: str) -> None:
    assert seen(peer, *([(XFF, told)] if told else [])) == expected


def test_several_headers_are_one() -> None:
    assert seen("10.0.0.1", (XFF, "198.51.100.1"), (XFF, "203.0.113.9"), (XFF, "10.0.0.7")) == "203.0.113.9"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ('for=198.51.100.1, for="[2001:db8::1]:47";proto=https;by=10.0.0.1', "2001:db8::1"),
        ("for=203.0.113.9, for=_hidden", "10.0.0.1"),
        ("for=203.0.113.9, for=unknown", "10.0.0.1"),
        ("proto=https", "10.0.0.1"),
        ("for=203.0.113.9, for=10.1.1.1", "203.0.113.9"),
    ],
)
def test_forwarded(told: str, expected: str) -> None:
    """RFC 7239."""
    assert seen("10.0.0.1", ("Forwarded", told), header="Forwarded") == expected


def test_the_other_header_is_the_clients_own() -> None:
    assert seen("10.0.0.1", ("Forwarded", "for=198.51.100.1")) == "10.0.0.1"
    assert seen("10.0.0.1", (XFF, "198.51.100.1"), header="Forwarded") == "10.0.0.1"


@given(st.text(), st.text())
def test_any_text_is_an_address_or_none(text: str, other: str) -> None:
    parse(text)
    seen("10.0.0.1", (XFF, f"{text},{other}".encode("ascii", "replace").decode().replace("\n", "").replace("\r", "")))


def test_an_address_counts_by_what_one_customer_has() -> None:
    def key(text: str) -> bytes:
        return network_of(ip_address(text))

    assert key("192.0.2.1") != key("192.0.2.2")
    assert key("2001:db8:0:1::1") == key("2001:db8:0:1:ffff::9")
    assert key("2001:db8:0:1::1") != key("2001:db8:0:2::1")


# --- at the gate ------------------------------------------------------------------------------------------------------


def test_an_address_that_connects_too_often_is_told_when_to_come_back() -> None:
    stats = Stats()
    gate = Gate(Server(), Limits(connects_per_address=0.1, connects_per_address_burst=2), stats)
    for peer in ("192.0.2.1", "2001:db8::1"):
        for _ in range(2):
            gate.admit(request(peer))
        with pytest.raises(web.HTTPTooManyRequests) as caught:
            gate.admit(request(peer), {"Vary": "Origin"})
        assert caught.value.headers["Retry-After"] == "10"
        assert caught.value.headers["Vary"] == "Origin"
    with pytest.raises(web.HTTPTooManyRequests):
        gate.admit(request("2001:db8::2"))
    gate.admit(request("192.0.2.2"))
    assert stats.refused == {"address_connects": 3}


def test_loopback_and_a_rate_of_zero_have_no_limit() -> None:
    gate = Gate(Server(), Limits(connects_per_address=0.1, connects_per_address_burst=1))
    for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1", ""):
        for _ in range(5):
            gate.admit(request(peer))
    free = Gate(Server(), Limits(connects_per_address=0, connects_per_address_burst=1))
    for _ in range(5):
        free.admit(request("192.0.2.1"))


def test_a_header_of_somebody_who_is_no_proxy_does_not_help() -> None:
    gate = Gate(Server(trusted_proxies=PROXIES), Limits(connects_per_address=0.1, connects_per_address_burst=1))
    gate.admit(request("192.0.2.1", (XFF, "198.51.100.1")))
    with pytest.raises(web.HTTPTooManyRequests):
        gate.admit(request("192.0.2.1", (XFF, "198.51.100.2")))
