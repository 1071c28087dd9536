"""Conversation: what a client says on its WebSocket, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from notifier.core import allowance
from notifier.core.ports import Row
from notifier.core.session import Session
from notifier.protocol import frames
from notifier.protocol.codes import ConnectionEnded, Disconnect, bad_command
from notifier.protocol.reading import PART, FrameError, FrameReader, Message, close_code
from notifier.tasks import begun
from notifier.transports.handshake import Handshake
from notifier.transports.line import Line, hand_over
from notifier.transports.outlet import WebSocketOutlet

Take = Callable[[Session, bytes], Coroutine[Any, Any, None]]

READ_AHEAD_BYTES = 16384  # while a command is waited for; what is behind it stays in the kernel
LOOKED_THROUGH = 100  # frames of one who was disconnected, for its close frame, in what comes at once


class Conversation(Line):
    """Takes frames until the WebSocket is closed. `take` is given what is in those of the session's kind; it raises
    ConnectionEnded. After a disconnect only the peer's close frame matters."""

    __slots__ = ("_reader", "_take")

    outlet: WebSocketOutlet

    def __init__(self, outlet: WebSocketOutlet, take: Take, reader: FrameReader) -> None:
        super().__init__(outlet)
        self._take = take
        self._reader = reader

    def begin(self, first: bytes = b"") -> None:
        """`first` came with the request and is taken like a frame's content."""
        if first or self._reader.waiting:
            self.run(self._converse(first))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._work is None:
            self.run(self._converse())
        elif self._reader.waiting > READ_AHEAD_BYTES or self.outlet.session.node.turns.must_wait(Row.FLOODING):
            self.outlet.transport.pause_reading()

    async def _converse(self, first: bytes = b"") -> None:
        """Take all that has come."""
        transport, session, last = self.outlet.transport, self.outlet.session, 0
        turns = session.node.turns
        if turns.must_wait(Row.FLOODING) and turns.must_wait(allowance.row_of(session)):
            await self._turn()
        if first:
            await self._command(session, first)
        try:
            while not transport.is_closing() and (message := self._reader.read()) is not None:
                await self._one(message)
                last += session.closed
                if last > LOOKED_THROUGH:
                    transport.pause_reading()  # for good: it is gone when the closing handshake's time is over
                    self._reader.forget()
                    return
                if self._reader.waiting and turns.is_over:
                    await self._turn()
        except FrameError as error:
            self._end(Disconnect(error.code, str(error)))
        except ConnectionEnded as error:
            session.disconnect(error.disconnect)
        if not transport.is_closing():
            transport.resume_reading()

    async def _turn(self) -> None:
        """Wait for a later one. What comes meanwhile stays in the kernel, where it costs nothing."""
        session, transport = self.outlet.session, self.outlet.transport
        if not transport.is_closing():
            transport.pause_reading()
        await session.node.turns.wait(allowance.row_of(session))

    async def _one(self, message: Message) -> None:
        session, opcode = self.outlet.session, message.opcode
        wanted = frames.BINARY if session.encoding.codec.name == "protobuf" else frames.TEXT
        if opcode == wanted:
            if not session.closed:
                await self._command(session, message.payload)
            return
        if not session.closed:
            allowance.exceed(session)
        if opcode == frames.PING:
            self.outlet.write(frames.frame(frames.PONG, message.payload))
        elif opcode == frames.PONG:
            session.heard()
        elif opcode == frames.CLOSE:
            # In the answer the peer's own code comes back (RFC 6455 section 5.5.1).
            self._end(Disconnect(close_code(message.payload) or 1000, ""))
        elif opcode != PART:
            speaks = "Protobuf in binary frames" if wanted == frames.BINARY else "JSON in text frames"
            session.disconnect(bad_command(f"this connection speaks {speaks}").disconnect)

    async def _command(self, session: Session, data: bytes) -> None:
        self.outlet.hold()
        try:
            rest = begun(self._take(session, data))
            if rest is not None:
                self.outlet.release()
                await rest
        except ConnectionEnded as error:
            session.disconnect(error.disconnect)
        finally:
            self.outlet.release()

    def _end(self, why: Disconnect) -> None:
        """Close, and say why if nothing was said before."""
        outlet = self.outlet
        if not outlet.closing:
            outlet.answer_close(why)
        outlet.session.gone()
        outlet.part()


def converse(
    request: web.Request, shake: Handshake, outlet: WebSocketOutlet, take: Take, kind: type[Conversation] = Conversation
) -> Conversation:
    """Take the connection from aiohttp and answer the handshake. What the session writes comes after that; then the
    conversation may `begin`."""
    reader = FrameReader(outlet.session.node.limits.max_message, packed=bool(shake.window_bits))
    conversation = kind(outlet, take, reader)
    reader.feed(hand_over(request, conversation))
    outlet.write(shake.answer)
    return conversation
