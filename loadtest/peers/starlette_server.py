"""Starlette: a set of sockets for each channel, and a loop that awaits each of them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from loadtest.peers.serving import run

_channels: dict[str, set[WebSocket]] = {}


async def subscribe(socket: WebSocket) -> None:
    """Each message names a channel."""
    await socket.accept()
    joined: list[set[WebSocket]] = []
    try:
        while True:
            members = _channels.setdefault(await socket.receive_text(), set())
            members.add(socket)
            joined.append(members)
            await socket.send_text("ok")
    except WebSocketDisconnect:
        for members in joined:
            members.discard(socket)


async def publish(socket: WebSocket) -> None:
    """Channel, line feed, body."""
    await socket.accept()
    try:
        while True:
            channel, _, body = (await socket.receive_text()).partition("\n")
            for member in list(_channels.get(channel, ())):
                await member.send_text(body)
    except WebSocketDisconnect:
        return


if __name__ == "__main__":
    run(Starlette(routes=[WebSocketRoute("/subscribe", subscribe), WebSocketRoute("/publish", publish)]))
