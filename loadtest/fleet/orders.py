"""What a trial and the process with the fleet say to each other."""

from __future__ import annotations

import msgspec

from loadtest.latency import Quantiles


class Spec(msgspec.Struct, frozen=True):
    """`first_retry_s`: an SDK's least delay before it connects again; it doubles with each attempt that fails, and by
    chance up to as much again is added. 0: at once, then 50 ms later and so on. `core` is where the process runs, and
    `niceness` how much it lets others go first."""

    ports: list[int]
    clients: int
    channel: str
    size: int
    secret: str
    core: int
    first_retry_s: float = 0.5
    in_flight: int = 128
    niceness: int = 0
    deadline_s: float = 120.0


class Opened(msgspec.Struct, frozen=True):
    """All clients are subscribed. `seconds`: since the first attempt."""

    seconds: float


class Failed(msgspec.Struct, frozen=True):
    reason: str


class Cut(msgspec.Struct, frozen=True):
    """From now on, cut each client's connection about every so many seconds, by chance; it stays away for so long."""

    every_s: float
    away_s: float


class Mend(msgspec.Struct, frozen=True):
    """Cut no more."""


class CutAll(msgspec.Struct, frozen=True):
    """Cut all connections at once; all come back at once. Answer with `Opened` when the last one is."""


class Finish(msgspec.Struct, frozen=True):
    """Wait until everybody is there and has got this many publications, but not for longer than the deadline; answer
    with `Told`."""

    expected: int
    deadline_s: float


class Quit(msgspec.Struct, frozen=True):
    """Close everything and end."""


class Told(msgspec.Struct, frozen=True):
    """What became of the clients. `received`, `missing` and `doubled` are deliveries; `broken`: subscriptions that the
    server could not tell what they missed; `absent`: clients that are not there in the end.

    `away`: from a connection's end to the next subscription. `replay`: from connecting again to having all that was
    missed. `ends`: how connections ended, and how often. `refused`: attempts that a node refused.
    """

    clients: int
    received: int
    missing: int
    doubled: int
    broken: int
    absent: int
    returns: int
    refused: int
    ends: dict[str, int]
    faults: list[str]
    away: Quantiles | None
    replay: Quantiles | None


Order = Cut | Mend | CutAll | Finish | Quit
