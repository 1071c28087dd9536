"""`/sse?channels=a,b` for a plain EventSource (HTML standard, section 9.2), and `/ws?channels=a,b`, the same stream in
the text frames of a WebSocket, for whoever has no SDK.

The first event says whether the stream was resumed, channel by channel, because EventSource cannot read headers. Every
event's `id` (or `cursor`) is a place in all channels of the stream at once.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from notifier.auth.keys import ApiKeys
from notifier.config import Auth
from notifier.core import stream, target
from notifier.core.history import Verdict
from notifier.core.identity import ANONYMOUS, Identity
from notifier.core.node import Node
from notifier.core.rates import What
from notifier.core.session import Session
from notifier.core.stream import Cursor, Excerpts, Resumption, Stream
from notifier.core.target import Target
from notifier.errors import TokenError, TokenExpired, Unavailable
from notifier.protocol import frames
from notifier.protocol.codes import (
    CONNECTION_EXPIRED,
    INSUFFICIENT_STATE,
    SHUTDOWN,
    TOO_MANY_COMMANDS,
    Disconnect,
    bad_command,
)
from notifier.protocol.encoding import PLAIN_WEBSOCKET, SSE, SSE_ENVELOPE, StreamEncoding
from notifier.transports import streaming
from notifier.transports.conversation import converse
from notifier.transports.entrance import Entrance, about, gone, retry_after_s, unavailable
from notifier.transports.gate import FULL_S, Gate, cors_headers
from notifier.transports.handshake import handshake
from notifier.transports.line import HandedOver, transport_of
from notifier.transports.outlet import Farewell, StreamOutlet, WebSocketOutlet

NOT_READY = Disconnect(SHUTDOWN.code, "not ready")


class Asked(NamedTuple):
    """What a request asks for, when it may. `given`: there was a cursor, be it one that nobody can have sent."""

    identity: Identity
    targets: list[Target]
    cursor: Cursor | None
    given: bool
    excerpts: Excerpts


class Refused(Exception):
    """A request that is answered with a status and a text: its client is not to try the same again, or not soon."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)

    def response(self, headers: dict[str, str]) -> web.Response:
        if self.status is HTTPStatus.TOO_MANY_REQUESTS:
            headers = {**headers, "Retry-After": f"{FULL_S:.0f}"}
        body = msgspec.json.encode({"error": {"code": int(self.status), "message": self.text}})
        return web.Response(status=self.status, body=body, headers=headers, content_type="application/json")


