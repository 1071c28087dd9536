"""Answers to the operators' page: JSON that no cache keeps and no page of somebody else can use."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from notifier.protocol.codec_json import DECODE_ERRORS, what_was_wrong
from notifier.protocol.codes import Error

BODY_TIMEOUT_S = 15.0
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

S = TypeVar("S", bound=Struct)


class Refused(Exception):
    """A request that is answered with a status and one sentence."""

    def __init__(self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


def result(value: object) -> web.Response:
    return raw(msgspec.json.encode({"result": value}))


def raw(body: bytes) -> web.Response:
    """JSON that is ready."""
    return web.Response(body=body, headers=HEADERS, content_type="application/json")


def failure(error: Error) -> web.Response:
    """An error of the protocol; like the server API, with status 200."""
    return raw(msgspec.json.encode({"error": error}))


def refusal(refused: Refused) -> web.Response:
    body = msgspec.json.encode({"code": int(refused.status), "message": str(refused)})
    headers = {**HEADERS, **refused.headers}
    return web.Response(status=refused.status, body=body, headers=headers, content_type="application/json")


async def body_of(request: web.Request) -> bytes:
    """Raises Refused."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError as error:
        text = f"the body did not come within {BODY_TIMEOUT_S:.0f} s"
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, text) from error
    except web.RequestPayloadError as error:
        text = "the body is not what Content-Encoding and Transfer-Encoding say"
        raise Refused(HTTPStatus.BAD_REQUEST, text) from error
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is larger than api.max_body") from error


def decoded(kind: type[S], body: bytes) -> S:
    """Raises Refused."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except DECODE_ERRORS as error:
        raise Refused(HTTPStatus.BAD_REQUEST, what_was_wrong(error)) from error
