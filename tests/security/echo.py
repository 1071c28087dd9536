"""An echo server with the server's own handshake, framing and reading, for the Autobahn cases. Prints its port:
`python -m tests.security.echo`.

Without a rate: some cases are floods. Without compression, which has tests of its own: `test_compression.py` and
`test_reading.py`.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from notifier.config import Clients, Size
from notifier.core.session import Session
from notifier.protocol import frames
from notifier.protocol.encoding import JSON_WEBSOCKET
from notifier.protocol.reading import Message
from notifier.testing import make_node
from notifier.transports.conversation import Conversation, converse
from notifier.transports.handshake import handshake
from notifier.transports.line import HandedOver
from notifier.transports.outlet import WebSocketOutlet

LARGEST = 32 * 2**20


class Echo(Conversation):
    """Every message comes back, in a frame of its own kind."""

    __slots__ = ()

    async def _one(self, message: Message) -> None:
        if message.opcode in (frames.TEXT, frames.BINARY):
            self.outlet.write(frames.frame(message.opcode, message.payload))
        else:
            await super()._one(message)


async def take(_session: Session, _data: bytes) -> None:
    raise AssertionError("nothing is left for this")


async def main() -> None:
    node = make_node(clients=Clients(max_message=Size(LARGEST), max_buffer=Size(4 * LARGEST), command_rate=0))

    async def echo(request: web.Request) -> web.StreamResponse:
        shake = handshake(request)
        assert request.transport is not None
        outlet = WebSocketOutlet(request.transport, node.limits.max_buffer, node.limits.close_timeout)
        outlet.session = Session(node, outlet, "websocket", JSON_WEBSOCKET)
        converse(request, shake, outlet, take, Echo).begin()
        raise HandedOver

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
