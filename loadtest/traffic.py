"""What is published in a run: bodies that carry their number and time, and which connection gets which. Pure."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

_WORDS = (
    "about account after all and approved arrives at been between by can carrier changed customer day deliver"
    " delivery for from has in invoice is later left more new not note number of on open order other package"
    " paid price queue ready received remove request sent shipped soon stock that the their there this time to"
    " today tomorrow until update user waiting warehouse was week will with you your"
)
_BEGIN = b'{"t":"%020d","n":"%010d","pad":"'
_END = b'"}'
_TIME = slice(6, 26)
_NUMBER = slice(33, 43)
_HEAD = len(_BEGIN % (0, 0))
SMALLEST_BODY = _HEAD + len(_END)


class Bodies:
    """JSON objects of one fixed size: `{"t":"nanoseconds","n":"number","pad":"some words"}`.

    The words are the same in all, so two bodies differ in a few bytes near each other. Numbers are written as strings
    of fixed width, so that all bodies of a run have the same size.
    """

    def __init__(self, size: int) -> None:
        if size < SMALLEST_BODY:
            raise ValueError(f"a body has at least {SMALLEST_BODY} bytes")
        self._tail = _prose(size - SMALLEST_BODY) + _END
        self._size = size

    def make(self, number: int, time_ns: int) -> bytes:
        return _BEGIN % (time_ns, number) + self._tail

    def read(self, body: bytes) -> tuple[int, int]:
        """Number and time. Raises ValueError unless every byte is as `make` wrote it."""
        number, time_ns = int(body[_NUMBER]), int(body[_TIME])
        if body != self.make(number, time_ns):
            raise ValueError(f"not the body that was published: {body[:80]!r}…")
        return number, time_ns


def _prose(size: int) -> bytes:
    """So many bytes, always the same, that can be compressed about as well as what people write to each other. A row of
    one letter would shrink to nothing."""
    words = _WORDS.split()
    shortest = min(map(len, words)) + 1
    chosen = random.Random(1).choices(words, k=size // shortest + 1)
    return " ".join(chosen).encode()[:size]


class Traffic(msgspec.Struct, frozen=True):
    """Publications of `size` bytes, `rate` a second in total.

    `fanout`: all connections listen to one channel. `unicast`: each has a channel of its own, and publications go
    round all of them in an order that is shuffled once.
    """

    kind: Literal["fanout", "unicast"]
    connections: int
    rate: float
    size: int

    def channel(self, index: int) -> str:
        """Where the connection listens. All names of a run have one length, so frames have one size."""
        return "bench" if self.kind == "fanout" else f"user.{index:06d}"

    def order(self) -> list[int]:
        """The listeners of publication 0, 1, 2 …; then from the start again. For a fan-out: everybody, always."""
        if self.kind == "fanout":
            return [0]
        return random.Random(1).sample(range(self.connections), self.connections)

    @property
    def period(self) -> int:
        """How much a publication's number exceeds that of the one before it on the same connection."""
        return 1 if self.kind == "fanout" else self.connections

    @property
    def copies(self) -> int:
        """Deliveries that one publication makes."""
        return self.connections if self.kind == "fanout" else 1


class Reader:
    """Checks one connection's publications: whole, in order, none missing, none twice."""

    def __init__(self, bodies: Bodies, first: int, period: int) -> None:
        self._bodies = bodies
        self._next = first
        self._period = period
        self.received = 0

    def take(self, body: bytes) -> int:
        """When it was published. Raises ValueError when it is not the next one; goes on after it then."""
        self.received += 1
        expected = self._next
        number, time_ns = self._bodies.read(body)
        self._next = number + self._period
        if number != expected:
            raise ValueError(f"publication {number} came where {expected} was due")
        return time_ns
