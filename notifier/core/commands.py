"""What each command does (protocol.md sections 2.2-2.9): a session and a request in, a result out.

A handler that must ask the outside world decides, waits once, and decides again; between the last decision and the
reply nothing waits, so a subscription begins exactly where its reply says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from notifier.core import channel as channels
from notifier.core.history import Verdict
from notifier.core.identity import ANONYMOUS, Identity
from notifier.core.record import Draft
from notifier.core.rules import Rule
from notifier.core.session import NEVER, Session, Subscription
from notifier.errors import Rejected, TokenError, TokenExpired, Unavailable
from notifier.protocol import codes
from notifier.protocol.codes import CommandFailed, ConnectionEnded, bad_command, bad_request
from notifier.protocol.messages import (
    EMPTY,
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    Empty,
    HistoryRequest,
    HistoryResult,
    Position,
    PublishRequest,
    RefreshRequest,
    RefreshResult,
    Reply,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeRequest,
)

_NO_RECOVERY = 2  # bit of a subscribe request's `flag`: answer 112 instead of `recovered: false`


async def run(session: Session, commands: list[Command]) -> None:
    """The commands of one frame, one after the other. A failed connect drops the rest of its frame."""
    for command in commands:
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
    result = await _HANDLERS[method](session, getattr(command, method))
    if result is not None:
        session.reply(Reply(id=command.id, **{method: result}))


def _answer_error(session: Session, command: Command, error: codes.Error) -> None:
    session.node.stats.errors[error.code] += 1
    session.reply(Reply(id=command.id, error=error))
    if not session.is_connected:
        session.fail()


def _method_of(command: Command) -> str:
    """The command's only method; empty when there is none or more than one."""
    found = [name for name in _METHODS if getattr(command, name) is not None]
    return found[0] if len(found) == 1 else ""


def _pong(session: Session) -> None:
    if not session.awaits_pong:
        raise bad_command("a pong without a ping")
    session.awaits_pong = False


# --- connection -----------------------------------------------------------------------------------------------------


async def _connect(session: Session, request: ConnectRequest) -> ConnectResult:
    if session.is_connected:
        raise bad_command("already connected")
    node = session.node
    if request.token:
        identity = await _verified(node.verifier.connection(request.token))
    elif node.anonymous:
        identity = ANONYMOUS
    else:
        raise bad_command("a token is required")
    session.connect(identity)
    expires, ttl = _ttl(session, identity.expires_at)
    return ConnectResult(
        client=session.client_id,
        version=node.version,
        expires=expires,
        ttl=ttl,
        ping=int(node.limits.ping_interval),
        pong=True,
    )


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
    session.become(identity)
    expires, ttl = _ttl(session, identity.expires_at)
    return RefreshResult(expires=expires, ttl=ttl)


async def _verified(identity: Awaitable[Identity]) -> Identity:
    try:
        return await identity
    except TokenExpired as error:
        raise CommandFailed(codes.TOKEN_EXPIRED) from error
    except TokenError as error:
        raise ConnectionEnded(codes.INVALID_TOKEN) from error


def _ttl(session: Session, expires_at: float) -> tuple[bool, int]:
    """Whether something expires, and in how many seconds; at least one, since zero would not be written."""
    if expires_at == NEVER:
        return False, 0
    return True, max(1, int(expires_at - session.node.clock.time()))


# --- subscriptions --------------------------------------------------------------------------------------------------


async def _subscribe(session: Session, request: SubscribeRequest) -> SubscribeResult | None:
    rule = _subscribable(session, request)
    by_token, expires_at = await _right_to_subscribe(session, rule, request)
    node = session.node
    if not node.log.ready:
        raise CommandFailed(codes.INTERNAL)
    position = Position(request.offset, request.epoch)
    verdict = Verdict.NO_HISTORY
    if request.recover and rule.keeps_history:
        verdict = await node.judge(request.channel, rule, position)
        node.stats.recoveries[verdict.name.lower()] += 1
        if verdict is not Verdict.RECOVERED and request.flag & _NO_RECOVERY:
            raise CommandFailed(codes.UNRECOVERABLE_POSITION)
    if session.closed:
        return None
    _still_free(session, request.channel)
    # From here to the reply nothing waits: what is published now is either in the reply or comes after it.
    session.join(request.channel, Subscription(rule, by_token=by_token, expires_at=expires_at))
    expires, ttl = _ttl(session, expires_at)
    result = SubscribeResult(expires=expires, ttl=ttl, was_recovering=request.recover)
    if rule.keeps_history:
        history = node.history
        result.recoverable = result.positioned = True
        result.epoch = history.epoch
        result.offset = history.end
        if verdict is Verdict.RECOVERED:
            result.recovered = True
            result.publications = history.after(request.channel, request.offset, node.clock.time())
            if result.publications:
                result.offset = request.offset  # the SDK moves it with each publication it hands to the app
    return result


def _subscribable(session: Session, request: SubscribeRequest) -> Rule:
    """The channel's rule, when nothing speaks against the request itself (the order is protocol.md's, 2.3)."""
    if not request.channel:
        raise bad_command("a channel is required")
    if request.delta not in ("", "fossil"):
        raise bad_command("unknown delta type")
    _still_free(session, request.channel)
    if problem := channels.problem_with(request.channel):
        raise bad_request(problem)
    rule = session.node.rules.find(request.channel)
    if rule is None or request.type:
        raise CommandFailed(codes.PERMISSION_DENIED)
    return rule


