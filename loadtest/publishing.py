"""`python -m loadtest report`: the figures of `docs/performance.md`, made anew from the results beside it.

The page's figures stand between two comments; nobody writes there by hand. The results are comparisons as `compare`
writes them, without the moment at which they were made.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from loadtest import comparison
from loadtest.comparison import Comparison

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FOLDER = "performance.md", "performance"
BEGIN = "<!-- figures: made by `python -m loadtest report`, not by hand -->"
END = "<!-- end of the figures -->"


class NoPlace(Exception):
    """The page has no place for the figures."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: the figures are those of the results; 1: with `--check`, they are not; 2: not possible."""
    options = parse(argv)
    try:
        if options.run:
            adopt(options.run, options.name, options.docs)
        stale = [path for path, content in contents(options.docs) if not _holds(path, content)]
        if options.check:
            for path in stale:
                print(f"not made from the results: {path}", file=sys.stderr)
            return 1 if stale else 0
        for path, content in contents(options.docs):
            path.write_text(content)
    except (OSError, NoPlace, msgspec.DecodeError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    for path in stale:
        print(f"written: {path}")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest report", description=(__doc__ or "").partition("\n\n")[2])
    add = parser.add_argument
    add("run", nargs="?", type=Path, help="a JSON file of `compare` that becomes one of the results first")
    add("--name", default="compare", help="its name among them; one of that name is replaced (default: %(default)s)")
    add("--check", action="store_true", help="change nothing; say whether something would change")
    add("--docs", type=Path, default=DOCS, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def adopt(run: Path, name: str, docs: Path) -> None:
    """Take a comparison's results over. Raises OSError, msgspec.DecodeError."""
    found = msgspec.json.decode(run.read_bytes(), type=Comparison)
    found.environment = msgspec.structs.replace(found.environment, started="")
    folder = docs / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def contents(docs: Path) -> Iterator[tuple[Path, str]]:
    """What the pictures and the page must hold. Raises OSError, msgspec.DecodeError, NoPlace."""
    sections = []
    for path in sorted((docs / FOLDER).glob("*.json")):
        found = msgspec.json.decode(path.read_bytes(), type=Comparison)
        sections.append(_section(path.stem, found))
        yield path.with_suffix(".svg"), comparison.picture(found)
    page = docs / PAGE
    before, begun, rest = page.read_text().partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise NoPlace(f"{page} needs the lines {BEGIN} and {END}")
    yield page, "\n\n".join([before + BEGIN, *sections, END + after])


def _section(name: str, found: Comparison) -> str:
    picture = f"![The table below as a picture]({FOLDER}/{name}.svg)"
    told = [*comparison.flatness(found), *comparison.notes(found), comparison.conditions(found)]
    return "\n\n".join([f"### {name.capitalize()}", picture, comparison.table(found), *told])


def _holds(path: Path, content: str) -> bool:
    return path.exists() and path.read_text() == content
