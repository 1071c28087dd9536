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
    """A compiled tree. Two of the same tree are equal."""

    __slots__ = ("_canonical", "_test")

    def __init__(self, node: FilterNode) -> None:
        """Raises ValueError, naming the node, when the tree cannot be used."""
        self._test = _Compiler().compile(node, "", 1)
        self._canonical = msgspec.json.encode(node)

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
            raise ValueError(f"{path}nodes: deeper than {MAX_DEPTH}")
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

    def _leaf(self, node: FilterNode, path: str) -> Test:
        self._values += len(node.vals)
        if self._values > MAX_VALUES:
            raise ValueError(f"{path}vals: more than {MAX_VALUES} values")
        if any(len(text.encode()) > MAX_BYTES for text in (node.key, node.val, *node.vals)):
            raise ValueError(f"{path}: a text of more than {MAX_BYTES} bytes")
        if not node.key:
            raise ValueError(f"{path}key: is required")
        if node.cmp in _COMPARED:
            return _number_test(node, path)
        test = _text_test(node)
        if test is None:
            raise ValueError(f"{path}cmp: unknown comparison {node.cmp[:40]!r}")
        return test


def _text_test(node: FilterNode) -> Test | None:
    key, val, vals = node.key, node.val, frozenset(node.vals)
    tests: dict[str, Test] = {
        "eq": lambda tags: tags.get(key) == val,
        "neq": lambda tags: tags.get(key) != val,
        "in": lambda tags: tags.get(key, "") in vals,
        "nin": lambda tags: tags.get(key, "") not in vals,
        "ex": lambda tags: key in tags,
        "nex": lambda tags: key not in tags,
        "sw": lambda tags: tags.get(key, "").startswith(val),
        "ew": lambda tags: tags.get(key, "").endswith(val),
        "ct": lambda tags: val in tags.get(key, ""),
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
