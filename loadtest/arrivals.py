"""The process whose clients all come at once: opens many connections, a fixed number at a time, and then holds them.

Their openings, tokens and all, are made before they are told to come.
"""

from __future__ import annotations

import gc
import time
from multiprocessing.connection import Connection

import msgspec

from loadtest.latency import Quantiles
from loadtest.limits import on_core
from loadtest.opening import Opener, OpeningFailed
from loadtest.wire import Wire


class Spec(msgspec.Struct, frozen=True):
    """Connection number `first + i` subscribes to `channels[i]`."""

    port: int
    wire: Wire
    first: int
    channels: list[list[str]]
    client_core: int
    in_flight: int = 128
    deadline_s: float = 120.0


class Prepared(msgspec.Struct, frozen=True):
    """They wait for `Come`."""


class Come(msgspec.Struct, frozen=True):
    """Now, and answer with `Arrived` when all are ready."""


class Arrived(msgspec.Struct, frozen=True):
    """`latency`: of one, from its first packet until it was ready. `cpu_s`: what these clients themselves took."""

    seconds: float
    cpu_s: float
    latency: Quantiles | None


class Failed(msgspec.Struct, frozen=True):
    reason: str


def main(spec: Spec, pipe: Connection) -> None:
    """The process; ends with the other end of the pipe."""
    with on_core(spec.client_core):
        steps = [spec.wire.steps(spec.first + place, *names) for place, names in enumerate(spec.channels)]
        opener = Opener(spec.port, steps)
        gc.disable()
        pipe.send(Prepared())
        try:
            pipe.recv()
            began, cpu_s = time.monotonic(), time.process_time()
            opener.run(spec.in_flight, spec.deadline_s)
            seconds = time.monotonic() - began
            pipe.send(Arrived(seconds, time.process_time() - cpu_s, Quantiles.of_ns(opener.durations_ns)))
            pipe.recv()
        except OpeningFailed as error:
            pipe.send(Failed(str(error)))
        except EOFError:
            return
