"""The pages as a reader of the Markdown sees them: links, headings, blocks of code, words in code."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests.servers import ROOT

FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=fence)\s*$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?: {4}[^\n]*\n|\n(?= {4}))+)")
INLINE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
COMMENT = re.compile(r"<!--\s*((?:(?!-->).)*?)\s*-->\s*\Z", re.DOTALL)
TABLE = re.compile(r"^\|.*\|\n\|(?:[ :-]+\|)+\n(?:\|.*\|\n?)+", re.MULTILINE)


class Block(NamedTuple):
    """Code on lines of its own. `note`: the HTML comment right before it."""

    language: str
    body: str
    note: str


class Table(NamedTuple):
    """`start`: where in the page's text it begins."""

    start: int
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def prose(self) -> str:
        """Without the fenced blocks."""
        return FENCE.sub("", self.text)

    @cached_property
    def blocks(self) -> list[Block]:
        return fenced(self.text) + [Block("", match[1], "") for match in INDENTED.finditer(self.prose)]

    @cached_property
    def tables(self) -> list[Table]:
        found = []
        for match in TABLE.finditer(self.text):
            header, _, *rows = [_cells(line) for line in match[0].splitlines()]
            found.append(Table(match.start(), header, rows))
        return found

    def table(self, *header: str) -> Table:
        """The only one with this first line."""
        [found] = [table for table in self.tables if table.header == header]
        return found

    @cached_property
    def words(self) -> list[str]:
        """What stands in `code` within the text, each on one line."""
        return [" ".join(match[2].split()) for match in INLINE.finditer(self.prose)]

    @cached_property
    def links(self) -> list[str]:
        without_code = INLINE.sub("code", self.prose)
        return [match["target"] for match in LINK.finditer(without_code)]

    @cached_property
    def anchors(self) -> set[str]:
        """The names that headings have on a forge, and on the site."""
        seen: Counter[str] = Counter()
        found = set()
        for heading in HEADING.findall(self.prose):
            slug = slug_of(heading)
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return found


def fenced(text: str) -> list[Block]:
    """The blocks between fences."""
    found = []
    for match in FENCE.finditer(text):
        note = COMMENT.search(text[: match.start()])
        found.append(Block(match["language"].strip(), match["body"], note[1] if note else ""))
    return found


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1]))


def codes_in(text: str) -> list[str]:
    """What stands in `code`."""
    return [match[2] for match in INLINE.finditer(text)]


def slug_of(heading: str) -> str:
    """A heading's anchor, as GitHub makes it: lower case, punctuation dropped, a dash for each space."""
    text = LINK.sub(lambda match: match["text"], heading)
    text = re.sub(r"[*`]", "", text)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


PAGES = [
    Page(path) for path in sorted([*ROOT.glob("*.md"), ROOT / "loadtest" / "README.md", *(ROOT / "docs").rglob("*.md")])
]
EXAMPLES = ROOT / "docs" / "examples"
