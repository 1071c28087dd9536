"""permessage-deflate: frames compressed once, readable to everybody."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from notifier.config import Clients
from tests.integration.server.conftest import RunningServer, StartServer

TEXT = {"text": "lorem ipsum dolor sit amet " * 20}


@pytest.fixture
async def compressing(start_server: StartServer) -> RunningServer:
    server: RunningServer = await start_server(clients=Clients(compression=True))
    return server


async def subscribed(socket: ClientConnection) -> None:
    await socket.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a"}}')
    for _ in range(2):
        assert "error" not in json.loads(await socket.recv())


@pytest.mark.parametrize(
    "offer",
    [
        {},
        {"server_no_context_takeover": True},
        {"client_no_context_takeover": True},
        {"server_max_window_bits": 9},
        {"server_max_window_bits": 12, "client_max_window_bits": 10},
    ],
)
async def test_any_offer_is_understood_and_frames_can_be_read(
    compressing: RunningServer, offer: dict[str, Any]
) -> None:
    factory = ClientPerMessageDeflateFactory(**offer)
    async with connect(compressing.websocket_url, compression=None, extensions=[factory]) as socket:
        assert [extension.name for extension in socket.protocol.extensions] == ["permessage-deflate"]
        await subscribed(socket)
        for n in range(5):
            await compressing.publish("a", {**TEXT, "n": n})
            assert json.loads(await socket.recv())["push"]["pub"]["data"] == {**TEXT, "n": n}
        await compressing.publish("a", 1)
        assert json.loads(await socket.recv())["push"]["pub"]["data"] == 1


async def test_it_is_compressed_once_for_all_and_gets_small(compressing: RunningServer) -> None:
    async with (
        connect(compressing.websocket_url) as one,
        connect(compressing.websocket_url) as two,
        connect(compressing.websocket_url, compression=None) as plain,
    ):
        for socket in (one, two, plain):
            await subscribed(socket)
        stats = compressing.node.stats
        encodings, size = stats.encodings, stats.delivered_bytes
        await compressing.publish("a", TEXT)
        for socket in (one, two, plain):
            assert json.loads(await socket.recv())["push"]["pub"]["data"] == TEXT
        assert stats.encodings - encodings == 2
        assert stats.delivered_bytes - size < 1.5 * len(json.dumps(TEXT))


async def test_without_being_asked_for_it_is_off(server: RunningServer) -> None:
    async with connect(server.websocket_url) as socket:
        assert socket.protocol.extensions == []


async def test_a_frame_that_grows_beyond_the_limit_is_not_unpacked(compressing: RunningServer) -> None:
    async with connect(compressing.websocket_url) as socket:
        await socket.send(" " * 50_000_000)
        await socket.wait_closed()
        assert socket.close_code == 1009
