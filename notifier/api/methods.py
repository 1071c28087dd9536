"""The methods of the server API (protocol.md section 7): a node and a request in, a result out. No HTTP and no AMQP
here."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from notifier.api import requests as api
from notifier.core import channel as channels
from notifier.core import target
from notifier.core.asked import Connected
from notifier.core.commands import read_history
from notifier.core.node import Appended, Node
from notifier.core.orders import Order, Revocation
from notifier.core.record import Draft
from notifier.core.rules import Rule
from notifier.core.told import End, Join, Leave, Renew, Whom
from notifier.errors import Rejected, Unavailable
from notifier.protocol import codes
from notifier.protocol.codec_json import DECODE_ERRORS, compact, encode, what_was_wrong
from notifier.protocol.codes import CommandFailed, Disconnect, Error, bad_request
from notifier.protocol.messages import HistoryResult

ALL = 2**31
MAX_BATCH_ANSWER_BYTES = 64 * 2**20
MAX_PROPERTIES_BYTES = 100_000  # they stand in one frame of AMQP, which has 128 KiB by default
MOST_AHEAD_S = 60.0  # of a backend's clock
OVERRIDES = {"presence", "join_leave", "force_push_join_leave", "force_recovery", "force_positioning"}


async def publish(node: Node, request: api.PublishRequest) -> api.PublishResult:
    rule = _rule(node, request.channel)
    data = _data(node, request)
    [appended] = await node.publish(_draft([request.channel], data, request))
    return _published(appended, rule, request)


async def broadcast(node: Node, request: api.BroadcastRequest) -> api.BroadcastResult:
    """One record of the log for all channels that may have it; each channel has its own answer, in order."""
    if not request.channels:
        raise bad_request("channels are required")
    if len(request.channels) > node.max_batch:
        raise bad_request(f"at most {node.max_batch} channels")
    data = _data(node, request)
    answers: list[Rule | Error] = [_rule_or_error(node, channel) for channel in request.channels]
    wanted = [c for c, answer in zip(request.channels, answers, strict=True) if isinstance(answer, Rule)]
    draft = _draft(list(dict.fromkeys(wanted)), data, request)
    appended = dict(zip(draft.channels, await node.publish(draft), strict=True)) if wanted else {}
    return api.BroadcastResult(
        [
            api.BroadcastResponse(error=answer)
            if isinstance(answer, Error)
            else api.BroadcastResponse(result=_published(appended[channel], answer, request))
            for channel, answer in zip(request.channels, answers, strict=True)
        ]
    )


async def subscribe(node: Node, request: api.SubscribeRequest) -> api.EmptyResult:
    """To a channel, or to a pattern where the rule wants them."""
    try:
        found = target.find(node.rules, request.channel, node.limits.max_channel_bytes)
    except ValueError as error:
        raise bad_request(str(error)) from error
    if found is None:
        raise CommandFailed(codes.UNKNOWN_CHANNEL)
    since = request.recover_since
    if since is not None and since.offset < 0:
        raise bad_request("recover_since.offset: a number from 0")
    join = Join(
        _whom(request),
        request.channel,
        info=_value("info", request.info, request.b64info),
        data=_value("data", request.data, request.b64data),
        expires_at=_wall_time("expire_at", request.expire_at),
        overrides=_overrides(request.override),
        since=(since.offset, since.epoch) if since is not None else None,
    )
    await node.control.tell(join)
    return api.EmptyResult()


async def unsubscribe(node: Node, request: api.UnsubscribeRequest) -> api.EmptyResult:
    problem = channels.problem_with_pattern if channels.is_pattern(request.channel) else channels.problem_with
    if text := problem(request.channel):
        raise bad_request(text)
    await node.control.tell(Leave(_whom(request), request.channel, codes.UNSUBSCRIBED_BY_SERVER))
    return api.EmptyResult()


async def disconnect(node: Node, request: api.DisconnectRequest) -> api.EmptyResult:
    told = request.disconnect or api.DisconnectReason()
    if not 3000 <= told.code <= 4999:
        raise bad_request("disconnect.code: 3000 to 4999")
    if not told.reason or len(told.reason.encode()) > api.MAX_REASON_BYTES:
        raise bad_request(f"disconnect.reason: 1 to {api.MAX_REASON_BYTES} bytes")
    whom = Whom(user=request.user, client=request.client, session=request.session, spared=request.whitelist)
    await node.control.tell(End(whom, Disconnect(told.code, told.reason)))
    return api.EmptyResult()


async def refresh(node: Node, request: api.RefreshRequest) -> api.EmptyResult:
    whom, expires_at = _whom(request), _wall_time("expire_at", request.expire_at)
    info = _value("info", request.info, "")
    if request.expired:
        await node.control.tell(End(whom, codes.CONNECTION_EXPIRED))
    else:
        await node.control.tell(Renew(whom, expires_at, info))
    return api.EmptyResult()


async def presence(node: Node, request: api.ChannelRequest) -> api.PresenceResult:
    _with_presence(node, request.channel)
    return api.PresenceResult(await node.control.presence(request.channel))


async def presence_stats(node: Node, request: api.ChannelRequest) -> api.PresenceStatsResult:
    _with_presence(node, request.channel)
    found = await node.control.presence_stats(request.channel)
    return api.PresenceStatsResult(found.num_clients, found.num_users)


async def history(node: Node, request: api.HistoryRequest) -> HistoryResult:
    rule = _rule(node, request.channel)
    if not node.log.ready:
        raise Unavailable("the log is still being read")
    return await read_history(node, rule, request, ALL)


async def history_remove(node: Node, request: api.ChannelRequest) -> api.EmptyResult:
    """In the log, so that every worker does it, and one that starts later too."""
    if not _rule(node, request.channel).keeps_history:
        raise CommandFailed(codes.NOT_AVAILABLE)
    await node.order(Order(remove_history=request.channel))
    return api.EmptyResult()


async def list_channels(node: Node, request: api.ChannelsRequest) -> api.ChannelsResult:
    found = await node.control.channels(request.pattern)
    return api.ChannelsResult({channel: api.ChannelInfo(number) for channel, number in found.items()})


async def info(node: Node, _request: api.InfoRequest) -> api.InfoResult:
    return api.InfoResult(await node.control.info())


async def connections(node: Node, request: api.ConnectionsRequest) -> api.ConnectionsResult:
    found = await node.control.connections(request.user)
    return api.ConnectionsResult({connected.client: _connection(connected) for connected in found})


async def revoke(node: Node, request: api.RevokeRequest) -> api.EmptyResult:
    """In the log, like `history_remove`. It ends what rests on such tokens on live connections too."""
    if [bool(request.token), bool(request.user), request.all].count(True) != 1:
        raise bad_request("exactly one of token, user and all is required")
    for name, value in (("token", request.token), ("user", request.user)):
        _check_length(name, value, api.MAX_ID_BYTES)
    now = node.clock.time()
    before = _wall_time("before", request.before) or now
    if before > now + MOST_AHEAD_S:
        raise bad_request("before: seconds since 1970, not in the future: nothing ends a revocation")
    revocation = Revocation(request.token, request.user, 0.0 if request.token else before, request.all)
    await node.order(Order(revoke=revocation))
    return api.EmptyResult()


async def explain(node: Node, request: api.ExplainRequest) -> api.ExplainResult:
    if bool(request.id) == bool(request.offset):
        raise bad_request("exactly one of id and offset is required")
    _check_length("id", request.id, api.MAX_ID_BYTES)
    if not 0 <= request.offset <= api.MAX_NUMBER:
        raise bad_request(f"offset: a number from 1 to {api.MAX_NUMBER}")
    return api.ExplainResult(await node.control.explain(request.id, request.offset))


async def rpc(_node: Node, _request: api.RpcRequest) -> api.RpcResult:
    """Backends have no methods to call here; the answer is the protocol's."""
    raise CommandFailed(codes.METHOD_NOT_FOUND)


