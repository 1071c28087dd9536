"""Which publications a tag filter lets through (protocol.md section 5.7)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.protocol.filters import MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_VALUES, FilterNode, TagFilter

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
        ({"cmp": "sw", "key": "missing", "val": ""}, False),
        ({"cmp": "ew", "key": "word", "val": "en"}, True),
        ({"cmp": "ew", "key": "word", "val": "te"}, False),
        ({"cmp": "ew", "key": "missing", "val": ""}, False),
        ({"cmp": "ct", "key": "word", "val": "e"}, True),
        ({"cmp": "ct", "key": "word", "val": "x"}, False),
        ({"cmp": "ct", "key": "missing", "val": ""}, False),
        ({"cmp": "gt", "key": "price", "val": "9.75"}, True),
        ({"cmp": "gt", "key": "price", "val": "10.50"}, False),
        ({"cmp": "gte", "key": "price", "val": "10.50"}, True),
        ({"cmp": "gte", "key": "price", "val": "10.51"}, False),
        ({"cmp": "lt", "key": "price", "val": "100"}, True),
        ({"cmp": "lt", "key": "price", "val": "-1"}, False),
        ({"cmp": "lt", "key": "price", "val": "10.50"}, False),
        ({"cmp": "lte", "key": "price", "val": "10.5"}, True),
        ({"cmp": "lte", "key": "price", "val": "10.49"}, False),
        ({"cmp": "gt", "key": "word", "val": "-1"}, False),
        ({"cmp": "gte", "key": "missing", "val": "0"}, False),
        ({"cmp": "lt", "key": "word", "val": "100"}, False),
        ({"cmp": "lte", "key": "missing", "val": "100"}, False),
        ({"op": "and", "nodes": [{"cmp": "ex", "key": "lang"}, {"cmp": "ex", "key": "word"}]}, True),
        ({"op": "and", "nodes": [{"cmp": "ex", "key": "lang"}, {"cmp": "ex", "key": "missing"}]}, False),
        ({"op": "or", "nodes": [{"cmp": "ex", "key": "missing"}, {"cmp": "ex", "key": "word"}]}, True),
        ({"op": "or", "nodes": [{"cmp": "ex", "key": "missing"}]}, False),
        ({"op": "not", "nodes": [{"cmp": "ex", "key": "missing"}]}, True),
        ({"op": "not", "nodes": [{"cmp": "ex", "key": "lang"}]}, False),
    ],
)
def test_every_operator(node: dict[str, Any], *, accepted: bool) -> None:
    assert TagFilter(made(**node)).accepts(TAGS) is accepted


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-inf", "1e999999999", "1_000", "\u0661", " 1", "1\n", "9" * 5000]
)
def test_a_tag_that_is_no_plain_decimal_is_on_no_side_of_any_number(value: str) -> None:
    for compared in ("gt", "gte", "lt", "lte"):
        assert not TagFilter(made(cmp=compared, key="a", val="0")).accepts({"a": value})


def test_numbers_are_compared_to_the_last_digit() -> None:
    tag = {"a": "0." + "0" * 1000 + "2"}
    assert TagFilter(made(cmp="gt", key="a", val="0." + "0" * 1000 + "1")).accepts(tag)
    assert not TagFilter(made(cmp="lt", key="a", val="0." + "0" * 1000 + "1")).accepts(tag)


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
        ({"cmp": "in", "key": "a", "vals": ["x"] * 257}, "^vals: more than 256 values"),
        (
            {"op": "or", "nodes": [{"cmp": "in", "key": "a", "vals": ["x"] * 129}] * 2},
            r"nodes\[1\].vals: more than 256",
        ),
        ({"op": "or", "nodes": [LEAF], "vals": ["x"] * 257}, "^vals: more than 256 values"),
        ({"cmp": "eq", "key": "k" * 1025, "val": "x"}, "^key: more than 1024 bytes"),
        (
            {"op": "not", "nodes": [{"cmp": "eq", "key": "a", "val": "é" * 513}]},
            r"nodes\[0\].val: more than 1024 bytes",
        ),
        ({"cmp": "in", "key": "a", "vals": ["", "x" * 1025]}, r"^vals\[1\]: more than 1024 bytes"),
        ({"op": "not", "nodes": [LEAF], "key": "k" * 1025}, "^key: more than 1024 bytes"),
        ({"cmp": "ex", "key": "a", "nodes": [LEAF]}, "^nodes: a comparison has none"),
        ({"op": "or", "nodes": [LEAF] * MAX_NODES}, "more than 64 nodes"),
        (nested(MAX_DEPTH + 1), r"(nodes\[0\]\.){7}nodes\[0\]: deeper than 8"),
    ],
)
def test_a_tree_that_cannot_be_used_is_told_with_its_place(node: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TagFilter(made(**node))


@pytest.mark.parametrize(
    "node",
    [
        nested(MAX_DEPTH),
        {"op": "or", "nodes": [LEAF] * (MAX_NODES - 1)},
        {"cmp": "in", "key": "a", "vals": ["x"] * MAX_VALUES},
        {"cmp": "eq", "key": "k" * MAX_BYTES, "val": "é" * (MAX_BYTES // 2)},
    ],
)
def test_a_tree_as_large_as_one_may_be_is_taken(node: dict[str, Any]) -> None:
    assert TagFilter(made(**node)).accepts({}) in (True, False)


def test_nodes_below_a_comparison_are_refused_however_deep_they_go() -> None:
    text = '{"cmp":"ex","key":"a","nodes":[' * 300 + "]}" * 300
    with pytest.raises(ValueError, match="a comparison has none"):
        TagFilter(msgspec.json.decode(text, type=FilterNode))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nested(3), nested(3)),
        (LEAF, {"op": "", "key": "a", "cmp": "ex", "val": "", "vals": [], "nodes": []}),
        (LEAF, {"cmp": "ex", "key": "a", "val": "unused", "vals": ["unused"]}),
        ({"cmp": "eq", "key": "a", "val": "x"}, {"cmp": "eq", "key": "a", "val": "x", "vals": ["unused"]}),
        ({"cmp": "in", "key": "a", "vals": ["x", "y"]}, {"cmp": "in", "key": "a", "vals": ["y", "x", "y"], "val": "z"}),
        (
            {"op": "not", "nodes": [LEAF]},
            {"op": "not", "nodes": [LEAF], "key": "unused", "cmp": "unused", "vals": ["u"]},
        ),
    ],
)
def test_trees_that_mean_the_same_are_one_filter(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert len({TagFilter(made(**one)), TagFilter(made(**other))}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nested(3), nested(4)),
        (LEAF, {"cmp": "nex", "key": "a"}),
        (LEAF, {"cmp": "ex", "key": "b"}),
        ({"cmp": "eq", "key": "a", "val": "x"}, {"cmp": "eq", "key": "a", "val": "y"}),
        ({"cmp": "in", "key": "a", "vals": ["x"]}, {"cmp": "in", "key": "a", "vals": ["x", "y"]}),
        ({"op": "and", "nodes": [LEAF]}, {"op": "or", "nodes": [LEAF]}),
    ],
)
def test_trees_that_mean_something_else_are_another(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert TagFilter(made(**one)) != TagFilter(made(**other))


leaves = st.builds(
    lambda cmp, key, val, vals: {"cmp": cmp, "key": key, "val": val, "vals": vals},
    st.sampled_from(["eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "gt", "gte", "lt", "lte"]),
    st.sampled_from(["a", "b", "é"]),
    st.text(max_size=5) | st.sampled_from(["1", "-0.5", "+3.", ".5"]),
    st.lists(st.text(max_size=3), max_size=3),
)


trees = st.recursive(
    leaves,
    lambda nodes: st.builds(
        lambda op, nodes: {"op": op, "nodes": nodes}, st.sampled_from(["and", "or", "not"]), st.lists(nodes, max_size=3)
    ),
    max_leaves=8,
)


@given(trees, st.dictionaries(st.sampled_from(["a", "b", "é"]), st.text(max_size=5) | st.sampled_from(["1", "-2.5"])))
def test_whatever_is_compiled_never_fails(node: dict[str, Any], tags: dict[str, str]) -> None:
    try:
        found = TagFilter(made(**node))
    except ValueError:
        return
    assert found.accepts(tags) in (True, False)
    assert found == TagFilter(msgspec.json.decode(msgspec.json.encode(made(**node)), type=FilterNode))
