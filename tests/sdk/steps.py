"""Steps that many tests take."""

from __future__ import annotations

from typing import Any

from tests.sdk.client import Client
from tests.services.deadline import eventually


async def subscribed(client: Client, *channels: str) -> None:
    for channel in channels:
        await client.subscribe(channel)
    await eventually(lambda: all(client.state_of(channel) == "subscribed" for channel in channels))


async def got(client: Client, channel: str, data: list[Any]) -> None:
    """Wait until the client has as many publications, and look at all of them."""
    await eventually(lambda: len(client.data(channel)) >= len(data))
    assert client.data(channel) == data
