"""Thousands come back at once, while others have been there all the time."""

from __future__ import annotations

import time
from collections.abc import Callable

from loadtest import generator
from loadtest import orders as steady
from loadtest.fleet import orders
from loadtest.latency import Quantiles
from loadtest.measurement import Helper, MeasurementFailed
from loadtest.peers.product_wire import ProductWire
from loadtest.traffic import Traffic
from loadtest.trials import nodes
from loadtest.trials.outcome import Bound, Outcome
from loadtest.trials.trial import Trial, continuity, counted, milliseconds
from loadtest.window import Window

P99_MS = 200.0
BACK_S = 10.0
SETTLE_S = 2.0
FINISH_S = 60.0
READ_EVERY_S = 0.025
NICENESS = 10


class Reconnect(Trial):
    key = "reconnect"
    about = (
        "All connections of a fleet cut at once; all come back at once and recover. Deliveries to clients that were "
        "not cut are measured before and meanwhile."
    )

    @classmethod
    def options(cls, add: Callable[..., object]) -> None:
        add("--clients", type=int, default=5000, help="that come back (default: %(default)s)")
        add("--steady", type=int, default=200, help="clients that stay (default: %(default)s)")
        add("--rate", type=float, default=20.0, help="publications a second, to those who stay (default: %(default)s)")
        add("--rounds", type=int, default=3, help="storms (default: %(default)s)")
        add("--seconds", type=float, default=5.0, help="length of the window before (default: %(default)s)")
        add("--size", type=int, default=200, help="bytes of one publication's data (default: %(default)s)")

    def run(self) -> Outcome:
        chosen = self.chosen
        traffic = Traffic("fanout", chosen.steady, chosen.rate, chosen.size)
        with nodes.running(1, self.cores.servers) as cluster:
            [node] = cluster.nodes
            spec = steady.Spec(
                node.port, ProductWire(nodes.SECRET), traffic, [node.pid], self.cores.servers, self.cores.clients,
                READ_EVERY_S, samples=chosen.steady,
            )  # fmt: skip
            stay = Helper(generator.main, spec)
            try:
                stay.hear(steady.Opened)
                with (
                    self.fleet(cluster.ports, chosen.clients, chosen.size, 0.0, NICENESS, "quiet") as fleet,
                    self.publications(cluster, chosen.rate, chosen.size) as voice,
                ):
                    return self._storms(node, stay, fleet, voice)
            finally:
                stay.end()

    def _storms(self, node: nodes.Node, stay: Helper, fleet: Helper, voice: Helper) -> Outcome:
        chosen = self.chosen
        time.sleep(SETTLE_S)
        self.tell("before the storm")
        stay.tell(steady.OpenWindow())
        time.sleep(chosen.seconds)
        before = self._close(stay)
        found = [self._storm(stay, fleet, number) for number in range(1, chosen.rounds + 1)]
        refused = node.metric("notifier_refused_total")
        count = self.stopped(voice)
        stay.tell(steady.Finish(count * chosen.steady, FINISH_S))
        totals = stay.hear(steady.Totals)
        fleet.tell(orders.Finish(0, FINISH_S))
        told = fleet.hear(orders.Told)
        during, took_s = sorted(found, key=lambda one: one[0].p99)[len(found) // 2]
        bounds = [
            Bound("p99 of deliveries meanwhile", during.p99, P99_MS, "ms"),
            Bound("until everybody was back", took_s, BACK_S, "s"),
            Bound("deliveries missed by those who stayed", count * chosen.steady - totals.received, 0),
            Bound("connections lost by those who stayed", totals.lost_connections, 0),
            *continuity(told, 1)[1:],
        ]
        figures = {
            "before": milliseconds(before),
            "meanwhile": milliseconds(during),
            "all storms": ", ".join(f"p99 {one.p99:.1f} ms in {seconds:.2f} s" for one, seconds in found),
            "came back": f"{chosen.clients / took_s:,.0f} clients a second",
            "refused by the entrance": f"{refused:,.0f}",
            "connecting again to recovered": milliseconds(told.replay),
            "ends of connections and attempts": counted(told.ends),
        }
        return self.outcome(bounds, figures)

    def _storm(self, stay: Helper, fleet: Helper, number: int) -> tuple[Quantiles, float]:
        self.tell(f"storm {number}")
        stay.tell(steady.OpenWindow())
        fleet.tell(orders.CutAll())
        took_s = fleet.hear(orders.Opened).seconds
        latency = self._close(stay)
        time.sleep(SETTLE_S)
        return latency, took_s

    def _close(self, stay: Helper) -> Quantiles:
        stay.tell(steady.CloseWindow())
        latency = stay.hear(Window).latency
        if latency is None:
            raise MeasurementFailed("nothing was delivered in the window")
        return latency