class TooOften(Exception):
    """A user who is to come back later."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(f"{wait_s:.3f} s")


class PlainEndpoints:
    """The handlers of both paths."""

    def __init__(self, node: Node, gate: Gate, entrance: Entrance, auth: Auth, keys: ApiKeys) -> None:
        self._node = node
        self._gate = gate
        self._entrance = entrance
        self._auth = auth
        self._keys = keys
        self._farewells = {shown: _farewell(node, shown) for shown in (SSE, SSE_ENVELOPE)}

    async def preflight(self, request: web.Request) -> web.Response:
        """What a browser asks before a cross-origin request with headers of its own."""
        headers = cors_headers(self._gate.origin(request))
        if headers:
            headers["Access-Control-Allow-Methods"] = "GET, OPTIONS"
            headers["Access-Control-Allow-Headers"] = "Authorization, Last-Event-ID, Cache-Control"
            headers["Access-Control-Max-Age"] = "300"
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    async def event_stream(self, request: web.Request) -> web.StreamResponse:
        headers = cors_headers(self._gate.origin(request))
        node, limits = self._node, self._node.limits
        if wait_s := self._gate.let_in(request):
            return self._come_back(headers, wait_s, TOO_MANY_COMMANDS)
        if not await self._entrance.opens():
            return self._come_back(headers)
        try:
            asked = await self._asked(request)
        except Unavailable:
            return self._come_back(headers)
        except TooOften as error:
            return self._come_back(headers, error.wait_s, TOO_MANY_COMMANDS)
        except Refused as refused:
            return refused.response(headers)
        if node.draining:  # in the meantime
            return self._come_back(headers)
        transport = transport_of(request)
        if transport is None:
            return gone()
        shown = SSE_ENVELOPE if request.query.get("envelope") in ("1", "true") else SSE
        outlet = StreamOutlet(transport, limits.max_buffer, limits.close_timeout, self._farewells[shown])
        outlet.session = session = Stream(node, outlet, "sse", shown)
        streaming.begin(request, {**streaming.EVENTS, **headers}, outlet)
        _begin(session, asked, shown, frames.retry_event(limits.sse_retry))
        raise HandedOver

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        self._gate.origin(request)
        self._gate.admit(request)
        node, limits = self._node, self._node.limits
        if not await self._entrance.opens():
            return unavailable("not now\n")
        try:
            asked = await self._asked(request)
        except TooOften as error:
            retry = {"Retry-After": str(math.ceil(error.wait_s))}
            return web.Response(
                status=HTTPStatus.TOO_MANY_REQUESTS, text="too many connections of this user\n", headers=retry
            )
        except Unavailable as error:
            return unavailable(f"{error}\n")
        except Refused as refused:
            return refused.response({})
        if node.draining:  # in the meantime
            return unavailable("not now\n")
        shake = handshake(request)
        transport = transport_of(request)
        if transport is None:
            return gone()
        outlet = WebSocketOutlet(transport, limits.max_buffer, limits.close_timeout)
        outlet.session = session = Stream(node, outlet, "ws", PLAIN_WEBSOCKET)
        conversation = converse(request, shake, outlet, _take_nothing)
        _begin(session, asked, PLAIN_WEBSOCKET, b"")
        conversation.begin()
        raise HandedOver

    def _come_back(self, headers: dict[str, str], after_s: float = 0.0, why: Disconnect = NOT_READY) -> web.Response:
        """Not now. EventSource gives up for good on any status but 200, so it gets a stream that ends at once."""
        retry = frames.retry_event(max(after_s, about(self._node.limits.sse_retry)))
        retry_after = str(math.ceil(after_s) or retry_after_s())
        headers = {**streaming.HEADERS, **streaming.EVENTS, **headers, "Retry-After": retry_after}
        body = retry + _ended(SSE, why)
        response = web.Response(body=body, headers=headers)
        response.force_close()
        return response

    async def _asked(self, request: web.Request) -> Asked:
        """Raises Refused, TooOften, or Unavailable: it cannot be judged now."""
        try:
            identity, trusted = await self._identify(request)
        except TokenError as error:
            raise Refused(HTTPStatus.UNAUTHORIZED, str(error)) from error
        if wait_s := await self._node.exceeds(What.CONNECT, identity.user):
            raise TooOften(wait_s)
        if self._node.is_full(identity.user):
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "this user has as many connections as one may have")
        targets = [self._target(name, identity, trusted=trusted) for name in self._names(request)]
        text = request.headers.get("Last-Event-ID") or request.query.get("last_event_id", "")
        cursor = stream.parse_cursor(text) if text else None
        excerpts = await stream.look_up(self._node, targets, cursor)
        return Asked(identity, targets, cursor, bool(text), excerpts)

    async def _identify(self, request: web.Request) -> tuple[Identity, bool]:
        """Who asks, and whether it is a backend with an API key, which needs no right. Raises TokenError."""
        if (key := request.headers.get("X-API-Key")) is not None:
            if not self._keys.accept(key):
                raise TokenError("the API key is not known")
            return ANONYMOUS, True
        token = self._token(request)
        if token:
            identity = await self._node.verifier.connection(token)
            if self._node.is_revoked(identity):
                raise TokenExpired("the token has been revoked")
            if self._node.is_over(identity):
                raise TokenExpired("the token lets no connection begin any more: expire_at")
            return identity, False
        if not self._node.anonymous:
            raise TokenError("a token is required")
        return ANONYMOUS, False

    def _token(self, request: web.Request) -> str:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and value:
            return value.strip()
        if self._auth.cookie and (cookie := request.cookies.get(self._auth.cookie)):
            return cookie
        if "token" in request.query:
            if self._auth.query_token:
                return request.query["token"]
            raise TokenError("tokens in the URL are not enabled: auth.query_token")
        return ""

    def _names(self, request: web.Request) -> list[str]:
        """The channels asked for, each once. Raises Refused."""
        names = [*request.query.getall("channel", [])]
        for text in request.query.getall("channels", []):
            names += text.split(",")
        names = list(dict.fromkeys(names))
        limit = self._node.limits.max_channels
        if not names:
            raise Refused(HTTPStatus.BAD_REQUEST, f"channels are required: {request.path}?channels=a,b")
        if len(names) > limit:
            raise Refused(HTTPStatus.BAD_REQUEST, f"at most {limit} channels")
        return names

    def _target(self, name: str, identity: Identity, *, trusted: bool) -> Target:
        """Raises Refused."""
        try:
            found = target.find(self._node.rules, name, self._node.limits.max_channel_bytes)
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        if found is None or not (trusted or found.rule.subscribe.allow(identity, name)):
            raise Refused(HTTPStatus.FORBIDDEN, f"not allowed to subscribe to {name}")
        node = self._node
        if found.pattern is not None and not node.hub.has_room_for(name, found.rule, node.limits.max_patterns):
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "this worker has as many patterns as it takes")
        return found


async def _take_nothing(_session: Session, _data: bytes) -> None:
    raise bad_command("this connection is one-way")


def _farewell(node: Node, shown: StreamEncoding) -> Farewell:
    return lambda why: frames.retry(about(node.limits.sse_retry)) + _ended(shown, why)


def _begin(session: Stream, asked: Asked, shown: StreamEncoding, first: bytes) -> None:
    """What became of the cursor, what was missed, and where the stream stands. Nothing waits here: what is published
    now is either in it or comes after."""
    node = session.node
    session.connect(asked.identity)
    if node.is_revoked(asked.identity):  # while something was waited for
        session.disconnect(CONNECTION_EXPIRED)
        return
    if not all(found.is_current for found in asked.targets):
        session.disconnect(INSUFFICIENT_STATE)  # the rules have changed meanwhile; it comes back
        return
    session.begin(asked.targets)
    try:
        resumed = stream.resume(node, asked.targets, asked.cursor, asked.excerpts)
    except Unavailable:
        session.disconnect(INSUFFICIENT_STATE)  # it took too long from the look-up to here: once more
        return
    if asked.cursor is not None:
        stream.note_resumed(session, resumed, asked.cursor)
    told = msgspec.json.encode(_told(asked, resumed))
    parts = [first, shown.told("subscribed", told)]
    parts += [shown.publication(publication, node.history.epoch) for publication in resumed.publications]
    parts.append(shown.position(session.position()))
    session.connection.write_large(b"".join(parts))


def _ended(shown: StreamEncoding, why: Disconnect) -> bytes:
    told = {"code": why.code, "reason": why.reason, "reconnect": not why.terminal}
    return shown.told("disconnect", msgspec.json.encode(told))


def _told(asked: Asked, resumed: Resumption) -> dict[str, Any]:
    unasked = "the cursor is not one of this server" if asked.given else "no cursor was given"
    channels: dict[str, dict[str, Any]] = {}
    for found in asked.targets:
        verdict = resumed.verdicts.get(found.name)
        recovered = verdict is Verdict.RECOVERED
        reason = unasked if asked.cursor is None else verdict
        channels[found.name] = {"recovered": True} if recovered else {"recovered": False, "reason": reason}
    return {
        "recovered": all(told["recovered"] for told in channels.values()),
        "was_recovering": asked.given,
        "channels": channels,
    }
