"""When a lost connection to the broker is tried again."""

from __future__ import annotations

import asyncio

import pytest

from notifier.broker.link import FIRST_DELAY_S, LONGEST_DELAY_S, Link, Lost
from notifier.config import RabbitMQ
from notifier.core.stats import Stats
from notifier.errors import WorkRefused
from tests.services.deadline import eventually


class Clock:
    """Instead of sleeping: notes for how long, and ends the test after enough of it."""

    def __init__(self, times: int) -> None:
        self.delays: list[float] = []
        self._times = times

    async def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        if len(self.delays) == self._times:
            raise asyncio.CancelledError


async def delays(monkeypatch: pytest.MonkeyPatch, *ends: str) -> list[float]:
    """How long a link waited after each attempt: `away`, `refused`, or `lost` after all had been well."""
    clock, attempts = Clock(len(ends)), iter(ends)
    link = Link(RabbitMQ(), "reading", "node", Stats())

    async def connect() -> None:
        if (end := next(attempts)) == "away":
            raise ConnectionRefusedError
        link.end = end  # type: ignore[attr-defined]

    async def work(_connection: object) -> None:
        if link.end == "refused":  # type: ignore[attr-defined]
            raise WorkRefused("declared differently")
        link.well()
        raise Lost("the channel was closed")

    monkeypatch.setattr(link, "_connect", connect)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    with pytest.raises(asyncio.CancelledError):
        await link.run(work)
    return clock.delays


async def test_a_long_outage_is_asked_about_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = await delays(monkeypatch, *["away"] * 8)
    assert FIRST_DELAY_S <= waited[0] <= FIRST_DELAY_S * 1.5
    assert LONGEST_DELAY_S <= waited[-1] <= LONGEST_DELAY_S * 1.5


async def test_how_long_an_earlier_outage_took_does_not_delay_the_way_back_from_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = await delays(monkeypatch, *["away"] * 6, "lost", "away")
    assert waited[5] >= 2 * FIRST_DELAY_S
    assert waited[6] <= FIRST_DELAY_S * 1.5


async def test_a_refusal_is_asked_about_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await delays(monkeypatch, "refused"))[0] >= LONGEST_DELAY_S


async def test_a_connection_that_ends_with_a_cancellation_of_its_own_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F-B4: what waits on it gets a CancelledError, as if somebody had cancelled it."""
    link = Link(RabbitMQ(), "publishing", "node", Stats())
    lost, again = asyncio.Event(), asyncio.Event()

    async def connect() -> None:
        pass

    async def work(_connection: object) -> None:
        link.well()
        if lost.is_set():
            again.set()
            await asyncio.Event().wait()
        lost.set()
        raise asyncio.CancelledError

    monkeypatch.setattr(link, "_connect", connect)
    monkeypatch.setattr("notifier.broker.link.FIRST_DELAY_S", 0)
    running = asyncio.create_task(link.run(work))
    await eventually(again.is_set)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled(), "what is meant for it ends it"


async def test_an_error_of_ours_is_told_and_the_work_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link(RabbitMQ(), "publishing", "node", Stats())
    attempts = 0

    async def connect() -> None:
        pass

    async def work(_connection: object) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise KeyError("unforeseen")
        link.well()
        await asyncio.Event().wait()

    monkeypatch.setattr(link, "_connect", connect)
    monkeypatch.setattr("notifier.broker.link.FIRST_DELAY_S", 0)
    running = asyncio.create_task(link.run(work))
    try:
        await eventually(lambda: attempts == 2 and not link.problem)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert "unforeseen" in caplog.text


async def test_a_connection_that_cannot_be_closed_is_told_and_another_one_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link(RabbitMQ(), "reading", "node", Stats())
    made = 0

    class Broken:
        async def close(self) -> None:
            raise KeyError("half open")

    async def connect() -> Broken:
        nonlocal made
        made += 1
        return Broken()

    async def work(_connection: object) -> None:
        link.well()
        if made > 1:
            await asyncio.Event().wait()
        raise Lost("gone")

    monkeypatch.setattr(link, "_connect", connect)
    monkeypatch.setattr("notifier.broker.link.FIRST_DELAY_S", 0)
    running = asyncio.create_task(link.run(work))
    try:
        await eventually(lambda: made == 2 and not link.problem)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert "half open" in caplog.text
