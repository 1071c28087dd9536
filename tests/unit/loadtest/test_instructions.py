"""Counting the instructions of hot paths: what is compared, and when that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import instructions, micro
from loadtest.instructions import Impossible, ratios, table, told

DUMP = """version: 1
desc: Trigger: Client Request: encode 300 as json
events: Ir
fn=(1) main
0 5
totals: 4150000
"""


def test_every_case_can_be_run_again_and_again() -> None:
    names = [name for name, _ in micro.cases()]
    assert len({*names}) == len(names)
    ended: list[str] = []
    micro.main(lambda: None, ended.append)
    assert ended == names


def test_what_waits_is_no_hot_path() -> None:
    async def waits() -> None:
        import asyncio

        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="waited"):
        micro.finish(waits())


def test_a_count_is_read_from_callgrinds_file() -> None:
    assert told(DUMP) == ("encode 300 as json", 4_150_000)
    assert told(DUMP.replace("Client Request: encode 300 as json", "Program termination")) is None


def test_cases_are_compared_by_name_and_all_of_ours_are_shown() -> None:
    before, after = {"same": 100, "gone": 5}, {"same": 105, "new": 7_000_000}
    assert ratios(before, after) == {"same": 1.05}
    lines = table(before, after).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["same", "new"]
    assert "gone" not in table(before, after)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Cases of the working tree, against 100 instructions each in the parent; nothing is really counted."""
    ours: dict[str, int] = {}
    monkeypatch.setattr(instructions, "check_tools", lambda: None)
    monkeypatch.setattr(instructions, "build", lambda folder: folder)
    monkeypatch.setattr(instructions, "parent", lambda _: "abc123")
    monkeypatch.setattr(instructions, "checked_out", lambda _, folder: folder)
    monkeypatch.setattr(instructions, "git", lambda *_: "")

    def count(tree: Path, *_: Path) -> dict[str, int]:
        return ours if tree == instructions.ROOT else dict.fromkeys(ours, 100)

    monkeypatch.setattr(instructions, "count", count)
    return ours


@pytest.mark.parametrize(("now", "code"), [(100, 0), (110, 0), (111, 1), (50, 0)])
def test_a_case_that_got_dearer_fails(
    counted: dict[str, int], capsys: pytest.CaptureFixture[str], now: int, code: int
) -> None:
    counted["decode"] = now
    assert instructions.main([]) == code
    assert ("dearer than 1.10 times what it was in abc123: decode" in capsys.readouterr().err) == bool(code)


def test_where_it_cannot_be_counted_that_is_said(
    counted: dict[str, int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_valgrind() -> None:
        raise Impossible("valgrind is not installed")

    monkeypatch.setattr(instructions, "check_tools", no_valgrind)
    assert instructions.main([]) == 0
    assert "SKIPPED: instructions are not counted: valgrind is not installed" in capsys.readouterr().err
