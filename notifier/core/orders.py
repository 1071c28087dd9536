"""Orders: records of the log that are for the workers, not for clients.

What must hold for every worker, also for one that starts later, stands in the log like any publication: all of them
read it at the same place.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from notifier.errors import Rejected

CHANNEL = "$notifier.order"


class Revocation(Struct, frozen=True, omit_defaults=True):
    """Tokens that count no more: one by its id, or those issued before a time, of one user or of everybody.

    `before` is wall time in seconds.
    """

    token_id: str = ""
    user: str = ""
    before: float = 0.0
    everybody: bool = False


class Order(Struct, frozen=True, omit_defaults=True):
    """Exactly one of the two."""

    remove_history: str = ""
    revoke: Revocation | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Order).decode


def encode(order: Order) -> bytes:
    return _encode(order)


def decode(body: bytes) -> Order:
    """Raises Rejected for what no worker has written."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Rejected("bad_order", "not an order of a worker") from error
