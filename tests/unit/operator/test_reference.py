"""The page of the configuration: in step with the sections, and each row says what the field says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from notifier.config import Config, Duration, Secret, Size, load
from notifier.operator.reference import reference, type_of

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_what_the_sections_say() -> None:
    assert PAGE.read_text() == reference(), "run: make config"


def test_every_key_of_every_section_has_a_row() -> None:
    shown = set(re.findall(r"`NOTIFIER_(\w+)` \|$", reference(), re.MULTILINE))
    sections = {each.name: each.type for each in msgspec.structs.fields(Config) if isinstance(each.type, type)}
    keys = {
        f"{name}__{key.name}".upper()
        for name, kind in sections.items()
        if issubclass(kind, Struct)
        for key in msgspec.structs.fields(kind)
    }
    assert shown == keys


def test_the_variables_are_those_that_the_server_reads() -> None:
    rows = re.findall(r"^\| .* \| text \| `(\"[^\"]*\")` .*<br>`(NOTIFIER_\w+)` \|$", reference(), re.MULTILINE)
    assert len(rows) > 20
    defaults = {variable: default.strip('"') for default, variable in rows}
    assert load(None, defaults) == load(None, {})


@pytest.mark.parametrize(
    ("key", "reload"),
    [("NOTIFIER_SERVER__PORT", "no"), ("NOTIFIER_AUTH__HMAC_KEYS", "yes"), ("NOTIFIER_AUTH__COOKIE", "no"),
     ("NOTIFIER_LOGGING__LEVEL", "yes"), ("NOTIFIER_LOGGING__FORMAT", "no")],
)  # fmt: skip
def test_what_is_taken_up_without_a_restart(key: str, reload: str) -> None:
    [row] = [line for line in reference().splitlines() if f"`{key}`" in line]
    assert f" | {reload} | " in row


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Duration, "duration"),
        (Size, "size in bytes"),
        (list[Secret], "list of text, secret"),
        (Literal["a", "b"], '`"a"` or `"b"`'),
        (Annotated[int, Meta(ge=1, le=255)], "number from 1 to 255"),
        (Annotated[Annotated[float, Meta(ge=0)], Meta(description="a rate")], "number from 0"),
    ],
)
def test_types_in_words(kind: object, words: str) -> None:
    assert type_of(kind) == words
