"""The command line: parse, measure in turn, show, write."""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from loadtest import archive, chart, compare, environment, ingest, publishing
from loadtest.kinds import kind_of
from loadtest.limits import NotEnough, allow_open_files, check_cores, on_core
from loadtest.measurement import Timing
from loadtest.peers.attached import Access, Attached
from loadtest.peers.catalogue import PEERS
from loadtest.peers.peer import Missing, NotStarted, Peer
from loadtest.peers.product import Product
from loadtest.progress import Progress
from loadtest.report import Report, Settings, form, markdown
from loadtest.results import Point, Row
from loadtest.scenarios import SCENARIOS, Scenario, parse_point
from loadtest.trials import cli as trials

CACHE = Path("~/.cache/notifier-loadtest")
OUT = Path("var/loadtest")
# What is more than one scenario. Each takes the words after its name, and answers with an exit code.
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "archive": archive.main,
    "compare": compare.main,
    "ingest": ingest.main,
    "report": publishing.main,
}


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: measured; 1: nothing could be measured; 2: cannot be measured here."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMMANDS:
        return COMMANDS[words[0]](words[1:])
    if words and words[0] in trials.TRIALS:
        return trials.main(words)
    options = parse(words)
    scenario = SCENARIOS[options.scenario]
    # The servers end with us: a signal must unwind what has been started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        check_cores(options.server_core, options.client_core)
        allow_open_files(max(point.connections for point in options.points))
    except NotEnough as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    with on_core(options.client_core):
        report = run(options, scenario)
    text = markdown(report, scenario)
    print("\n" + text)
    for path in write(options.out, report, scenario, text):
        print(f"written: {path}")
    return 0 if any(not row.failed for row in report.rows) else 1


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked; ends the program when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description="Measures this server and others side by side, each alone on one core, in interleaved rounds.",
        epilog="Servers: " + "; ".join(f"{key} ({peer.label})" for key, peer in PEERS.items()) + "."
        f" Trials with a bound: {', '.join(trials.TRIALS)}.",
    )
    commands = parser.add_subparsers(dest="scenario", required=True, metavar="|".join([*SCENARIOS, *COMMANDS]))
    for scenario in SCENARIOS.values():
        _add_options(commands.add_parser(scenario.key, help=scenario.about, description=scenario.about), scenario)
    options = parser.parse_args(argv)
    try:
        options.points = [parse_point(options.scenario, text, options.size) for text in options.points.split(",")]
    except ValueError as error:
        parser.error(f"--points: {error}")
    options.servers = options.servers.split(",")
    if bool(options.notifier_url) != bool(options.pid):
        parser.error("--notifier-url and --pid belong together")
    if unknown := set(options.servers) - set(PEERS):
        parser.error(f"--servers: {', '.join(sorted(unknown))}: not among {', '.join(PEERS)}")
    return options


def _add_options(parser: argparse.ArgumentParser, scenario: Scenario) -> None:
    points = ",".join(f"{p.channels or p.connections}" + f"x{p.rate:g}" * bool(p.rate) for p in scenario.points)
    form_of_point = ("CHANNELS" if scenario.points[0].channels else "CONNECTIONS") + "xRATE" * bool(
        scenario.points[0].rate
    )
    add = parser.add_argument
    add("--servers", default=",".join(scenario.servers), metavar="A,B", help="in this order (default: %(default)s)")
    add("--points", default=points, metavar=f"{form_of_point},…", help="(default: %(default)s)")
    add("--size", type=int, default=200, help="bytes of one publication's data (default: %(default)s)")
    add("--rounds", type=int, default=scenario.rounds, help="every round runs all servers (default: %(default)s)")
    add("--seconds", type=float, default=8.0, help="length of the measuring window (default: %(default)s)")
    add("--warm-up", type=float, default=2.0, help="seconds of traffic before it (default: %(default)s)")
    add("--baseline", default="uws", choices=list(PEERS), help="what the ratios refer to (default: %(default)s)")
    log = "notifier's log; with memory it is published to over HTTP, for low rates (default: %(default)s)"
    add("--log", default="rabbitmq", choices=["rabbitmq", "memory"], help=log)
    add("--server-core", type=int, default=0, help="core of the server (default: %(default)s)")
    add("--client-core", type=int, default=1, help="core of everything else (default: %(default)s)")
    add("--notifier-url", default="", metavar="URL", help="measure a notifier that runs here already, with --pid")
    add("--pid", type=int, default=0, help="its process id; the process stays on the cores where it is")
    add("--hmac-key", default="", metavar="KEY", help="its key for tokens")
    add("--api-key", default="", metavar="KEY", help="its API's key, to publish with")
    add("--amqp-url", default="", metavar="URL", help="its RabbitMQ, to publish through that instead")
    every = "ms between two reads of a connection that only counts; 0: at once (default: %(default)s)"
    add("--read-every", type=float, default=25.0, metavar="MS", help=every)
    add("--cache", type=Path, default=CACHE, help="where other servers are installed (default: %(default)s)")
    add("--out", type=Path, default=OUT, help="folder for JSON, Markdown and SVG (default: %(default)s)")


