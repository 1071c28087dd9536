"""Steps that many tests take."""

from __future__ import annotations

from typing import Any

from tests.sdk.client import Client, Event
from tests.sdk.cluster import Line
from tests.services.deadline import eventually


async def subscribed(client: Client, *channels: str) -> None:
    for channel in channels:
        await client.subscribe(channel)
    await eventually(lambda: all(client.state_of(channel) == "subscribed" for channel in channels))


async def got(client: Client, channel: str, data: list[Any]) -> None:
    """Wait until the client has as many publications, and look at all of them."""
    await eventually(lambda: len(client.data(channel)) >= len(data))
    assert client.data(channel) == data


async def lost(client: Client, line: Line) -> None:
    """Cut the client's line, and wait until it knows."""
    before = len(client.all("connecting"))
    await line.cut()
    await eventually(lambda: len(client.all("connecting")) > before)


async def back(client: Client, line: Line, channel: str) -> Event:
    """Mend the line, and wait until the client is subscribed again; what it was told then."""
    before = len(client.all("subscribed", channel))
    line.mend()
    await eventually(lambda: len(client.all("subscribed", channel)) > before)
    return client.all("subscribed", channel)[before]
