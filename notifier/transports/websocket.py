"""`/connection/websocket`: a WebSocket around a session (protocol.md section 1.2)."""

from __future__ import annotations

from aiohttp import web

from notifier.core import commands
from notifier.core.node import Node
from notifier.core.session import Session
from notifier.protocol.encoding import JSON_WEBSOCKET, PROTOBUF_WEBSOCKET, ClientEncoding, deflated
from notifier.transports.conversation import converse
from notifier.transports.entrance import Entrance, gone, unavailable
from notifier.transports.gate import Gate
from notifier.transports.handshake import Handshake, handshake
from notifier.transports.line import HandedOver, transport_of
from notifier.transports.outlet import WebSocketOutlet

JSON, PROTOBUF = "centrifuge-json", "centrifuge-protobuf"


class WebSocketEndpoint:
    """The handler of the path."""

    def __init__(self, node: Node, gate: Gate, entrance: Entrance) -> None:
        self._node = node
        self._gate = gate
        self._entrance = entrance

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._gate.origin(request)
        self._gate.admit(request)
        limits = self._node.limits
        if not await self._entrance.opens():
            return unavailable("not now\n")
        shake = handshake(request, protocols=(JSON, PROTOBUF), compress=limits.compression)
        transport = transport_of(request)
        if transport is None:
            return gone()
        outlet = WebSocketOutlet(transport, limits.max_buffer, limits.close_timeout)
        outlet.session = Session(self._node, outlet, "websocket", _encoding(request, shake))
        converse(request, shake, outlet, _take).begin()
        raise HandedOver


async def _take(session: Session, data: bytes) -> None:
    await commands.run(session, session.encoding.codec.commands(data))


def _encoding(request: web.Request, shake: Handshake) -> ClientEncoding:
    asked = request.query.get("format") or request.query.get("cf_protocol")
    encoding = PROTOBUF_WEBSOCKET if shake.protocol == PROTOBUF or asked == "protobuf" else JSON_WEBSOCKET
    return deflated(encoding, shake.window_bits) if shake.window_bits else encoding
