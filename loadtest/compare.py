"""`python -m loadtest compare`: all servers that can be had here, the same work for each in turn, round by round.

Writes one table and one picture of it, with ratios pair by pair, and everything that was measured as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from loadtest import comparison, environment
from loadtest.comparison import Comparison, Part
from loadtest.kinds import kind_of
from loadtest.limits import NotEnough, allow_open_files, check_cores, on_core
from loadtest.measurement import SETTLE_S, Timing
from loadtest.peers.catalogue import PEERS
from loadtest.peers.peer import Missing, NotStarted, Peer
from loadtest.progress import Progress
from loadtest.results import Point
from loadtest.scenarios import SCENARIOS, on_channels

CACHE = Path("~/.cache/notifier-loadtest")
OUT = Path("var/loadtest")

# All that speak over WebSockets. What cannot be had here is left out, loudly.
EVERYBODY = (
    "floor", "python-floor", "uws", "notifier", "nchan", "nchan-nodelay", "ws", "socketio", "centrifugo", "websockets",
    "starlette", "naive", "python-socketio", "channels", "web-stomp", "web-mqtt",
)  # fmt: skip
# Those that take more than one subscription from a client, and keep the members of channels apart.
SUBSCRIBING = tuple(key for key in EVERYBODY if "floor" not in key)
EVENTS = ("notifier-sse", "notifier", "nchan-sse", "mercure")
FEW = ("floor", "uws", "notifier")


class Work(NamedTuple):
    """A part of the comparison. `own` is which of our servers the others are held against."""

    key: str
    scenario: str
    points: Sequence[Point]
    servers: Sequence[str]
    own: str = "notifier"


def _fanout(*points: tuple[int, float], size: int = 200) -> list[Point]:
    return [Point("fanout", connections, rate, size) for connections, rate in points]


FULL = (
    Work("fanout", "fanout", _fanout((1000, 50), (1000, 300), (1000, 1200), (10_000, 5)),
         (*EVERYBODY, "notifier-delayed")),
    Work("sizes", "fanout", [Point("fanout", 1000, 50, size) for size in (100, 1024, 4096, 16_384)], EVERYBODY),
    Work("unicast", "unicast", [Point("unicast", 1000, 1000), Point("unicast", 10_000, 10_000)],
         (*EVERYBODY, "notifier-amqp")),
    Work("mixed", "mixed", [Point("mixed", 2000, 500)], SUBSCRIBING),
    Work("sse", "fanout", _fanout((1000, 50), (1000, 300), (10_000, 5)), EVENTS, own="notifier-sse"),
    Work("shrunk", "fanout", _fanout((10_000, 5), size=1024), ("notifier", "notifier-delta", "notifier-deflate")),
    Work("churn", "churn", [Point("churn", 1000)],
         ("notifier", "centrifugo", "socketio", "python-socketio", "web-stomp", "web-mqtt")),
    Work("storm", "storm", [Point("storm", 5000)], SUBSCRIBING),
    Work("recovery", "recovery", [Point("recovery", 10_000)], ("notifier", "centrifugo")),
    Work("idle", "idle", [Point("idle", 10_000)], (*SUBSCRIBING, "notifier-sse", "nchan-sse", "mercure")),
    Work("subscribers", "subscribers", SCENARIOS["subscribers"].points, FEW),
    Work("channels", "channels", SCENARIOS["channels"].points, FEW[1:]),
    Work("many", "many", [Point("many", 50_000, 1)], FEW[1:]),
)  # fmt: skip
QUICK = (
    Work("fanout", "fanout", _fanout((200, 50)), FEW),
    Work("unicast", "unicast", [Point("unicast", 200, 200)], FEW),
    Work("mixed", "mixed", [Point("mixed", 180, 100)], FEW[2:]),
    Work("sse", "fanout", _fanout((200, 50)), ("notifier-sse",), own="notifier-sse"),
    Work("shrunk", "fanout", _fanout((200, 50), size=1024), ("notifier-delta", "notifier-deflate")),
    Work("churn", "churn", [Point("churn", 400)], FEW[2:]),
    Work("storm", "storm", [Point("storm", 500)], FEW[2:]),
    Work("recovery", "recovery", [Point("recovery", 500)], FEW[2:]),
    Work("channels", "channels", [on_channels(2000, 200)], FEW[2:]),
)


class Turn(NamedTuple):
    work: Work
    point: Point
    peer: Peer


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: measured; 1: nothing could be measured; 2: cannot be measured here."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the servers end with us
    try:
        check_cores(options.server_core, options.client_core)
    except NotEnough as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    with on_core(options.client_core):
        found = run(options)
    for path in write(options.out, found):
        print(f"written: {path}")
    print("\n" + comparison.markdown(found))
    return 0 if any(not row.failed for part in found.parts for row in part.rows) else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked; ends the program when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest compare",
        description="Installs and starts each server that can be had here, gives all of them the same work in turn, in"
        " interleaved rounds, and writes one table and one picture. The whole of it takes hours; --only, --peers and"
        " --rounds make it shorter.",
        epilog="Work: " + ", ".join(work.key for work in FULL) + ". Servers: " + ", ".join(PEERS) + ".",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a minute or two: does everything work here? The figures are worth little")
    add("--only", default="", metavar="A,B", help="these parts of the work (default: all)")
    add("--peers", default="", metavar="A,B", help="these servers, in all parts that they can do (default: all)")
    add("--rounds", type=int, default=0, help="every round runs everything (default: 5, quick: 1)")
    add("--seconds", type=float, default=0.0, help="length of the measuring window (default: 8, quick: 1)")
    add("--server-core", type=int, default=0, help="core of the server (default: %(default)s)")
    add("--client-core", type=int, default=1, help="core of everything else (default: %(default)s)")
    add("--cache", type=Path, default=CACHE, help="where servers are installed (default: %(default)s)")
    add("--out", type=Path, default=OUT, help="folder for JSON, Markdown and SVG (default: %(default)s)")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1.0 if options.quick else 8.0)
    options.only, options.peers = _listed(options.only), _listed(options.peers)
    if unknown := options.only - {work.key for work in FULL}:
        parser.error(f"--only: {', '.join(sorted(unknown))}: not among {', '.join(work.key for work in FULL)}")
    if unknown := options.peers - set(PEERS):
        parser.error(f"--peers: {', '.join(sorted(unknown))}: not among {', '.join(PEERS)}")
    options.works = chosen(QUICK if options.quick else FULL, options.only, options.peers)
    if not options.works:
        parser.error("nothing of the work is left with these options")
    return options


def _listed(text: str) -> set[str]:
    return set(filter(None, text.split(",")))


def chosen(works: Sequence[Work], only: set[str], peers: set[str]) -> list[Work]:
    """What is left of the work. Servers that are asked for by name are given also what others do in a quick run."""
    full = {work.key: work.servers for work in FULL}
    left = []
    for work in works:
        servers = tuple(key for key in full[work.key] if key in peers) if peers else tuple(work.servers)
        if servers and (not only or work.key in only):
            left.append(work._replace(servers=servers))
    return left


def run(options: argparse.Namespace) -> Comparison:
    """Install, prepare, measure, release."""
    seen = environment.look()
    progress = Progress(sys.stderr)
    keys = list(dict.fromkeys(key for work in options.works for key in work.servers))
    cache = options.cache.expanduser()
    peers = {key: PEERS[key](cache) for key in keys}
    found = Comparison(
        seen, options.quick, options.rounds, options.seconds, options.server_core, options.client_core,
        labels={key: peer.label for key, peer in peers.items()},
        tuned={key: peer.settings for key, peer in peers.items() if peer.settings},
    )  # fmt: skip
    try:
        for peer in peers.values():
            try:
                progress.say(peer.label, "preparing")
                found.versions[peer.key] = peer.install()
                peer.prepare()
            except (Missing, NotStarted) as error:
                found.skipped[peer.key] = str(error)
                progress.done(f"LEFT OUT: {peer.label}: {error}")
        present = {key: peer for key, peer in peers.items() if key not in found.skipped}
        measure(options, _possible(options.works, found, progress), present, progress, found)
    except KeyboardInterrupt:
        progress.done("interrupted; what follows is what there is")
    finally:
        for peer in peers.values():
            peer.release()
    return found


def _possible(works: Sequence[Work], found: Comparison, progress: Progress) -> list[Work]:
    """The work for which the machine allows enough open files."""
    left = []
    for work in works:
        try:
            for point in work.points:
                allow_open_files(point.connections)
            left.append(work)
        except NotEnough as error:
            found.left_out[work.key] = str(error)
            progress.done(f"LEFT OUT: {work.key}: {error}")
    return left


def measure(
    options: argparse.Namespace, works: Sequence[Work], peers: dict[str, Peer], progress: Progress, found: Comparison
) -> None:
    """All servers at all work, then all again: slow changes of the machine meet everybody alike. Adds to `found`."""
    timing = Timing(
        options.seconds, options.seconds / 4, options.server_core, options.client_core, 0.025,
        SETTLE_S / 4 if options.quick else SETTLE_S,
    )  # fmt: skip
    parts = {work.key: Part(work.key, work.scenario, list(work.points), work.own) for work in works}
    found.parts.extend(parts.values())
    turns = list(_turns(works, peers))
    for number in range(1, options.rounds + 1):
        for place, turn in enumerate(turns, 1):
            name = f"[{place}/{len(turns)}] round {number} · {turn.work.key} · {turn.point.name} · {turn.peer.label}"
            measurement = kind_of(turn.work.scenario)(turn.peer, turn.point, timing, partial(progress.say, name))
            row = measurement.run(number)
            parts[turn.work.key].rows.append(row)
            progress.done(f"{name}: {comparison.told(row, turn.work.scenario)}")
        with contextlib.suppress(OSError):  # a long run: what there is, after every round
            write(options.out, found)


def _turns(works: Sequence[Work], peers: dict[str, Peer]) -> Iterator[Turn]:
    for work in works:
        for point in work.points:
            for key in work.servers:
                if key in peers:
                    yield Turn(work, point, peers[key])


def write(folder: Path, found: Comparison) -> list[Path]:
    """JSON with everything, the table, the picture."""
    stamp = dt.datetime.fromisoformat(found.environment.started).strftime("%Y%m%dT%H%M%SZ")
    return comparison.write(folder / f"compare-{stamp}", found)
