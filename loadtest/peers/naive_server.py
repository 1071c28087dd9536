"""The naive server: a set of clients for each channel, and a loop that awaits each of them."""

from __future__ import annotations

import sys

import uvloop
from aiohttp import WSMsgType, web

_channels: dict[str, set[web.WebSocketResponse]] = {}


async def subscribe(request: web.Request) -> web.WebSocketResponse:
    """The first message names the channel."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    joined: list[set[web.WebSocketResponse]] = []
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            members = _channels.setdefault(message.data, set())
            members.add(socket)
            joined.append(members)
            await socket.send_str("ok")
    for members in joined:
        members.discard(socket)
    return socket


async def publish(request: web.Request) -> web.WebSocketResponse:
    """Channel, line feed, body."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        channel, _, body = message.data.partition("\n")
        for member in list(_channels.get(channel, ())):
            await member.send_str(body)
    return socket


def main() -> None:
    app = web.Application()
    app.router.add_get("/subscribe", subscribe)
    app.router.add_get("/publish", publish)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), backlog=4096, access_log=None, loop=loop)


if __name__ == "__main__":
    main()
