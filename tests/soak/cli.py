"""The command line: play a run, judge its journals, write its report; or try all seeded bugs."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import msgspec

from loadtest import environment
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis
from tests.soak import bugs, orchestra, report
from tests.soak.checker import Verdict, check
from tests.soak.journal import Phase, read
from tests.soak.process import ROOT
from tests.soak.sizes import GROUPS, SIZES, Settings

ACCEPTED, FOUND, THIN, MISSING = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    missing = [package for package in (RabbitMQ.missing(), Redis.missing()) if package]
    if missing and options.command != "check":
        print(f"not installed: {', '.join(missing)}; `make test` installs them", file=sys.stderr)
        return MISSING
    signal.signal(signal.SIGTERM, _interrupt)  # so that what was started is ended too
    signal.signal(signal.SIGINT, _interrupt)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    _run_options(parser)
    parser.set_defaults(run=_run, command="run")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    judge = commands.add_parser("check", help="judge the journals of a run that has been played")
    judge.add_argument("folder", type=Path)
    judge.set_defaults(run=_check)
    tried = commands.add_parser("bugs", help="a table of which seeded bugs are caught")
    tried.add_argument("--seeds", type=int, default=10, help="runs of each (default: 10)")
    tried.add_argument("--first-seed", type=int, default=1)
    tried.add_argument("--only", nargs="*", choices=["none", *sorted(bugs.BUGS)], help="these bugs only")
    tried.add_argument("--jobs", type=int, default=1, help="runs at the same time (default: 1)")
    tried.add_argument("--keep", type=Path, help="keep the journals of runs that caught nothing here")
    tried.set_defaults(run=_bugs)
    return parser


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", choices=list(SIZES), default="ci")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", default="all", help=f"all, none, or some of {','.join(GROUPS)}")
    parser.add_argument("--seconds", type=float, help="time of chaos, instead of the size's")
    parser.add_argument("--bug", default="", choices=["", *sorted(bugs.BUGS)], help="plant a defect into the nodes")
    parser.add_argument("--out", type=Path, help="write report.md, report.json and picture.svg here")
    parser.add_argument("--journals", type=Path, help="keep journals and logs here, whatever is found")


# --- one run --------------------------------------------------------------------------------------------------------


def settings_of(options: argparse.Namespace) -> Settings:
    size = SIZES[options.size]
    if options.seconds:
        size = msgspec.structs.replace(size, chaos_s=options.seconds)
    found = environment.look()
    return Settings(
        size=size,
        seed=options.seed,
        faults=options.faults,
        bug=options.bug,
        commit=_commit(),
        versions={"python": found.python, "rabbitmq": _version("rabbitmq-server"), "redis": _version("redis-server")}
        | found.packages,
        machine={"cpu": found.cpu, "cores": found.cores, "kernel": found.kernel, "load before": found.load_before},
    )


def groups_of(faults: str) -> tuple[str, ...]:
    """Raises SystemExit for an unknown group."""
    if faults == "all":
        return GROUPS
    groups = tuple(faults.split(",")) if faults != "none" else ()
    if unknown := set(groups) - set(GROUPS):
        raise SystemExit(f"--faults: {', '.join(sorted(unknown))} is none of {', '.join(GROUPS)}")
    return groups


def _run(options: argparse.Namespace) -> int:
    settings, groups = settings_of(options), groups_of(options.faults)
    folder = options.journals or Path(tempfile.mkdtemp(prefix="soak-"))
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", flush=True)

    print(f"size {settings.size.name}, seed {settings.seed}, faults {settings.faults}, journals in {folder}")
    verdict = play(settings, groups, folder, say)
    text = report.write(settings, folder, verdict, options.out)
    print(text)
    if verdict.counts_as_proof and not options.journals:
        shutil.rmtree(folder)
    else:
        print(f"journals: {folder}")
    return FOUND if verdict.counts else THIN if verdict.thin else ACCEPTED


def play(settings: Settings, groups: Sequence[str], folder: Path, say: Callable[[str], None]) -> Verdict:
    """Play a run and judge it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_bytes(msgspec.json.encode(settings))
    asyncio.run(orchestra.play(settings, groups, folder, say))
    return judge(settings, folder)


