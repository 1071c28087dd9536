"""Entries of presence: what is packed comes out, and nothing else is taken for one."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from notifier.protocol.messages import ClientInfo
from notifier.state import entries


@given(st.text(), st.text(), st.booleans())
def test_what_was_packed_comes_out(user: str, client: str, tells: bool) -> None:
    try:
        user.encode(), client.encode()
    except UnicodeEncodeError:
        return  # half a pair of UTF-16: no such text can come in
    info = ClientInfo(user, client, Raw(b'{"a":1}'))
    assert entries.unpack(entries.pack(info, tells=tells)) == (info, tells)


@given(st.binary())
def test_anything_else_is_a_value_error(entry: bytes) -> None:
    with contextlib.suppress(ValueError):
        info, _ = entries.unpack(entry)
        assert isinstance(info, ClientInfo)


def test_a_script_finds_the_user_by_the_length_of_its_name() -> None:
    assert entries.pack(ClientInfo("zoë:1", "c"), tells=True).startswith("+6:zoë:1{".encode())
    assert entries.pack(ClientInfo("", "c"), tells=False).startswith(b"-0:{")
