"""Presence: who is subscribed to the channels of which that can be asked."""

from __future__ import annotations

from collections.abc import Callable

from notifier.protocol.codes import LIMIT_EXCEEDED, CommandFailed, Error
from notifier.protocol.messages import ClientInfo


class PresenceList:
    """This worker's clients by channel and client id. Entries come and go with their subscriptions; `on_change` is
    called with the channel and the client id of each that does."""

    __slots__ = ("_channels", "on_change")

    def __init__(self) -> None:
        self._channels: dict[str, dict[str, ClientInfo]] = {}
        self.on_change: Callable[[str, str], None] = _nothing

    def add(self, channel: str, info: ClientInfo) -> None:
        self._channels.setdefault(channel, {})[info.client] = info
        self.on_change(channel, info.client)

    def remove(self, channel: str, client_id: str) -> None:
        present = self._channels.get(channel)
        if present is not None and present.pop(client_id, None) is not None:
            if not present:
                del self._channels[channel]
            self.on_change(channel, client_id)

    def of(self, channel: str) -> dict[str, ClientInfo]:
        return self._channels.get(channel, {})

    def channels(self) -> list[str]:
        return list(self._channels)


def too_many(number: int, most: int) -> CommandFailed:
    """A list that would be longer than a reply should be: all of it or nothing, since nobody could tell a part."""
    text = f"{LIMIT_EXCEEDED.message}: {number} clients, at most {most} are listed; presence_stats counts them"
    return CommandFailed(Error(LIMIT_EXCEEDED.code, text))


def _nothing(_channel: str, _client_id: str) -> None:
    pass
