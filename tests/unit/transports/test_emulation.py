"""Commands that come in requests of their own."""

from __future__ import annotations

import asyncio

import pytest

from notifier.core.ports import Row
from notifier.testing import Client, make_node
from notifier.transports.emulation import Inbox
from tests.services.deadline import eventually


class BusyTurns:
    """Everybody must wait; `go` lets them go on."""

    is_over = False

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.go = asyncio.Event()

    def must_wait(self, row: Row) -> bool:
        return True

    async def wait(self, row: Row) -> None:
        self.rows.append(row)
        await self.go.wait()


@pytest.mark.parametrize("ways", ["with the stream", "later"])
async def test_commands_wait_for_their_turn_however_late_their_body_came(ways: str) -> None:
    node = make_node()
    client = Client(node)
    inbox = Inbox(client.session)
    text = b'{"id":1,"connect":{}}'
    busy = node.turns = BusyTurns()
    if ways == "later":
        work = asyncio.create_task(inbox.take(text))
    else:
        work = asyncio.create_task(inbox.begin(client.session.encoding.codec.commands(text)))
    await eventually(lambda: busy.rows == [Row.NEW])
    assert client.connection.take_messages() == []
    busy.go.set()
    await work
    [answer] = client.connection.take_messages()
    assert answer["id"] == 1
    assert "connect" in answer
