"""Django Channels: groups, and a consumer that writes what its group gets."""

from __future__ import annotations

from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.urls import path

from loadtest.peers.serving import run

LAYER = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}
settings.configure(CHANNEL_LAYERS={"default": LAYER}, INSTALLED_APPS=["channels"], ALLOWED_HOSTS=["*"])
django.setup()


class Subscriber(AsyncWebsocketConsumer):
    """Each message names a channel."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        await self.channel_layer.group_add(text_data, self.channel_name)
        await self.send(text_data="ok")

    async def publication(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["body"])


class Publisher(AsyncWebsocketConsumer):
    """Channel, line feed, body."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        channel, _, body = (text_data or "").partition("\n")
        await self.channel_layer.group_send(channel, {"type": "publication", "body": body})


if __name__ == "__main__":
    run(URLRouter([path("subscribe", Subscriber.as_asgi()), path("publish", Publisher.as_asgi())]))
