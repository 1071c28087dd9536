"""Answers whose body never ends: server-sent events and HTTP streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiohttp import web

from notifier.config import Clients
from notifier.core.node import Node
from notifier.core.session import Session
from notifier.protocol.codes import CONNECTION_CLOSED, Disconnect
from notifier.protocol.encoding import ClientEncoding
from notifier.protocol.messages import Push, Reply
from notifier.transports.outlet import StreamOutlet

S = TypeVar("S", bound=Session)

HEADERS = {
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
    "Pragma": "no-cache",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


class EndlessResponse(web.StreamResponse):
    """A response without length and chunks: its body is raw until the connection's end, so that the same bytes are
    right for every client. (`_length_check` is how aiohttp's own WebSocket response says it.)"""

    _length_check = False


async def begin(request: web.Request, headers: Mapping[str, str]) -> tuple[EndlessResponse, asyncio.Transport | None]:
    """The headers are out; the transport takes the body. None when the client is gone already."""
    response = EndlessResponse(headers={**HEADERS, **headers})
    response.force_close()
    await response.prepare(request)
    transport = request.transport
    return response, transport if transport is not None and not transport.is_closing() else None


def farewell(encoding: ClientEncoding) -> Callable[[Disconnect], bytes]:
    """What says why a stream ends, in its own encoding."""

    def told(disconnect: Disconnect) -> bytes:
        if disconnect.code == CONNECTION_CLOSED.code:
            return b""
        return encoding.replies([Reply(push=Push(disconnect=disconnect))])

    return told


def refuse_when_not_ready(node: Node, headers: dict[str, str]) -> None:
    """Raises HTTPServiceUnavailable while this node takes no clients."""
    if node.draining or not node.log.ready:
        raise web.HTTPServiceUnavailable(text="not ready\n", headers={**headers, "Retry-After": "1"})


async def serve(
    request: web.Request,
    headers: Mapping[str, str],
    encoding: ClientEncoding,
    limits: Clients,
    made: Callable[[StreamOutlet], S],
    start: Callable[[S], Awaitable[None]],
    first: bytes,
) -> EndlessResponse:
    """A session whose replies and pushes are the body of an answer; `first` are the bytes before all of them."""
    response, transport = await begin(request, headers)
    if transport is None:
        return response
    outlet = StreamOutlet(transport, limits.max_buffer, limits.close_timeout, farewell(encoding))
    outlet.session = session = made(outlet)
    try:
        if first:
            outlet.write(first)
        await start(session)
        await until_lost()
    finally:
        session.end()
    return response


async def until_lost() -> None:
    """Wait to be cancelled: aiohttp does it when the connection is gone."""
    await asyncio.get_running_loop().create_future()
