"""python-socketio: rooms, as in `socketio.js`."""

from __future__ import annotations

from typing import Any

import socketio

from loadtest.peers.serving import run

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], http_compression=False, logger=False)


@server.on("subscribe")
async def subscribe(sid: str, channel: str) -> str:
    await server.enter_room(sid, channel)
    return "ok"


@server.on("unsubscribe")
async def unsubscribe(sid: str, channel: str) -> str:
    await server.leave_room(sid, channel)
    return "ok"


@server.on("publish")
async def publish(_sid: str, channel: str, data: Any) -> None:
    await server.emit("m", data, room=channel)


if __name__ == "__main__":
    run(socketio.ASGIApp(server))
