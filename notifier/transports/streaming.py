"""Answers whose body never ends: server-sent events and HTTP streams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

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


async def until_lost() -> None:
    """Wait to be cancelled: aiohttp does it when the connection is gone."""
    await asyncio.get_running_loop().create_future()
