"""Garbage: requests that are no HTTP, and what is answered to them and logged.

Anybody can send those, as many as they like; a log full of tracebacks hides what matters. And aiohttp quotes the line
that it could not read, be it one with a token (CWE-532), in the log and in its answer; neither is done here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

LOGGER = logging.getLogger("notifier.http")
"""For aiohttp's server."""

UNREADABLE = "this is no HTTP request that can be read\n"
LINGERING_S = 1.0  # until a connection ends on which a part of a body was thrown away
MAX_HEADERS = 64
MAX_LINE_BYTES = 8190  # the request's first line, and each header


class _Waste:
    """Is given by aiohttp what comes, as a WebSocket's parser is."""

    def feed_data(self, _data: bytes) -> tuple[bool, bytes]:
        return False, b""

    def feed_eof(self) -> None:
        """Nothing is missing."""


class OurFaultsOnly(logging.Filter):
    """Lets through what is not the peer's fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, (HttpProcessingError, web.RequestPayloadError))


LOGGER.addFilter(OurFaultsOnly())


class Protocol(web.RequestHandler):
    """aiohttp's, with an answer to garbage that says the same whatever it was."""

    __slots__ = ()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """aiohttp goes on reading what is left of a refused body, so that the client gets the answer. A compressed one
        would be unpacked for that, up to a thousand times what has come and in one go; it is thrown away as it is."""
        if "Content-Encoding" in request.headers and not request.content.is_eof():
            self.set_parser(_Waste())  # type: ignore[arg-type] # it asks for nothing but what is there
            self._lingering_time = LINGERING_S
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        response = super().handle_error(request, status, exc, UNREADABLE if message else None)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def protocols(server: web.Server, keepalive_s: float) -> Callable[[], asyncio.Protocol]:
    """Makes the protocol of each connection.

    Not by the server itself: it makes one without any of these bounds, and only a warning, when it does not know the
    name of one of them (aiohttp 3.14.5). Here that is a TypeError at the first connection.
    """
    return partial(
        Protocol,
        server,
        loop=asyncio.get_running_loop(),
        logger=LOGGER,
        access_log=None,  # type: ignore[arg-type] # it would write queries down
        keepalive_timeout=keepalive_s,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
        max_headers=MAX_HEADERS,
    )
