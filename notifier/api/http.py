"""The server API over HTTP: `POST /api/METHOD`, or `POST /api` with `{"method": ..., "params": {...}}`.

Success and application errors are both answered with 200 (protocol.md section 7), so that its client libraries work.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from notifier.api import asyncapi, methods, openapi
from notifier.auth.keys import ApiKeys
from notifier.config import Config
from notifier.core.node import Node
from notifier.protocol import codes
from notifier.protocol.codec_json import DECODE_ERRORS, what_was_wrong
from notifier.protocol.codes import CommandFailed, Error
from notifier.protocol.messages import EMPTY

BODY_TIMEOUT_S = 15.0
KEY_REQUIRED = "an API key is required in X-API-Key"

_STATUS = {
    codes.INTERNAL.code: HTTPStatus.INTERNAL_SERVER_ERROR,
    codes.UNKNOWN_CHANNEL.code: HTTPStatus.NOT_FOUND,
    codes.METHOD_NOT_FOUND.code: HTTPStatus.NOT_FOUND,
    codes.BAD_REQUEST.code: HTTPStatus.BAD_REQUEST,
    codes.NOT_AVAILABLE.code: HTTPStatus.BAD_REQUEST,
    codes.UNRECOVERABLE_POSITION.code: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
}


class Call(Struct):
    """The old form's body."""

    method: str = ""
    params: Raw = EMPTY


class ApiEndpoint:
    """The handler of `/api` and what is below it."""

    def __init__(self, node: Node, keys: ApiKeys, max_body: int) -> None:
        self._node = node
        self._keys = keys
        self._max_body = max_body

    async def handle(self, request: web.Request) -> web.Response:
        if not _has_key(request, self._keys):
            return _problem(HTTPStatus.UNAUTHORIZED, KEY_REQUIRED)
        if request.method != "POST":
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "use POST", {"Allow": "POST"})
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.read()
        except TimeoutError:
            return _problem(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {BODY_TIMEOUT_S:.0f} s")
        except web.HTTPRequestEntityTooLarge:
            return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {self._max_body} bytes")
        name = request.match_info.get("method", "")
        if not name:
            try:
                call = msgspec.json.decode(body, type=Call)
            except DECODE_ERRORS as error:
                return _problem(HTTPStatus.BAD_REQUEST, what_was_wrong(error))
            name, body = call.method, bytes(call.params)
        as_status = request.headers.get("X-Centrifugo-Error-Mode") == "transport"
        return await self._call(name, body, as_status=as_status)

    async def _call(self, name: str, body: bytes, *, as_status: bool) -> web.Response:
        try:
            answer = await methods.call(self._node, name, body)
        except methods.NoSuchMethod:
            return _problem(HTTPStatus.NOT_FOUND, "no such method")
        except methods.BadBody as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        except CommandFailed as error:
            return _failure(error.error, as_status=as_status)
        return web.Response(body=answer, content_type="application/json")


class DocumentsEndpoint:
    """What describes the server: `/api/openapi.json` is the same everywhere and for everybody, `/api/asyncapi.json`
    shows the channel rules and so needs the key."""

    def __init__(self, config: Config, keys: ApiKeys) -> None:
        self._config = config
        self._keys = keys
        self._openapi = msgspec.json.encode(openapi.document())

    async def openapi(self, request: web.Request) -> web.Response:
        return _document(request, self._openapi)

    async def asyncapi(self, request: web.Request) -> web.Response:
        if not _has_key(request, self._keys):
            return _problem(HTTPStatus.UNAUTHORIZED, KEY_REQUIRED)
        return _document(request, msgspec.json.encode(asyncapi.document(self._config, request.host)))


def _has_key(request: web.Request, keys: ApiKeys) -> bool:
    key = request.headers.get("X-API-Key")
    if key is None:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        key = value.strip() if scheme.lower() == "apikey" else ""
    return keys.accept(key)


def _document(request: web.Request, body: bytes) -> web.Response:
    if request.method not in ("GET", "HEAD"):
        return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "use GET", {"Allow": "GET, HEAD"})
    return web.Response(body=body, content_type="application/json")


def _failure(error: Error, *, as_status: bool) -> web.Response:
    if as_status:
        status = _STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
        return web.Response(status=status, body=msgspec.json.encode(error), content_type="application/json")
    return web.Response(body=msgspec.json.encode({"error": error}), content_type="application/json")


def _problem(status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode({"code": int(status), "message": text})
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
