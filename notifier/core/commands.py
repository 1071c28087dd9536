"""What each command does (protocol.md sections 2.2-2.9): a session and a request in, a result out.

A handler that must ask the outside world decides, waits once, and decides again; between the last decision and the
reply nothing waits, so a subscription begins exactly where its reply says.
"""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable
from itertools import compress
from typing import Any

import msgspec

from notifier.core import allowance, connecting, recovery, subscribing, target
from notifier.core.history import Verdict
from notifier.core.identity import SubscriptionGrant
from notifier.core.node import Node
from notifier.core.rates import What
from notifier.core.record import Draft
from notifier.core.rules import Rights, Rule
from notifier.core.session import Session
from notifier.core.target import Target
from notifier.errors import Rejected, TokenError, TokenExpired, Unavailable
from notifier.protocol import codes
from notifier.protocol.codec_json import compact
from notifier.protocol.codes import CommandFailed, ConnectionEnded, bad_command, bad_request
from notifier.protocol.messages import (
    ChannelRequest,
    Command,
    ConnectRequest,
    ConnectResult,
    Empty,
    HistoryRequest,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishRequest,
    RefreshRequest,
    RefreshResult,
    Reply,
    RpcRequest,
    RpcResult,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeRequest,
)

_NO_RECOVERY = 2  # bit of a subscribe request's `flag`: answer 112 instead of `recovered: false`
_CHANNELS_OF_A_COMMAND = 1000  # to be looked through for what was missed by a pattern: about a millisecond
_PUBLICATIONS_OF_A_COMMAND = 20  # to be written once more, for one client
_PIECE_S = 0.0003  # of a frame's commands: as long as a few take
_NEVER_TOO_MANY = (
    "unsubscribe",
    "connect",
)  # the SDKs give their connection up when one of these is refused for its rate


async def run(session: Session, commands: list[Command]) -> None:
    """The commands of one frame, one after the other. A failed connect drops the rest of its frame."""
    session.running += 1
    try:
        await _run_all(session, commands)
    finally:
        session.running -= 1


async def _run_all(session: Session, commands: list[Command]) -> None:
    began_s = session.node.clock.monotonic()
    for number, command in enumerate(commands):
        if number and session.node.turns.is_over:
            began_s = await _let_others_go_on(session, began_s)
        if session.closed:
            return
        try:
            await _run_one(session, command)
        except ConnectionEnded as error:
            session.disconnect(error.disconnect)
        except Unavailable:
            _answer_error(session, command, codes.INTERNAL)
        except CommandFailed as error:
            _answer_error(session, command, error.error)
        if session.failed:
            return
        if session.connection.is_behind:  # no more answers are made for who has not taken those before
            await session.connection.breathe()


async def _let_others_go_on(session: Session, began_s: float) -> float:
    """A frame may hold a thousand commands, and nothing in between wait: so somebody's long answers would hold up
    everybody else. But the few with which an SDK begins are one piece, and their answers one `send`.

    `began_s` and the answer: when this piece of the frame was begun.
    """
    now_s = session.node.clock.monotonic
    if now_s() - began_s >= _PIECE_S:
        await session.node.turns.wait(allowance.row_of(session))
        began_s = now_s()
    return began_s


async def _run_one(session: Session, command: Command) -> None:
    method = _method_of(command)
    if session.failed:
        raise bad_command("the connection has failed")
    if not session.is_connected and method != "connect":
        raise bad_command("the first command must be connect")
    if not command.id and method != "send":
        _pong(session)
        return
    if method not in _HANDLERS:
        raise bad_command("a command needs exactly one method")
    session.node.stats.commands[method] += 1
    if not allowance.take(session):
        allowance.exceed(session)
        if method == "send":
            raise ConnectionEnded(codes.TOO_MANY_COMMANDS)
        if method not in _NEVER_TOO_MANY:
            raise CommandFailed(codes.TOO_MANY_REQUESTS)
    result = await _HANDLERS[method](session, getattr(command, method))
    if result is not None:
        session.reply(Reply(id=command.id, **{method: result}))


def _answer_error(session: Session, command: Command, error: codes.Error) -> None:
    session.node.stats.errors[codes.counted_as(error.code)] += 1
    if not command.id:
        return  # a `send`: the SDKs take what has no id for a ping, and would answer it
    session.reply(Reply(id=command.id, error=error))
    if not session.is_connected:
        session.fail()


def _method_of(command: Command) -> str:
    """The command's only method; empty when there is none or more than one."""
    found = list(compress(_METHODS, _requests_of(command)))
    return found[0] if len(found) == 1 else ""


def _pong(session: Session) -> None:
    if not session.awaits_pong:
        raise bad_command("a pong without a ping")
    session.awaits_pong = False


# --- connection -----------------------------------------------------------------------------------------------------


async def _connect(session: Session, request: ConnectRequest) -> ConnectResult:
    if session.is_connected:
        raise bad_command("already connected")
    return await connecting.connect(session, request)


