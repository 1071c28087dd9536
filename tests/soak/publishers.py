"""Publishers: a process of its own, `python -m tests.soak.publishers ORDERS`; over AMQP with confirms, and over the
server API.

Each publisher sends one publication at a time and waits for its outcome. Odd ones send again, with the same id, until
the outcome is known; even ones never do. On standard input: `stop` ends it when nothing is unknown any more.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import aio_pika
import aiohttp
import msgspec
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractRobustConnection
from aio_pika.exceptions import DeliveryError
from aiormq.exceptions import AMQPError
from msgspec import Struct

from tests.soak import publications
from tests.soak.journal import Answered, Journal, Outcome, Sent, now
from tests.soak.process import listen, note_lag, run

OUTCOME_DEADLINE_S = 3.0
RETRY_S = 0.3
TRIES = 200
REPEATED_SHARE = 0.03
TWO_CHANNELS_SHARE = 0.05
BURST_SHARE = 0.02
BURST = 12


class Orders(Struct):
    """What the process is to do. `rate` is that of all publishers together; `nodes` are the nodes' URLs."""

    journal: str
    seed: int
    broker: str
    exchange: str
    nodes: list[str]
    api_key: str
    channels: list[str]
    publishers: int
    api_publishers: int
    rate: float


class Answer(NamedTuple):
    outcome: Outcome
    detail: str = ""
    epoch: str = ""
    offset: int = 0


class Way(ABC):
    """How publications go out. `send` never raises and always ends."""

    name: str

    @abstractmethod
    async def send(self, ident: str, channels: list[str], body: bytes) -> Answer: ...

    @abstractmethod
    async def close(self) -> None: ...


class OverAmqp(Way):
    """A backend with a connection of its own, made anew whenever an outcome is not known."""

    name = "amqp"

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._connection: AbstractRobustConnection | aio_pika.abc.AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None

    async def send(self, ident: str, channels: list[str], body: bytes) -> Answer:
        headers: dict[str, aio_pika.abc.FieldValue] = {}
        if len(channels) > 1:
            headers["channels"] = " ".join(channels[1:])
        message = aio_pika.Message(
            body, message_id=ident, headers=headers, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        sent = False
        try:
            async with asyncio.timeout(OUTCOME_DEADLINE_S):
                exchange = self._exchange or await self._connect()
                sent = True
                await exchange.publish(message, channels[0], mandatory=True)
        except DeliveryError as error:
            return Answer("no", f"returned or refused: {type(error).__name__}")
        except (TimeoutError, OSError, RuntimeError, AMQPError) as error:
            await self.close()
            # Without a connection nothing has left this process.
            return Answer("unknown" if sent else "no", type(error).__name__)
        return Answer("ok")

    async def _connect(self) -> AbstractExchange:
        self._connection = await aio_pika.connect(self._orders.broker, heartbeat=4)
        self._channel = await self._connection.channel(on_return_raises=True)
        self._exchange = await self._channel.get_exchange(self._orders.exchange, ensure=False)
        return self._exchange

    async def close(self) -> None:
        connection, self._connection, self._exchange = self._connection, None, None
        if connection is not None:
            try:
                async with asyncio.timeout(1):
                    await connection.close()
            except (TimeoutError, OSError, RuntimeError, AMQPError):
                pass


class OverApi(Way):
    """A backend that calls some node's server API, with the publication's id as idempotency key."""

    name = "api"

    def __init__(self, orders: Orders, chance: random.Random) -> None:
        self._orders = orders
        self._chance = chance
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(OUTCOME_DEADLINE_S))

    async def send(self, ident: str, channels: list[str], body: bytes) -> Answer:
        method, fields = ("publish", {"channel": channels[0]}) if len(channels) == 1 else ("broadcast", {})
        request = {"data": msgspec.Raw(body), "idempotency_key": ident, **fields}
        if not fields:
            request["channels"] = channels
        node = self._chance.choice(self._orders.nodes)
        headers = {"X-API-Key": self._orders.api_key, "Content-Type": "application/json"}
        try:
            async with self._http.post(
                f"{node}/api/{method}", data=msgspec.json.encode(request), headers=headers
            ) as response:
                status, text = response.status, await response.read()
        except aiohttp.ClientConnectorError as error:
            return Answer("no", type(error).__name__)
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            return Answer("unknown", type(error).__name__)
        return _answer(status, text)

    async def close(self) -> None:
        await self._http.close()


