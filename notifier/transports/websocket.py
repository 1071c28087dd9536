"""`/connection/websocket`: a WebSocket around a session (protocol.md section 1.2)."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import WSMsgType, web

from notifier.core import commands
from notifier.core.node import Node
from notifier.core.session import Session
from notifier.protocol import codec_json, frames
from notifier.protocol.codes import INTERNAL_ERROR, ConnectionEnded, Disconnect, bad_command
from notifier.protocol.encoding import JSON_WEBSOCKET
from notifier.transports.gate import Gate
from notifier.transports.outlet import Outlet

_logger = logging.getLogger(__name__)

SUBPROTOCOLS = ("centrifuge-json",)


class WebSocketOutlet(Outlet):
    """Frames as they are; the end is a close frame with a deadline for the peer's answer."""

    __slots__ = ("_close_timeout",)

    def __init__(self, transport: asyncio.Transport, max_buffer: int, close_timeout: float) -> None:
        super().__init__(transport, JSON_WEBSOCKET, max_buffer)
        self._close_timeout = close_timeout

    def close(self, disconnect: Disconnect) -> None:
        """Say why; the handler goes on reading until the peer has answered, or the deadline has passed."""
        if self.closing:
            self.transport.write(frames.close_frame(disconnect))  # behind all that a slow client did not take
        else:
            self.write(frames.close_frame(disconnect))
        self.finish()
        self.abort_after(self._close_timeout)


class WebSocketEndpoint:
    """The handler of the path."""

    def __init__(self, node: Node, gate: Gate) -> None:
        self._node = node
        self._gate = gate

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._gate.origin(request)
        node = self._node
        limits = node.limits
        socket: web.WebSocketResponse = web.WebSocketResponse(
            autoping=False,
            autoclose=False,
            compress=False,
            # aiohttp refuses a message of exactly its limit
            max_msg_size=limits.max_message + 1,
            protocols=SUBPROTOCOLS,
            timeout=limits.close_timeout,
        )
        if not socket.can_prepare(request):
            raise web.HTTPUpgradeRequired(text="this is a WebSocket endpoint\n")
        if node.draining or not node.log.ready:
            raise web.HTTPServiceUnavailable(text="not ready\n", headers={"Retry-After": "1"})
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        outlet = WebSocketOutlet(transport, limits.max_buffer, limits.close_timeout)
        outlet.session = session = Session(node, outlet, "websocket")
        try:
            await _converse(socket, session, outlet)
        finally:
            session.end()
            outlet.finish()
            transport.close()
            outlet.abort_after(limits.close_timeout)
        return socket


async def _converse(socket: web.WebSocketResponse, session: Session, outlet: WebSocketOutlet) -> None:
    """Take frames until the socket is closed; after a disconnect only the peer's close frame matters."""
    while True:
        message = await socket.receive()
        kind = message.type
        if kind is WSMsgType.TEXT:
            if not session.closed:
                await _take(session, message.data)
        elif kind is WSMsgType.PING:
            outlet.write(frames.frame(frames.PONG, message.data))
        elif kind is WSMsgType.BINARY:
            session.disconnect(bad_command("this connection speaks JSON in text frames").disconnect)
        elif kind is WSMsgType.CLOSE:
            if not outlet.closing:
                # The answer to a closing handshake; the peer's own code comes back (RFC 6455 section 5.5.1).
                outlet.close(Disconnect(message.data or 1000, ""))
            return
        elif kind is not WSMsgType.PONG:
            return


async def _take(session: Session, text: str) -> None:
    try:
        await commands.run(session, codec_json.commands(text))
    except ConnectionEnded as error:
        session.disconnect(error.disconnect)
    except Exception:  # whatever went wrong must not pass for an orderly end
        _logger.exception("a command failed", extra={"client": session.client_id})
        session.disconnect(INTERNAL_ERROR)
