"""docs/scaling.md: its figures are measured ones of other pages, its sums are right, its bounds those of the code."""

from __future__ import annotations

import ast
import operator
import re
import shlex

import pytest

from loadtest.cli import COMMANDS, parse
from notifier.config import Config
from notifier.core.history import OVERHEAD_BYTES
from notifier.core.revocations import MOST
from tests.docs.pages import INDENTED, Page
from tests.servers import ROOT

PAGE = Page(ROOT / "docs" / "scaling.md")
FIGURES = PAGE.table("what", "figure", "from").rows
TIMES = "\N{MULTIPLICATION SIGN}"
UNITS = {"µs": 1e-6, "B": 1, "KB": 1e3, "MB": 1e6, "MiB": 2**20}
NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?)(?: (µs|KB|MiB|MB|B)\b)?")
SUM = re.compile(rf"`([^`=]*\d [{TIMES}/] [^`=]*) = ([^`]+)`")
DOES = {ast.Mult: operator.mul, ast.Div: operator.truediv}


def number(text: str) -> float:
    """Of a figure such as `4.9 KB`."""
    match = NUMBER.fullmatch(text)
    assert match is not None, text
    return float(match[1].replace(",", "")) * UNITS.get(match[2], 1)


def worth(text: str) -> float:
    """Of a product or a quotient of figures."""
    plain = NUMBER.sub(lambda match: repr(number(match[0])), text).replace(TIMES, "*")

    def of(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=float(value)):
                return value
            case ast.BinOp(left, kind, right):
                return float(DOES[type(kind)](of(left), of(right)))
        raise AssertionError(f"{text}: more than a product")

    return of(ast.parse(plain, mode="eval").body)


SUMS = [(match[1], match[2]) for match in SUM.finditer(PAGE.text)]


@pytest.mark.parametrize(("text", "result"), SUMS)
def test_sums_are_right(text: str, result: str) -> None:
    assert worth(text) == pytest.approx(number(result), rel=0.02)


def test_figures_are_those_of_the_pages_they_are_from() -> None:
    for what, figure, source in FIGURES:
        file = source.partition("](")[2].partition("#")[0].rstrip(")")
        text = (PAGE.path.parent / file).resolve().read_text()
        assert re.search(rf"(?<![\d.,]){re.escape(figure.removesuffix(' µs'))}(?![\d,]|\.\d)", text), what


def test_nothing_is_reckoned_with_but_these_figures() -> None:
    """Costs and sizes; how many clients and messages there are is made up for the example."""
    assert len(SUMS) > 8
    known = {figure for _, figure, _ in FIGURES} | {"232 B", "600 B", "256 MiB"}
    used = {match[0] for text, _ in SUMS for match in NUMBER.finditer(text) if match[2]}
    assert used <= known, used - known
    assert ("1 / 26.5 µs", "37,736") in SUMS  # of the figure for a channel each


def test_bounds_and_defaults_are_those_of_the_code() -> None:
    config = Config()
    assert number("600 B") == 200 + OVERHEAD_BYTES
    assert f"their bytes + {OVERHEAD_BYTES}" in PAGE.text
    assert config.history.max_bytes == number("256 MiB")
    assert f"the newest {MOST:,} |" in PAGE.text
    for key, value, shown in [
        ("server.max_connect_rate", 5000, "5,000"),
        ("server.connect_patience", 3, "3 s"),
        ("rabbitmq.max_age", 7 * 86400, "7 days"),
        ("rabbitmq.max_bytes", 10e9, "10 GB"),
        ("redis.connections", 20, "20"),
        ("log.known_for", 86400, "a day"),
    ]:
        section, name = key.split(".")
        assert getattr(getattr(config, section), name) == value
        assert f"`{key}` ({shown})" in PAGE.text


def test_what_it_says_of_the_deployment_is_there() -> None:
    limit = re.findall(r"LimitNOFILE=\d+", PAGE.text)
    assert limit == re.findall(r"LimitNOFILE=\d+", (ROOT / "deploy/systemd/notifier.service").read_text())
    [compose] = re.findall(r"nofile: (\d+)", (ROOT / "deploy/compose/compose.yml").read_text())
    assert f"compose {compose}" in PAGE.text


def test_what_it_measures_with_can_be_run() -> None:
    lines = [line for block in INDENTED.findall(PAGE.prose) for line in block.splitlines() if "make bench" in line]
    assert len(lines) == 4
    for line in lines:
        [words] = [word.removeprefix("ARGS=") for word in shlex.split(line) if word.startswith("ARGS=")]
        if words not in COMMANDS:
            parse(words.split())
