"""The embedded log lets nobody in before everything else that a server waits for is there."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from notifier.config import Auth, Config, Redis, Secret
from notifier.config import Server as ServerSection
from notifier.server import Server
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port


async def test_nobody_is_let_in_before_revocations_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    known, port = asyncio.Event(), free_port()
    redis = Redis(url=Secret(f"redis://{LOCALHOST}:{free_port()}"))
    server = Server(Config(server=ServerSection(port=port), auth=Auth(anonymous=True), redis=redis))
    assert server.shared is not None
    monkeypatch.setattr(server.shared, "start", known.wait)
    starting = asyncio.create_task(server.start())
    try:
        async with asyncio.timeout(20 * SECOND), aiohttp.ClientSession(f"http://{LOCALHOST}:{port}") as http:

            async def status(path: str) -> int:
                async with http.get(path) as response:
                    return response.status

            assert await eventually(lambda: status("/livez"), retry=(aiohttp.ClientError,)) == 200
            assert await status("/readyz") == 503
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await http.ws_connect("/connection/websocket")
            known.set()
            await starting
            assert await status("/readyz") == 200
            async with http.ws_connect("/connection/websocket"):
                pass
    finally:
        starting.cancel()
        await server.stop()
