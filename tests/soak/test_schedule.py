"""Schedules are what they say: the same for the same seed, with every fault that was asked for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.soak import schedule
from tests.soak.nemesis import ACTIONS
from tests.soak.sizes import CI, GROUPS, LONG, SIZES


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_a_seed_always_makes_the_same_schedule(size: object) -> None:
    assert schedule.plan(size, GROUPS, 7) == schedule.plan(size, GROUPS, 7)  # type: ignore[arg-type]
    assert schedule.plan(size, GROUPS, 7) != schedule.plan(size, GROUPS, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_every_ci_run_has_every_kind_of_its_faults_and_deletes_the_stream_last(seed: int) -> None:
    faults = [fault for fault in schedule.plan(CI, GROUPS, seed) if fault.track == "main"]
    assert sorted(fault.kind for fault in faults) == sorted([*schedule.CI_FAULTS, schedule.CI_END])
    assert faults[-1].kind == schedule.CI_END
    assert all(one.at_s <= other.at_s for one, other in pairwise(faults))
    assert faults[-1].at_s < CI.chaos_s


def test_a_long_run_goes_through_all_faults_of_its_groups_and_through_pairs() -> None:
    faults = schedule.plan(LONG, GROUPS, 1)
    wanted = {kind for kinds in schedule.GROUPS.values() for kind in kinds}
    assert wanted <= {fault.kind for fault in faults}
    together = {(one.kind, other.kind) for one in faults for other in faults if one.at_s == other.at_s}
    assert set(schedule.PAIRS) & together


def test_without_groups_nothing_happens() -> None:
    assert schedule.plan(CI, (), 1) == []


def test_every_fault_is_known_to_the_nemesis_and_has_a_duration() -> None:
    kinds = {fault.kind for size in SIZES.values() for fault in schedule.plan(size, GROUPS, 3)}
    assert {kind.removesuffix(".all") for kind in kinds} <= ACTIONS.keys() & schedule.HOLDS.keys()
