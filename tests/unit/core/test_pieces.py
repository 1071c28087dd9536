"""A frame of commands where others wait: a few quick ones are one piece of work, more of them are several."""

from __future__ import annotations

import pytest

from notifier.config import Clients
from notifier.core.ports import Row
from notifier.testing import Client, ManualClock, make_node


class BusyTurns:
    """Each is over whenever it is asked; a command takes so long."""

    def __init__(self, clock: ManualClock, command_s: float) -> None:
        self._clock = clock
        self._command_s = command_s
        self.waits = 0

    @property
    def is_over(self) -> bool:
        self._clock.advance(self._command_s)
        return True

    def must_wait(self, _row: Row) -> bool:
        return True

    async def wait(self, _row: Row) -> None:
        self.waits += 1


async def waits(command_s: float, *messages: dict[str, object]) -> int:
    """How often others had their turn before all was answered."""
    clock = ManualClock()
    node = make_node(clock=clock, clients=Clients(command_rate=0))
    node.turns = turns = BusyTurns(clock, command_s)
    replies = await Client(node).send({"id": 1, "connect": {}}, *messages)
    assert [reply["id"] for reply in replies] == list(range(1, len(messages) + 2))
    return turns.waits


async def test_what_an_sdk_begins_with_is_done_at_once() -> None:
    asked: list[dict[str, object]] = [{"id": number, "subscribe": {"channel": f"news.{number}"}} for number in (2, 3)]
    assert await waits(0.00005, *asked) == 0


@pytest.mark.parametrize(("command_s", "least", "most"), [(0.00005, 14, 17), (0.0002, 49, 50), (0.01, 99, 99)])
async def test_others_have_their_turn_after_each_piece_of_a_long_frame(command_s: float, least: int, most: int) -> None:
    asked: list[dict[str, object]] = [{"id": number, "rpc": {"method": "notifier.time"}} for number in range(2, 101)]
    assert least <= await waits(command_s, *asked) <= most
