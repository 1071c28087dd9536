"""Every link leads somewhere, on a forge and in the site."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from tests.docs.pages import EXAMPLES, PAGES, Page, slug_of
from tests.servers import ROOT

BY_PATH = {page.path: page for page in PAGES}
SHOWN = re.compile(
    r"\[`?(?P<name>[\w.-]+)`?\]\(examples/(?P=name)\)[^\n]*\n\n```\w*\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in BY_PATH[target].anchors, f"{link}: there are {sorted(BY_PATH[target].anchors)}"


def test_links_with_anchors_are_found_at_all() -> None:
    assert any("#" in link for page in PAGES for link in page.links)
    assert sum(len(page.links) for page in PAGES) > 40


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("What it promises", "what-it-promises"),
        ("[[channels]]", "channels"),
        ("`/sse`, and `/ws`", "sse-and-ws"),
        ("A [link](page.md) in it", "a-link-in-it"),
        ("Twice-told_tale: why?", "twice-told_tale-why"),
    ],
)
def test_anchors_of_headings(heading: str, slug: str) -> None:
    assert slug_of(heading) == slug


def test_pages_show_the_examples_as_they_are_and_each_once() -> None:
    shown = [(match["name"], match["body"]) for page in PAGES for match in SHOWN.finditer(page.text)]
    assert sorted(name for name, _ in shown) == sorted(path.name for path in EXAMPLES.iterdir() if path.is_file())
    for name, body in shown:
        assert body == (EXAMPLES / name).read_text(), f"the page shows another {name} than docs/examples has"
