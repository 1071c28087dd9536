"""`python -m loadtest.instructions`: the core's hot paths, in instructions, as a ratio to those of the parent commit.

Valgrind's callgrind counts them, so neither the machine nor what else runs on it matters. The parent is checked out
into a temporary folder and runs its own `micro.py`; of both sides only the cases of the same name are compared. Where a
tool or the parent is missing, that is said and nothing fails.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest import micro
from loadtest.report import aligned

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.10
DEADLINE_S = 300
HEADER = Path("/usr/include/valgrind/callgrind.h")
LIBRARY = "LOADTEST_COUNTING"


class Impossible(Exception):
    """It cannot be counted here; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: no case got dearer than allowed, or it cannot be counted here; 1: one did, or a case is broken."""
    options = parse(argv)
    micro.main(_nothing, _nothing)
    try:
        check_tools()
        with tempfile.TemporaryDirectory(prefix="instructions-") as name:
            folder = Path(name)
            library = build(folder)
            against = options.against or parent(ROOT)
            tree = checked_out(against, folder / "parent")
            try:
                before, after = count(tree, library, folder / "before"), count(ROOT, library, folder / "after")
            finally:
                git("worktree", "remove", "--force", str(tree))
    except Impossible as error:
        print(f"SKIPPED: instructions are not counted: {error}", file=sys.stderr)
        return 0
    print(table(before, after))
    dearer = [name for name, ratio in ratios(before, after).items() if ratio > options.limit]
    for name in dearer:
        print(f"dearer than {options.limit:.2f} times what it was in {against}: {name}", file=sys.stderr)
    return 1 if dearer else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.instructions", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument(
        "--against", default="", metavar="COMMIT", help="instead of the parent (HEAD, if there are changes)"
    )
    parser.add_argument("--limit", type=float, default=LIMIT, help="largest ratio allowed (default: %(default)s)")
    return parser.parse_args(argv)


def check_tools() -> None:
    """Raises Impossible."""
    for tool in ("valgrind", "cc", "git"):
        if shutil.which(tool) is None:
            raise Impossible(f"{tool} is not installed")
    if not HEADER.exists():
        raise Impossible(f"{HEADER} is not there (Debian package valgrind)")


def build(folder: Path) -> Path:
    """The bridge from Python to callgrind. Raises Impossible."""
    library = folder / "counting.so"
    source = Path(__file__).with_name("counting.c")
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    if done.returncode:
        raise Impossible(f"cc: {done.stderr[-300:]}")
    return library


def parent(root: Path) -> str:
    """What the working tree is held against: the commit it changes or, unchanged, the one before. Raises Impossible."""
    changed = git("status", "--porcelain", "--", "notifier", "loadtest", folder=root)
    return git("rev-parse", "--short", "--verify", "HEAD" if changed else "HEAD^", folder=root)


def checked_out(commit: str, folder: Path) -> Path:
    """The commit's tree in this folder. Raises Impossible."""
    git("worktree", "add", "--detach", str(folder), commit)
    if not (folder / "loadtest" / "micro.py").exists():
        git("worktree", "remove", "--force", str(folder))
        raise Impossible(f"{commit} has no loadtest/micro.py to compare with")
    return folder


def git(*words: str, folder: Path = ROOT) -> str:
    """What git says. Raises Impossible."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    if done.returncode:
        raise Impossible(f"git {words[0]}: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()


def count(tree: Path, library: Path, folder: Path) -> dict[str, int]:
    """Case → instructions, for the code of this tree. Raises Impossible."""
    folder.mkdir()
    command = [
        "valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet", f"--callgrind-out-file={folder / 'out'}",
        sys.executable, "-c", "from loadtest import instructions; instructions.inside()",
    ]  # fmt: skip
    # The counts must not depend on where dictionaries put their keys, nor on what else Python would look for.
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(tree),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        LIBRARY: str(library),
    }
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    if done.returncode:
        raise Impossible(f"{tree.name}: {done.stderr.strip()[-500:]}")
    found = [told(path.read_text()) for path in sorted(folder.iterdir())]
    return dict(case for case in found if case is not None)


def told(dump: str) -> tuple[str, int] | None:
    """Case and instructions, from one of callgrind's files; None for the one it writes at the end."""
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", dump, re.MULTILINE)
    total = re.search(r"^(?:totals|summary): (\d+)", dump, re.MULTILINE)
    return (name[1].strip(), int(total[1])) if name and total else None


def inside() -> None:
    """What runs under valgrind."""
    library = ctypes.CDLL(os.environ[LIBRARY])
    micro.main(library.begin, lambda name: library.end(name.encode()))


def _nothing(*_: object) -> None:
    pass


def ratios(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, float]:
    """Of the cases that both have."""
    return {name: after[name] / before[name] for name in after if name in before}


def table(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    compared = ratios(before, after)
    lines = [
        [
            name,
            f"{before[name] / 1e6:.2f}" if name in before else "-",
            f"{count_ / 1e6:.2f}",
            f"{compared[name]:.3f}" if name in compared else "-",
        ]
        for name, count_ in after.items()
    ]
    return aligned(["millions of instructions", "before", "now", "ratio"], lines)


if __name__ == "__main__":
    sys.exit(main())
