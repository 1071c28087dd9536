"""What operators see of all nodes: a node and a request in, a result out. No HTTP here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from notifier.config import Duration
from notifier.core import channel as channels
from notifier.core.inspection import ChannelsTop, ConnectionsLike, CountsOf, Found, FoundHere, WorkerState
from notifier.core.node import Node
from notifier.protocol.codes import bad_request

MOST_FOUND = 200
MAX_SEARCH = 255

Search = Annotated[str, Meta(max_length=MAX_SEARCH)]
Most = Annotated[int, Meta(ge=1, le=MOST_FOUND)]
Left = dict[Annotated[str, Meta(max_length=64)], Annotated[int, Meta(ge=0)]]


class Nothing(Struct, forbid_unknown_fields=True):
    """A request without a field."""


class Nodes(Struct):
    """All workers; `uid` is the one that answers."""

    uid: str
    nodes: list[WorkerState]


async def nodes(node: Node, _request: Nothing) -> Nodes:
    return Nodes(node.node_id, await node.control.states())


class ConnectionsRequest(Struct, forbid_unknown_fields=True):
    """Part of a user's name, or the beginning of a client's id; the channel to which they are subscribed. `after` is
    the answer's, for the page after it."""

    search: Search = ""
    channel: Search = ""
    most: Most = 50
    after: Annotated[Left, Meta(max_length=1000)] = {}


class FoundOn(Struct):
    """A connection, and where it is."""

    uid: str
    connection: Found


class ConnectionsPage(Struct):
    """`total` is how many there are on all nodes. `after` begins the next page; None at the end."""

    total: int
    connections: list[FoundOn]
    after: dict[str, int] | None


async def connections(node: Node, request: ConnectionsRequest) -> ConnectionsPage:
    question = ConnectionsLike(request.search, request.channel, request.most, request.after)
    answers = [question.answer(node), *await node.control.ask(question, FoundHere)]
    answers.sort(key=lambda answer: answer.uid)
    found = [FoundOn(answer.uid, each) for answer in answers for each in answer.connections][: request.most]
    after = {answer.uid: request.after.get(answer.uid, 0) for answer in answers}
    for each in found:
        after[each.uid] += 1
    more = any(after[answer.uid] < answer.total for answer in answers)
    return ConnectionsPage(sum(answer.total for answer in answers), found, after if found and more else None)


class ChannelsRequest(Struct, forbid_unknown_fields=True):
    """Part of a channel's name, or a pattern such as `orders.*`."""

    search: Search = ""
    most: Most = 100


class ChannelRow(Struct):
    """A channel with subscribers; `match` is its rule's, empty where there is none."""

    channel: str
    subscribers: int
    match: str


class ChannelsFound(Struct):
    """Those with most subscribers; `more`: there are others."""

    channels: list[ChannelRow]
    more: bool


async def list_channels(node: Node, request: ChannelsRequest) -> ChannelsFound:
    """Two questions: which ones may be among the first, then how many those have on all nodes."""
    if channels.is_pattern(request.search) and (problem := channels.problem_with_pattern(request.search)):
        raise bad_request(f"search: {problem}")
    top = ChannelsTop(request.search, request.most + 1)
    names: dict[str, int] = {}
    for answer in [top.answer(node), *await node.control.ask(top, dict[str, int])]:
        for name, number in answer.items():
            names[name] = names.get(name, 0) + number
    first = sorted(names, key=lambda name: (-names[name], name))[: request.most]
    counts = await _counts(node, first)
    rows = [ChannelRow(name, counts.get(name, 0), _match(node, name)) for name in first if counts.get(name)]
    rows.sort(key=lambda row: (-row.subscribers, row.channel))
    return ChannelsFound(rows, len(names) > request.most)


async def _counts(node: Node, names: list[str]) -> dict[str, int]:
    question = CountsOf(names)
    total: dict[str, int] = {}
    for answer in [question.answer(node), *await node.control.ask(question, dict[str, int])]:
        for name, number in answer.items():
            total[name] = total.get(name, 0) + number
    return total


def _match(node: Node, channel: str) -> str:
    rule = node.rules.find(channel)
    return rule.spec.match if rule is not None else ""


class ChannelRequest(Struct, forbid_unknown_fields=True):
    """One channel, be it without subscribers."""

    channel: Search = ""


class Channel(Struct):
    """`index` is the rule's place in the configuration, -1 without one; `rule` what stands there, sizes in bytes and
    times in seconds. `top` is the offset of the channel's last publication, 0 where none is known."""

    channel: str
    subscribers: int
    top: int
    epoch: str
    index: int
    rule: dict[str, Any] | None


async def channel(node: Node, request: ChannelRequest) -> Channel:
    if problem := channels.problem_with(request.channel):
        raise bad_request(problem)
    rule = node.rules.find(request.channel)
    counts = await _counts(node, [request.channel])
    return Channel(
        request.channel,
        counts.get(request.channel, 0),
        node.history.top(request.channel) if rule is not None and rule.keeps_history else 0,
        node.history.epoch,
        rule.index if rule is not None else -1,
        msgspec.to_builtins(rule.spec, enc_hook=_seconds) if rule is not None else None,
    )


def _seconds(value: object) -> float:
    """A duration as a plain number."""
    if isinstance(value, Duration):
        return float(value)
    raise TypeError(type(value).__name__)


class View(NamedTuple):
    """What a view takes and does."""

    request: type[Struct]
    call: Callable[[Node, Any], Awaitable[Struct]]


VIEWS = {
    "nodes": View(Nothing, nodes),
    "connections": View(ConnectionsRequest, connections),
    "channels": View(ChannelsRequest, list_channels),
    "channel": View(ChannelRequest, channel),
}
