"""Presence: who is subscribed to the channels of which that can be asked."""

from __future__ import annotations

from notifier.protocol.messages import ClientInfo


class PresenceList:
    """This worker's clients by channel and client id. Entries come and go with their subscriptions."""

    __slots__ = ("_channels",)

    def __init__(self) -> None:
        self._channels: dict[str, dict[str, ClientInfo]] = {}

    def add(self, channel: str, info: ClientInfo) -> None:
        self._channels.setdefault(channel, {})[info.client] = info

    def remove(self, channel: str, client_id: str) -> None:
        present = self._channels.get(channel)
        if present is not None and present.pop(client_id, None) is not None and not present:
            del self._channels[channel]

    def of(self, channel: str) -> dict[str, ClientInfo]:
        return self._channels.get(channel, {})
