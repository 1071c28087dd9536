"""Thousands of connections that mean harm, of every kind at once, beside clients that do not."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from loadtest import generator, procfs
from loadtest import orders as steady
from loadtest.fleet import orders
from loadtest.latency import Quantiles
from loadtest.measurement import Helper, MeasurementFailed
from loadtest.mob import orders as mob
from loadtest.mob import process
from loadtest.mob.attackers import KINDS
from loadtest.peers.product_wire import ProductWire
from loadtest.results import trust_notes
from loadtest.traffic import Traffic
from loadtest.trials import nodes
from loadtest.trials.outcome import Bound, Outcome
from loadtest.trials.trial import CHANNEL, Trial, continuity, counted, milliseconds, seconds_at_p99
from loadtest.window import Window

P99_RATIO = 2.0
BACK_P99_S = 5.0
SETTLE_S = 2.0
FINISH_S = 60.0
READ_EVERY_S = 0.025
LOOK_EVERY_S = 1.0
RELEASE_S = 60.0
NICENESS = 19
BURST_S = 20
SERVER = {"trusted_proxies": ["127.0.0.0/8"]}
"""Attackers come from loopback, which has no limits; a header says from which address in truth."""
WILD = """
[[channels]]
match = "wild.#"
history = { size = 10, ttl = "1m" }
wildcard = true
presence = true
subscribe = ["anyone"]
"""
CLIENT_KIB = 24
"""What a connection of any kind may cost besides what it is allowed to have waiting."""
SPARE_MIB = 64
SPARE_FILES = 20
KEPT_KIB = 16
"""Of what an attacker has cost: Python gives memory for small objects back by the MiB, once nothing is in it any more,
and between those of attackers lie some of clients that have stayed. What is kept is used again, so a second attack must
not add to it."""
ADDED_SHARE = 0.1
"""Of what was left of the first attack."""
MOST_LINES = 20


class Seen(msgspec.Struct):
    """While it went on."""

    memory: int = 0
    files: int = 0
    most_connections: float = 0


class Hostile(Trial):
    key = "hostile"
    about = (
        f"Clients alone, then beside attackers of {len(KINDS)} kinds, as many of each: connections that say nothing, "
        "requests byte by byte, half-open connections, floods of pings, fragments, commands and subscriptions, bad "
        "tokens, readers that do not read, a crowd from one address. Whoever is thrown out comes again. The others get "
        "everything in time, the server's memory stays within what its configuration allows, and afterwards everything "
        "is released."
    )

    @classmethod
    def options(cls, add: Callable[..., object]) -> None:
        add("--attackers", type=int, default=10_000, help="(default: %(default)s)")
        add("--clients", type=int, default=500, help="that stay (default: %(default)s)")
        add("--returning", type=int, default=100, help="others that come and go (default: %(default)s)")
        add("--rate", type=float, default=20.0, help="publications a second, to those who stay (default: %(default)s)")
        add("--seconds", type=float, default=60.0, help="of attack, after all have come (default: %(default)s)")
        add("--coming", type=float, default=10.0, help="seconds until all have come (default: %(default)s)")
        add("--again", type=float, default=2.0, help="seconds until one comes again (default: %(default)s)")
        add("--alone", type=float, default=10.0, help="length of the window before (default: %(default)s)")
        add("--buffer", type=int, default=128, help="clients.max_buffer in KiB (default: %(default)s)")
        add("--per-address", type=float, default=100.0, help="limits.connects_per_address (default: %(default)s)")
        add("--ping", type=int, default=10, help="clients.ping_interval in seconds (default: %(default)s)")
        add("--size", type=int, default=200, help="bytes of one publication's data (default: %(default)s)")

    @property
    def connections(self) -> int:
        return int(self.chosen.attackers + self.chosen.clients + self.chosen.returning)

    def run(self) -> Outcome:
        chosen = self.chosen
        settings = {"max_buffer": f"{chosen.buffer}KiB", "ping_interval": f"{chosen.ping}s", "pong_timeout": "4s"}
        rate = chosen.per_address
        limits = {"connects_per_address": rate, "connects_per_address_burst": int(rate * BURST_S)}
        traffic = Traffic("fanout", chosen.clients, chosen.rate, chosen.size)
        with nodes.running(
            1, self.cores.servers, server=SERVER, clients=settings, limits=limits, channels=WILD
        ) as cluster:
            [node] = cluster.nodes
            spec = steady.Spec(
                node.port, ProductWire(nodes.SECRET), traffic, [node.pid], self.cores.servers, self.cores.clients,
                READ_EVERY_S, samples=chosen.clients,
            )  # fmt: skip
            stay = Helper(generator.main, spec)
            try:
                stay.hear(steady.Opened)
                with (
                    self.fleet(cluster.ports, chosen.returning, chosen.size, 0.1, channel="quiet") as fleet,
                    self.publications(cluster, chosen.rate, chosen.size) as voice,
                ):
                    fleet.tell(orders.Cut(5.0, 0.5))
                    return self._attack(node, stay, fleet, voice)
            finally:
                stay.end()

    def _attack(self, node: nodes.Node, stay: Helper, fleet: Helper, voice: Helper) -> Outcome:
        chosen = self.chosen
        time.sleep(SETTLE_S)
        self.tell("clients alone")
        before = _look(node)
        alone = self._window(stay, lambda: time.sleep(chosen.alone))
        seen = Seen()
        with self._mob(node) as attackers:
            self.tell("attackers come")
            attackers.hear(mob.Came)
            self.tell("under attack")
            under = self._window(stay, lambda: self._watch(node, seen))
            attackers.tell(mob.Ask())
            deeds = attackers.hear(mob.Deeds)
        self.tell("afterwards")
        took_s, left, after = self._released(node, before)
        self.tell("attackers come again")
        with self._mob(node) as others:
            others.hear(mob.Came)
            self._watch(node, Seen())
        self.tell("afterwards")
        _, left_again, after_again = self._released(node, before)
        lines = [line for line in node.said.splitlines() if line]
        count = self.stopped(voice)
        stay.tell(steady.Finish(count * chosen.clients, FINISH_S))
        totals = stay.hear(steady.Totals)
        fleet.tell(orders.Mend())
        fleet.tell(orders.Finish(0, FINISH_S))
        told = fleet.hear(orders.Told)
        growth, kept = (seen.memory - before.memory) / 2**20, (after.memory - before.memory) / 2**20
        added = (after_again.memory - after.memory) / 2**20
        bounds = [
            Bound("p99 of deliveries, against alone", under.p99 / alone.p99, P99_RATIO, "times"),
            Bound("deliveries missed by those who stayed", count * chosen.clients - totals.received, 0),
            Bound("deliveries that were wrong", totals.fault_count, 0),
            Bound("connections lost by those who stayed", totals.lost_connections, 0),
            *continuity(told, 1)[1:],
            Bound("others until they were back, p99", seconds_at_p99(told.replay), BACK_P99_S, "s"),
            Bound("attackers that tried", min(deeds.attempts, chosen.attackers), chosen.attackers, least=True),
            Bound("growth of the server's memory", growth, self._allowed_mib(), "MiB"),
            Bound("growth that is left afterwards", kept, self._may_stay_mib(), "MiB"),
            Bound("what a second attack adds to that", added, max(ADDED_SHARE * kept, SPARE_MIB / 10), "MiB"),
            Bound("connections left of attackers", max(left, left_again), 0),
            Bound("descriptors left of them", after.files - before.files, SPARE_FILES),
            Bound("lines in the server's log", len(lines), MOST_LINES),
        ]  # fmt: skip
        figures = {
            "alone": milliseconds(alone),
            "under attack": milliseconds(under),
            "attempts of attackers": f"{deeds.attempts:,}, {deeds.open:,} open at the end, {deeds.most_open:,} at most",
            "at once at the server": f"{seen.files:,} descriptors, {seen.most_connections:,.0f} with a session",
            "sent by attackers": f"{deeds.sent_bytes / 2**20:,.0f} MiB",
            **{f"ends of: {key}": f"{counted(ends)}; after {deeds.longest_s[key]:.0f} s at most"
               for key, ends in sorted(deeds.ends.items())},
            "still there of": ", ".join(sorted(deeds.longest_s.keys() - deeds.ends.keys())) or "none",
            "until everything was released": f"{took_s:.0f} s",
            "others back after": milliseconds(told.replay),
            "ends of their connections and attempts": counted(told.ends),
            "log": lines[0][:200] if lines else "nothing",
        }  # fmt: skip
        return self.outcome(bounds, figures)

    @contextlib.contextmanager
    def _mob(self, node: nodes.Node) -> Iterator[Helper]:
        chosen = self.chosen
        spec = mob.Spec(
            node.port, chosen.attackers, CHANNEL, nodes.SECRET, self.cores.clients, chosen.coming, chosen.again,
            niceness=NICENESS,
        )  # fmt: skip
        helper = Helper(process.main, spec)
        try:
            yield helper
            helper.tell(mob.Quit())
        finally:
            helper.end()

    def _watch(self, node: nodes.Node, seen: Seen) -> None:
        ends = time.monotonic() + self.chosen.seconds
        while time.monotonic() < ends:
            found = _look(node)
            seen.memory, seen.files = max(seen.memory, found.memory), max(seen.files, found.files)
            with contextlib.suppress(OSError):
                seen.most_connections = max(seen.most_connections, node.metric("notifier_connections{"))
            time.sleep(LOOK_EVERY_S)

    def _released(self, node: nodes.Node, before: Seen) -> tuple[float, float, Seen]:
        """How long it took until connections and memory were given back, how many connections are left, and what
        else."""
        began = time.monotonic()
        honest = self.chosen.clients + self.chosen.returning
        while True:
            found, took_s = _look(node), time.monotonic() - began
            left = max(0.0, node.metric("notifier_connections{") - honest)
            back = (found.memory - before.memory) / 2**20 <= self._may_stay_mib()
            if (not left and found.files <= before.files + SPARE_FILES and back) or took_s > RELEASE_S:
                return took_s, left, found
            time.sleep(LOOK_EVERY_S)

    def _allowed_mib(self) -> float:
        """What the configuration says that so many may cost, if all those who can fill a buffer do."""
        chosen = self.chosen
        of_kind = chosen.attackers / len(KINDS)
        filling = Counter(
            {"asks without reading": chosen.buffer, "flood of fragments": 64, "flood of pings": chosen.buffer}
        )
        whole = float(chosen.attackers * CLIENT_KIB + of_kind * filling.total())
        return whole / 1024 + SPARE_MIB

    def _may_stay_mib(self) -> float:
        """With the allocator."""
        return float(max(self.chosen.attackers * KEPT_KIB / 1024, SPARE_MIB))

    def _window(self, crowd: Helper, meanwhile: Callable[[], None]) -> Quantiles:
        crowd.tell(steady.OpenWindow())
        meanwhile()
        crowd.tell(steady.CloseWindow())
        window = crowd.hear(Window)
        self.notes += trust_notes(window)
        if window.latency is None:
            raise MeasurementFailed("nothing was delivered in the window")
        return window.latency


def _look(node: nodes.Node) -> Seen:
    return Seen(procfs.memory_bytes([node.pid]), len(list(Path(f"/proc/{node.pid}/fd").iterdir())))