class Method(NamedTuple):
    """What a method takes, does and answers."""

    request: type[Struct]
    call: Callable[[Node, Any], Awaitable[Struct]]
    result: type[Struct]


METHODS = {
    "publish": Method(api.PublishRequest, publish, api.PublishResult),
    "broadcast": Method(api.BroadcastRequest, broadcast, api.BroadcastResult),
    "subscribe": Method(api.SubscribeRequest, subscribe, api.EmptyResult),
    "unsubscribe": Method(api.UnsubscribeRequest, unsubscribe, api.EmptyResult),
    "disconnect": Method(api.DisconnectRequest, disconnect, api.EmptyResult),
    "refresh": Method(api.RefreshRequest, refresh, api.EmptyResult),
    "presence": Method(api.ChannelRequest, presence, api.PresenceResult),
    "presence_stats": Method(api.ChannelRequest, presence_stats, api.PresenceStatsResult),
    "history": Method(api.HistoryRequest, history, HistoryResult),
    "history_remove": Method(api.ChannelRequest, history_remove, api.EmptyResult),
    "channels": Method(api.ChannelsRequest, list_channels, api.ChannelsResult),
    "info": Method(api.InfoRequest, info, api.InfoResult),
    "connections": Method(api.ConnectionsRequest, connections, api.ConnectionsResult),
    "revoke": Method(api.RevokeRequest, revoke, api.EmptyResult),
    "explain": Method(api.ExplainRequest, explain, api.ExplainResult),
    "rpc": Method(api.RpcRequest, rpc, api.RpcResult),
}
BATCH = "batch"


