"""What a stream connection makes of what goes wrong while a chunk is handled."""

import pytest
from rstream.connection import ConnectionClosed
from rstream.constants import OffsetType

from notifier.broker.stream import Address, StreamConnection
from notifier.broker.stream_frames import Chunk


@pytest.mark.parametrize(("error", "unreadable"), [(ConnectionResetError(), False), (ValueError(), True)])
async def test_only_what_cannot_be_understood_is_unreadable_and_not_a_connection_that_was_lost(
    error: Exception, unreadable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def subscribed(*_: object) -> None:
        """The broker would have answered."""

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
