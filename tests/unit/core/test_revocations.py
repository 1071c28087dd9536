"""Tokens that count no more."""

from __future__ import annotations

import pytest

from notifier.core import revocations
from notifier.core.orders import Revocation
from notifier.core.revocations import Revocations


@pytest.mark.parametrize(
    ("revocation", "hit"),
    [
        (Revocation(token_id="t1"), True),
        (Revocation(token_id="t2"), False),
        (Revocation(user="ann", before=101), True),
        (Revocation(user="ann", before=100), False),
        (Revocation(user="bob", before=101), False),
        (Revocation(everybody=True, before=101), True),
        (Revocation(everybody=True, before=100), False),
    ],
)
def test_what_a_revocation_hits(revocation: Revocation, *, hit: bool) -> None:
    revoked = Revocations()
    assert not revoked
    revoked.add(revocation)
    assert revoked
    assert revoked.hit("ann", "t1", 100.0) is hit


def test_a_token_that_does_not_say_when_it_was_issued_is_older_than_any_revocation() -> None:
    revoked = Revocations()
    revoked.add(Revocation(user="ann", before=1))
    assert revoked.hit("ann", "", 0.0)


def test_an_earlier_time_does_not_undo_a_later_one() -> None:
    revoked = Revocations()
    for before in (200.0, 100.0):
        revoked.add(Revocation(user="ann", before=before))
        revoked.add(Revocation(everybody=True, before=before - 50))
    assert revoked.hit("ann", "", 199.0)
    assert revoked.hit("bob", "", 149.0)


def test_they_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "MOST", 3)
    revoked = Revocations()
    for n in range(5):
        revoked.add(Revocation(token_id=f"t{n}"))
    assert [n for n in range(5) if revoked.hit("", f"t{n}", 1.0)] == [2, 3, 4]


def test_whether_a_revocation_says_more_than_those_before() -> None:
    revocations = Revocations()
    for revocation in (
        Revocation(token_id="t"),
        Revocation(user="ann", before=10.0),
        Revocation(everybody=True, before=10.0),
    ):
        assert revocations.add(revocation)
        assert not revocations.add(revocation)
    assert not revocations.add(Revocation(user="ann", before=9.0))
    assert revocations.add(Revocation(user="ann", before=11.0))
    assert revocations.hit("ann", "", 10.5)