class BadBody(Exception):
    """A body that is no request of its method. The text says what is wrong."""


class NoSuchMethod(Exception):
    """A name that is no method's."""


async def call(node: Node, name: str, body: bytes) -> bytes:
    """The answer's JSON: `{"result": …}`, for a batch `{"replies": …}`.

    Raises NoSuchMethod, BadBody, CommandFailed.
    """
    if name == BATCH:
        return encode({"replies": await _batch(node, _decode(api.BatchRequest, body))})
    method = METHODS.get(name)
    if method is None:
        raise NoSuchMethod(name)
    return encode({"result": await _call(node, method, _decode(method.request, body))})


async def _batch(node: Node, request: api.BatchRequest) -> list[Raw]:
    if len(request.commands) > node.max_batch:
        raise bad_request(f"at most {node.max_batch} commands")
    room = _Room()
    if request.parallel:
        return list(await asyncio.gather(*(_fitting_reply(node, command, room) for command in request.commands)))
    return [await _fitting_reply(node, command, room) for command in request.commands]


class _Room:
    """How much a batch's answer may still grow: a thousand pages of history would not fit into memory."""

    def __init__(self) -> None:
        self.left_bytes = MAX_BATCH_ANSWER_BYTES


async def _fitting_reply(node: Node, command: dict[str, Raw], room: _Room) -> Raw:
    """The reply's JSON. Once the answer is full, commands are not run any more."""
    if room.left_bytes <= 0:
        return Raw(encode({"error": bad_request(f"not run: the answer has {MAX_BATCH_ANSWER_BYTES} bytes").error}))
    reply = encode(await _reply(node, command))
    room.left_bytes -= len(reply)
    await asyncio.sleep(0)  # others have their turn
    return Raw(reply)


async def _reply(node: Node, command: dict[str, Raw]) -> dict[str, Any]:
    """One command of a batch; its error is its own."""
    try:
        name, body = _only(command)
        return {name: await _call(node, METHODS[name], _decode(METHODS[name].request, bytes(body)))}
    except BadBody as error:
        return {"error": bad_request(str(error)).error}
    except CommandFailed as error:
        return {"error": error.error}


def _only(command: dict[str, Raw]) -> tuple[str, Raw]:
    if len(command) != 1:
        raise bad_request("a command has exactly one method")
    [(name, body)] = command.items()
    if name not in METHODS:
        raise CommandFailed(codes.METHOD_NOT_FOUND)
    return name, body


async def _call(node: Node, method: Method, request: Any) -> Struct:
    try:
        return await method.call(node, request)
    except Unavailable as error:
        text = f"{codes.INTERNAL.message}: {error}"
        raise CommandFailed(Error(codes.INTERNAL.code, text, temporary=True)) from error