def _still_free(session: Session, channel: str) -> None:
    if channel in session.subscriptions:
        raise CommandFailed(codes.ALREADY_SUBSCRIBED)
    if len(session.subscriptions) >= session.node.limits.max_channels:
        raise CommandFailed(codes.LIMIT_EXCEEDED)


async def _right_to_subscribe(session: Session, rule: Rule, request: SubscribeRequest) -> tuple[bool, float]:
    """Whether the right comes from a token for the channel, and until when it lasts."""
    if request.token and rule.subscribe.with_token:
        identity = await _verified_for_channel(session, request.token, request.channel)
        return True, identity.expires_at
    if not rule.subscribe.allow(session.identity, request.channel):
        raise CommandFailed(codes.PERMISSION_DENIED)
    return False, NEVER


async def _verified_for_channel(session: Session, token: str, channel: str) -> Identity:
    try:
        return await session.node.verifier.subscription(token, session.identity.user, channel)
    except TokenExpired as error:
        raise CommandFailed(codes.TOKEN_EXPIRED) from error
    except TokenError as error:
        raise CommandFailed(codes.PERMISSION_DENIED) from error


async def _sub_refresh(session: Session, request: SubRefreshRequest) -> RefreshResult:
    if not request.token:
        raise bad_request("sub_refresh needs a token")
    if request.channel not in session.subscriptions:
        raise CommandFailed(codes.PERMISSION_DENIED)
    try:
        identity = await session.node.verifier.subscription(request.token, session.identity.user, request.channel)
    except TokenExpired:
        # An error would end the subscription for good; this way the SDK asks the app for a new token.
        session.unsubscribe(request.channel, codes.UNSUBSCRIBED_EXPIRED)
        return RefreshResult()
    except TokenError as error:
        raise ConnectionEnded(codes.INVALID_TOKEN) from error
    subscription = session.subscriptions.get(request.channel)
    if subscription is None:
        raise CommandFailed(codes.PERMISSION_DENIED)
    subscription.expires_at = identity.expires_at
    session.node.watch_expiry(session)
    expires, ttl = _ttl(session, identity.expires_at)
    return RefreshResult(expires=expires, ttl=ttl)


async def _unsubscribe(session: Session, request: UnsubscribeRequest) -> Empty:
    if not request.channel:
        raise bad_command("a channel is required")
    session.leave(request.channel)
    return Empty()


# --- publications ---------------------------------------------------------------------------------------------------


async def _publish(session: Session, request: PublishRequest) -> Empty:
    rule = _rule_for(session, request.channel)
    if rule is None or not rule.publish.allow(session.identity, request.channel):
        raise CommandFailed(codes.PERMISSION_DENIED)
    data = bytes(request.data)
    if not data:
        raise bad_request("data is required")
    try:
        data = session.node.check_data(data)
    except Rejected as error:
        raise bad_request(error.detail) from error
    await session.node.publish(Draft([request.channel], data, info=_info(session)))
    return Empty()


def _info(session: Session) -> str:
    own = msgspec.Raw(session.identity.info) if session.identity.info else EMPTY
    info = ClientInfo(session.identity.user, session.client_id, own)
    return msgspec.json.encode(info).decode()


async def _history(session: Session, request: HistoryRequest) -> HistoryResult:
    rule = _rule_for(session, request.channel)
    if rule is None or not _may_read(session, rule, request.channel):
        raise CommandFailed(codes.PERMISSION_DENIED)
    limit = session.node.limits.history_limit
    return read_history(session.node.history, rule, request, limit, session.node.clock.time())


def read_history(history: Any, rule: Rule, request: HistoryRequest, limit: int, now_s: float) -> HistoryResult:
    """A page of a channel's history (protocol.md section 5.1); at most `limit` publications."""
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
    return HistoryResult(
        history.page(request.channel, offset, wanted, now_s, reverse=request.reverse),
        history.epoch,
        history.top(request.channel),
    )


def _may_read(session: Session, rule: Rule, channel: str) -> bool:
    return channel in session.subscriptions or rule.subscribe.allow(session.identity, channel)


def _rule_for(session: Session, channel: str) -> Rule | None:
    if not channel:
        raise bad_command("a channel is required")
    if problem := channels.problem_with(channel):
        raise bad_request(problem)
    return session.node.rules.find(channel)


# --- what this server does not offer --------------------------------------------------------------------------------


async def _no_feature(session: Session, request: Any) -> None:  # noqa: ARG001 - a handler's shape
    raise CommandFailed(codes.NOT_AVAILABLE)


async def _send(session: Session, request: SendRequest) -> None:  # noqa: ARG001
    raise ConnectionEnded(codes.NO_FEATURE)


_HANDLERS: dict[str, Callable[[Session, Any], Awaitable[Any]]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "publish": _publish,
    "history": _history,
    "refresh": _refresh,
    "sub_refresh": _sub_refresh,
    "presence": _no_feature,
    "presence_stats": _no_feature,
    "rpc": _no_feature,
    "send": _send,
}
_METHODS = (*_HANDLERS, "ping")
