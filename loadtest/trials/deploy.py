"""A rolling deploy: every node is restarted in turn while publications flow."""

from __future__ import annotations

import time
from collections.abc import Callable

from loadtest.fleet import orders
from loadtest.trials import nodes
from loadtest.trials.outcome import Bound, Outcome
from loadtest.trials.trial import Trial, continuity, counted, milliseconds, seconds_at_p99

AWAY_P99_S = 2.0
FINISH_S = 60.0
AROUND_S = 2.0


class Deploy(Trial):
    key = "deploy"
    about = (
        "All nodes restarted in turn with SIGTERM, behind a balancer that asks /readyz and tries another node when one "
        "refuses. Clients wait before they connect again as the SDKs do. Away is the time from a connection's end to "
        "the next subscription."
    )

    @classmethod
    def options(cls, add: Callable[..., object]) -> None:
        add("--clients", type=int, default=5000, help="(default: %(default)s)")
        add("--nodes", type=int, default=3, help="(default: %(default)s)")
        add("--rate", type=float, default=2.0, help="publications a second, to all of them (default: %(default)s)")
        add("--delay", type=float, default=1.0, help="server.shutdown_delay in seconds (default: %(default)s)")
        add("--grace", type=float, default=20.0, help="server.shutdown_grace in seconds (default: %(default)s)")
        add("--retry", type=float, default=0.5, help="an SDK's least delay in seconds (default: %(default)s)")
        add("--size", type=int, default=200, help="bytes of one publication's data (default: %(default)s)")

    def run(self) -> Outcome:
        chosen = self.chosen
        settings = {"shutdown_delay": chosen.delay, "shutdown_grace": chosen.grace}
        with (
            nodes.running(chosen.nodes, self.cores.servers, server=settings) as cluster,
            self.fleet(cluster.ports, chosen.clients, chosen.size, first_retry_s=chosen.retry) as fleet,
        ):
            with self.publications(cluster, chosen.rate, chosen.size) as voice:
                time.sleep(AROUND_S)
                endings = [self._restart(number, node) for number, node in enumerate(cluster.nodes, 1)]
                time.sleep(AROUND_S)
                expected = self.stopped(voice)
            fleet.tell(orders.Finish(expected, FINISH_S))
            told = fleet.hear(orders.Told)
            codes = [code for node in cluster.nodes for code in node.exit_codes]
        bounds = [
            *continuity(told, expected),
            Bound("away p99", seconds_at_p99(told.away), AWAY_P99_S, "s"),
            Bound("nodes that ended well", codes.count(0), chosen.nodes, least=True),
            Bound("slowest end of a node", max(endings), chosen.grace, "s"),
            Bound("connections ended by a client", told.returns / told.clients, chosen.nodes, "a client"),
        ]
        figures = {
            "deliveries": f"{told.received:,}",
            "returns": f"{told.returns:,}",
            "away": milliseconds(told.away),
            "from connecting again to subscribed": milliseconds(told.replay),
            "ends of connections and attempts": counted(told.ends),
            "nodes ended after": ", ".join(f"{ending:.1f} s" for ending in endings),
            "faults": "; ".join(told.faults) or "none",
        }
        return self.outcome(bounds, figures)

    def _restart(self, number: int, node: nodes.Node) -> float:
        self.tell(f"node {number} is restarted")
        took_s = node.end()
        node.start()
        return took_s
