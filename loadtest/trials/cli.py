"""The command line of the trials: parse, run, show, write."""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import sys
from functools import partial
from pathlib import Path

import msgspec

from loadtest.limits import NotEnough, allow_open_files, check_cores, on_core
from loadtest.measurement import MeasurementFailed
from loadtest.peers.peer import NotStarted
from loadtest.progress import Progress
from loadtest.trials.deploy import Deploy
from loadtest.trials.hostile import Hostile
from loadtest.trials.jitter import Jitter
from loadtest.trials.outcome import Outcome, markdown
from loadtest.trials.reconnect import Reconnect
from loadtest.trials.slow import Slow
from loadtest.trials.trial import Trial
from loadtest.trials.workers import Workers

TRIALS: dict[str, type[Trial]] = {trial.key: trial for trial in (Jitter, Deploy, Workers, Slow, Reconnect, Hostile)}
OUT = Path("var/loadtest")


def main(argv: list[str]) -> int:
    """Exit code 0: all bounds hold; 1: one does not, or nothing could be measured; 2: cannot be tried here."""
    options = parse(argv)
    # The servers end with us: a signal must unwind what has been started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    progress = Progress(sys.stderr)
    trial = TRIALS[options.trial](options, partial(progress.say, options.trial))
    try:
        check_cores(options.server_core, options.client_core)
        allow_open_files(trial.connections)
    except NotEnough as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    try:
        with on_core(options.client_core):
            outcome = trial.run()
    except (NotStarted, MeasurementFailed, OSError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    progress.done(f"{options.trial}: {'pass' if outcome.passed else 'FAIL'}")
    text = markdown(outcome)
    print("\n" + text)
    for path in write(options.out, outcome, text):
        print(f"written: {path}")
    return 0 if outcome.passed else 1


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest")
    commands = parser.add_subparsers(dest="trial", required=True)
    for trial in TRIALS.values():
        added = commands.add_parser(trial.key, description=trial.about)
        trial.options(added.add_argument)
        add = added.add_argument
        add("--server-core", type=int, default=0, help="core of the servers (default: %(default)s)")
        add("--client-core", type=int, default=1, help="core of everything else (default: %(default)s)")
        add("--out", type=Path, default=OUT, help="folder for JSON and Markdown (default: %(default)s)")
    return parser.parse_args(argv)


def write(folder: Path, outcome: Outcome, text: str) -> list[Path]:
    """JSON with everything, and the table."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = dt.datetime.fromisoformat(outcome.environment.started).strftime("%Y%m%dT%H%M%SZ")
    paths = [folder / f"{outcome.trial}-{stamp}{suffix}" for suffix in (".json", ".md")]
    paths[0].write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1))
    paths[1].write_text(text)
    return paths
