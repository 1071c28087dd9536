"""A broker in a network of its own, whose packets get lost: no connection is closed, nobody is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import need
from tests.servers import ROOT, ServerProcess, lacking, make_token, on_rabbitmq, servers
from tests.services.deadline import SECOND, eventually
from tests.services.network import Network, NoNetwork
from tests.services.process import Process
from tests.services.rabbitmq import RabbitMQ

CHANNEL = "open.numbers"
LAST = -1
NOTICED_S = 5 * SECOND
"""By then the server knows that it is cut off: a marker was to be back after 0.9 s and the deadline for appending."""
BACK_S = 20 * SECOND
"""By then it reads again: it tries it every 6 s at most, and each attempt may take 2 s."""


@pytest.fixture(scope="module")
def _broker(module_network: Network) -> Iterator[RabbitMQ]:
    need(RabbitMQ)
    with RabbitMQ(plugins=["rabbitmq_stream"], network=module_network) as broker:
        yield broker


@pytest.fixture
def network(module_network: Network) -> Iterator[Network]:
    """Healthy again for the next test."""
    yield module_network
    module_network.heal()


CONSUMERS = """
    length([found || Consumer <- ets:tab2list(consumer_created), {Queue, Channel, _} <- [element(1, Consumer)],
        element(4, Queue) =:= <<"%s">>, is_process_alive(Channel)]).
