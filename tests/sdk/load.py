"""Publishers that go on and on while the server dies, and remember what was confirmed to them."""

from __future__ import annotations

import asyncio
import itertools
from typing import Self

import aiohttp

from tests.servers import API_KEY, Backend, ServerProcess
from tests.services.deadline import SECOND, eventually

PAUSE_S = 0.002


class Load:
    """Numbers, from 0 upwards in each channel, from the moment it is entered until `stop`.

    `over_amqp` are the channels that a backend publishes to through the broker, which lives: all of it is confirmed.
    `over_api` are those that go through the server: where it dies before it has answered, nobody knows the outcome.
    """

    def __init__(self, server: ServerProcess, over_amqp: list[str], over_api: list[str]) -> None:
        self._server = server
        self._over_amqp = over_amqp
        self._over_api = over_api
        self.confirmed: dict[str, list[int]] = {channel: [] for channel in over_amqp + over_api}
        self.unknown: dict[str, set[int]] = {channel: set() for channel in over_amqp + over_api}
        self._goes_on = True
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for channel in self._over_amqp:
            self._tasks.append(asyncio.create_task(self._through_the_broker(channel)))
        for channel in self._over_api:
            self._tasks.append(asyncio.create_task(self._through_the_server(channel)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Publish no more; returns when all answers are there. Raises what went wrong with a publisher."""
        self._goes_on = False
        await asyncio.gather(*self._tasks)

    async def go_on_for(self, count: int) -> None:
        """Until the broker has confirmed so many more to each of its publishers."""
        goal = {channel: len(self.confirmed[channel]) + count for channel in self._over_amqp}
        await eventually(
            lambda: all(len(self.confirmed[channel]) >= wanted for channel, wanted in goal.items()), 30 * SECOND
        )

    def last_of(self, channel: str) -> int:
        return self.confirmed[channel][-1]

    async def _through_the_broker(self, channel: str) -> None:
        async with Backend(self._server) as backend:
            for number in itertools.takewhile(lambda _: self._goes_on, itertools.count()):
                await backend.publish(channel, number)
                self.confirmed[channel].append(number)
                await asyncio.sleep(PAUSE_S)

    async def _through_the_server(self, channel: str) -> None:
        async with aiohttp.ClientSession(headers={"X-API-Key": API_KEY}) as http:
            for number in itertools.takewhile(lambda _: self._goes_on, itertools.count()):
                if await self._is_accepted(http, channel, number):
                    self.confirmed[channel].append(number)
                else:
                    self.unknown[channel].add(number)
                await asyncio.sleep(PAUSE_S)

    async def _is_accepted(self, http: aiohttp.ClientSession, channel: str, number: int) -> bool:
        body = {"channel": channel, "data": number}
        try:
            async with http.post(f"{self._server.url}/api/publish", json=body) as response:
                return "result" in await response.json()
        except aiohttp.ClientError:
            return False


def is_complete(received: list[int], confirmed: list[int], unknown: set[int]) -> bool:
    """Everything confirmed and nothing but what was published, each once, in order."""
    return received == sorted(set(confirmed) | (set(received) & unknown))
