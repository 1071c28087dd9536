"""Errors that are sent to Sentry, and what is not in them."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import sentry_sdk
from aiohttp import web
from aiohttp.test_utils import TestServer

from notifier.config import Secret, Telemetry
from notifier.errors import ConfigError
from notifier.telemetry import reports


@pytest.fixture(autouse=True)
def _off_again() -> Iterator[None]:
    sentry_sdk.init()
    yield
    sentry_sdk.get_client().close()
    sentry_sdk.init()


@pytest.fixture
async def taken() -> AsyncIterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        bodies.append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/api/1/envelope/", take)
    server = TestServer(app)
    await server.start_server()
    yield f"http://key@{server.host}:{server.port}/1", bodies
    await server.close()


async def test_what_is_logged_as_an_error_is_sent_without_local_variables(taken: tuple[str, list[bytes]]) -> None:
    dsn, bodies = taken
    reports.set_up(Telemetry(sentry_dsn=Secret(dsn)))
    token = "-".join(["can" + "ary", "in a variable"])  # as a text it would stand in the source that is shown
    try:
        int("what went wrong")
    except ValueError:
        logging.getLogger("notifier.test").exception("a record could not be handled", extra={"length": len(token)})
    await asyncio.to_thread(sentry_sdk.flush, 5)
    text = b"".join(bodies)
    assert b"a record could not be handled" in text
    assert b"what went wrong" in text
    assert token.encode() not in text


def test_without_a_dsn_nothing_is_set_up() -> None:
    reports.set_up(Telemetry())
    assert sentry_sdk.get_client().dsn is None


def test_a_wrong_dsn_is_said_without_showing_it() -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.sentry_dsn") as caught:
        reports.set_up(Telemetry(sentry_dsn=Secret("canary")))
    assert "canary" not in str(caught.value)
