"""Seats: how many connections an address has at a time, so that one alone cannot have all that there may be.

Who connects slowly enough never exceeds a rate, and open files are what a server runs out of first.
"""

from __future__ import annotations

from aiohttp import web


class Seats:
    """So many for each address, `most` or, with 0, any number."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: dict[bytes, int] = {}

    def take(self, network: bytes) -> Seat | None:
        """None when this address has all of its seats."""
        taken = self._taken.get(network, 0)
        if self.most and taken >= self.most:
            return None
        self._taken[network] = taken + 1
        return Seat(self, network)

    def __len__(self) -> int:
        """How many addresses have any."""
        return len(self._taken)

    def _leave(self, network: bytes) -> None:
        left = self._taken[network] - 1
        if left:
            self._taken[network] = left
        else:
            del self._taken[network]


class Seat:
    """Left once, when the connection has ended or has never become one."""

    __slots__ = ("_network", "_seats")

    def __init__(self, seats: Seats, network: bytes) -> None:
        self._seats = seats
        self._network = network

    def leave(self) -> None:
        self._seats._leave(self._network)  # noqa: SLF001 - its own


KEY = web.RequestKey("seat", Seat)
"""Where a request has it, until its connection does."""


def leave(request: web.Request) -> None:
    """For a request whose connection nobody has taken over."""
    seat = request.get(KEY)
    if seat is not None:
        seat.leave()
