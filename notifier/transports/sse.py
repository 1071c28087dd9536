"""`/sse?channels=a,b`: server-sent events for a plain EventSource (HTML standard, section 9.2).

The first event says whether the stream was resumed from `Last-Event-ID`, channel by channel, because EventSource cannot
read headers. Every event's `id` is a cursor over all channels of the stream.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from notifier.auth.keys import ApiKeys
from notifier.config import Auth
from notifier.core import channel as channels
from notifier.core import stream
from notifier.core.identity import ANONYMOUS, Identity
from notifier.core.node import Node
from notifier.core.rules import Rule
from notifier.core.stream import Cursor, Resumption, Stream
from notifier.errors import TokenError
from notifier.protocol import frames
from notifier.protocol.codes import SHUTDOWN, Disconnect
from notifier.protocol.encoding import OWN_EVENTS, SSE, SSE_ENVELOPE, Encoding
from notifier.transports.gate import Gate, cors_headers
from notifier.transports.outlet import Outlet

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


class EventStreamResponse(web.StreamResponse):
    """A response without length and chunks: its body is raw until the connection's end, so that the same bytes are
    right for every client. (`_length_check` is how aiohttp's own WebSocket response says it.)"""

    _length_check = False


class EventStreamOutlet(Outlet):
    """Events as they are; the end is told in an event, then the socket is closed."""

    __slots__ = ("_close_timeout",)

    def __init__(self, transport: asyncio.Transport, encoding: Encoding, max_buffer: int, close_timeout: float) -> None:
        super().__init__(transport, encoding, max_buffer)
        self._close_timeout = close_timeout

    def close(self, disconnect: Disconnect) -> None:
        told = {"code": disconnect.code, "reason": disconnect.reason, "reconnect": not disconnect.terminal}
        if not self.closing:
            self.write(_disconnect_event(told))
        self.finish()
        self.transport.close()
        self.abort_after(self._close_timeout)


class EventStreamEndpoint:
    """The handler of the path."""

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

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = cors_headers(self._gate.origin(request))
        node = self._node
        if node.draining or not node.log.ready:
            return self._come_back(headers)
        try:
            identity, trusted = await self._identify(request)
        except TokenError as error:
            return _refusal(HTTPStatus.UNAUTHORIZED, str(error), headers)
        found, refusal = self._channels(request, identity, trusted=trusted)
        if refusal is not None:
            status, text = refusal
            return _refusal(status, text, headers)
        cursor_text = request.headers.get("Last-Event-ID") or request.query.get("last_event_id", "")
        cursor = stream.parse_cursor(cursor_text) if cursor_text else None
        if cursor is not None:
            await stream.judge(node, found, cursor)  # may wait until this worker has read as far as the client
        response = EventStreamResponse(headers={**_HEADERS, **headers})
        response.force_close()
        await response.prepare(request)
        transport = request.transport
        if transport is None or transport.is_closing():
            return response
        encoding = SSE_ENVELOPE if request.query.get("envelope") in ("1", "true") else SSE
        limits = node.limits
        outlet = EventStreamOutlet(transport, encoding, limits.max_buffer, limits.close_timeout)
        outlet.session = session = Stream(node, outlet, "sse")
        try:
            # From here to the first bytes nothing waits: what is published now is either in them or comes after.
            session.connect(identity)
            session.begin(found)
            outlet.write_large(self._beginning(session, found, cursor, given=bool(cursor_text)))
            await asyncio.get_running_loop().create_future()  # cancelled when the connection is gone
        finally:
            session.end()
        return response

    def _come_back(self, headers: dict[str, str]) -> web.Response:
        """Not ready. EventSource gives up for good on any status but 200, so it gets a stream that ends at once."""
        told = {"code": SHUTDOWN.code, "reason": "not ready", "reconnect": True}
        body = frames.retry_event(self._node.limits.sse_retry) + _disconnect_event(told)
        response = web.Response(body=body, headers={**_HEADERS, **headers, "Retry-After": "1"})
        response.force_close()
        return response

    def _beginning(self, session: Stream, rules: dict[str, Rule], cursor: Cursor | None, *, given: bool) -> bytes:
        """`retry`, the event that says what became of the cursor, what was missed, and where the stream stands."""
        node = self._node
        resumed = stream.resume(node, rules, cursor) if cursor is not None else None
        told = _told(rules, resumed, given=given)
        encoding = session.connection.encoding
        parts = [
            frames.retry_event(node.limits.sse_retry),
            frames.event(msgspec.json.encode(told), name=f"{OWN_EVENTS}subscribed"),
        ]
        if resumed is not None:
            parts += [encoding.publication(publication, node.history.epoch) for publication in resumed.publications]
        parts.append(frames.cursor_event(session.position()))
        return b"".join(parts)

    async def _identify(self, request: web.Request) -> tuple[Identity, bool]:
        """Who asks, and whether it is a backend with an API key, which needs no rule. Raises TokenError."""
        if (key := request.headers.get("X-API-Key")) is not None:
            if not self._keys.accept(key):
                raise TokenError("the API key is not known")
            return ANONYMOUS, True
        token = self._token(request)
        if token:
            return await self._node.verifier.connection(token), False
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

    def _channels(
        self, request: web.Request, identity: Identity, *, trusted: bool
    ) -> tuple[dict[str, Rule], tuple[HTTPStatus, str] | None]:
        """The channels asked for with their rules, or why not."""
        names = [*request.query.getall("channel", [])]
        for text in request.query.getall("channels", []):
            names += text.split(",")
        names = list(dict.fromkeys(names))
        if not names:
            return {}, (HTTPStatus.BAD_REQUEST, "channels are required: /sse?channels=a,b")
        if len(names) > self._node.limits.max_channels:
            return {}, (HTTPStatus.BAD_REQUEST, f"at most {self._node.limits.max_channels} channels")
        found: dict[str, Rule] = {}
        for name in names:
            if problem := channels.problem_with(name):
                return {}, (HTTPStatus.BAD_REQUEST, problem)
            rule = self._node.rules.find(name)
            if rule is None or not (trusted or rule.subscribe.allow(identity, name)):
                return {}, (HTTPStatus.FORBIDDEN, f"not allowed to subscribe to {name}")
            found[name] = rule
        return found, None


def _disconnect_event(told: dict[str, Any]) -> bytes:
    return frames.event(msgspec.json.encode(told), name=f"{OWN_EVENTS}disconnect")


def _told(rules: dict[str, Rule], resumed: Resumption | None, *, given: bool) -> dict[str, Any]:
    if resumed is not None:
        told: dict[str, Any] = {"recovered": resumed.recovered, "was_recovering": True}
        told["channels"] = {
            channel: {"recovered": True} if verdict is verdict.RECOVERED else {"recovered": False, "reason": verdict}
            for channel, verdict in resumed.verdicts.items()
        }
        return told
    reason = "the cursor is not one of this server" if given else "no cursor was given"
    return {
        "recovered": False,
        "was_recovering": given,
        "channels": {channel: {"recovered": False, "reason": reason} for channel in rules},
    }


def _refusal(status: HTTPStatus, text: str, headers: dict[str, str]) -> web.Response:
    """What is wrong with the request itself: EventSource does not try again."""
    body = msgspec.json.encode({"error": {"code": int(status), "message": text}})
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