class Turn(NamedTuple):
    round: int
    point: Point
    peer: Peer


def run(options: argparse.Namespace, scenario: Scenario) -> Report:
    """Install, prepare, measure, release."""
    seen = environment.look()
    progress = Progress(sys.stderr)
    versions: dict[str, dict[str, str]] = {}
    skipped: dict[str, str] = {}
    rows: list[Row] = []
    peers = [made(key, options) for key in options.servers]
    try:
        for peer in peers:
            try:
                progress.say(peer.label, "preparing")
                versions[peer.key] = peer.install()
                peer.prepare()
            except (Missing, NotStarted) as error:
                skipped[peer.key] = str(error)
                progress.done(f"LEFT OUT: {peer.label}: {error}")
        present = [peer for peer in peers if peer.key not in skipped]
        measure(options, scenario, present, progress, rows)
    except KeyboardInterrupt:
        progress.done("interrupted; what follows is what there is")
    finally:
        for peer in peers:
            peer.release()
    settings = Settings(
        options.scenario, options.servers, options.points, options.rounds, options.seconds, options.warm_up,
        options.baseline, options.log, options.server_core, options.client_core, options.read_every / 1000,
    )  # fmt: skip
    return Report(settings, seen, {peer.key: peer.label for peer in peers}, versions, skipped, rows)


def made(key: str, options: argparse.Namespace) -> Peer:
    cache = options.cache.expanduser()
    peer = PEERS[key]
    if key == Product.key and options.notifier_url:
        access = Access(options.notifier_url, options.pid, options.hmac_key, options.api_key, options.amqp_url)
        return Attached(cache, access)
    return peer(cache, options.log) if issubclass(peer, Product) else peer(cache)


def measure(
    options: argparse.Namespace, scenario: Scenario, peers: list[Peer], progress: Progress, rows: list[Row]
) -> None:
    """All servers at all points, then all again: slow changes of the machine meet everybody alike. Adds to `rows`."""
    timing = Timing(
        options.seconds, options.warm_up, options.server_core, options.client_core, options.read_every / 1000
    )
    turns = [
        Turn(number, point, peer)
        for number in range(1, options.rounds + 1)
        for point in options.points
        for peer in peers
    ]  # fmt: skip
    for place, turn in enumerate(turns, 1):
        name = f"[{place}/{len(turns)}] round {turn.round} · {turn.point.name} · {turn.peer.label}"
        measurement = kind_of(turn.point.scenario)(turn.peer, turn.point, timing, partial(progress.say, name))
        row = measurement.run(turn.round)
        rows.append(row)
        progress.done(f"{name}: {summary(row, scenario)}")


def summary(row: Row, scenario: Scenario) -> str:
    """One line for a row."""
    if row.failed:
        return f"FAILED: {row.failed}"
    told = f"{form(scenario.measure(row), scenario.headline_form)} {scenario.headline_title}"
    if row.latency:
        told += f", p50 {row.latency.p50:.2f} ms, p99 {row.latency.p99:.2f} ms"
    return "; ".join([told, *row.notes])


def write(folder: Path, report: Report, scenario: Scenario, text: str) -> list[Path]:
    """JSON with everything, the table, the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = dt.datetime.fromisoformat(report.environment.started).strftime("%Y%m%dT%H%M%SZ")
    base = folder / f"{scenario.key}-{stamp}"
    contents = {
        ".json": msgspec.json.format(msgspec.json.encode(report), indent=1),
        ".md": text.encode(),
        ".svg": chart.draw(report, scenario).encode(),
    }
    written = []
    for suffix, content in contents.items():
        path = base.with_suffix(suffix)
        path.write_bytes(content)
        written.append(path)
    return written
