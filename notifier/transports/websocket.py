"""`/connection/websocket`: a WebSocket around a session (protocol.md section 1.2)."""

from __future__ import annotations

from aiohttp import web

from notifier.core import commands
from notifier.core.node import Node
from notifier.core.session import Session
from notifier.protocol.encoding import JSON_WEBSOCKET, PROTOBUF_WEBSOCKET, ClientEncoding, deflated
from notifier.protocol.reading import is_text
from notifier.transports.conversation import Conversation, converse
from notifier.transports.entrance import Entrance, gone, unavailable
from notifier.transports.gate import Gate
from notifier.transports.handshake import Handshake, handshake
from notifier.transports.line import HandedOver, transport_of
from notifier.transports.outlet import WebSocketOutlet

JSON, PROTOBUF = "centrifuge-json", "centrifuge-protobuf"
PONG = b"{}"  # in JSON: a command without anything


class Talk(Conversation):
    """Most of what silent clients send are answers to pings. Those are taken at once, without a task."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        session = self.outlet.session
        if (
            session.awaits_pong
            and is_text(data, PONG)
            and self._work is None
            and self._reader.is_between
            and session.encoding.codec.name == "json"
            and not session.closed
        ):
            session.awaits_pong = False
        else:
            super().data_received(data)


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
        converse(request, shake, outlet, _take, Talk).begin()
        raise HandedOver


async def _take(session: Session, data: bytes) -> None:
    await commands.run(session, session.encoding.codec.commands(data))


def _encoding(request: web.Request, shake: Handshake) -> ClientEncoding:
    asked = request.query.get("format") or request.query.get("cf_protocol")
    encoding = PROTOBUF_WEBSOCKET if shake.protocol == PROTOBUF or asked == "protobuf" else JSON_WEBSOCKET
    return deflated(encoding, shake.window_bits) if shake.window_bits else encoding
