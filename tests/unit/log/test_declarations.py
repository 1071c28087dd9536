"""What is declared on the broker is legal on RabbitMQ 3.10 and on 4.3, which no longer takes queues that are neither
durable nor exclusive, classic mirrors, or a prefetch for a whole channel."""

from __future__ import annotations

import ast

import pytest

from tests.servers import ROOT

SAFE = ("durable", "exclusive", "passive")


def calls(*names: str) -> list[ast.Call]:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "notifier").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [node for node in nodes if isinstance(node.func, ast.Attribute) and node.func.attr in names]


DECLARED = calls("declare_queue", "declare_exchange")


@pytest.mark.parametrize("call", DECLARED, ids=ast.unparse)
def test_what_is_declared_is_durable_or_exclusive(call: ast.Call) -> None:
    said = {word.arg: word.value for word in call.keywords}
    assert any(isinstance(said.get(name), ast.Constant) and said[name].value is True for name in SAFE)  # type: ignore[attr-defined]
    assert "ha-" not in ast.unparse(call)


def test_no_prefetch_is_for_a_whole_channel() -> None:
    prefetches = calls("set_qos", "basic_qos")
    assert len(DECLARED) > 8
    assert prefetches
    assert not [ast.unparse(call) for call in prefetches if "global" in ast.unparse(call)]
