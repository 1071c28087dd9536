"""Line: a client's connection once its request has been answered.

aiohttp keeps for each connection a request, its parser, two tasks and their frames: some 9 KB, for a client that may be
silent for hours. So a connection is taken from it as soon as it is known what it is for, and what is left of it is a
transport with one small protocol. A task exists only while something is done for the client.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from notifier.protocol.codes import INTERNAL_ERROR
from notifier.transports import seats
from notifier.transports.outlet import Outlet
from notifier.transports.seats import Seat

_logger = logging.getLogger(__name__)


class Line(asyncio.Protocol):
    """One whose client has nothing more to say. The outlet hears first when the connection is lost."""

    __slots__ = ("_work", "outlet", "seat")

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.seat: Seat | None = None
        self._work: asyncio.Task[None] | None = None

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this for the client, as long as it is there; one thing at a time."""
        assert self._work is None  # noqa: S101 - or the first one's end would be taken for the second one's
        task = _begun(self._ended_well(work))
        if not task.done():
            self._work = task

    async def _ended_well(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # whatever went wrong must not pass for an orderly end
            session = self.outlet.session
            _logger.exception("a command failed", extra={"client": session.client_id})
            session.disconnect(INTERNAL_ERROR)
        finally:
            self._work = None

    def connection_lost(self, _exc: Exception | None) -> None:
        self.outlet.lost()
        if self.seat is not None:
            self.seat.leave()
        if self._work is not None:
            self._work.cancel()


class HandedOver(asyncio.CancelledError):
    """Ends the handler of a connection that was handed over: there is nothing to answer any more."""


class _Rest:
    """Is given by aiohttp, as it gives to a WebSocket's parser, what came right behind a request for one."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing is missing."""


def transport_of(request: web.Request) -> asyncio.Transport | None:
    """None when the client is gone already."""
    transport = request.transport
    return transport if transport is not None and not transport.is_closing() else None


def hand_over(request: web.Request, line: Line) -> bytes:
    """From here on the connection is the line's. The answer is what has been received behind an upgrade request.

    aiohttp is told that it has lost the connection, which is what it looks like from there, and then ends the handler
    and forgets everything; so the handler has nothing left to do but to raise HandedOver.
    """
    http, transport, rest = request.protocol, line.outlet.transport, _Rest()
    if "Upgrade" in request.headers:
        http.set_parser(rest)  # type: ignore[arg-type] # it asks for nothing but what is there
    transport.set_protocol(line)
    line.seat = request.pop(seats.KEY, None)
    http.transport = None  # or it would close it
    http.connection_lost(None)
    transport.resume_reading()  # it may have been paused for what nobody will read now
    return rest.data


def _begun(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that is begun at once where Python can do so: most work ends without having waited."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)
