"""What is due when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from notifier.core.agenda import Agenda


def test_items_come_out_when_they_are_due_and_once() -> None:
    agenda: Agenda[str] = Agenda(100)
    agenda.add(103, "later")
    agenda.add(101, "sooner")
    assert agenda.due(100) == []
    assert agenda.due(102) == ["sooner"]
    assert agenda.due(103) == ["later"]
    assert agenda.due(110) == []


def test_what_was_discarded_does_not_come() -> None:
    agenda: Agenda[str] = Agenda(0)
    due = agenda.add(5, "x")
    agenda.discard(due, "x")
    agenda.discard(due, "never added")
    assert agenda.due(10) == []
    assert len(agenda) == 0


def test_what_is_overdue_already_comes_next() -> None:
    agenda: Agenda[str] = Agenda(0)
    agenda.due(50)
    due = agenda.add(10, "late")
    assert agenda.due(51) == ["late"]
    agenda.discard(due, "late")


def test_a_long_sleep_does_not_walk_every_second() -> None:
    agenda: Agenda[str] = Agenda(0)
    agenda.add(7, "x")
    assert agenda.due(10**12) == ["x"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9))), st.lists(st.integers(0, 40)))
def test_nothing_is_lost_and_nothing_is_early(items: list[tuple[int, int]], looks: list[int]) -> None:
    agenda: Agenda[tuple[int, int]] = Agenda(0)
    for item in items:
        agenda.add(item[0], item)
    seen: list[tuple[int, int]] = []
    for now in [*sorted(looks), 100]:
        found = agenda.due(now)
        assert all(item[0] <= now for item in found)
        seen += found
    assert sorted(set(items)) == sorted(seen)
