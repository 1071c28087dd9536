"""`websockets`: a set of connections for each channel, and the library's `broadcast`."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

_channels: dict[str, set[ServerConnection]] = {}


async def handle(connection: ServerConnection) -> None:
    """Each message names a channel; on `/publish` it is a channel, a line feed and a body."""
    publishes = connection.request is not None and connection.request.path == "/publish"
    joined: list[set[ServerConnection]] = []
    async for message in connection:
        assert isinstance(message, str)
        if publishes:
            channel, _, body = message.partition("\n")
            broadcast(_channels.get(channel, ()), body)
            continue
        members = _channels.setdefault(message, set())
        members.add(connection)
        joined.append(members)
        await connection.send("ok")
    for members in joined:
        members.discard(connection)


async def main() -> None:
    settings = {"compression": None, "ping_interval": None, "backlog": 4096}
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), **settings) as server:  # type: ignore[arg-type]
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
