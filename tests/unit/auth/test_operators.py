"""Operators' sessions: who has one, for how long, and what ends it."""

from __future__ import annotations

import base64
import json

import pytest

from notifier.auth.operators import Login, Operators
from notifier.config import DEV_API_KEY, DEV_OPERATOR, Secret
from notifier.testing import ManualClock

IDLE_S, LONGEST_S = 600.0, 3600.0
ANN = DEV_OPERATOR.replace("dev:", "ann:", 1)
BOB = ANN.replace("ann:", "bob:", 1)
OTHER_PASSWORD = ANN[:-2] + "AA"


def operators(clock: ManualClock, *entries: str) -> Operators:
    return Operators([Secret(entry) for entry in entries or (ANN, BOB)], IDLE_S, LONGEST_S, clock.time)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_only_the_right_name_with_the_right_password_is_let_in(clock: ManualClock) -> None:
    known = operators(clock, ANN)
    assert await known.check("ann", DEV_API_KEY)
    assert not await known.check("ann", "wrong")
    assert not await known.check("bob", DEV_API_KEY)
    assert not await known.check("", "")


async def test_without_operators_nobody_is_let_in(clock: ManualClock) -> None:
    nobody = Operators([], IDLE_S, LONGEST_S, clock.time)
    assert not nobody
    assert not await nobody.check("ann", DEV_API_KEY)


def test_any_worker_with_the_same_configuration_knows_a_session(clock: ManualClock) -> None:
    login = operators(clock).begin("ann")
    assert operators(clock).find(operators(clock).token(login)) == login


def test_a_session_ends_by_itself_unless_it_is_renewed(clock: ManualClock) -> None:
    known = operators(clock)
    login = known.begin("ann")
    assert known.renewed(login) is None, "nothing is gained yet"
    clock.advance(IDLE_S / 2)
    later = known.renewed(login)
    assert later is not None
    clock.advance(IDLE_S * 0.6)
    assert known.find(known.token(login)) is None
    assert known.find(known.token(later)) == later


def test_a_session_is_not_renewed_for_ever(clock: ManualClock) -> None:
    known = operators(clock)
    login = known.begin("ann")
    for _ in range(int(LONGEST_S / 300)):
        assert known.find(known.token(login)) is not None
        clock.advance(300)
        login = known.renewed(login) or login
    assert known.find(known.token(login)) is None


def test_another_password_or_none_ends_the_sessions_of_the_old_one(clock: ManualClock) -> None:
    known = operators(clock)
    token = known.token(known.begin("ann"))
    bobs = known.token(known.begin("bob"))
    known.replace([Secret(OTHER_PASSWORD), Secret(BOB)])
    assert known.find(token) is None
    assert known.find(bobs) is not None, "his has not changed"
    known.replace([Secret(BOB)])
    assert known.find(token) is None


def test_a_session_cannot_be_made_or_changed_by_others(clock: ManualClock) -> None:
    known = operators(clock)
    login = known.begin("ann")
    token = known.token(login)
    body, _, signature = token.partition(".")
    told = json.loads(base64.urlsafe_b64decode(body + "=="))
    for name, value in (("name", "bob"), ("ends", login.ends + 1), ("id", "other")):
        forged = base64.urlsafe_b64encode(json.dumps(told | {name: value}).encode()).decode().rstrip("=")
        assert known.find(f"{forged}.{signature}") is None
    others = operators(clock, OTHER_PASSWORD)
    assert known.find(others.token(Login("ann", "x", clock.time(), clock.time() + 60))) is None


@pytest.mark.parametrize("token", ["", ".", "a.b", "e30.", "é.é", "x" * 10_000, "bnVsbA.AA", "!!!.???"])
def test_rubbish_is_no_session(clock: ManualClock, token: str) -> None:
    assert operators(clock).find(token) is None
