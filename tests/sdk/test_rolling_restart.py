"""Three nodes behind a balancer, restarted in turn under load: what clients of all kinds see of it."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from tests.sdk.client import Client, Way
from tests.sdk.conftest import NewClient, NewJavaScript
from tests.sdk.load import Load, is_complete
from tests.sdk.steps import subscribed
from tests.servers import NewServer, ServerProcess, make_token, on_rabbitmq
from tests.services.balancer import Balancer
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ

NODES = 3
CHANNELS = ["open.a", "open.b"]
AWAY_S = 5 * SECOND
TOLD = "notifier.subscribed"
WAYS = [Way(), Way(protobuf=True), Way(transport="http_stream"), Way(transport="sse")]
SECTIONS: dict[str, Any] = {
    "server": {"shutdown_delay": "500ms", "shutdown_grace": 10 * SECOND},
    "clients": {"sse_retry": "200ms"},
    "auth": {"anonymous": True},
}


class Watch:
    """How long clients were away, looked at all the time."""

    def __init__(self, clients: list[Client]) -> None:
        self._clients = clients
        self._since: dict[int, float] = {}
        self.longest_s = 0.0

    async def run(self) -> None:
        while True:
            now = time.monotonic()
            for number, client in enumerate(self._clients):
                if client.state == "connected":
                    self._since.pop(number, None)
                else:
                    self.longest_s = max(self.longest_s, now - self._since.setdefault(number, now))
            await asyncio.sleep(0.01)


async def test_nobody_misses_anything_or_sees_anything_twice(
    rabbitmq: RabbitMQ, new_server: NewServer, new_javascript: NewJavaScript, new_python: NewClient
) -> None:
    """F-N3."""
    nodes = [await new_server({**on_rabbitmq(rabbitmq.url), **SECTIONS})]
    nodes += [await new_server({**SECTIONS, **_same_log(nodes[0])}) for _ in range(NODES - 1)]
    async with Balancer([node.port for node in nodes]) as balancer:
        await eventually(lambda: len(balancer.ready) == NODES)
        clients: list[Client] = [await new_javascript(balancer, make_token("ann"), way=way) for way in 2 * WAYS]
        clients += [await new_python(balancer, make_token("bob")) for _ in range(NODES)]
        for client in clients:
            await subscribed(client, *CHANNELS)
        pages = [await new_javascript(balancer, connected=False) for _ in range(NODES)]
        for page in pages:
            await page.listen(f"{balancer.url}/sse?channels={','.join(CHANNELS)}&envelope=1", names=[TOLD])
            await page.told(TOLD)
        watch = Watch(clients)
        watching = asyncio.create_task(watch.run())
        async with Load(nodes[0], CHANNELS, []) as load:
            for node in nodes:
                await load.go_on_for(100)
                await restart(node, balancer)
            await load.go_on_for(100)
            await load.stop()
        for one in (*clients, *pages):
            await eventually(partial(has_all, one, load), 30 * SECOND)
        watching.cancel()
    for client in clients:
        missed_nothing(client, load)
        assert {event.code for event in client.all("connecting")[1:]} == {3001}
        assert all(event.recovered for channel in CHANNELS for event in client.all("subscribed", channel)[1:])
    for page in pages:
        missed_nothing(page, load)
        assert len(page.all(TOLD)) > 1
        assert all(event.data["recovered"] for event in page.all(TOLD)[1:])
    assert watch.longest_s < AWAY_S


def _same_log(node: ServerProcess) -> dict[str, Any]:
    return {name: node.config[name] for name in ("log", "rabbitmq")}


async def restart(node: ServerProcess, balancer: Balancer) -> None:
    """Returns when it takes clients again."""
    await node.terminate()
    assert node.exit_code == 0
    await eventually(lambda: node.port not in balancer.ready)
    await node.start()
    await eventually(lambda: node.port in balancer.ready)


def heard(client: Client, channel: str) -> list[int]:
    """The numbers that an app got of a channel, in their order, from the library or from its EventSource."""
    by_page = [event.data["data"] for event in client.all("message") if event.data["channel"] == channel]
    return by_page or client.data(channel)


def has_all(client: Client, load: Load) -> bool:
    return all(load.last_of(channel) in heard(client, channel)[-2000:] for channel in CHANNELS)


def missed_nothing(client: Client, load: Load) -> None:
    for channel in CHANNELS:
        assert is_complete(heard(client, channel), load.confirmed[channel], set())
