"""What a second worker adds."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from loadtest import generator, orders, procfs
from loadtest.limits import allow_open_files
from loadtest.measurement import Helper
from loadtest.peers.product_wire import ProductWire
from loadtest.results import trust_notes
from loadtest.traffic import Traffic
from loadtest.trials import nodes
from loadtest.trials.outcome import Bound, Outcome
from loadtest.trials.trial import Trial
from loadtest.window import Window

RATIO = 1.8
SETTLE_S = 2.0
READ_EVERY_S = 0.025
SAMPLE_EVERY = 50


class Load(msgspec.Struct, frozen=True):
    """CPU time of each worker in the window, in seconds, and the deliveries that it brought."""

    cpu_s: list[float]
    deliveries: int
    p99_ms: float

    @property
    def cpu_us(self) -> float:
        """For one delivery."""
        return sum(self.cpu_s) / self.deliveries * 1e6

    @property
    def capacity(self) -> float:
        """Deliveries a second with the busiest worker's core full: what can be carried when each has a core."""
        return self.deliveries / max(self.cpu_s)


class Workers(Trial):
    key = "workers"
    about = (
        "The same fan-out from one worker and from several that share the port. A worker is full when its core is, so "
        "what they can carry is measured by the busiest one's CPU time, whether or not each of them has one for itself."
    )

    @classmethod
    def options(cls, add: Callable[..., object]) -> None:
        add("--clients", type=int, default=2000, help="(default: %(default)s)")
        add("--rate", type=float, default=50.0, help="publications a second, to all of them (default: %(default)s)")
        add("--workers", type=int, default=2, help="(default: %(default)s)")
        add("--rounds", type=int, default=3, help="one worker, then several, so many times (default: %(default)s)")
        add("--seconds", type=float, default=8.0, help="length of the measuring window (default: %(default)s)")
        add("--size", type=int, default=200, help="bytes of one publication's data (default: %(default)s)")

    def run(self) -> Outcome:
        chosen = self.chosen
        allow_open_files(chosen.clients)
        pairs = [(self._load(1, number), self._load(chosen.workers, number)) for number in range(1, chosen.rounds + 1)]
        ratios = sorted(several.capacity / one.capacity for one, several in pairs)
        middle = pairs[0] if len(pairs) == 1 else min(pairs, key=lambda pair: _off(pair, ratios[len(ratios) // 2]))
        one, several = middle
        limit = RATIO / 2 * chosen.workers
        bounds = [Bound("carried, against one worker", ratios[len(ratios) // 2], limit, "times", least=True)]
        figures = {
            "CPU for a delivery": f"{one.cpu_us:.2f} µs with one worker, {several.cpu_us:.2f} µs with {chosen.workers}",
            "carried with full cores": f"{one.capacity:,.0f}/s and {several.capacity:,.0f}/s",
            "p99 of deliveries": f"{one.p99_ms:.1f} ms and {several.p99_ms:.1f} ms",
            "shares of the workers": ", ".join(f"{cpu / sum(several.cpu_s):.0%}" for cpu in several.cpu_s),
            "all rounds": ", ".join(f"{ratio:.2f}" for ratio in ratios),
        }
        return self.outcome(bounds, figures)

    def _load(self, workers: int, number: int) -> Load:
        chosen = self.chosen
        self.tell(f"round {number}, workers: {workers}")
        traffic = Traffic("fanout", chosen.clients, chosen.rate, chosen.size)
        with nodes.running(1, self.cores.servers, server={"workers": workers}) as cluster:
            [node] = cluster.nodes
            pids = node.workers
            spec = orders.Spec(
                node.port, ProductWire(nodes.SECRET), traffic, pids, self.cores.servers, self.cores.clients,
                READ_EVERY_S, SAMPLE_EVERY,
            )  # fmt: skip
            crowd = Helper(generator.main, spec)
            try:
                crowd.hear(orders.Opened)
                with self.publications(cluster, chosen.rate, chosen.size) as voice:
                    time.sleep(SETTLE_S)
                    load = self._measure(crowd, pids)
                    self.stopped(voice)
                crowd.tell(orders.Quit())
            finally:
                crowd.end()
        return load

    def _measure(self, crowd: Helper, pids: list[int]) -> Load:
        before = [procfs.cpu_seconds([pid]) for pid in pids]
        crowd.tell(orders.OpenWindow())
        time.sleep(self.chosen.seconds)
        crowd.tell(orders.CloseWindow())
        window = crowd.hear(Window)
        after = [procfs.cpu_seconds([pid]) for pid in pids]
        self.notes += trust_notes(window)
        used = [end - begin for begin, end in zip(before, after, strict=True)]
        return Load(used, window.deliveries, window.latency.p99 if window.latency else 0.0)


def _off(pair: tuple[Load, Load], ratio: float) -> float:
    return abs(pair[1].capacity / pair[0].capacity - ratio)
