"""`python -m tests.mutants [FILE…] [--sample N] [--seed N]`: small changes to the code of history and recovery, one at
a time, in a copy; the tests must notice each. Prints those that nobody noticed; exit code 0 when 90 % were.

Not a part of `make test`: it takes some minutes, and what survives has to be looked at by a person. Some cannot be
noticed, since the changed program does the same.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.servers import ROOT

FILES = ["notifier/core/history.py", "notifier/core/recovery.py", "notifier/core/repeats.py"]
_NAMES = ("history", "recovery", "repeats", "stream", "many_nodes", "reload", "views", "archiving")
TESTS = [f"tests/unit/core/test_{name}.py" for name in _NAMES]
WANTED = 0.9
SECONDS = 120  # one that does not end is noticed, too

OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Each time the node itself with one thing changed; it is as before when the next one is asked for."""
    for field in ("ops", "op"):
        found = getattr(node, field, None)
        for index, one in enumerate(found if isinstance(found, list) else [found]):
            if (other := OTHER.get(type(one))) is None:
                continue
            before = copy.copy(found)
            setattr(node, field, [*found[:index], other(), *found[index + 1 :]] if isinstance(found, list) else other())
            yield node
            setattr(node, field, before)
    if isinstance(node, ast.Constant) and isinstance(value := node.value, int):
        node.value = not value if isinstance(value, bool) else value + 1
        yield node
        node.value = value
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        test = node.test
        node.test = ast.UnaryOp(ast.Not(), test)
        yield node
        node.test = test


def mutants(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line, the changed statement, the whole changed file."""
    tree = ast.parse(file.read_text())
    sentinels = {
        id(node.operand) for node in ast.walk(tree) if isinstance(node, ast.UnaryOp)
    }  # -1: any other does, too
    for node in ast.walk(tree):
        if id(node) in sentinels and isinstance(node, ast.Constant):
            continue
        for changed in changes(node):
            yield (
                getattr(node, "lineno", 0),
                ast.unparse(changed)[:80].split("\n")[0],
                ast.unparse(ast.fix_missing_locations(tree)),
            )


def is_noticed(folder: Path, file: str, text: str) -> bool:
    target = folder / file
    original = target.read_text()
    target.write_text(text)
    try:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS],
            cwd=folder, env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, timeout=SECONDS, check=False,
        ).returncode != 0  # fmt: skip
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(original)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--sample", type=int, default=0, help="so many, chosen by chance; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = [(file, *mutant) for file in options.files for mutant in mutants(ROOT / file)]
    if options.sample:
        found = random.Random(options.seed).sample(found, min(options.sample, len(found)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("notifier", "tests", "pyproject.toml", "README.md"):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
            else:
                shutil.copy(source, folder)
        assert not is_noticed(folder, FILES[0], (ROOT / FILES[0]).read_text()), "the tests fail without any change"
        survived = 0
        for file, line, what, text in found:
            if not is_noticed(folder, file, text):
                survived += 1
                print(f"{file}:{line}: nobody noticed: {what}", flush=True)
    share = 1 - survived / len(found)
    print(f"{len(found)} changes, {share:.0%} noticed")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