def judge(settings: Settings, folder: Path, *, unfinished: bool = False) -> Verdict:
    paths = orchestra.journals(folder)
    return check(settings, lambda: read(paths), unfinished=unfinished)


def _check(options: argparse.Namespace) -> int:
    settings = msgspec.json.decode((options.folder / "settings.json").read_bytes(), type=Settings)
    verdict = judge(settings, options.folder)
    print(report.write(settings, options.folder, verdict, None))
    return FOUND if verdict.counts else THIN if verdict.thin else ACCEPTED


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    said = subprocess.run(
        [git, "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"


def _version(package: str) -> str:
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"


# --- seeded bugs ----------------------------------------------------------------------------------------------------


def _bugs(options: argparse.Namespace) -> int:
    """Every bug with every seed, and no bug at all with each: a checker that always complains proves nothing either."""
    names = ["" if name == "none" else name for name in options.only or ["none", *bugs.BUGS]]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    found: dict[str, list[Trial]] = {name: [] for name in names}
    with ProcessPoolExecutor(options.jobs) as pool:
        trials = {pool.submit(_try, name, seed, options.keep): (name, seed) for name in names for seed in seeds}
        for done in as_completed(trials):
            name, seed = trials[done]
            trial = done.result()
            found[name].append(trial)
            said = f"{trial.counts}  {trial.first[:300]}" if trial.counts else trial.failed or "nothing found"
            print(f"{name or 'no bug':24} seed {seed:3}  {said}", flush=True)
    rows = []
    for name, of_name in found.items():
        kinds = sorted({kind for trial in of_name for kind in trial.counts})
        failed = sum(bool(trial.failed) for trial in of_name)
        rows.append((name or "no bug", sum(bool(trial.counts) for trial in of_name), failed, ", ".join(kinds)))
    print(f"\n| seeded bug | caught in {len(seeds)} | runs that failed | by |\n| :-- | --: | --: | :-- |")
    for name, caught, failed, by in rows:
        print(f"| {name} | {caught} | {failed} | {by} |")
    right = all(
        caught + failed == 0 if name == "no bug" else caught >= 0.9 * len(seeds) for name, caught, failed, _ in rows
    )
    return ACCEPTED if right else FOUND


class Trial(msgspec.Struct):
    """One run with a bug: what was found, the first of it as text, or why the run itself could not be made."""

    counts: dict[str, int] = {}
    first: str = ""
    failed: str = ""


def _try(bug: str, seed: int, keep: Path | None) -> Trial:
    """What is found in one run, which ends as soon as something is. A run that cannot be made is made once more:
    several at a time may want the same port."""
    trial = _try_once(bug, seed, keep)
    return _try_once(bug, seed, keep) if trial.failed else trial


def _try_once(bug: str, seed: int, keep: Path | None) -> Trial:
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{bug or 'none'}-{seed}-"))
    settings = Settings(size=SIZES["ci"], seed=seed, faults="all", bug=bug)

    def suspect() -> bool:
        paths = orchestra.journals(folder)
        return not check(settings, lambda: read(paths), unfinished=True).clean

    try:
        asyncio.run(orchestra.play(settings, GROUPS, folder, lambda _text: None, suspect))
        finished = any(isinstance(event, Phase) and event.name == "end" for event in read([folder / "nemesis.jsonl"]))
        verdict = judge(settings, folder, unfinished=not finished)
        trial = Trial(verdict.counts, verdict.findings[0].text if verdict.findings else "")
    except (AssertionError, RuntimeError, TimeoutError, OSError, ExceptionGroup) as error:
        trial = Trial(failed=f"the run failed: {error!r}"[:1000])
    if keep is not None and (bool(trial.counts) != bool(bug) or trial.failed):
        shutil.copytree(folder, keep / folder.name)
    shutil.rmtree(folder, ignore_errors=True)
    return trial