async def _refresh(session: Session, request: RefreshRequest) -> RefreshResult:
    if not request.token:
        raise bad_command("refresh needs a token")
    try:
        identity = await session.node.verifier.connection(request.token)
    except TokenExpired as error:
        raise ConnectionEnded(codes.CONNECTION_EXPIRED) from error
    except TokenError as error:
        raise ConnectionEnded(codes.INVALID_TOKEN) from error
    if identity.user != session.identity.user:
        raise ConnectionEnded(codes.INVALID_TOKEN)
    if session.node.is_revoked(identity):
        raise ConnectionEnded(codes.CONNECTION_EXPIRED)
    node = session.node
    if connecting.server_side(node, identity).keys() != connecting.server_side(node, session.identity).keys():
        raise ConnectionEnded(codes.INSUFFICIENT_STATE)
    session.become(identity)
    expires, ttl = subscribing.time_left(session, identity.expires_at)
    return RefreshResult(expires=expires, ttl=ttl)


# --- subscriptions --------------------------------------------------------------------------------------------------


async def _subscribe(session: Session, request: SubscribeRequest) -> SubscribeResult | None:
    wanted = _subscribable(session, request)
    grant = await _right_to_subscribe(session, wanted.rule, request)
    node = session.node
    if not node.log.ready:
        raise CommandFailed(codes.INTERNAL)
    if wanted.pattern is not None and request.recover:
        allowance.spend(session, node.history.channels / _CHANNELS_OF_A_COMMAND)
    judged = await subscribing.judged(session, wanted, request, grant)
    if session.closed:
        return None
    _not_revoked(session, grant)
    # From here to the reply nothing waits: what is published now is either in the reply or comes after it.
    judged = subscribing.settled(session, judged)
    lost = judged.missed.verdict is not Verdict.RECOVERED and not wanted.rule.cache_recovery
    if request.recover and lost and request.flag & _NO_RECOVERY and wanted.rule.keeps_history:
        raise CommandFailed(codes.UNRECOVERABLE_POSITION)
    _still_free(session, request.channel)
    return subscribing.begin(session, judged)


def _subscribable(session: Session, request: SubscribeRequest) -> Target:
    """What the request is for, when nothing speaks against the request itself (the order is protocol.md's, 2.3)."""
    if not request.channel:
        raise bad_command("a channel is required")
    if request.delta not in ("", "fossil"):
        raise bad_command("unknown delta type")
    _still_free(session, request.channel)
    wanted = _target(session, request.channel)
    if wanted is None or request.type:
        raise CommandFailed(codes.PERMISSION_DENIED)
    return wanted


def _target(session: Session, name: str) -> Target | None:
    try:
        return target.find(session.node.rules, name, session.node.limits.max_channel_bytes)
    except ValueError as error:
        raise bad_request(str(error)) from error


def _still_free(session: Session, channel: str) -> None:
    if channel in session.subscriptions:
        raise CommandFailed(codes.ALREADY_SUBSCRIBED)
    if len(session.subscriptions) >= session.node.limits.max_channels:
        raise CommandFailed(codes.LIMIT_EXCEEDED)


async def _right_to_subscribe(session: Session, rule: Rule, request: SubscribeRequest) -> SubscriptionGrant | None:
    """What a token for the channel grants, where one is needed or given; None when the client may by itself."""
    if request.token and rule.subscribe.with_token:
        return await _granted(session, request.token, request.channel)
    if not rule.subscribe.allow(session.identity, request.channel):
        raise CommandFailed(codes.PERMISSION_DENIED)
    return None


async def _granted(session: Session, token: str, channel: str) -> SubscriptionGrant:
    user = session.identity.user
    try:
        grant = await session.node.verifier.subscription(token, user, channel, session.client_id)
    except TokenExpired as error:
        raise CommandFailed(codes.TOKEN_EXPIRED) from error
    except TokenError as error:
        raise CommandFailed(codes.PERMISSION_DENIED) from error
    _not_revoked(session, grant)
    return grant


def _not_revoked(session: Session, grant: SubscriptionGrant | None) -> None:
    user = session.identity.user
    if grant is not None and session.node.revocations.hit(user, grant.token_id, grant.issued_at):
        raise CommandFailed(codes.TOKEN_EXPIRED)


async def _sub_refresh(session: Session, request: SubRefreshRequest) -> RefreshResult:
    if not request.token:
        raise bad_request("sub_refresh needs a token")
    if request.type or request.channel not in session.subscriptions:
        raise CommandFailed(codes.PERMISSION_DENIED)
    try:
        grant = await _granted(session, request.token, request.channel)
    except CommandFailed as error:
        if error.error is not codes.TOKEN_EXPIRED:
            raise ConnectionEnded(codes.INVALID_TOKEN) from error
        # An error would end the subscription for good; this way the SDK asks the app for a new token.
        session.unsubscribe(request.channel, codes.UNSUBSCRIBED_EXPIRED)
        return RefreshResult()
    subscription = session.subscriptions.get(request.channel)
    if subscription is None:
        raise CommandFailed(codes.PERMISSION_DENIED)
    subscription.grant = grant
    subscription.expires_at = grant.expires_at
    session.node.watch_expiry(session)
    expires, ttl = subscribing.time_left(session, grant.expires_at)
    return RefreshResult(expires=expires, ttl=ttl)