def _answer(status: int, text: bytes) -> Answer:
    try:
        reply = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return Answer("unknown", f"status {status}")
    if status != 200 or "result" not in reply:
        return Answer("unknown", f"status {status}: {reply.get('error')}")
    result = reply["result"]
    if "responses" in result:
        errors = [found["error"] for found in result["responses"] if "error" in found]
        if errors:
            return Answer("unknown", str(errors[0]))
        result = result["responses"][0]["result"]
    return Answer("ok", epoch=result.get("epoch", ""), offset=int(result.get("offset", 0)))


class Publisher:
    """One backend's life."""

    def __init__(self, number: int, way: Way, orders: Orders, journal: Journal, stopping: asyncio.Event) -> None:
        self.name = f"p{number}"
        self._retries = number % 2 == 1
        self._way = way
        self._channels = orders.channels
        self._every_s = (orders.publishers + orders.api_publishers) / orders.rate
        self._journal = journal
        self._stopping = stopping
        self._chance = random.Random(f"{orders.seed} publisher {number}")
        self._counts: dict[str, int] = {}
        self._again: list[tuple[float, str, list[str], bytes]] = []

    async def run(self) -> None:
        due = now()
        while not self._stopping.is_set():
            for _ in range(BURST if self._chance.random() < BURST_SHARE else 1):
                await self._publish()
                due += self._every_s
            await self._repeat()
            due = max(due, now() - 1)  # what was missed for long is not made good for
            await asyncio.sleep(max(0, due - now()))
        await self._way.close()

    async def _publish(self) -> None:
        """F-B22: again with the same id, where the outcome is not known."""
        chance = self._chance
        wanted = 2 if chance.random() < TWO_CHANNELS_SHARE else 1
        channels = chance.sample(self._channels, wanted)
        number = self._counts[channels[0]] = self._counts.get(channels[0], 0) + 1
        ident = f"{self.name}/{channels[0]}/{number}"
        body = publications.make(ident, channels, now(), chance)
        for attempt in range(1, TRIES):
            outcome = await self._send(ident, channels, body, attempt)
            if outcome == "ok":
                if chance.random() < REPEATED_SHARE:
                    self._again.append((now() + chance.uniform(0, 1), ident, channels, body))
                return
            if not self._retries:
                await asyncio.sleep(RETRY_S)
                return
            await asyncio.sleep(RETRY_S)

    async def _repeat(self) -> None:
        """F-B18: send again what was confirmed: nobody may see it twice."""
        if self._again and self._again[0][0] <= now():
            _, ident, channels, body = self._again.pop(0)
            await self._send(ident, channels, body, 1000, repeat=True)

    async def _send(
        self, ident: str, channels: list[str], body: bytes, attempt: int, *, repeat: bool = False
    ) -> Outcome:
        self._journal.write(Sent(now(), ident, channels, attempt, self._way.name, repeat))  # type: ignore[arg-type]
        answer = await self._way.send(ident, channels, body)
        self._journal.write(Answered(now(), ident, attempt, answer.outcome, answer.epoch, answer.offset, answer.detail))
        return answer.outcome


async def work(orders: Orders) -> None:
    """Publish until told to stop."""
    stopping = asyncio.Event()
    with Journal(Path(orders.journal)) as journal:
        publishers = []
        for number in range(orders.publishers + orders.api_publishers):
            chance = random.Random(f"{orders.seed} way {number}")
            way = OverAmqp(orders) if number < orders.publishers else OverApi(orders, chance)
            publishers.append(Publisher(number, way, orders, journal, stopping))
        lag = asyncio.create_task(note_lag(journal, "publishers"))
        going = asyncio.gather(*(publisher.run() for publisher in publishers))

        async def obey(order: str) -> str:
            if order == "stop":
                stopping.set()
                await going
                journal.flush()
            return "done"

        await listen(obey)
        lag.cancel()
        going.cancel()


if __name__ == "__main__":
    run(Orders, work)