"""
"""How many a stream has. Lists of consumers do not show those of streams, and their count also those that have
gone (3.10.8)."""

Pairs = list[tuple[int, int]]
"""Offset and number."""


def pairs(publications: list[Any]) -> Pairs:
    return [(publication["offset"], publication["data"]["n"]) for publication in publications]


class Listener:
    """A client on one connection. `heard` are offset and number of what it got, `else_` is all that it should not get,
    such as the end of a subscription."""

    def __init__(self, socket: ClientConnection) -> None:
        self.heard: Pairs = []
        self.else_: list[Any] = []
        self.replies: dict[int, Any] = {}
        self._numbers = itertools.count(1)
        self._socket = socket
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, server: ServerProcess) -> AsyncIterator[Listener]:
        async with connect(server.ws_url) as socket:
            listener = cls(socket)
            try:
                await listener.ask(connect={"token": make_token("ann")})
                yield listener
            finally:
                listener._listening.cancel()

    @property
    def stays(self) -> bool:
        return not self._listening.done()

    async def ask(self, **command: Any) -> Any:
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, **command}))
        return await eventually(lambda: self.replies.get(number))

    async def subscribe(self, **position: Any) -> Any:
        return await self.ask(subscribe={"channel": CHANNEL, **position})

    async def _listen(self) -> None:
        async for text in self._socket:
            for line in str(text).split("\n"):
                match json.loads(line):
                    case {"push": {"pub": publication}}:
                        self.heard += pairs([publication])
                    case {"id": number, **reply}:
                        self.replies[number] = reply
                    case {**nothing} if not nothing:
                        await self._socket.send("{}")
                    case other:
                        self.else_.append(other)


class Scene:
    """A server out here, its broker and who publishes in there, and a client that has subscribed before all that."""

    def __init__(
        self, server: ServerProcess, broker: RabbitMQ, network: Network, listener: Listener, epoch: str
    ) -> None:
        self.server = server
        self._broker = broker
        self.listener = listener
        self.epoch = epoch
        self._network = network
        self._journal = server.file.with_name("insider.log")
        self._insider: Process | None = None

    def begin_to_publish(self, *, pause_s: float = 0.02, size: int = 10) -> None:
        section = self.server.config["rabbitmq"]
        what = [section["url"], section["exchange"], section["stream"], CHANNEL, str(pause_s), str(size)]
        argv = self._network.inside([sys.executable, "-m", "tests.integration.log.insider", *what])
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._insider = Process(argv, environ, self._journal.parent, self._journal)

    @property
    def published(self) -> Pairs:
        """Offset and number of what was confirmed."""
        lines = self._journal.read_text().splitlines(keepends=True)
        if self._insider is not None and not self._insider.alive:
            raise RuntimeError("".join(lines[-20:]))
        if any(not line[0].isdigit() for line in lines):
            raise RuntimeError("".join(lines[-20:]))
        pairs = [line.split() for line in lines if line.endswith("\n")]
        return [(int(offset), int(number)) for number, offset in pairs]

    def end_publishing(self) -> None:
        if self._insider is not None:
            self._insider.terminate()
            self._insider = None

    async def more_is_published(self, count: int) -> None:
        before = len(self.published)
        await eventually(lambda: len(self.published) > before + count, 30 * SECOND)

    async def more_is_heard(self, count: int) -> None:
        before = len(self.listener.heard)
        await eventually(lambda: self.published and len(self.listener.heard) > before + count, 30 * SECOND)

    async def becomes_ready(self) -> None:
        async def is_ready() -> bool:
            return (await self.problem()) == ""

        await eventually(is_ready, BACK_S)

    async def problem(self) -> str:
        """Why it is not ready; empty when it is."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.server.url}/readyz") as response:
            body = await response.json()
        assert (response.status == 200) == body["checks"]["log"]["ok"], body
        return "" if response.status == 200 else str(body["checks"]["log"])

    async def reconnects(self) -> float:
        """How often it tried to reach the broker again, to read the log or to publish."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.server.url}/metrics") as response:
            text = await response.text()
        [family] = [one for one in text_string_to_metric_families(text) if one.name == "notifier_reconnects"]
        values = {sample.labels["connection"]: sample.value for sample in family.samples}
        return values.get("reading", 0) + values.get("publishing", 0)

    async def is_consumed_once(self) -> bool:
        """Whether the broker sends the log to the server alone, and once: over either protocol."""
        stream = self.server.config["rabbitmq"]["stream"]
        said = await asyncio.to_thread(self._broker.ctl, "eval", CONSUMERS % stream)
        assert said.split() == ["1"]
        return True

    async def everything_is_heard_once_and_in_order(self) -> Pairs:
        """No more is published but one last publication at the server, behind which nothing can come. Gives all."""
        await asyncio.to_thread(self.end_publishing)
        published = self.published
        await eventually(lambda: len(self.listener.heard) >= len(published), 30 * SECOND)
        last = partial(self.server.publish, CHANNEL, {"n": LAST}, idempotency_key="last")
        published.append((await eventually(last, 20 * SECOND), LAST))
        await eventually(lambda: self.listener.heard[-1] == published[-1])
        assert self.listener.heard == published
        assert [number for _, number in published] == [*range(len(published) - 1), LAST]
        assert (self.listener.stays, self.listener.else_) == (True, [])
        return published


@pytest.fixture
async def scene(broker: RabbitMQ, network: Network, reader: str, tmp_path: Path) -> AsyncIterator[Scene]:
    sections = on_rabbitmq(broker.url)
    sections["log"] |= {"marker_interval": "300ms", "append_timeout": "2s"}
    sections["rabbitmq"] |= {"heartbeat": "2s", "connect_timeout": "2s", "reader": reader}
    sections["rabbitmq"]["stream_url"] = f"rabbitmq-stream://{broker.host}:{broker.port_of('rabbitmq_stream')}"
    async with servers(tmp_path) as new_server:
        server = await new_server(sections)
        async with Listener.on(server) as listener:
            subscribed = await listener.subscribe(positioned=True, recoverable=True)
            scene = Scene(server, broker, network, listener, subscribed["subscribe"]["epoch"])
            try:
                yield scene
            finally:
                scene.end_publishing()


@pytest.mark.parametrize(
    "fault", [pytest.param(Network.unplug, id="both-ways"), pytest.param(Network.deafen, id="one-way")]
)
async def test_a_broker_whose_packets_vanish_is_noticed_and_what_was_published_meanwhile_comes_later_in_order(
    scene: Scene, network: Network, fault: Callable[[Network], None]
) -> None:
    """F-B4 both ways, F-B5 where only what comes from the broker is lost."""
    scene.begin_to_publish()
    await scene.more_is_heard(20)
    fault(network)
    arrived, heard = network.arrived, len(scene.listener.heard)
    await eventually(scene.problem, NOTICED_S)

    async def has_given_up_reading() -> bool:
        return "reading:" in await scene.problem()

    await eventually(has_given_up_reading, 20 * SECOND)
    await scene.more_is_published(50)
    # Hundreds were published meanwhile; a client on a busy machine is a part of a second behind.
    assert len(scene.listener.heard) - heard < 50, "what was on its way, and nothing later"
    assert (network.arrived > arrived) == (fault is Network.deafen)

    network.heal()
    await scene.becomes_ready()
    await scene.more_is_published(20)
    await scene.everything_is_heard_once_and_in_order()
    await eventually(scene.is_consumed_once, 20 * SECOND)


@pytest.mark.parametrize("reader", ["stream"])
async def test_a_node_that_is_cut_off_keeps_its_clients_and_does_not_call_lost_what_it_has_not_read(
    scene: Scene, network: Network
) -> None:
    """F-N12."""
    scene.begin_to_publish()
    await scene.more_is_heard(20)
    known, _ = scene.listener.heard[5]
    network.unplug()
    await eventually(scene.problem, NOTICED_S)
    await scene.more_is_published(20)
    read_elsewhere, _ = scene.published[-1]
    async with Listener.on(scene.server) as newcomer, Listener.on(scene.server) as returned:
        refused = await newcomer.subscribe(recover=True, epoch=scene.epoch, offset=read_elsewhere)
        assert refused["error"] == {"code": 100, "message": "internal server error", "temporary": True}
        missed = (await returned.subscribe(recover=True, epoch=scene.epoch, offset=known))["subscribe"]
        assert missed["recovered"]
        assert pairs(missed["publications"]) == scene.listener.heard[6:]

        async def recovers() -> Any:
            reply = await newcomer.subscribe(recover=True, epoch=scene.epoch, offset=read_elsewhere)
            assert reply.get("error", refused["error"]) == refused["error"]
            return reply.get("subscribe")

        network.heal()
        recovered = await eventually(recovers, BACK_S, retry=())
        assert recovered["recovered"]
        await scene.becomes_ready()
        await scene.more_is_published(20)
        published = await scene.everything_is_heard_once_and_in_order()
        later = [pair for pair in published if pair[0] > read_elsewhere]
        await eventually(lambda: pairs(recovered.get("publications", [])) + newcomer.heard == later)
        await eventually(lambda: pairs(missed["publications"]) + returned.heard == published[6:])


async def test_on_a_line_that_is_too_narrow_and_loses_packets_everything_comes_late_and_over_the_same_connections(
    scene: Scene, network: Network
) -> None:
    """F-B25."""
    try:
        network.narrow()
    except NoNetwork as error:
        lacking(str(error))
    before = await scene.reconnects()
    scene.begin_to_publish(pause_s=0, size=1000)
    await scene.more_is_published(300)
    behind = len(scene.published) - len(scene.listener.heard)
    await scene.everything_is_heard_once_and_in_order()
    assert network.lost > 0
    assert behind > 100
    assert await scene.reconnects() == before
    await scene.becomes_ready()
