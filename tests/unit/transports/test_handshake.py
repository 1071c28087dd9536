"""The handshake: which requests are for a WebSocket, and what is agreed on."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from notifier.transports.handshake import Handshake, handshake

# The key and its answer are the RFC's own (RFC 6455 section 1.3).
ASKED = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
ACCEPTED = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


def shake(*more: tuple[str, str], without: str = "", compress: bool = True) -> Handshake:
    """The last header of a name counts, but those that `more` has several of."""
    headers = CIMultiDict({name: value for name, value in ASKED.items() if name not in (without, *dict(more))})
    for name, value in more:
        headers.add(name, value)
    request = make_mocked_request("GET", "/", headers=headers)
    return handshake(request, protocols=("one", "two"), compress=compress)


def test_the_answer_to_the_rfcs_own_example() -> None:
    found = shake()
    assert found.answer.startswith(b"HTTP/1.1 101 ")
    assert found.answer.endswith(b"\r\n\r\n")
    assert ACCEPTED in found.answer
    assert (found.protocol, found.window_bits) == ("", 0)
    assert b"Extensions" not in found.answer
    assert b"Protocol:" not in found.answer


@pytest.mark.parametrize(("name", "value"), [("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")])
def test_headers_may_be_written_as_proxies_and_old_browsers_do(name: str, value: str) -> None:
    assert ACCEPTED in shake((name, value)).answer


@pytest.mark.parametrize("name", list(ASKED))
def test_what_lacks_one_of_the_headers_is_told_what_this_is(name: str) -> None:
    with pytest.raises(web.HTTPUpgradeRequired) as caught:
        shake(without=name)
    assert caught.value.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upgrade", "h2c"),
        ("Connection", "close"),
        ("Sec-WebSocket-Version", "12"),
        ("Sec-WebSocket-Key", ""),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZQ=="),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSE\xe4"),
    ],
)
def test_so_is_what_says_something_else_in_it(name: str, value: str) -> None:
    with pytest.raises(web.HTTPUpgradeRequired):
        shake((name, value))


@pytest.mark.parametrize(
    ("asked", "chosen"), [(["two, one"], "two"), (["three", "one"], "one"), (["three"], ""), (["o"], "")]
)
def test_the_first_subprotocol_that_is_known_is_chosen(asked: list[str], chosen: str) -> None:
    found = shake(*(("Sec-WebSocket-Protocol", text) for text in asked))
    assert found.protocol == chosen
    assert (f"Sec-WebSocket-Protocol: {chosen}\r\n".encode() in found.answer) is bool(chosen)


@pytest.mark.parametrize(
    ("offer", "bits"),
    [
        ("permessage-deflate", 15),
        ("permessage-deflate; client_max_window_bits", 15),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", 15),
        ('permessage-deflate; server_max_window_bits="10"; client_max_window_bits=8', 10),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", 15),
        ("x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=9", 9),
        ("permessage-deflate; server_max_window_bits=8", 0),
        ("permessage-deflate; server_max_window_bits", 0),
        ("permessage-deflate; server_max_window_bits=16", 0),
        ("permessage-deflate; client_max_window_bits=16", 0),
        ("permessage-deflate; server_no_context_takeover=1", 0),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", 0),
        ("permessage-deflate; unheard_of", 0),
        ("permessage-deflated", 0),
        ("", 0),
    ],
)
def test_the_first_offer_of_compression_that_can_be_kept_to_is_taken(offer: str, bits: int) -> None:
    found = shake(("Sec-WebSocket-Extensions", offer))
    assert found.window_bits == bits
    assert (b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context" in found.answer) is bool(bits)
    assert (b"server_max_window_bits" in found.answer) is (9 <= bits < 15)
    assert shake(("Sec-WebSocket-Extensions", offer), compress=False).window_bits == 0
