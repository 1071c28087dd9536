"""What a trial and a process with attackers say to each other."""

from __future__ import annotations

import msgspec


class Spec(msgspec.Struct, frozen=True):
    """`attackers` connections, numbered from `first` on; a number decides the kind. `coming_s`: they come evenly spread
    over that time. `again_s`: about how long one whose connection has ended stays away. `core` is where the process
    runs, and `niceness` how much it lets others go first."""

    port: int
    attackers: int
    channel: str
    secret: str
    core: int
    coming_s: float
    again_s: float
    first: int = 0
    niceness: int = 0


class Came(msgspec.Struct, frozen=True):
    """Each has tried at least once."""


class Ask(msgspec.Struct, frozen=True):
    """Answer with `Deeds`."""


class Deeds(msgspec.Struct, frozen=True):
    """Since the beginning. `attempts`: connections begun. `open`: those that are there now, `most_open` at one moment.
    `ends`: of each kind, how its connections were ended by the server, and how often. `longest_s`: of each kind, the
    longest that one of its connections has lasted. `sent_bytes`: what was sent in order to do harm."""

    attempts: int
    open: int
    most_open: int
    sent_bytes: int
    ends: dict[str, dict[str, int]]
    longest_s: dict[str, float]


class Quit(msgspec.Struct, frozen=True):
    """Close everything and end."""


Order = Ask | Quit
