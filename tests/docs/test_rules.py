"""The worked examples of docs/rules.md: what the page says of them is what the rules decide."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from notifier.auth import claims
from notifier.config import Auth, ChannelRule, Config, load
from notifier.core import target
from notifier.core.channel import Pattern, problem_with
from notifier.core.identity import ANONYMOUS, Identity
from notifier.core.rules import Rights, Rules
from notifier.operator import access
from tests.docs.pages import Page, Table, codes_in
from tests.docs.programs import environment
from tests.servers import ROOT
from tests.services.deadline import SECOND

PAGE = Page(ROOT / "docs" / "rules.md")
DECISIONS = ("who", "channel", "rule", "subscribe", "publish")
MARK = "rules: "
EXAMPLES = {block.note.removeprefix(MARK): block.body for block in PAGE.blocks if block.note.startswith(MARK)}


def _table_of(name: str) -> Table:
    """The first table behind the example."""
    begin = PAGE.text.index(f"<!-- {MARK}{name} -->")
    return next(table for table in PAGE.tables if table.start > begin)


CLAIMS: Mapping[str, dict[str, Any] | None] = {
    who: json.loads(codes_in(said)[0]) if codes_in(said) else None for who, said in PAGE.table("who", "claims").rows
}
CASES = [(name, *row) for name in EXAMPLES for row in _table_of(name).rows]


def _config(name: str, folder: Path) -> Config:
    file = folder / "config.toml"
    file.write_text(EXAMPLES[name])
    return load(file, {})


def _identity(who: str, auth: Auth) -> Identity:
    said = CLAIMS[who]
    if said is None:
        return ANONYMOUS
    known, whole = claims.read(msgspec.json.encode(said))
    return claims.identity(known, whole, auth)


def decided(config: Config, identity: Identity, channel: str, granted: bool | None) -> tuple[str, str, str]:
    """Rule, and the terms by which the client may subscribe and publish, as the page writes them."""
    found = target.find(Rules(config.channels), channel, config.clients.max_channel_bytes)
    if found is None:
        return "none", "no", "no"
    subscribe = found.rule.subscribe.why(identity, channel)
    if found.rule.subscribe.with_token and granted is not None:
        subscribe = "token" if granted else ""
    publish = "" if found.pattern is not None else found.rule.publish.why(identity, channel)
    if not publish and found.rule.publish.subscribers:
        publish = "subscriber"
    return f"`{found.rule.spec.match}`", f"`{subscribe}`" if subscribe else "no", f"`{publish}`" if publish else "no"


@pytest.mark.parametrize(("name", "who", "channel", "rule", "subscribe", "publish"), CASES)
def test_an_example_decides_as_the_page_says(
    name: str, who: str, channel: str, rule: str, subscribe: str, publish: str, tmp_path: Path
) -> None:
    config = _config(name, tmp_path)
    who, _, token = who.partition(", with a token for ")
    identity = _identity(who, config.auth)
    granted = {"": None, "it": True, "another": False}[token]
    [channel] = codes_in(channel)
    assert decided(config, identity, channel, granted) == (rule, subscribe, publish)
    told = access.explain(config, identity, channel, granted)
    assert told.allowed == (subscribe != "no")
    [line] = [line for line in told.lines if line.startswith("subscribe: ")] or [told.lines[0]]
    expected = "by the subscription token" if subscribe == "`token`" else f'by "{subscribe[1:-1]}"'
    assert (expected if told.allowed else "refused") in line


def test_every_example_says_what_it_decides() -> None:
    assert len(EXAMPLES) == len([block for block in PAGE.blocks if block.language == "toml"])
    assert {_table_of(name).header for name in EXAMPLES} == {DECISIONS}
    starts = [_table_of(name).start for name in EXAMPLES]
    assert len(set(starts)) == len(starts) == len([table for table in PAGE.tables if table.header == DECISIONS])


def test_examples_show_every_term_and_every_switch_of_a_rule(tmp_path: Path) -> None:
    rules = [rule for name in EXAMPLES for rule in _config(name, tmp_path).channels]
    terms = {re.sub(r"role:\w+", "role:NAME", term) for rule in rules for term in (*rule.subscribe, *rule.publish)}
    explained = {codes_in(row[0])[0] for row in PAGE.table("term", "lets in").rows}
    assert terms >= explained - {"news.#"}
    for field in msgspec.structs.fields(ChannelRule):
        assert f"{field.name} = " in "".join(EXAMPLES.values()), field.name


def test_a_pattern_without_a_claim_is_for_users() -> None:
    rights = Rights(["news.#"])
    assert rights.allow(Identity("42"), "news.today")
    assert not rights.allow(ANONYMOUS, "news.today")
    assert not rights.allow(Identity("42"), "sport.today")


def test_patterns_match_what_the_page_says() -> None:
    rows = PAGE.table("pattern", "matches", "does not match").rows
    assert len(rows) > 5
    for pattern, matching, others in rows:
        compiled = Pattern(codes_in(pattern)[0])
        for name in codes_in(matching):
            assert compiled.matches(name), f"{pattern} {name}"
        for name in codes_in(others):
            assert not compiled.matches(name), f"{pattern} {name}"
        assert not [name for name in codes_in(matching + others) if problem_with(name)]


def test_check_says_what_the_page_shows(tmp_path: Path) -> None:
    [typed] = [block.body for block in PAGE.blocks if block.note == "check"]
    [printed] = [block.body for block in PAGE.blocks if block.note == "prints"]
    key = '[auth]\nhmac_keys = ["a-key-of-at-least-thirty-two-bytes"]\n'
    (tmp_path / "config.toml").write_text(key + EXAMPLES["user"])
    program = tmp_path / "notifier"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m notifier "$@"\n')
    program.chmod(0o755)
    variables = environment({"PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:/usr/bin:/bin"})
    done = subprocess.run(
        ["sh", "-uc", typed],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60 * SECOND,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, printed), done.stderr
