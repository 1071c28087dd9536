"""The site that `make docs` builds."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import PAGES
from tests.servers import ROOT
from tests.services.deadline import SECOND

# What a browser fetches by itself when it shows the page.
FETCHED = {"img": "src", "script": "src", "iframe": "src", "link": "href", "source": "src", "video": "src"}
NOT_FETCHED = {"next", "prev", "search", "index", "canonical"}


class Fetches(HTMLParser):
    """The addresses that a page fetches, and the ids in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.styles.append(found.get("style") or "")
        if tag in FETCHED and found.get("rel") not in NOT_FETCHED:
            self.addresses.append(found.get(FETCHED[tag]) or "")


def outside(address: str) -> bool:
    return re.match(r"(https?:)?//", address) is not None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as the Makefile does it, with warnings as errors."""
    [command] = re.findall(r"^\t\$\(BIN\)/(sphinx-build .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    _, *words, output = shlex.split(command)
    assert (output, words.count("-n"), words.count("-W")) == ("build/docs", 1, 1)
    folder = tmp_path_factory.mktemp("site")
    argv = [sys.executable, "-m", "sphinx", *words, str(folder)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=100 * SECOND, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_has_every_page_and_begins_with_the_index(site: Path) -> None:
    for page in PAGES:
        assert (site / page.name).with_suffix(".html").is_file(), page
    assert 'url=docs/index.html"' in (site / "index.html").read_text()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for path in pages:
        found = Fetches(path.read_text())
        assert found.addresses or path.parent == site, path
        assert not [address for address in found.addresses if outside(address)], path
        assert not [style for style in found.styles if "url(" in style], path
    sheets = list(site.rglob("*.css"))
    assert sheets
    for path in sheets:
        addresses = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", path.read_text())
        assert not [address for address in addresses if outside(address)], path


def test_what_is_fetched_is_there(site: Path) -> None:
    for path in site.rglob("*.html"):
        for address in Fetches(path.read_text()).addresses:
            file = address.partition("#")[0].partition("?")[0]
            assert not file or file.startswith("data:") or (path.parent / file).is_file(), f"{path}: {address}"
