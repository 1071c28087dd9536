"""The SDKs' way where WebSockets are blocked: replies come down a stream, commands go up in requests of their own
(protocol.md sections 1.4 to 1.6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from notifier.core import allowance, commands
from notifier.core.node import Node
from notifier.core.session import Session
from notifier.errors import Unavailable
from notifier.protocol import codec_json, codec_protobuf, codes
from notifier.protocol.codes import ConnectionEnded
from notifier.protocol.encoding import JSON_EVENTS, JSON_LINES, PROTOBUF_STREAM, ClientEncoding
from notifier.protocol.messages import Command, EmulationRequest
from notifier.transports import streaming
from notifier.transports.entrance import Entrance, unavailable
from notifier.transports.gate import Gate, cors_headers
from notifier.transports.outlet import StreamOutlet

_logger = logging.getLogger(__name__)

PROTOBUF_TYPE = "application/octet-stream"
BODY_TIMEOUT_S = 15.0
MAX_WAITING = 256
UNREADABLE_BODY = "the body is not what Content-Encoding and Transfer-Encoding say"


class Inbox:
    """Commands for one session that come in requests of their own: one after the other."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def take(self, data: bytes) -> None:
        session = self._session
        if self._waiting >= MAX_WAITING:
            session.disconnect(codes.TOO_MANY_COMMANDS)
            return
        self._waiting += 1
        try:
            async with self._turn:
                await self._run(session.encoding.codec.commands(data))
        except (ConnectionEnded, UnicodeDecodeError) as error:
            ended = error if isinstance(error, ConnectionEnded) else codes.bad_command("not UTF-8")
            session.disconnect(ended.disconnect)
        finally:
            self._waiting -= 1

    async def begin(self, found: list[Command]) -> None:
        """The commands that came with the request for the stream. What is sent later waits for them."""
        async with self._turn:
            await self._run(found)

    async def _run(self, found: list[Command]) -> None:
        session = self._session
        turns, row = session.node.turns, allowance.row_of(session)
        if turns.must_wait(row):  # it may have waited for its body since its request had a turn
            await turns.wait(row)
        try:
            await commands.run(session, found)
        except Exception:  # whatever went wrong must not pass for an orderly end
            _logger.exception("a command failed", extra={"client": session.client_id})
            session.disconnect(codes.INTERNAL_ERROR)


class EmulationEndpoints:
    """The handlers of `/connection/http_stream`, `/connection/sse` and `/emulation`."""

    def __init__(self, node: Node, gate: Gate, entrance: Entrance) -> None:
        self._node = node
        self._gate = gate
        self._entrance = entrance
        self._farewells = {
            JSON_EVENTS: streaming.farewell(JSON_EVENTS, node),
            JSON_LINES: streaming.farewell(JSON_LINES),
            PROTOBUF_STREAM: streaming.farewell(PROTOBUF_STREAM),
        }

    async def http_stream(self, request: web.Request) -> web.StreamResponse:
        headers = cors_headers(self._gate.origin(request))
        if request.method == "OPTIONS":
            return preflight(request, headers)
        self._gate.admit(request, headers)
        encoding = PROTOBUF_STREAM if _is_protobuf(request) else JSON_LINES
        body = await read_body(request, self._node.limits.max_message, headers)
        return await self._stream(request, headers, "http_stream", encoding, body, b"")

    async def event_stream(self, request: web.Request) -> web.StreamResponse:
        headers = cors_headers(self._gate.origin(request))
        self._gate.admit(request, headers)
        if request.method == "POST":
            body = await read_body(request, self._node.limits.max_message, headers)
        else:
            body = request.query.get("cf_connect", "").encode()
        if not body:
            raise web.HTTPBadRequest(text="the connect command is missing: ?cf_connect={...}\n", headers=headers)
        headers = {**streaming.EVENTS, **headers}
        return await self._stream(request, headers, "emulated_sse", JSON_EVENTS, body, b"\r\n")

    async def upward(self, request: web.Request) -> web.Response:
        """`/emulation`. The answers to the commands come down the stream."""
        headers = cors_headers(self._gate.origin(request))
        if request.method == "OPTIONS":
            return preflight(request, headers)
        body = await read_body(request, self._node.limits.max_message, headers)
        try:
            node, session, data = _upward(request, body)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n", headers=headers) from error
        try:
            found = await self._node.control.run(node, session, data)
        except Unavailable:
            found = False
        status = HTTPStatus.NO_CONTENT if found else HTTPStatus.NOT_FOUND
        return web.Response(status=status, headers=headers)

    async def _stream(
        self,
        request: web.Request,
        headers: dict[str, str],
        transport_name: str,
        encoding: ClientEncoding,
        body: bytes,
        first: bytes,
    ) -> web.StreamResponse:
        node = self._node
        if not await self._entrance.opens():
            return unavailable("not now\n", headers)
        try:
            found = encoding.codec.commands(body)
        except (ConnectionEnded, UnicodeDecodeError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n", headers=headers) from error

        def made(outlet: StreamOutlet) -> Session:
            session = Session(node, outlet, transport_name, encoding)
            session.key = node.new_id()
            return session

        async def begin(session: Session) -> None:
            inbox = Inbox(session)
            node.inboxes[session.key] = inbox.take
            await inbox.begin(found)

        return streaming.serve(request, headers, node, self._farewells[encoding], made, begin, first)


async def read_body(request: web.Request, limit: int, headers: Mapping[str, str]) -> bytes:
    """Raises HTTPRequestEntityTooLarge above the limit, HTTPRequestTimeout when it does not come in time and
    HTTPBadRequest when it cannot be decoded; all with the headers, because an SDK in a browser takes the server for
    lost when it may not read a status."""
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0, headers=headers)
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.content.iter_any():
                parts += part
                if len(parts) > limit:
                    raise web.HTTPRequestEntityTooLarge(limit, len(parts), headers=headers)
    except TimeoutError:
        text = f"the body did not come within {BODY_TIMEOUT_S:.0f} s\n"
        raise web.HTTPRequestTimeout(text=text, headers=headers) from None
    except web.RequestPayloadError:
        raise web.HTTPBadRequest(text=f"{UNREADABLE_BODY}\n", headers=headers) from None
    return bytes(parts)


def preflight(request: web.Request, headers: dict[str, str]) -> web.Response:
    """What a browser asks before a cross-origin request (protocol.md sections 1.4 and 1.7)."""
    if headers:
        headers["Access-Control-Allow-Methods"] = "POST, OPTIONS"
        headers["Access-Control-Max-Age"] = "300"
        if asked := request.headers.get("Access-Control-Request-Headers"):
            headers["Access-Control-Allow-Headers"] = asked
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)


def _is_protobuf(request: web.Request) -> bool:
    """Whether the request says so; for what says nothing, `content_type` answers the same."""
    return "Content-Type" in request.headers and request.content_type == PROTOBUF_TYPE


def _upward(request: web.Request, body: bytes) -> tuple[str, str, bytes]:
    """Node, session and commands of a request. Raises ValueError for what is none."""
    if _is_protobuf(request):
        return codec_protobuf.emulation(body)
    try:
        found = msgspec.json.decode(body, type=EmulationRequest)
    except codec_json.DECODE_ERRORS as error:
        raise ValueError(codec_json.what_was_wrong(error)) from error
    return found.node, found.session, found.data.encode()
