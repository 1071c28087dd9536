"""One-way connections with the SDKs' pushes but without an SDK: `/connection/uni_websocket`, `/connection/uni_sse`,
`/connection/uni_http_stream` (protocol.md section 1.8). The client names its channels when it connects."""

from __future__ import annotations

import msgspec
from aiohttp import web

from notifier.core import connecting
from notifier.core.node import Node
from notifier.core.session import OneWaySession, Session
from notifier.errors import Unavailable
from notifier.protocol import codec_json, codes
from notifier.protocol.codes import CommandFailed, ConnectionEnded, bad_command
from notifier.protocol.encoding import BARE_EVENTS, BARE_LINES, BARE_WEBSOCKET, ClientEncoding
from notifier.protocol.messages import ConnectRequest, Push
from notifier.transports import streaming
from notifier.transports.conversation import converse
from notifier.transports.emulation import preflight, read_body
from notifier.transports.entrance import Entrance, gone, unavailable
from notifier.transports.gate import Gate, cors_headers
from notifier.transports.handshake import handshake
from notifier.transports.line import HandedOver, transport_of
from notifier.transports.outlet import StreamOutlet, WebSocketOutlet

_DISCONNECT_FOR = {
    codes.TOKEN_EXPIRED.code: codes.CONNECTION_EXPIRED,
    codes.EXPIRED.code: codes.CONNECTION_EXPIRED,
    codes.TOO_MANY_REQUESTS.code: codes.TOO_MANY_COMMANDS,
    codes.PERMISSION_DENIED.code: codes.NO_PERMISSION,
}


class UnidirectionalEndpoints:
    """The handlers of the three paths."""

    def __init__(self, node: Node, gate: Gate, entrance: Entrance) -> None:
        self._node = node
        self._gate = gate
        self._entrance = entrance
        self._farewells = {
            BARE_WEBSOCKET: streaming.farewell(BARE_WEBSOCKET),
            BARE_EVENTS: streaming.farewell(BARE_EVENTS, node),
            BARE_LINES: streaming.farewell(BARE_LINES),
        }

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        self._gate.origin(request)
        self._gate.admit(request)
        node, limits = self._node, self._node.limits
        asked = request.query.get("cf_connect", "")
        if asked:
            _request(asked.encode(), {})
        if not await self._entrance.opens():
            return unavailable("not now\n")
        shake = handshake(request)
        transport = transport_of(request)
        if transport is None:
            return gone()
        outlet = WebSocketOutlet(transport, limits.max_buffer, limits.close_timeout, self._farewells[BARE_WEBSOCKET])
        outlet.session = OneWaySession(node, outlet, "uni_websocket", BARE_WEBSOCKET)
        converse(request, shake, outlet, _take).begin(asked.encode())
        raise HandedOver

    async def event_stream(self, request: web.Request) -> web.StreamResponse:
        headers = {**streaming.EVENTS, **cors_headers(self._gate.origin(request))}
        self._gate.admit(request, headers)
        if request.method == "POST":
            body = await read_body(request, self._node.limits.max_message, headers)
        else:
            body = request.query.get("cf_connect", "").encode()
        return await self._stream(request, headers, "uni_sse", BARE_EVENTS, body or b"{}", b"\r\n")

    async def http_stream(self, request: web.Request) -> web.StreamResponse:
        headers = cors_headers(self._gate.origin(request))
        if request.method == "OPTIONS":
            return preflight(request, headers)
        self._gate.admit(request, headers)
        body = await read_body(request, self._node.limits.max_message, headers)
        return await self._stream(request, headers, "uni_http_stream", BARE_LINES, body, b"")

    async def _stream(
        self,
        request: web.Request,
        headers: dict[str, str],
        transport_name: str,
        encoding: ClientEncoding,
        body: bytes,
        first: bytes,
    ) -> web.StreamResponse:
        node = self._node
        wanted = _request(body, headers)
        if not await self._entrance.opens():
            return unavailable("not now\n", headers)

        def made(outlet: StreamOutlet) -> OneWaySession:
            return OneWaySession(node, outlet, transport_name, encoding)

        async def begin(session: OneWaySession) -> None:
            await _connect(session, wanted)

        return streaming.serve(request, headers, node, self._farewells[encoding], made, begin, first)


async def _take(session: Session, data: bytes) -> None:
    if session.is_connected:
        raise bad_command("this connection is one-way")
    await _connect(session, _decode(data))


def _decode(body: bytes) -> ConnectRequest:
    """Raises ConnectionEnded (3501)."""
    try:
        return msgspec.json.decode(body, type=ConnectRequest)
    except codec_json.DECODE_ERRORS as error:
        raise bad_command(codec_json.what_was_wrong(error)) from error


def _request(body: bytes, headers: dict[str, str]) -> ConnectRequest:
    """Raises HTTPBadRequest."""
    try:
        return _decode(body)
    except ConnectionEnded as error:
        raise web.HTTPBadRequest(text=f"connect request: {error}\n", headers=headers) from error


async def _connect(session: Session, wanted: ConnectRequest) -> None:
    """Connect, or end the connection with what an SDK would have been answered."""
    session.key = session.node.new_id()
    try:
        result = await connecting.connect(session, wanted, chosen=True)
    except ConnectionEnded as error:
        session.disconnect(error.disconnect)
    except CommandFailed as error:
        session.disconnect(_DISCONNECT_FOR.get(error.error.code, codes.INTERNAL_ERROR))
    except Unavailable:
        session.disconnect(codes.INTERNAL_ERROR)
    else:
        session.push(Push(connect=result))
