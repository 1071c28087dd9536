"""The proxy's faults, each seen from a client's end of the wire."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST
from tests.services.proxy import TcpProxy, Way

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

A_MOMENT_S = 0.2
"""Long enough for anything to arrive that is on its way; only a fault that does not work is missed by it."""


class Echo:
    """A server that sends back what it gets, and remembers the pieces in which it came."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.live = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.live += 1
        try:
            while data := await reader.read(65_536):
                self.pieces.append(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.live -= 1
            writer.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[TcpProxy]:
    server = await asyncio.start_server(echo.serve, LOCALHOST)
    async with TcpProxy(LOCALHOST, server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await eventually(lambda: not echo.live)


@pytest.fixture
async def streams(proxy: TcpProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    yield reader, writer
    writer.close()


async def exchange(streams: Streams, data: bytes) -> bytes:
    reader, writer = streams
    writer.write(data)
    async with asyncio.timeout(5 * SECOND):
        return await reader.readexactly(len(data))


async def silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(A_MOMENT_S):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_without_faults_everything_passes_and_is_counted(proxy: TcpProxy, streams: Streams) -> None:
    data = bytes(range(256)) * 8192  # 2 MiB: more than the buffers on the way hold
    assert await exchange(streams, data) == data
    assert proxy.carried == {Way.C2S: len(data), Way.S2C: len(data)}
    assert proxy.connections == proxy.accepted == 1


async def test_the_end_of_one_way_leaves_the_other_open(streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"last words")
    writer.write_eof()
    async with asyncio.timeout(5 * SECOND):
        assert await reader.read() == b"last words"


async def test_frozen_to_the_server_nothing_arrives_there(proxy: TcpProxy, streams: Streams, echo: Echo) -> None:
    await exchange(streams, b"warm")
    proxy.freeze(Way.C2S)
    streams[1].write(b"held")
    assert await silent(streams[0])
    assert b"".join(echo.pieces) == b"warm"
    proxy.heal()
    assert await streams[0].readexactly(4) == b"held"


async def test_frozen_to_the_client_the_server_hears_but_the_client_does_not(
    proxy: TcpProxy, streams: Streams, echo: Echo
) -> None:
    proxy.freeze(Way.S2C)
    streams[1].write(b"heard")
    await eventually(lambda: b"".join(echo.pieces) == b"heard")
    assert await silent(streams[0])
    proxy.heal()
    assert await streams[0].readexactly(5) == b"heard"


async def test_frozen_both_ways_also_the_goodbye_is_held_back(proxy: TcpProxy, streams: Streams, echo: Echo) -> None:
    await exchange(streams, b"warm")
    proxy.freeze()
    streams[1].close()
    await asyncio.sleep(A_MOMENT_S)
    assert echo.live == 1
    proxy.heal()
    await eventually(lambda: not echo.live)


async def test_refused_connections_fail_while_a_live_one_goes_on(proxy: TcpProxy, streams: Streams) -> None:
    await exchange(streams, b"before")
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, proxy.port)
    assert await exchange(streams, b"still here") == b"still here"
    proxy.heal()
    again = await asyncio.open_connection(proxy.host, proxy.port)
    assert await exchange(again, b"again") == b"again"
    again[1].close()


async def test_a_reset_is_an_rst_at_both_ends(proxy: TcpProxy, streams: Streams, echo: Echo) -> None:
    await exchange(streams, b"before")
    await proxy.reset()
    with pytest.raises(ConnectionResetError):
        await streams[0].read(1)
    await eventually(lambda: not echo.live)
    assert proxy.connections == 0


async def test_a_delay_moves_everything_without_slowing_it(proxy: TcpProxy, streams: Streams) -> None:
    proxy.delay(0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    data = b"x" * 4_000_000  # some sixty chunks: one after another they would take seconds
    assert await exchange(streams, data) == data
    assert 0.1 <= loop.time() - began < 2 * SECOND


@pytest.mark.parametrize("count", [1, 5, 100])
async def test_a_connection_ends_after_so_many_bytes(proxy: TcpProxy, streams: Streams, count: int) -> None:
    await exchange(streams, b"not counted")
    proxy.close_after(count)
    streams[1].write(b"y" * 1000)
    for connection in (streams, await asyncio.open_connection(proxy.host, proxy.port)):
        connection[1].write(b"y" * 1000)
        async with asyncio.timeout(5 * SECOND):
            assert await connection[0].read() == b"y" * count
        connection[1].close()


async def test_chopped_bytes_arrive_in_pieces_but_complete(proxy: TcpProxy, streams: Streams, echo: Echo) -> None:
    proxy.chop(3)
    assert await exchange(streams, b"0123456789") == b"0123456789"
    assert len(echo.pieces) > 1  # four when the reader is quick enough for each


async def test_a_target_that_is_not_there_resets_the_client(proxy: TcpProxy) -> None:
    proxy.target = (LOCALHOST, 1)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
