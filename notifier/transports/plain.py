"""`/sse?channels=a,b` for a plain EventSource (HTML standard, section 9.2), and `/ws?channels=a,b`, the same stream in
the text frames of a WebSocket, for whoever has no SDK.

The first event says whether the stream was resumed, channel by channel, because EventSource cannot read headers. Every
event's `id` (or `cursor`) is a place in all channels of the stream at once.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from notifier.auth.keys import ApiKeys
from notifier.config import Auth
from notifier.core import stream, target
from notifier.core.identity import ANONYMOUS, Identity
from notifier.core.node import Node
from notifier.core.stream import Cursor, Resumption, Stream
from notifier.core.target import Target
from notifier.errors import TokenError, TokenExpired, TokensUnavailable
from notifier.protocol import frames
from notifier.protocol.codes import SHUTDOWN, Disconnect, bad_command
from notifier.protocol.encoding import PLAIN_WEBSOCKET, SSE, SSE_ENVELOPE, StreamEncoding
from notifier.transports import streaming
from notifier.transports.gate import Gate, cors_headers
from notifier.transports.outlet import StreamOutlet, WebSocketOutlet
from notifier.transports.websocket import accept, converse


class Asked(NamedTuple):
    """What a request asks for, when it may. `given`: there was a cursor, be it one that nobody can have sent."""

    identity: Identity
    targets: list[Target]
    cursor: Cursor | None
    given: bool


class Refused(Exception):
    """A request that is answered with a status and a text: its client is not to try the same again."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)

    def response(self, headers: dict[str, str]) -> web.Response:
        body = msgspec.json.encode({"error": {"code": int(self.status), "message": self.text}})
        return web.Response(status=self.status, body=body, headers=headers, content_type="application/json")


class PlainEndpoints:
    """The handlers of both paths."""

    def __init__(self, node: Node, gate: Gate, auth: Auth, keys: ApiKeys) -> None:
        self._node = node
        self._gate = gate
        self._auth = auth
        self._keys = keys

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
        if node.draining or not node.log.ready:
            return self._come_back(headers)
        try:
            asked = await self._asked(request)
        except TokensUnavailable:
            return self._come_back(headers)
        except Refused as refused:
            return refused.response(headers)
        response, transport = await streaming.begin(request, {**streaming.EVENTS, **headers})
        if transport is None:
            return response
        shown = SSE_ENVELOPE if request.query.get("envelope") in ("1", "true") else SSE
        outlet = StreamOutlet(transport, limits.max_buffer, limits.close_timeout, lambda why: _ended(shown, why))
        outlet.session = session = Stream(node, outlet, "sse", shown)
        try:
            _begin(session, asked, shown, frames.retry_event(limits.sse_retry))
            await streaming.until_lost()
        finally:
            session.end()
        return response

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        self._gate.origin(request)
        node, limits = self._node, self._node.limits
        try:
            asked = await self._asked(request)
        except TokensUnavailable as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n", headers={"Retry-After": "1"}) from error
        except Refused as refused:
            return refused.response({})
        socket = await accept(request, node)
        transport = request.transport
        if transport is None:
            return socket
        outlet = WebSocketOutlet(transport, limits.max_buffer, limits.close_timeout)
        outlet.session = session = Stream(node, outlet, "ws", PLAIN_WEBSOCKET)
        _begin(session, asked, PLAIN_WEBSOCKET, b"")

        async def take(_data: bytes) -> None:
            raise bad_command("this connection is one-way")

        await converse(socket, outlet, take, binary=False)
        return socket

    def _come_back(self, headers: dict[str, str]) -> web.Response:
        """Not ready. EventSource gives up for good on any status but 200, so it gets a stream that ends at once."""
        body = frames.retry_event(self._node.limits.sse_retry) + _ended(SSE, Disconnect(SHUTDOWN.code, "not ready"))
        headers = {**streaming.HEADERS, **streaming.EVENTS, **headers, "Retry-After": "1"}
        response = web.Response(body=body, headers=headers)
        response.force_close()
        return response

    async def _asked(self, request: web.Request) -> Asked:
        """Raises Refused, or TokensUnavailable."""
        try:
            identity, trusted = await self._identify(request)
        except TokenError as error:
            raise Refused(HTTPStatus.UNAUTHORIZED, str(error)) from error
        targets = [self._target(name, identity, trusted=trusted) for name in self._names(request)]
        text = request.headers.get("Last-Event-ID") or request.query.get("last_event_id", "")
        cursor = stream.parse_cursor(text) if text else None
        if cursor is not None:
            await stream.judge(self._node, targets, cursor)
        return Asked(identity, targets, cursor, bool(text))

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
        return found


def _begin(session: Stream, asked: Asked, shown: StreamEncoding, first: bytes) -> None:
    """What became of the cursor, what was missed, and where the stream stands. Nothing waits here: what is published
    now is either in it or comes after."""
    node = session.node
    session.connect(asked.identity)
    session.begin(asked.targets)
    resumed = stream.resume(node, asked.targets, asked.cursor) if asked.cursor is not None else None
    told = msgspec.json.encode(_told(asked, resumed))
    parts = [first, shown.told("subscribed", told)]
    if resumed is not None:
        parts += [shown.publication(publication, node.history.epoch) for publication in resumed.publications]
    parts.append(shown.position(session.position()))
    session.connection.write_large(b"".join(parts))


def _ended(shown: StreamEncoding, why: Disconnect) -> bytes:
    told = {"code": why.code, "reason": why.reason, "reconnect": not why.terminal}
    return shown.told("disconnect", msgspec.json.encode(told))


def _told(asked: Asked, resumed: Resumption | None) -> dict[str, Any]:
    if resumed is not None:
        told: dict[str, Any] = {"recovered": resumed.recovered, "was_recovering": True}
        told["channels"] = {
            channel: {"recovered": True} if verdict is verdict.RECOVERED else {"recovered": False, "reason": verdict}
            for channel, verdict in resumed.verdicts.items()
        }
        return told
    reason = "the cursor is not one of this server" if asked.given else "no cursor was given"
    return {
        "recovered": False,
        "was_recovering": asked.given,
        "channels": {found.name: {"recovered": False, "reason": reason} for found in asked.targets},
    }
