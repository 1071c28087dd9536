"""Clients whose network fails all the time: everything arrives, and soon after they are back."""

from __future__ import annotations

import time
from collections.abc import Callable

from loadtest.fleet import orders
from loadtest.trials import nodes
from loadtest.trials.outcome import Bound, Outcome
from loadtest.trials.trial import Trial, continuity, counted, milliseconds, seconds_at_p99
from loadtest.trials.voice import Said

REPLAY_P99_S = 1.0
FINISH_S = 60.0


class Jitter(Trial):
    key = "jitter"
    about = (
        "TCP connections cut at random; the clients stay away for a while, come back and recover. The replay is the "
        "time from connecting again to having all that was missed."
    )

    @classmethod
    def options(cls, add: Callable[..., object]) -> None:
        add("--clients", type=int, default=5000, help="(default: %(default)s)")
        add("--messages", type=int, default=120, help="publications, to all of them (default: %(default)s)")
        add("--rate", type=float, default=2.0, help="of them a second (default: %(default)s)")
        add(
            "--cut-every",
            type=float,
            default=15.0,
            help="seconds between two cuts of one client (default: %(default)s)",
        )
        add("--away", type=float, default=2.0, help="seconds that it stays away (default: %(default)s)")
        add("--size", type=int, default=200, help="bytes of one publication's data (default: %(default)s)")

    def run(self) -> Outcome:
        chosen = self.chosen
        with (
            nodes.running(1, self.cores.servers) as cluster,
            self.fleet(cluster.ports, chosen.clients, chosen.size, first_retry_s=0.1) as fleet,
        ):
            fleet.tell(orders.Cut(chosen.cut_every, chosen.away))
            self.tell("publishing, and cutting")
            with self.publications(cluster, chosen.rate, chosen.size, chosen.messages) as voice:
                time.sleep(chosen.messages / chosen.rate)
                voice.hear(Said)
            fleet.tell(orders.Mend())
            fleet.tell(orders.Finish(chosen.messages, FINISH_S))
            told = fleet.hear(orders.Told)
        bounds = [
            *continuity(told, chosen.messages),
            Bound("replay p99", seconds_at_p99(told.replay), REPLAY_P99_S, "s"),
            Bound("connections cut", told.ends.get("cut", 0), 1, least=True),
        ]
        figures = {
            "deliveries": f"{told.received:,}",
            "returns": f"{told.returns:,}",
            "replay": milliseconds(told.replay),
            "away": milliseconds(told.away),
            "ends of connections": counted(told.ends),
            "faults": "; ".join(told.faults) or "none",
        }
        return self.outcome(bounds, figures)
