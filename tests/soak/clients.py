"""Clients: a process of its own, `python -m tests.soak.clients ORDERS`, with many of them on one loop.

Every client keeps its positions as an SDK does, comes back with them, and journals every frame. On standard input:
`rest`: all come and stay. `behind {"channel": offset, …}`: who has not got that far. `settle`: note who is at rest.
`leave`: all go.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
from msgspec import Struct

from tests.soak.journal import AtRest, Closed, Connected, Journal, now
from tests.soak.process import listen, note_lag, run

BACKOFF_S = (0.1, 0.6)
CONNECT_DEADLINE_S = 4.0


class Address(Struct, frozen=True):
    """A node's URL, and the same through the proxy that misbehaves."""

    direct: str
    proxied: str


class Spec(Struct, frozen=True):
    """One client. `sleep_s` is the longest time that a sleeper is away, `late_s` when a late joiner comes."""

    name: str
    kind: str
    channels: list[str]
    direct: bool
    sleep_s: float
    late_s: float


class Orders(Struct):
    journal: str
    seed: int
    name: str
    nodes: list[Address]
    clients: list[Spec]


class Position(NamedTuple):
    epoch: str
    offset: int


class Gone(Exception):
    """The connection is over; the code and reason are the server's, if it gave any."""

    def __init__(self, code: int = 0, reason: str = "", *, own: bool = False) -> None:
        self.code, self.reason, self.own = code, reason, own
        super().__init__(f"{code} {reason}")


class Client(ABC):
    """Comes and goes as its kind does. Subclasses speak a transport."""

    def __init__(self, spec: Spec, orders: Orders, journal: Journal) -> None:
        self.spec = spec
        self.journal = journal
        self.positions: dict[str, Position] = {}
        self.subscribed: set[str] = set()
        self.resting = asyncio.Event()
        self.leaving = asyncio.Event()
        self.chance = random.Random(f"{orders.seed} client {spec.name}")
        self._nodes = orders.nodes
        self._begun = now()

    # --- what kinds do ----------------------------------------------------------------------------------------------

    def stay_s(self) -> float:
        match self.spec.kind:
            case "flapping" | "sse":
                return self.chance.uniform(0.5, 7)
            case "sleeping" | "sse-sleeping":
                return self.chance.uniform(1, 4)
            case _:
                return float("inf")

    def away_s(self) -> float:
        match self.spec.kind:
            case "flapping" | "sse":
                return self.chance.choice((0.0, self.chance.uniform(0, 2.5)))
            case "sleeping" | "sse-sleeping":
                return self.chance.uniform(0.2, 1) * self.spec.sleep_s
            case _:
                return self.chance.uniform(*BACKOFF_S)

    def read_s(self) -> float:
        """How long until the client stops reading for a while."""
        return self.chance.uniform(2, 8) if self.spec.kind == "slow" else float("inf")

    async def run(self) -> None:
        """Until it is to leave."""
        await self._pause(self.spec.late_s)
        while not self.leaving.is_set():
            node = self.chance.randrange(len(self._nodes))
            address = self._nodes[node]
            was_connected = False
            try:
                async with asyncio.timeout(CONNECT_DEADLINE_S):
                    await self.open(address.direct if self.spec.direct else address.proxied)
                was_connected = True
                self.journal.write(Connected(now(), self.spec.name, self.spec.kind, node, self.spec.direct))
                await self._converse()
            except Gone as gone:
                if was_connected:
                    self.journal.write(Closed(now(), self.spec.name, gone.code, gone.reason, gone.own))
            except (TimeoutError, OSError, aiohttp.ClientError) as error:
                if was_connected:
                    self.journal.write(Closed(now(), self.spec.name, 0, type(error).__name__, own=False))
            self.subscribed.clear()
            await self.close()
            if not was_connected or self.resting.is_set():
                await asyncio.sleep(self.chance.uniform(*BACKOFF_S))
            else:
                await self._pause(self.away_s())

    async def stall(self) -> None:
        """F-C1: read nothing: the server's buffer fills. Not for so long that a ping stays unanswered each time."""
        await self._pause(self.chance.uniform(2, 5))

    async def _pause(self, seconds: float) -> None:
        """Away for so long, but no longer than until all are to be at rest."""
        if seconds > 0 and not self.resting.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self.resting.wait()
            except TimeoutError:
                pass

    async def _converse(self) -> None:
        """Read until the connection is over. Raises Gone."""
        ends, stalls = now() + self.stay_s(), now() + self.read_s()
        while True:
            if self.leaving.is_set() or (now() > ends and not self.resting.is_set()):
                raise Gone(own=True)
            if now() > stalls and not self.resting.is_set():
                await self.stall()
                stalls = now() + self.read_s()
            await self.take()

    def is_behind(self, channel: str, offset: int) -> bool:
        position = self.positions.get(channel)
        return channel not in self.subscribed or position is None or position.offset < offset

    def settle(self) -> None:
        if all(channel in self.subscribed for channel in self.spec.channels):
            self.journal.write(AtRest(now(), self.spec.name, self.spec.channels))

    # --- what transports do -----------------------------------------------------------------------------------------

    @abstractmethod
    async def open(self, url: str) -> None:
        """Connect. Raises Gone, OSError or ClientError."""

    @abstractmethod
    async def take(self) -> None:
        """Take what comes within a moment. Raises Gone when the connection is over."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the socket; half of the time without a goodbye."""


async def work(orders: Orders) -> None:
    """Run all clients until told to leave."""
    from tests.soak.sse import EventStreamClient
    from tests.soak.websocket import WebSocketClient

    with Journal(Path(orders.journal)) as journal:
        clients: list[Client] = [
            (EventStreamClient if spec.kind.startswith("sse") else WebSocketClient)(spec, orders, journal)
            for spec in orders.clients
        ]
        lag = asyncio.create_task(note_lag(journal, orders.name))
        going = asyncio.gather(*(client.run() for client in clients))

        async def obey(order: str) -> str:
            word, _, rest = order.partition(" ")
            if word == "rest":
                for client in clients:
                    client.resting.set()
            elif word == "behind":
                expected: dict[str, int] = msgspec.json.decode(rest)
                return msgspec.json.encode(_behind(clients, expected)).decode()
            elif word == "settle":
                for client in clients:
                    client.settle()
                journal.flush()
            elif word == "leave":
                for client in clients:
                    client.leaving.set()
                await asyncio.wait([going], timeout=15)
                journal.flush()
            if going.done():
                going.result()
            return "done"

        await listen(obey)
        lag.cancel()
        going.cancel()


def _behind(clients: list[Client], expected: dict[str, int]) -> list[str]:
    return [
        f"{client.spec.name} {channel}"
        for client in clients
        for channel in client.spec.channels
        if client.is_behind(channel, expected.get(channel, 0))
    ]


if __name__ == "__main__":
    run(Orders, work)
