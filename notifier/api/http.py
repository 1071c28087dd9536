"""The server API over HTTP: `POST /api/METHOD`, or `POST /api` with `{"method": ..., "params": {...}}`.

Success and application errors are both answered with 200 (protocol.md section 7), so that its client libraries work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from notifier.api import asyncapi, methods, openapi
from notifier.api.audit import Audit
from notifier.auth.keys import ApiKeys
from notifier.config import Config
from notifier.core.node import Node
from notifier.errors import ConfigError
from notifier.protocol import codes
from notifier.protocol.codec_json import DECODE_ERRORS, what_was_wrong
from notifier.protocol.codes import CommandFailed, Error, bad_request
from notifier.protocol.messages import EMPTY
from notifier.telemetry.profile import Busy, Profiler

BODY_TIMEOUT_S = 15.0
LONGEST_PROFILE_S = 30.0

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

    def __init__(self, node: Node, keys: ApiKeys, max_body: int, audit: Audit) -> None:
        self._node = node
        self._keys = keys
        self._max_body = max_body
        self._audit = audit
        self.busy = 0
        """Requests that are not answered yet."""

    async def handle(self, request: web.Request) -> web.Response:
        self.busy += 1
        try:
            return await self._handle(request)
        finally:
            self.busy -= 1

    async def _handle(self, request: web.Request) -> web.Response:
        key = _key_of(request, self._keys)
        if not key:
            self._audit.refused(request.remote or "")
            return _unauthorized(request)
        if request.method != "POST":
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "use POST", {"Allow": "POST"})
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.read()
        except TimeoutError:
            return _problem(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {BODY_TIMEOUT_S:.0f} s")
        except web.RequestPayloadError:
            return _problem(HTTPStatus.BAD_REQUEST, "the body is not what Content-Encoding and Transfer-Encoding say")
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
        return await self._call(name, body, f"key {key} at {request.remote}", as_status=as_status)

    async def _call(self, name: str, body: bytes, by: str, *, as_status: bool) -> web.Response:
        try:
            answer = await self._audit.call(self._node, name, body, by)
        except methods.NoSuchMethod:
            return _problem(HTTPStatus.NOT_FOUND, "no such method")
        except methods.BadBody as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        except CommandFailed as error:
            return _failure(error.error, as_status=as_status)
        return web.Response(body=answer, content_type="application/json")


class ReloadEndpoint:
    """`POST /api/reload`: read the configuration again. `reload` raises ConfigError."""

    def __init__(self, reload: Callable[[], Awaitable[Struct]], keys: ApiKeys, audit: Audit) -> None:
        self._reload = reload
        self._keys = keys
        self._audit = audit

    async def handle(self, request: web.Request) -> web.Response:
        key = _key_of(request, self._keys)
        if not key:
            self._audit.refused(request.remote or "")
            return _unauthorized(request)
        if request.method != "POST":
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "use POST", {"Allow": "POST"})
        try:
            outcome = await self._reload()
        except ConfigError as error:
            self._audit.note("reload", f"key {key} at {request.remote}", "bad configuration")
            return _failure(bad_request("; ".join(error.problems)).error, as_status=False)
        self._audit.note("reload", f"key {key} at {request.remote}", "ok")
        return web.Response(body=msgspec.json.encode({"result": outcome}), content_type="application/json")


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
        if not _key_of(request, self._keys):
            return _unauthorized(request)
        return _document(request, msgspec.json.encode(asyncapi.document(self._config, request.host)))


class ProfileEndpoint:
    """`GET /api/profile?seconds=5`: where this worker's time goes, as text for a flame graph."""

    def __init__(self, profiler: Profiler, keys: ApiKeys) -> None:
        self._profiler = profiler
        self._keys = keys

    async def handle(self, request: web.Request) -> web.Response:
        if not _key_of(request, self._keys):
            return _unauthorized(request)
        if request.method != "GET":
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "use GET", {"Allow": "GET"})
        try:
            seconds = float(request.query.get("seconds", "5"))
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= LONGEST_PROFILE_S:
            return _problem(HTTPStatus.BAD_REQUEST, f"seconds: above 0, at most {LONGEST_PROFILE_S:.0f}")
        try:
            text = await self._profiler.run(seconds)
        except Busy:
            return _problem(HTTPStatus.CONFLICT, "a profile is being taken already", {"Retry-After": "5"})
        return web.Response(text=text, content_type="text/plain")


def _key_of(request: web.Request, keys: ApiKeys) -> int:
    """The number of the key in the request; 0 when it has none, or none that is known."""
    return keys.find(_given_key(request))


def _given_key(request: web.Request) -> str:
    key = request.headers.get("X-API-Key")
    if key is None:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        key = value.strip() if scheme.lower() == "apikey" else ""
    return key


def _unauthorized(request: web.Request) -> web.Response:
    text = "the API key is not known" if _given_key(request) else "an API key is required in X-API-Key"
    return _problem(HTTPStatus.UNAUTHORIZED, text)


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
