"""Which publications a tag filter lets through (protocol.md section 5.7)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.protocol.filters import MAX_DEPTH, MAX_NODES, FilterNode, TagFilter

TAGS = {"lang": "en", "price": "10.5", "empty": "", "word": "ten"}


def made(**fields: Any) -> FilterNode:
    return msgspec.convert(fields, FilterNode)


@pytest.mark.parametrize(
    ("node", "accepted"),
    [
        ({"cmp": "eq", "key": "lang", "val": "en"}, True),
        ({"cmp": "eq", "key": "lang", "val": "de"}, False),
        ({"cmp": "eq", "key": "missing", "val": ""}, False),
        ({"cmp": "neq", "key": "lang", "val": "de"}, True),
        ({"cmp": "neq", "key": "lang", "val": "en"}, False),
        ({"cmp": "neq", "key": "missing", "val": "x"}, True),
        ({"cmp": "in", "key": "lang", "vals": ["de", "en"]}, True),
        ({"cmp": "in", "key": "lang", "vals": ["de"]}, False),
        ({"cmp": "in", "key": "missing", "vals": ["", "de"]}, True),
        ({"cmp": "nin", "key": "lang", "vals": ["de"]}, True),
        ({"cmp": "nin", "key": "lang", "vals": ["en"]}, False),
        ({"cmp": "nin", "key": "missing", "vals": [""]}, False),
        ({"cmp": "ex", "key": "empty"}, True),
        ({"cmp": "ex", "key": "missing"}, False),
        ({"cmp": "nex", "key": "missing"}, True),
        ({"cmp": "nex", "key": "empty"}, False),
        ({"cmp": "sw", "key": "word", "val": "te"}, True),
        ({"cmp": "sw", "key": "word", "val": "en"}, False),
        ({"cmp": "ew", "key": "word", "val": "en"}, True),
        ({"cmp": "ew", "key": "word", "val": "te"}, False),
        ({"cmp": "ct", "key": "word", "val": "e"}, True),
        ({"cmp": "ct", "key": "word", "val": "x"}, False),
        ({"cmp": "gt", "key": "price", "val": "9.75"}, True),
        ({"cmp": "gt", "key": "price", "val": "10.50"}, False),
        ({"cmp": "gte", "key": "price", "val": "10.50"}, True),
        ({"cmp": "lt", "key": "price", "val": "100"}, True),
        ({"cmp": "lt", "key": "price", "val": "-1"}, False),
        ({"cmp": "lte", "key": "price", "val": "10.5"}, True),
        ({"cmp": "lt", "key": "word", "val": "100"}, False),
        ({"cmp": "lt", "key": "missing", "val": "100"}, False),
        ({"op": "and", "nodes": [{"cmp": "ex", "key": "lang"}, {"cmp": "ex", "key": "word"}]}, True),
        ({"op": "and", "nodes": [{"cmp": "ex", "key": "lang"}, {"cmp": "ex", "key": "missing"}]}, False),
        ({"op": "or", "nodes": [{"cmp": "ex", "key": "missing"}, {"cmp": "ex", "key": "word"}]}, True),
        ({"op": "or", "nodes": [{"cmp": "ex", "key": "missing"}]}, False),
        ({"op": "not", "nodes": [{"cmp": "ex", "key": "missing"}]}, True),
    ],
)
def test_every_operator(node: dict[str, Any], *, accepted: bool) -> None:
    assert TagFilter(made(**node)).accepts(TAGS) is accepted


def test_a_publication_without_tags_has_none() -> None:
    assert not TagFilter(made(cmp="ex", key="a")).accepts(None)
    assert TagFilter(made(cmp="nex", key="a")).accepts(None)


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {"cmp": "ex", "key": "a"}
    for _ in range(depth - 1):
        node = {"op": "not", "nodes": [node]}
    return node


LEAF = {"cmp": "ex", "key": "a"}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({}, "key: is required"),
        ({"op": "xor", "nodes": [LEAF]}, "op: unknown operator 'xor'"),
        ({"op": "and"}, "nodes: and needs at least one"),
        ({"op": "not", "nodes": [LEAF, LEAF]}, "nodes: not needs exactly one"),
        ({"op": "and", "nodes": [LEAF, {"cmp": "zz", "key": "a"}]}, r"nodes\[1\].cmp: unknown comparison 'zz'"),
        ({"cmp": "gt", "key": "a", "val": "1e999999999"}, "val: not a decimal number"),
        ({"cmp": "gt", "key": "a", "val": "NaN"}, "val: not a decimal number"),
        ({"cmp": "in", "key": "a", "vals": ["x"] * 300}, "more than 256 values"),
        ({"cmp": "eq", "key": "a", "val": "x" * 2000}, "more than 1024 bytes"),
        ({"op": "or", "nodes": [LEAF] * MAX_NODES}, "more than 64 nodes"),
        (nested(MAX_DEPTH + 1), "deeper than 8"),
    ],
)
def test_a_tree_that_cannot_be_used_is_told_with_its_place(node: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TagFilter(made(**node))


def test_equal_trees_are_one_filter() -> None:
    assert TagFilter(made(**nested(3))) == TagFilter(made(**nested(3)))
    assert hash(TagFilter(made(**nested(3)))) == hash(TagFilter(made(**nested(3))))
    assert TagFilter(made(**nested(3))) != TagFilter(made(**nested(4)))


leaves = st.builds(
    lambda cmp, key, val, vals: {"cmp": cmp, "key": key, "val": val, "vals": vals},
    st.sampled_from(["eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "gt", "gte", "lt", "lte"]),
    st.sampled_from(["a", "b", "é"]),
    st.text(max_size=5) | st.sampled_from(["1", "-0.5", "+3.", ".5"]),
    st.lists(st.text(max_size=3), max_size=3),
)


@given(leaves, st.dictionaries(st.sampled_from(["a", "b", "é"]), st.text(max_size=5)))
def test_whatever_is_compiled_never_fails(node: dict[str, Any], tags: dict[str, str]) -> None:
    try:
        found = TagFilter(made(**node))
    except ValueError:
        return
    assert found.accepts(tags) in (True, False)
