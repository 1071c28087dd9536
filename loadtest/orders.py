"""What the harness and the process with the connections say to each other."""

from __future__ import annotations

import msgspec

from loadtest.latency import Quantiles
from loadtest.traffic import Traffic
from loadtest.window import Window
from loadtest.wire import Wire


class Spec(msgspec.Struct, frozen=True):
    """`samples`: about so many connections are parsed in full; the others are read every `read_every_s`."""

    port: int
    wire: Wire
    traffic: Traffic
    server_pids: list[int]
    server_core: int
    client_core: int
    read_every_s: float
    samples: int
    in_flight: int = 128
    open_deadline_s: float = 120.0


class Opened(msgspec.Struct, frozen=True):
    """All connections are ready. `window`: from the first attempt to then."""

    window: Window
    latency: Quantiles | None


class Totals(msgspec.Struct, frozen=True):
    """Since the beginning. `faults`: the first few of what was wrong with publications, in words."""

    received: int
    sampled: int
    lost_connections: int
    fault_count: int
    faults: list[str]


class Failed(msgspec.Struct, frozen=True):
    reason: str


class OpenWindow(msgspec.Struct, frozen=True):
    """From now on, measure."""


class CloseWindow(msgspec.Struct, frozen=True):
    """Answer with the `Window` since then."""


class Finish(msgspec.Struct, frozen=True):
    """Wait for this many deliveries, but not past the deadline, and answer with the totals."""

    expected: int
    deadline_s: float


class Quit(msgspec.Struct, frozen=True):
    """Close everything and end."""


Order = OpenWindow | CloseWindow | Finish | Quit
