"""Entries: one client's presence on a channel as bytes.

`+` when others are told if it leaves, else `-`; the length of the user's name in bytes, a colon and the name, so that a
script can count users; then what others see of the client, in JSON.
"""

from __future__ import annotations

import msgspec

from notifier.protocol.messages import ClientInfo

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ClientInfo).decode


def pack(info: ClientInfo, *, tells: bool) -> bytes:
    user = info.user.encode()
    return b"%c%d:%b%b" % (b"+" if tells else b"-", len(user), user, _encode(info))


def unpack(entry: bytes) -> tuple[ClientInfo, bool]:
    """The client, and whether others are told. Raises ValueError for what `pack` has not made."""
    length, _, rest = entry[1:].partition(b":")
    try:
        return _decode(rest[int(length) :]), entry[:1] == b"+"
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("not an entry of a worker") from error