def _decode(kind: type[Struct], body: bytes) -> Any:
    """The request in a body; an empty body is an empty request. Raises BadBody."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except DECODE_ERRORS as error:
        raise BadBody(what_was_wrong(error)) from error


def _whom(request: Any) -> Whom:
    return Whom(user=request.user, client=request.client, session=request.session)


def _connection(connected: Connected) -> api.Connection:
    state = api.ConnectionState({channel: api.EmptyResult() for channel in connected.channels})
    return api.Connection(
        connected.user, connected.node, connected.transport, connected.protocol, state, connected.expires_at
    )


def _rule(node: Node, channel: str) -> Rule:
    answer = _rule_or_error(node, channel)
    if isinstance(answer, Error):
        raise CommandFailed(answer)
    return answer


def _rule_or_error(node: Node, channel: str) -> Rule | Error:
    if problem := channels.problem_with(channel):
        return bad_request(problem).error
    return node.rules.find(channel) or codes.UNKNOWN_CHANNEL


def _with_presence(node: Node, channel: str) -> None:
    if not _rule(node, channel).presence:
        raise CommandFailed(codes.NOT_AVAILABLE)


def _data(node: Node, content: api.Content) -> bytes:
    data = _bytes("data", content.data, content.b64data)
    if not data:
        raise bad_request("data is required")
    try:
        return node.check_data(data)
    except Rejected as error:
        raise bad_request(f"data: {error.detail}") from error


def _bytes(name: str, value: Raw, in_base64: str) -> bytes:
    data = bytes(value)
    if not in_base64:
        return data
    if data:
        raise bad_request(f"either {name} or b64{name}, not both")
    try:
        return base64.b64decode(in_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"b64{name}: not base64") from error


def _value(name: str, value: Raw, in_base64: str) -> str:
    """A JSON value for clients, as text; empty for none."""
    try:
        return compact(data).decode() if (data := _bytes(name, value, in_base64)) else ""
    except ValueError as error:
        raise bad_request(f"{name}: {error}") from error


def _wall_time(name: str, value: float) -> float:
    if not 0 <= value <= api.MAX_WALL_TIME:
        raise bad_request(f"{name}: seconds since 1970, 0 to {api.MAX_WALL_TIME}")
    return float(value)


def _check_length(name: str, value: str, most: int) -> None:
    if len(value.encode()) > most:
        raise bad_request(f"{name}: at most {most} bytes")


def _overrides(flags: dict[str, api.Flag] | None) -> dict[str, bool]:
    for name in flags or {}:
        if name not in OVERRIDES:
            raise bad_request(f"override.{name}: not one of {', '.join(sorted(OVERRIDES))}")
    return {name: flag.value for name, flag in (flags or {}).items()}


def _draft(wanted: list[str], data: bytes, content: api.Content) -> Draft:
    """Raises CommandFailed for what would not fit beside the body of an AMQP message."""
    tags = content.tags or {}
    _check_length("idempotency_key", content.idempotency_key, api.MAX_ID_BYTES)
    _check_length("version_epoch", content.version_epoch, api.MAX_ID_BYTES)
    for name in tags:
        _check_length("tags: a name", name, api.MAX_TAG_BYTES)
    if not 0 <= content.version <= api.MAX_NUMBER:
        raise bad_request(f"version: a number from 0 to {api.MAX_NUMBER}")
    if sum(len(text.encode()) + 10 for text in (*wanted, *tags, *tags.values())) > MAX_PROPERTIES_BYTES:
        raise bad_request(f"channels and tags: at most {MAX_PROPERTIES_BYTES} bytes together")
    return Draft(
        wanted,
        data,
        message_id=content.idempotency_key,
        tags=content.tags,
        skip_history=content.skip_history,
        version=content.version,
        version_epoch=content.version_epoch,
    )


def _published(appended: Appended, rule: Rule, content: api.Content) -> api.PublishResult:
    if content.skip_history or not rule.keeps_history:
        return api.PublishResult()
    return api.PublishResult(appended.offset, appended.epoch)