async def _unsubscribe(session: Session, request: UnsubscribeRequest) -> Empty:
    if not request.channel:
        raise bad_command("a channel is required")
    session.leave(request.channel)
    return Empty()


# --- publications ---------------------------------------------------------------------------------------------------


async def _publish(session: Session, request: PublishRequest) -> Empty:
    rule = _rule_for(session, request.channel)
    if rule is None or not _may(session, rule.publish, request.channel):
        raise CommandFailed(codes.PERMISSION_DENIED)
    if request.type:
        raise CommandFailed(codes.NOT_AVAILABLE)
    data = bytes(request.data)
    if not data:
        raise bad_request("data is required")
    try:
        data = session.node.check_data(data)
    except Rejected as error:
        raise bad_request(error.detail) from error
    if await session.node.exceeds(What.PUBLISH, session.identity.user):
        raise CommandFailed(codes.TOO_MANY_REQUESTS)
    info = session.info_on(session.subscriptions.get(request.channel))
    await session.node.publish(Draft([request.channel], data, info=msgspec.json.encode(info).decode()))
    return Empty()


def _may(session: Session, rights: Rights, channel: str) -> bool:
    """Whether the client has one of the rights, by who it is or because it is subscribed."""
    return rights.allow(session.identity, channel) or (rights.subscribers and channel in session.subscriptions)


async def _history(session: Session, request: HistoryRequest) -> HistoryResult:
    rule = _readable(session, request.channel)
    found = await read_history(session.node, rule, request, session.node.limits.history_limit)
    allowance.spend(session, len(found.publications) / _PUBLICATIONS_OF_A_COMMAND)
    return found


async def read_history(node: Node, rule: Rule, request: Any, limit: int) -> HistoryResult:
    """A page of a channel's history (protocol.md section 5.1); at most `limit` publications. Raises Unavailable when
    the archive is needed and away."""
    history = node.history
    if not rule.keeps_history:
        raise CommandFailed(codes.NOT_AVAILABLE)
    since = request.since
    if since is not None:
        if since.epoch and since.epoch != history.epoch:
            raise CommandFailed(codes.UNRECOVERABLE_POSITION)
        if request.reverse and since.offset == 0:
            raise bad_request("reverse needs an offset to begin at")
    wanted = limit if request.limit < 0 else min(request.limit, limit)
    offset = since.offset if since is not None else None
    found = await recovery.page(node, request.channel, rule, offset, wanted, reverse=request.reverse)
    return HistoryResult(list(found), history.epoch, history.top(request.channel))


async def _presence(session: Session, request: ChannelRequest) -> PresenceResult:
    _with_presence(session, request)
    return PresenceResult(await session.node.control.presence(request.channel))


async def _presence_stats(session: Session, request: ChannelRequest) -> PresenceStatsResult:
    _with_presence(session, request)
    return await session.node.control.presence_stats(request.channel)


def _with_presence(session: Session, request: ChannelRequest) -> None:
    if not _readable(session, request.channel).presence:
        raise CommandFailed(codes.NOT_AVAILABLE)


def _readable(session: Session, channel: str) -> Rule:
    """The channel's rule, when the client may see what is kept of the channel: who may subscribe may, and who is."""
    rule = _rule_for(session, channel)
    if rule is None or not (channel in session.subscriptions or rule.subscribe.allow(session.identity, channel)):
        raise CommandFailed(codes.PERMISSION_DENIED)
    return rule


def _rule_for(session: Session, channel: str) -> Rule | None:
    if not channel:
        raise bad_command("a channel is required")
    found = _target(session, channel)
    return found.rule if found is not None and found.pattern is None else None


# --- what goes to others --------------------------------------------------------------------------------------------


async def _rpc(session: Session, request: RpcRequest) -> RpcResult:
    data = bytes(request.data)
    if len(data) > session.node.max_publication:
        raise bad_request(f"{len(data)} bytes; the limit is {session.node.max_publication}")
    try:
        data = compact(data or b"null")
    except ValueError as error:
        raise bad_request(f"data: {error}") from error
    return RpcResult(msgspec.Raw(await session.node.methods.call(session, request.method, data)))


async def _send(session: Session, request: SendRequest) -> None:
    queue = session.node.limits.send_queue
    if not queue:
        raise ConnectionEnded(codes.NO_FEATURE)
    try:
        data = compact(bytes(request.data) or b"null")
    except ValueError as error:  # only this tells the client, since nothing answers a `send`
        raise bad_command(f"data: {error}") from error
    await session.node.backends.send(queue, data, msgspec.json.encode(session.caller()))


_HANDLERS: dict[str, Callable[[Session, Any], Awaitable[Any]]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "publish": _publish,
    "history": _history,
    "refresh": _refresh,
    "sub_refresh": _sub_refresh,
    "presence": _presence,
    "presence_stats": _presence_stats,
    "rpc": _rpc,
    "send": _send,
}
_METHODS = (*_HANDLERS, "ping")
_requests_of = operator.attrgetter(*_METHODS)
