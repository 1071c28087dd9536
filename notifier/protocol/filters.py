"""Tag filters: which publications of a channel a subscription wants (protocol.md section 5.7)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

import msgspec
from msgspec import Struct

MAX_NODES, MAX_DEPTH, MAX_VALUES, MAX_BYTES = 64, 8, 256, 1024

Tags = Mapping[str, str]
Test = Callable[[Tags], bool]

# Plain decimals only: an exponent could stand for a number that takes long to write out.
_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_COMPARED = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
_NO_TAGS: Tags = {}


class FilterNode(Struct, frozen=True, omit_defaults=True):
    """One node of a filter's tree: a comparison when `op` is empty, else `and`, `or` or `not` of `nodes`."""

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: list[str] = []
    nodes: list[FilterNode] = []


class TagFilter:
    """A compiled tree. Two that decide by the same are equal."""

    __slots__ = ("_canonical", "_test")

    def __init__(self, node: FilterNode) -> None:
        """Raises ValueError, naming the node, when the tree cannot be used."""
        self._test = _Compiler().compile(node, "", 1)
        self._canonical = msgspec.json.encode(_plain(node))

    def accepts(self, tags: Tags | None) -> bool:
        return self._test(tags or _NO_TAGS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TagFilter) and self._canonical == other._canonical

    def __hash__(self) -> int:
        return hash(self._canonical)


class _Compiler:
    """Counts nodes and values while it makes tests out of them."""

    def __init__(self) -> None:
        self._nodes = self._values = 0

    def compile(self, node: FilterNode, path: str, depth: int) -> Test:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes")
        if depth > MAX_DEPTH:
            raise ValueError(f"{path.removesuffix('.')}: deeper than {MAX_DEPTH}")
        self._check_texts(node, path)
        if not node.op:
            return self._leaf(node, path)
        if node.op not in ("and", "or", "not"):
            raise ValueError(f"{path}op: unknown operator {node.op[:40]!r}")
        if not node.nodes or (node.op == "not" and len(node.nodes) != 1):
            raise ValueError(f"{path}nodes: {node.op} needs {'exactly' if node.op == 'not' else 'at least'} one")
        tests = [self.compile(each, f"{path}nodes[{n}].", depth + 1) for n, each in enumerate(node.nodes)]
        if node.op == "and":
            return lambda tags: all(test(tags) for test in tests)
        if node.op == "or":
            return lambda tags: any(test(tags) for test in tests)
        [negated] = tests
        return lambda tags: not negated(tags)

    def _check_texts(self, node: FilterNode, path: str) -> None:
        self._values += len(node.vals)
        if self._values > MAX_VALUES:
            raise ValueError(f"{path}vals: more than {MAX_VALUES} values")
        texts = {"key": node.key, "val": node.val, **{f"vals[{n}]": each for n, each in enumerate(node.vals)}}
        for name, text in texts.items():
            if len(text.encode()) > MAX_BYTES:
                raise ValueError(f"{path}{name}: more than {MAX_BYTES} bytes")

    def _leaf(self, node: FilterNode, path: str) -> Test:
        # Nobody would count them, nor how deep they go.
        if node.nodes:
            raise ValueError(f"{path}nodes: a comparison has none")
        if not node.key:
            raise ValueError(f"{path}key: is required")
        if node.cmp in _COMPARED:
            return _number_test(node, path)
        test = _text_test(node)
        if test is None:
            raise ValueError(f"{path}cmp: unknown comparison {node.cmp[:40]!r}")
        return test


def _plain(node: FilterNode) -> FilterNode:
    """Only what decides, of a tree that compiles: equal trees of these are equal filters."""
    if node.op:
        return FilterNode(op=node.op, nodes=[_plain(each) for each in node.nodes])
    if node.cmp in ("in", "nin"):
        return FilterNode(key=node.key, cmp=node.cmp, vals=sorted(set(node.vals)))
    return FilterNode(key=node.key, cmp=node.cmp, val="" if node.cmp in ("ex", "nex") else node.val)


def _text_test(node: FilterNode) -> Test | None:
    key, val, vals = node.key, node.val, frozenset(node.vals)
    tests: dict[str, Test] = {
        "eq": lambda tags: tags.get(key) == val,
        "neq": lambda tags: tags.get(key) != val,
        "in": lambda tags: tags.get(key, "") in vals,
        "nin": lambda tags: tags.get(key, "") not in vals,
        "ex": lambda tags: key in tags,
        "nex": lambda tags: key not in tags,
        "sw": lambda tags: key in tags and tags[key].startswith(val),
        "ew": lambda tags: key in tags and tags[key].endswith(val),
        "ct": lambda tags: key in tags and val in tags[key],
    }
    return tests.get(node.cmp)


def _number_test(node: FilterNode, path: str) -> Test:
    bound = _decimal(node.val)
    if bound is None:
        raise ValueError(f"{path}val: not a decimal number")
    compare, key = _COMPARED[node.cmp], node.key

    def test(tags: Tags) -> bool:
        value = _decimal(tags.get(key, ""))
        return value is not None and bool(compare(value, bound))

    return test


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if len(text) <= MAX_BYTES and _DECIMAL.fullmatch(text) else None
