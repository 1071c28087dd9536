"""What trials have in common: their options, the processes with clients and publisher, and an order of things."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import msgspec

from loadtest import environment
from loadtest.fleet import crowd, orders
from loadtest.fleet.orders import Spec, Told
from loadtest.latency import Quantiles
from loadtest.measurement import Helper
from loadtest.publisher import Connected
from loadtest.traffic import Traffic
from loadtest.trials import voice
from loadtest.trials.nodes import SECRET, Nodes
from loadtest.trials.outcome import Bound, Outcome, judged

CHANNEL = Traffic("fanout", 1, 1, 200).channels_of(0)[0]
LATE_S = 0.5

Tell = Callable[[str], None]


class Cores(msgspec.Struct, frozen=True):
    """Of the servers, and of everything else."""

    servers: int
    clients: int


class Trial:
    """`options` adds what can be chosen; `run` does it. A trial is made for one run."""

    key: ClassVar[str]
    about: ClassVar[str]

    @classmethod
    def options(cls, add: Callable[..., object]) -> None:
        """`add` is a parser's `add_argument`."""

    def __init__(self, options: argparse.Namespace, tell: Tell) -> None:
        self.chosen = options
        self.tell = tell
        self.cores = Cores(options.server_core, options.client_core)
        self.environment = environment.look()
        self.notes: list[str] = []

    @property
    def connections(self) -> int:
        """How many open files this needs, in the process with most of them."""
        return int(self.chosen.clients)

    def run(self) -> Outcome:
        """Raises NotStarted, MeasurementFailed."""
        raise NotImplementedError

    def outcome(self, bounds: list[Bound], figures: dict[str, str]) -> Outcome:
        hidden = {"trial", "out", "server_core", "client_core"}
        settings = {name: value for name, value in vars(self.chosen).items() if name not in hidden}
        return judged(
            Outcome(
                trial=self.key,
                about=self.about,
                settings=settings,
                environment=self.environment,
                bounds=bounds,
                figures=figures,
                notes=self.notes,
            )
        )

    # --- processes ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def fleet(
        self,
        ports: list[int],
        clients: int,
        size: int,
        first_retry_s: float = 0.5,
        niceness: int = 0,
        channel: str = CHANNEL,
    ) -> Iterator[Helper]:
        """Clients that are subscribed."""
        self.tell(f"{clients:,} clients connect")
        spec = Spec(ports, clients, channel, size, SECRET, self.cores.clients, first_retry_s, niceness=niceness)
        helper = Helper(crowd.main, spec)
        try:
            helper.hear(orders.Opened)
            yield helper
            helper.tell(orders.Quit())
        finally:
            helper.end()

    @contextlib.contextmanager
    def publications(self, nodes: Nodes, rate: float, size: int, most: int = 0) -> Iterator[Helper]:
        """So many a second from now on, until `stopped`, or until there were so many."""
        traffic = Traffic("fanout", 1, rate, size)
        helper = Helper(voice.main, voice.Spec(nodes.feed(), traffic, self.cores.clients, most))
        try:
            helper.hear(Connected)
            yield helper
        finally:
            helper.end()

    def stopped(self, helper: Helper) -> int:
        """Stop publishing; how many publications there were."""
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            helper.tell(voice.Stop())
        said = helper.hear(voice.Said)
        if said.latest_s > LATE_S:
            self.notes.append(f"uneven: the publisher was {said.latest_s:.1f} s late")
        return said.count


def continuity(told: Told, expected: int) -> list[Bound]:
    """What holds for clients that come back within the history window: nothing missed, nothing twice, all there."""
    whole = told.clients * expected
    return [
        Bound("delivered", 100 * (whole - told.missing) / whole, 100, "%", least=True),
        Bound("delivered twice", told.doubled, 0),
        Bound("not recovered", told.broken, 0),
        Bound("clients that are not back", told.absent, 0),
        Bound("deliveries that were wrong", len(told.faults), 0),
    ]


def milliseconds(found: Quantiles | None) -> str:
    """All of them on one line."""
    if found is None:
        return "-"
    return f"p50 {found.p50:,.1f} ms, p90 {found.p90:,.1f} ms, p99 {found.p99:,.1f} ms, max {found.max:,.1f} ms"


def seconds_at_p99(found: Quantiles | None) -> float | None:
    return None if found is None else found.p99 / 1000


def counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name}: {number:,}" for name, number in numbers.items()) or "none"
