"""What a stream connection makes of what goes wrong, and of silence."""

import asyncio

import pytest
from rstream.connection import ConnectionClosed
from rstream.constants import OffsetType

from notifier.broker.stream import SILENT_HEARTBEATS, Address, StreamConnection
from notifier.broker.stream_frames import Chunk
from tests.services.deadline import SECOND


async def subscribed(*_: object) -> None:
    """The broker would have answered."""


@pytest.mark.parametrize(("error", "unreadable"), [(ConnectionResetError(), False), (ValueError(), True)])
async def test_only_what_cannot_be_understood_is_unreadable_and_not_a_connection_that_was_lost(
    error: Exception, unreadable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def credit(*_: object) -> None:
        raise error

    one = StreamConnection(Address("127.0.0.1", 1, "guest", "guest", "/", None, ""), "test", 60, 5)
    monkeypatch.setattr(one._client, "subscribe", subscribed)
    monkeypatch.setattr(one._client, "credit", credit)
    await one.subscribe("stream", OffsetType.FIRST, None, 1, lambda _chunk: one.credit(1))
    with pytest.raises(ConnectionClosed):
        await one._handle(Chunk(0, 0, b""))
    assert one.unreadable is unreadable
    assert one.lost.done() is unreadable
    await one.close()


async def test_silence_counts_when_no_chunk_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(_chunk: Chunk) -> None:
        await go_on.wait()

    go_on = asyncio.Event()
    one = StreamConnection(Address("127.0.0.1", 1, "guest", "guest", "/", None, ""), "test", 1, 5)
    monkeypatch.setattr(one, "_heartbeat_s", 0.02)
    monkeypatch.setattr(one._client, "subscribe", subscribed)
    await one.subscribe("stream", OffsetType.FIRST, None, 1, handle)
    handling = asyncio.create_task(one._handle(Chunk(0, 0, b"")))
    await asyncio.sleep(5 * SILENT_HEARTBEATS * 0.02)  # more than long enough
    assert not one.lost.done()
    go_on.set()
    await handling
    async with asyncio.timeout(10 * SECOND):
        assert await one.lost == "the broker fell silent"
    await one.close()
