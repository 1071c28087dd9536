"""Trials: their options, their verdicts, and one of them in small."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from loadtest import cli
from loadtest.fleet.orders import Told
from loadtest.scenarios import SCENARIOS
from loadtest.trials.cli import TRIALS, parse
from loadtest.trials.outcome import Bound, Outcome, judged, markdown
from loadtest.trials.trial import continuity
from loadtest.trials.workers import Load
from tests.unit.loadtest.samples import report


def outcome(*bounds: Bound) -> Outcome:
    environment = report([]).environment
    made = Outcome(
        trial="jitter", about="About it.", settings={"clients": 5}, environment=environment, bounds=[*bounds],
        figures={"away": "1 s"}, notes=["disturbed"],
    )  # fmt: skip
    return judged(made)


HOLDS = Bound("p99", 0.5, 1, "s")
BROKEN = Bound("delivered", 99.9, 100, "%", least=True)


def test_it_passes_when_all_bounds_hold() -> None:
    assert outcome(HOLDS).passed
    assert outcome(HOLDS, Bound("lost", 0, 0)).passed
    assert not outcome(HOLDS, BROKEN).passed
    assert not outcome(Bound("p99", None, 1)).passed, "what was not measured holds nothing"
    assert not outcome().passed, "and what was not asked either"


def test_the_table_says_what_was_measured_and_what_may_be() -> None:
    text = markdown(outcome(HOLDS, BROKEN))
    assert "# jitter: FAIL" in text
    [good] = [line for line in text.splitlines() if line.startswith("| p99")]
    [bad] = [line for line in text.splitlines() if line.startswith("| delivered")]
    assert [cell.strip() for cell in good.split("|")[2:5]] == ["0.5 s", "at most 1 s", "holds"]
    assert [cell.strip() for cell in bad.split("|")[2:5]] == ["99.9 %", "at least 100 %", "BROKEN"]
    assert "* away: 1 s" in text
    assert "* disturbed" in text
    found = json.loads(msgspec.json.encode(outcome(HOLDS)))
    assert found["passed"] is True
    assert found["bounds"][0]["value"] == 0.5


def told(**changes: int) -> Told:
    values = {"received": 200, "missing": 0, "doubled": 0, "broken": 0, "absent": 0, "returns": 0, "refused": 0}
    return Told(clients=2, **{**values, **changes}, ends={}, faults=[], away=None, replay=None)


def test_one_delivery_too_few_or_too_many_is_seen() -> None:
    assert all(bound.holds for bound in continuity(told(), 100))
    for fault in ("missing", "doubled", "broken", "absent"):
        [broken] = [bound for bound in continuity(told(**{fault: 1}), 100) if not bound.holds]
        assert broken.value != broken.limit


def test_workers_are_compared_by_the_busiest_of_them() -> None:
    one, even, uneven = (Load(cpu_s, 100, 1.0) for cpu_s in ([1.0], [0.5, 0.5], [0.9, 0.1]))
    assert even.capacity / one.capacity == 2
    assert uneven.capacity / one.capacity == pytest.approx(1 / 0.9)
    assert one.cpu_us == 10_000


def test_the_load_test_knows_them_beside_its_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(TRIALS) == {"jitter", "deploy", "workers", "slow", "reconnect", "hostile"}
    assert not TRIALS.keys() & {*SCENARIOS, *cli.COMMANDS}, "one name would hide the other"
    for key in TRIALS:
        assert parse([key]).clients > 0
        with pytest.raises(SystemExit) as caught:
            cli.main([key, "--help"])
        assert caught.value.code == 0
        assert "--out" in capsys.readouterr().out


def test_what_the_machine_does_not_allow_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["jitter", "--clients", "100000000", "--out", str(tmp_path)]) == 2
    assert "open files" in capsys.readouterr().err
    assert cli.main(["slow", "--server-core", "4000"]) == 2
    assert "core 4000 is not there" in capsys.readouterr().err
