"""`/connection/websocket`: a WebSocket around a session (protocol.md section 1.2)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import WSMessage, WSMsgType, web

from notifier.core import commands
from notifier.core.node import Node
from notifier.core.session import Session
from notifier.protocol import frames
from notifier.protocol.codes import INTERNAL_ERROR, ConnectionEnded, Disconnect, bad_command
from notifier.protocol.encoding import JSON_WEBSOCKET, PROTOBUF_WEBSOCKET, ClientEncoding, deflated
from notifier.transports.gate import Gate
from notifier.transports.outlet import WebSocketOutlet

_logger = logging.getLogger(__name__)

JSON, PROTOBUF = "centrifuge-json", "centrifuge-protobuf"

Take = Callable[[bytes], Awaitable[None]]

_ENDS = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


class WebSocketEndpoint:
    """The handler of the path."""

    def __init__(self, node: Node, gate: Gate) -> None:
        self._node = node
        self._gate = gate

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._gate.origin(request)
        limits = self._node.limits
        socket = await accept(request, self._node, compress=limits.compression, protocols=(JSON, PROTOBUF))
        transport = request.transport
        if transport is None:
            return socket
        encoding = _encoding(request, socket)
        outlet = WebSocketOutlet(transport, limits.max_buffer, limits.close_timeout)
        outlet.session = session = Session(self._node, outlet, "websocket", encoding)

        async def take(data: bytes) -> None:
            await commands.run(session, encoding.codec.commands(data))

        await converse(socket, outlet, take, binary=encoding.codec.name == "protobuf")
        return socket


def _encoding(request: web.Request, socket: web.WebSocketResponse) -> ClientEncoding:
    asked = request.query.get("format") or request.query.get("cf_protocol")
    encoding = PROTOBUF_WEBSOCKET if socket.ws_protocol == PROTOBUF or asked == "protobuf" else JSON_WEBSOCKET
    return deflated(encoding, int(socket.compress)) if socket.compress else encoding


async def accept(
    request: web.Request, node: Node, *, compress: bool = False, protocols: tuple[str, ...] = ()
) -> web.WebSocketResponse:
    """The handshake. Raises HTTPUpgradeRequired for other requests, HTTPServiceUnavailable when this is not ready."""
    limits = node.limits
    socket: web.WebSocketResponse = web.WebSocketResponse(
        autoping=False,
        autoclose=False,
        compress=compress,
        # aiohttp refuses a message of exactly its limit
        max_msg_size=limits.max_message + 1,
        protocols=protocols,
        timeout=limits.close_timeout,
    )
    if not socket.can_prepare(request):
        raise web.HTTPUpgradeRequired(text="this is a WebSocket endpoint\n")
    if node.draining or not node.log.ready:
        raise web.HTTPServiceUnavailable(text="not ready\n", headers={"Retry-After": "1"})
    await socket.prepare(request)
    return socket


async def converse(socket: web.WebSocketResponse, outlet: WebSocketOutlet, take: Take, *, binary: bool) -> None:
    """Take frames until the socket is closed, and leave nothing behind. One coroutine waits in it, no more: each that
    does costs half a kilobyte a connection. After a disconnect only the peer's close frame matters."""
    session = outlet.session
    wanted = WSMsgType.BINARY if binary else WSMsgType.TEXT
    try:
        while (message := await socket.receive()).type not in _ENDS:
            if message.type is not wanted:
                _take_other(outlet, message, binary=binary)
            elif not session.closed:
                await _take(session, take, message.data if binary else message.data.encode())
        if message.type is WSMsgType.CLOSE and not outlet.closing:
            # The answer to a closing handshake; the peer's own code comes back (RFC 6455 section 5.5.1).
            outlet.close(Disconnect(message.data or 1000, ""))
    finally:
        session.end()
        outlet.finish()
        outlet.transport.close()
        outlet.abort_after(session.node.limits.close_timeout)


def _take_other(outlet: WebSocketOutlet, message: WSMessage, *, binary: bool) -> None:
    """A frame that holds no commands."""
    if message.type is WSMsgType.PING:
        outlet.write(frames.frame(frames.PONG, message.data))
    elif message.type is WSMsgType.PONG:
        outlet.session.heard()
    else:
        speaks = "Protobuf in binary frames" if binary else "JSON in text frames"
        outlet.session.disconnect(bad_command(f"this connection speaks {speaks}").disconnect)


async def _take(session: Session, take: Take, data: bytes) -> None:
    try:
        await take(data)
    except ConnectionEnded as error:
        session.disconnect(error.disconnect)
    except Exception:  # whatever went wrong must not pass for an orderly end
        _logger.exception("a command failed", extra={"client": session.client_id})
        session.disconnect(INTERNAL_ERROR)
