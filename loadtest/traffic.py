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
# Every body begins with it, and it is nowhere else: where frames cannot be counted, it can.
MARK = b'{"t":"'
# Of mixed traffic: so many publications for one client each follow one for many.
OWN_IN_A_ROW = 9


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

    `fanout`: all connections listen to one channel. `unicast`: each has channels of its own, one or, with `channels`,
    that many in all, and publications go round all of them in an order that is shuffled once. `mixed`: some of the
    connections listen to one channel, the others have one each; one publication in ten goes to the many.
    """

    kind: Literal["fanout", "unicast", "mixed"]
    connections: int
    rate: float
    size: int
    channels: int = 0

    def channels_of(self, index: int) -> list[str]:
        """Where the connection listens. All names of a run have one length, so frames have one size."""
        if index >= self.users:
            return [self._common]
        return [_own(number) for number in range(index, self._own_channels, self.users)]

    def order(self) -> list[str]:
        """The channels of publication 0, 1, 2 …; then from the start again."""
        if self.kind == "fanout":
            return [self._common]
        found = []
        for first in range(0, self._own_channels, self.users):
            for place, index in enumerate(self._shuffled()):
                if self.kind == "mixed" and place % OWN_IN_A_ROW == 0:
                    found.append(self._common)
                found.append(_own(first + index))
        return found

    def places(self) -> list[tuple[int, int]]:
        """For each connection: the number of its first publication, and how much that of each next one is higher."""
        mixed, row = self.kind == "mixed", OWN_IN_A_ROW + 1
        found = [(0, row if mixed else 1)] * self.connections
        for at, index in enumerate(self._shuffled()):
            turn, place = divmod(at, OWN_IN_A_ROW)
            found[index] = (turn * row + place + 1, self.users // OWN_IN_A_ROW * row) if mixed else (at, self.users)
        return found

    @property
    def users(self) -> int:
        """How many connections have channels of their own; the first ones do."""
        if self.kind == "mixed":
            return self.connections // (2 * OWN_IN_A_ROW) * OWN_IN_A_ROW
        return self.connections if self.kind == "unicast" else 0

    @property
    def most_copies(self) -> int:
        """Deliveries that one publication makes at most."""
        return self.connections - self.users if self.kind != "unicast" else 1

    def deliveries(self, publications: int) -> int:
        """That the first so many publications make together."""
        if self.kind != "mixed":
            return publications * self.most_copies
        to_many = -(-publications // (OWN_IN_A_ROW + 1))
        return to_many * self.most_copies + publications - to_many

    @property
    def deliveries_per_s(self) -> float:
        if self.kind != "mixed":
            return self.rate * self.most_copies
        return self.rate * (self.most_copies + OWN_IN_A_ROW) / (OWN_IN_A_ROW + 1)

    @property
    def _common(self) -> str:
        return "bench" if self.kind == "fanout" else "room.000000"

    @property
    def _own_channels(self) -> int:
        return self.channels or self.users

    def _shuffled(self) -> list[int]:
        return random.Random(1).sample(range(self.users), self.users)


def _own(number: int) -> str:
    return f"user.{number:06d}"


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
