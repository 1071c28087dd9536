"""Three brokers of which one loses the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from notifier.errors import Unavailable
from tests.conftest import need
from tests.integration.log.worker import Worker, sections
from tests.services.brokers import Brokers
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    need(RabbitMQ)
    with Brokers(3) as cluster:
        yield cluster


class Voice:
    """Publishes at one worker all the time, and knows what was confirmed."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.confirmed: list[bytes] = []
        self.refused = 0
        self._worker = worker
        self._name = name

    async def speak(self) -> None:
        number = 0
        while True:
            number += 1
            body = b'"%s %d"' % (self._name.encode(), number)
            try:
                await self._worker.publish("a", body)
                self.confirmed.append(body)
            except Unavailable:
                self.refused += 1
            await asyncio.sleep(0.01)

    async def goes_on(self) -> None:
        before = len(self.confirmed)
        await eventually(lambda: len(self.confirmed) > before + 20, 60 * SECOND)


@pytest.mark.timeout(400 * SECOND)
async def test_the_majority_goes_on_and_the_one_that_is_cut_off_confirms_nothing_and_follows_later(
    brokers: Brokers, name: str
) -> None:
    """F-B24."""
    lonely, other, _ = brokers.all
    async with (
        Worker(*sections(lonely.url, name), name="lonely") as here,
        Worker(*sections(other.url, name), name="other") as there,
    ):
        await here.ready()
        await there.ready()
        epoch = here.node.history.epoch
        voices = [Voice(here, "here"), Voice(there, "there")]
        speaking = [asyncio.create_task(voice.speak()) for voice in voices]
        for voice in voices:
            await voice.goes_on()
        await asyncio.to_thread(brokers.cut_off, lonely)
        await eventually(lambda: here.log.problem, 30 * SECOND)
        quiet = len(voices[0].confirmed)
        for _ in range(3):
            await voices[1].goes_on()
        assert (len(voices[0].confirmed), there.log.problem) == (quiet, "")
        assert voices[0].refused > 0
        assert here.log.ready, "what it has read it still knows"
        await asyncio.to_thread(brokers.heal)
        for voice in voices:
            await voice.goes_on()
        for task in speaking:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*speaking)
        confirmed = {body for voice in voices for body in voice.confirmed}
        for worker in (here, there):
            await eventually(lambda worker=worker: confirmed <= set(worker.bodies("a")), 30 * SECOND)  # type: ignore[misc, arg-type]
            assert len(set(worker.bodies("a"))) == len(worker.bodies("a"))
            assert (worker.begun, worker.node.history.epoch) == (1, epoch)
        await eventually(lambda: here.taken == there.taken)
