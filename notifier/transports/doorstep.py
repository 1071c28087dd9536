"""Doorstep: a connection's first bytes, and the short way in for a WebSocket.

aiohttp serves a connection's requests one after the other. A WebSocket's is the only one, and its connection is taken
from aiohttp at once (`line.py`): two tasks, a request's way through the application and all that keeps them were made
for nothing, a seventh of what it costs to let a client in, and after an outage all clients come at once. So where the
first bytes are the whole of a request for a WebSocket, its endpoint is asked from here. aiohttp's parser still reads
it. Everything else is aiohttp's, as if it had been there from the beginning.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError

from notifier.transports.garbage import LOGGER, MAX_HEADERS, MAX_LINE_BYTES
from notifier.transports.line import HandedOver

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

_END = b"\r\n\r\n"
_BODY = re.compile(rb"content-length|transfer-encoding", re.IGNORECASE)
READ_AHEAD_BYTES = 16384  # behind the request, until the connection is somebody's


class Doorsteps:
    """Makes one for each connection; those that are still there when the server ends are cleared.

    `plain` makes aiohttp's protocol. `endpoints` are asked by the short way, by their path.
    """

    def __init__(
        self, plain: Callable[[], asyncio.Protocol], endpoints: Mapping[bytes, Endpoint], patience_s: float
    ) -> None:
        self.plain = plain
        self.endpoints = endpoints
        self.patience_s = patience_s
        self.there: set[Doorstep] = set()

    def __call__(self) -> Doorstep:
        return Doorstep(self)

    def clear(self) -> None:
        for one in list(self.there):
            one.cut_off()


class Doorstep(asyncio.Protocol):
    """Waits for the first bytes for so long, then for what the endpoint says.

    For the endpoint's request it is what aiohttp's protocol would be (`web.BaseRequest.protocol`): it knows the
    transport, and `line.hand_over` takes the connection from it in the same way.
    """

    __slots__ = ("_deadline", "_rest", "_steps", "_work", "peername", "sockname", "ssl_context", "transport")

    def __init__(self, steps: Doorsteps) -> None:
        self._steps = steps
        self._rest = b""
        self._work: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        self._steps.there.add(self)
        self._deadline = asyncio.get_running_loop().call_later(self._steps.patience_s, transport.close)

    def data_received(self, data: bytes) -> None:
        if self._work is not None:
            self._keep(data)
            return
        self._deadline.cancel()
        if not self._takes(data):
            self._pass_on(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Also called by who takes the connection over; `transport` is None then, and the work goes on."""
        self._deadline.cancel()
        self._steps.there.discard(self)
        if self.transport is not None:
            self.transport = None
            if self._work is not None:
                self._work.cancel()

    def cut_off(self) -> None:
        """The server ends."""
        if self.transport is not None:
            self.transport.abort()

    def set_parser(self, rest: Any) -> None:
        """As aiohttp's does: give it what came behind the request."""
        if self._rest:
            rest.feed_data(self._rest)

    # --- the short way ------------------------------------------------------------------------------------------------

    def _takes(self, data: bytes) -> bool:
        endpoint = self._steps.endpoints.get(_path_of(data))
        if endpoint is None:
            return False
        parser = HttpRequestParser(
            self,  # type: ignore[arg-type] # it is asked for nothing, since there is no body
            asyncio.get_running_loop(),
            READ_AHEAD_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )
        end = data.find(_END) + len(_END)  # what is behind it may be anything, and of any length
        try:
            messages, upgraded, _ = parser.feed_data(data[:end])
        except HttpProcessingError:
            return False
        if not upgraded:
            return False
        transport = self.transport
        assert transport is not None  # noqa: S101 - it has just brought these bytes
        self.ssl_context = transport.get_extra_info("sslcontext")
        self.peername = transport.get_extra_info("peername")
        self.sockname = None  # nobody asks for it
        [(message, payload)] = messages
        loop = asyncio.get_running_loop()
        request = web.BaseRequest(message, payload, self, None, None, loop)  # type: ignore[arg-type]
        self._keep(data[end:])
        self._work = loop.create_task(self._ask(endpoint, request))
        return True

    async def _ask(self, endpoint: Endpoint, request: Any) -> None:
        try:
            answer = await endpoint(request)
        except HandedOver:
            return
        except web.HTTPException as refused:
            answer = refused.with_traceback(None)  # which would be a circle of objects
        except asyncio.CancelledError:
            self._end()
            raise
        except Exception:  # noqa: BLE001 - nothing else would answer
            LOGGER.exception("a request for a WebSocket failed")
            answer = web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR, text="internal error\n")
        self._end(answer)

    def _end(self, answer: web.StreamResponse | None = None) -> None:
        """With an answer, when somebody is there to read it."""
        transport = self.transport
        if transport is not None:
            if answer is not None:
                transport.write(_last_answer(answer))
            transport.close()

    def _keep(self, data: bytes) -> None:
        """What a client sends before it has the answer to its request waits for whoever takes its connection."""
        self._rest += data
        if len(self._rest) > READ_AHEAD_BYTES and self.transport is not None:
            self.transport.pause_reading()

    # --- aiohttp's ----------------------------------------------------------------------------------------------------

    def _pass_on(self, data: bytes) -> None:
        transport, self.transport = self.transport, None
        self._steps.there.discard(self)
        assert transport is not None  # noqa: S101 - it has just brought these bytes
        plain = self._steps.plain()
        transport.set_protocol(plain)
        plain.connection_made(transport)
        plain.data_received(data)


def _path_of(data: bytes) -> bytes:
    """Of a request that begins as those for WebSockets do, is there to its end and has no body; empty for any other."""
    head, end, _ = data.partition(_END)
    if not end or not head.startswith(b"GET ") or _BODY.search(head):
        return b""
    return data[4 : data.find(b" ", 4)].partition(b"?")[0]


def _last_answer(answer: web.StreamResponse) -> bytes:
    """An answer with a short text, after which the connection ends."""
    body = answer.body if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
    fields = {
        **answer.headers,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Date": formatdate(usegmt=True),
        "X-Content-Type-Options": "nosniff",
    }
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
