"""Passwords of operators: what is kept of them, and what fits."""

from __future__ import annotations

import unicodedata

import pytest

from notifier.auth import passwords

LONG = "correct horse battery"


def test_a_password_is_known_again_and_no_other_is() -> None:
    name, password = passwords.parsed(passwords.entry_for("ann", LONG))
    assert name == "ann"
    assert password.is_(LONG)
    for wrong in ("", LONG[:-1], LONG + " ", LONG.upper()):
        assert not password.is_(wrong)


def test_an_entry_holds_nothing_of_the_password_and_is_another_each_time() -> None:
    first, second = passwords.entry_for("ann", LONG), passwords.entry_for("ann", LONG)
    assert first != second
    assert LONG not in first


def test_two_ways_to_write_a_letter_are_one_password() -> None:
    text = "pässwörd-lang-genug"
    _, password = passwords.parsed(passwords.entry_for("ann", unicodedata.normalize("NFD", text)))
    assert password.is_(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("text", ["", "short", "x" * 11, "ö" * 513])
def test_passwords_that_are_too_short_or_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="at least 12 characters"):
        passwords.entry_for("ann", text)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-ann", "x" * 65, "ännchen"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        passwords.entry_for(name, LONG)


def test_a_stranger_costs_what_an_operator_costs_and_has_no_password() -> None:
    _, known = passwords.parsed(passwords.entry_for("ann", LONG))
    stranger = passwords.stranger(known._replace(cost=2**14, parallel=1))
    assert stranger[:3] == (2**14, 8, 1)
    assert not stranger.is_("")
