"""Newcomers in a crowd."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from notifier.core.admission import IN_A_TURN, MAX_WAITING, Admission, Answer
from notifier.testing import ManualClock


def admission(rate: float = 100, patience_s: float = 3, clock: ManualClock | None = None) -> Admission[int]:
    return Admission(rate, patience_s, clock or ManualClock())


def crowd(found: Admission[int], count: int, first: int = 0) -> list[Answer]:
    return [found.ask(number) for number in range(first, first + count)]


def test_a_few_come_in_at_once() -> None:
    found = admission()
    assert found.next_turn_s is None
    assert set(crowd(found, IN_A_TURN)) == {Answer.NOW}
    assert len(found) == 0


def test_a_crowd_comes_in_at_the_rate_in_its_order() -> None:
    clock = ManualClock()
    found = admission(128, clock=clock)
    crowd(found, IN_A_TURN)
    assert set(crowd(found, 50, first=100)) == {Answer.LATER}
    assert found.turn() == ([], [])
    clock.advance(IN_A_TURN / 128)
    assert found.turn() == (list(range(100, 100 + IN_A_TURN)), [])
    clock.advance(4 / 128)
    assert found.turn() == (list(range(100 + IN_A_TURN, 104 + IN_A_TURN)), [])
    assert len(found) == 46 - IN_A_TURN


def test_no_turn_lets_in_more_than_one_turns_work_however_long_the_last_one_was() -> None:
    clock = ManualClock()
    found = admission(10_000, clock=clock)
    crowd(found, IN_A_TURN + 100)
    clock.advance(1)
    assert len(found.turn()[0]) == IN_A_TURN
    assert found.turn()[0] == [], "not before time has passed"
    clock.advance(1)
    assert len(found.turn()[0]) == IN_A_TURN


def test_who_comes_later_does_not_overtake_those_who_wait() -> None:
    clock = ManualClock()
    found = admission(100, clock=clock)
    crowd(found, IN_A_TURN + 1)
    clock.advance(1)
    assert found.ask(500) is Answer.LATER
    assert found.turn()[0] == [IN_A_TURN, 500]


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    found = admission(100, patience_s=2)
    crowd(found, IN_A_TURN)
    answers = crowd(found, 300, first=100)
    assert answers == [Answer.LATER] * 200 + [Answer.NEVER] * 100


def test_a_long_patience_does_not_make_an_endless_queue() -> None:
    found = admission(5000, patience_s=3600)
    assert crowd(found, IN_A_TURN + MAX_WAITING + 1)[-1] is Answer.NEVER
    assert len(found) == MAX_WAITING


def test_who_has_waited_too_long_is_refused_after_all() -> None:
    clock = ManualClock()
    found = admission(10, patience_s=2, clock=clock)
    crowd(found, IN_A_TURN)
    crowd(found, 10, first=100)
    clock.advance(1.9)
    found.ask(200)
    clock.advance(0.1)
    admitted, refused = found.turn()
    assert refused == list(range(100, 110))
    assert admitted == [200]


def test_who_goes_makes_room() -> None:
    clock = ManualClock()
    found = admission(8, clock=clock)
    crowd(found, IN_A_TURN)
    crowd(found, 3, first=100)
    found.withdraw(100)
    found.withdraw(7)
    clock.advance(1 / 8)
    assert found.turn() == ([101], [])


def test_the_next_turn_is_due_when_it_can_be_of_use() -> None:
    clock = ManualClock()
    found = admission(8, clock=clock)
    crowd(found, IN_A_TURN - 1)
    assert found.next_turn_s == 0, "the bucket is to be filled again"
    crowd(found, 2, first=100)
    assert found.next_turn_s == 1 / 8
    clock.advance(1 / 8)
    found.turn()
    assert len(found) == 0
    clock.advance(10)
    found.turn()
    assert found.next_turn_s is None


def test_with_0_everybody_comes_in() -> None:
    found = admission(0)
    assert set(crowd(found, 50_000)) == {Answer.NOW}
    assert found.next_turn_s is None


@given(st.lists(st.tuples(st.sampled_from(["ask", "turn", "withdraw"]), st.integers(0, 200)), max_size=200))
def test_everybody_is_answered_once_or_waits_and_the_rate_holds(steps: list[tuple[str, int]]) -> None:
    clock = ManualClock()
    found: Admission[tuple[int, int]] = Admission(50, 1, clock)
    waiting: list[tuple[int, int]] = []
    let_in = 0
    for place, (step, number) in enumerate(steps):
        if step == "ask":
            for who in ((place, one) for one in range(number)):
                answer = found.ask(who)
                let_in += answer is Answer.NOW
                if answer is Answer.LATER:
                    waiting.append(who)
        elif step == "turn":
            clock.advance(number / 100)
            admitted, refused = found.turn()
            assert len(admitted) <= IN_A_TURN
            assert sorted(admitted + refused) == sorted(waiting[: len(admitted + refused)])
            waiting = waiting[len(admitted + refused) :]
            let_in += len(admitted)
        elif waiting:
            found.withdraw(waiting.pop(number % len(waiting)))
        assert len(found) == len(waiting) <= 50
    assert let_in <= IN_A_TURN + 50 * (clock.monotonic() - 1000) + 1
