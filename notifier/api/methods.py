"""The methods of the server API (protocol.md section 7): a node and a request in, a result out. No HTTP here."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import os
import resource
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from notifier.core import channel as channels
from notifier.core.commands import read_history
from notifier.core.node import Appended, Node
from notifier.core.record import Draft
from notifier.core.rules import Rule
from notifier.errors import Rejected
from notifier.protocol import codes
from notifier.protocol.codec_json import DECODE_ERRORS, what_was_wrong
from notifier.protocol.codes import CommandFailed, Error, bad_request
from notifier.protocol.messages import EMPTY, HistoryRequest, HistoryResult

ALL = 2**31


class Content(Struct):
    """The fields that publish and broadcast share."""

    data: Raw = EMPTY
    b64data: str = ""
    skip_history: bool = False
    tags: dict[str, str] | None = None
    idempotency_key: str = ""
    delta: bool = False
    version: int = 0
    version_epoch: str = ""


class PublishRequest(Content):
    channel: str = ""


class BroadcastRequest(Content):
    channels: list[str] = []


class ChannelsRequest(Struct):
    pattern: str = ""


class InfoRequest(Struct):
    pass


class PublishResult(Struct, omit_defaults=True):
    """Absent where the channel keeps no history."""

    offset: int = 0
    epoch: str = ""


class BroadcastResponse(Struct, omit_defaults=True):
    """One of the two."""

    result: PublishResult | None = None
    error: Error | None = None


class BroadcastResult(Struct):
    responses: list[BroadcastResponse]


class ChannelInfo(Struct):
    num_clients: int


class ChannelsResult(Struct):
    channels: dict[str, ChannelInfo]


class Metrics(Struct):
    """Counters since the start, so that two readings make a rate."""

    interval: float
    items: dict[str, float]


class Process(Struct):
    """CPU in seconds since the start, resident memory in bytes."""

    cpu: float
    rss: int


class NodeInfo(Struct):
    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_channels: int
    num_subs: int
    uptime: int
    metrics: Metrics
    process: Process


class InfoResult(Struct):
    nodes: list[NodeInfo]


async def publish(node: Node, request: PublishRequest) -> PublishResult:
    rule = _rule(node, request.channel)
    data = _data(node, request)
    [appended] = await node.publish(_draft([request.channel], data, request))
    return _published(appended, rule, request)


async def broadcast(node: Node, request: BroadcastRequest) -> BroadcastResult:
    """One record of the log for all channels that may have it; each channel has its own answer, in order."""
    if not request.channels:
        raise bad_request("channels are required")
    data = _data(node, request)
    answers: list[Rule | Error] = [_rule_or_error(node, channel) for channel in request.channels]
    wanted = [c for c, answer in zip(request.channels, answers, strict=True) if isinstance(answer, Rule)]
    wanted = list(dict.fromkeys(wanted))
    appended = dict(zip(wanted, await node.publish(_draft(wanted, data, request)), strict=True)) if wanted else {}
    return BroadcastResult(
        [
            BroadcastResponse(error=answer)
            if isinstance(answer, Error)
            else BroadcastResponse(result=_published(appended[channel], answer, request))
            for channel, answer in zip(request.channels, answers, strict=True)
        ]
    )


async def history(node: Node, request: HistoryRequest) -> HistoryResult:
    rule = _rule(node, request.channel)
    return read_history(node.history, rule, request, ALL, node.clock.time())


async def list_channels(node: Node, request: ChannelsRequest) -> ChannelsResult:
    return ChannelsResult(
        {
            channel: ChannelInfo(node.hub.subscribers(channel))
            for channel in node.hub.channels()
            if not request.pattern or fnmatch.fnmatchcase(channel, request.pattern)
        }
    )


async def info(node: Node, _request: InfoRequest) -> InfoResult:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    stats = node.stats
    uptime = node.clock.monotonic() - node.started_at
    items = {
        "publications": stats.publications,
        "deliveries": stats.deliveries,
        "delivered_bytes": stats.delivered_bytes,
        "rejected": stats.rejected.total(),
        "repeats": stats.repeats,
        "disconnects": stats.disconnects.total(),
        "log_end": node.history.end,
        "log_known_from": node.history.known_from,
        "history_publications": node.history.publications,
        "history_bytes": node.history.size_bytes,
        "connections": stats.connections.total(),
    }
    return InfoResult(
        [
            NodeInfo(
                uid=node.node_id,
                name=node.name,
                version=node.version,
                num_clients=len(node.sessions),
                num_users=node.users,
                num_channels=len(node.hub),
                num_subs=stats.subscriptions,
                uptime=int(uptime),
                metrics=Metrics(round(uptime, 3), {name: float(value) for name, value in items.items()}),
                process=Process(usage.ru_utime + usage.ru_stime, _resident_bytes()),
            )
        ]
    )


class Method(NamedTuple):
    """What a method takes and does."""

    request: type[Struct]
    call: Callable[[Node, Any], Awaitable[Struct]]


METHODS = {
    "publish": Method(PublishRequest, publish),
    "broadcast": Method(BroadcastRequest, broadcast),
    "history": Method(HistoryRequest, history),
    "channels": Method(ChannelsRequest, list_channels),
    "info": Method(InfoRequest, info),
}


def _rule(node: Node, channel: str) -> Rule:
    answer = _rule_or_error(node, channel)
    if isinstance(answer, Error):
        raise CommandFailed(answer)
    return answer


def _rule_or_error(node: Node, channel: str) -> Rule | Error:
    if problem := channels.problem_with(channel):
        return bad_request(problem).error
    return node.rules.find(channel) or codes.UNKNOWN_CHANNEL


def _data(node: Node, content: Content) -> bytes:
    if content.version or content.version_epoch:
        raise bad_request("version is not supported: the log gives the order")
    data = bytes(content.data)
    if content.b64data:
        if data:
            raise bad_request("either data or b64data, not both")
        try:
            data = base64.b64decode(content.b64data, validate=True)
        except binascii.Error as error:
            raise bad_request(f"b64data: {error}") from error
    if not data:
        raise bad_request("data is required")
    try:
        return node.check_data(data)
    except Rejected as error:
        raise bad_request(f"data: {error.detail}") from error


def _draft(wanted: list[str], data: bytes, content: Content) -> Draft:
    return Draft(wanted, data, message_id=content.idempotency_key, tags=content.tags, skip_history=content.skip_history)


def _published(appended: Appended, rule: Rule, content: Content) -> PublishResult:
    if content.skip_history or not rule.keeps_history:
        return PublishResult()
    return PublishResult(appended.offset, appended.epoch)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - one line, read each second by a console
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def decode(method: Method, body: bytes) -> Any:
    """The request in a body; an empty body is an empty request. Raises CommandFailed."""
    try:
        return msgspec.json.decode(body or b"{}", type=method.request)
    except DECODE_ERRORS as error:
        raise bad_request(what_was_wrong(error)) from error
