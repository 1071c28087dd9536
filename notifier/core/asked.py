"""Asked: questions of one worker to all, each of which finds one worker's answer. See also `inspection`."""

from __future__ import annotations

from fnmatch import fnmatchcase

from msgspec import Struct

from notifier.core.node import Node
from notifier.core.seen import Explanation, explain
from notifier.core.session import NEVER
from notifier.protocol.messages import (
    ClientInfo,
)


class PresentOn(Struct, frozen=True, tag="present"):
    """Who is subscribed to a channel?"""

    channel: str

    def answer(self, node: Node) -> dict[str, ClientInfo]:
        return node.presence.of(self.channel)


class ChannelsLike(Struct, frozen=True, tag="channels"):
    """Which channels have subscribers, and how many?"""

    pattern: str

    def answer(self, node: Node) -> dict[str, int]:
        return {
            channel: node.hub.subscribers(channel)
            for channel in node.hub.channels()
            if not self.pattern or fnmatchcase(channel, self.pattern)
        }


class Connected(Struct, omit_defaults=True):
    """One connection of a user, for operators. `expires_at` is wall time in seconds, 0 for never."""

    client: str
    user: str
    node: str
    transport: str
    protocol: str
    channels: list[str]
    expires_at: float = 0.0


class ConnectionsOf(Struct, frozen=True, tag="connections"):
    """Which connections does a user have?"""

    user: str

    def answer(self, node: Node) -> list[Connected]:
        return [
            Connected(
                session.client_id,
                self.user,
                node.node_id,
                session.transport,
                "protobuf" if session.encoding.codec.name == "protobuf" else "json",
                sorted(session.subscriptions),
                0.0 if session.identity.expires_at == NEVER else session.identity.expires_at,
            )
            for session in node.of_user(self.user)
        ]


class Explain(Struct, frozen=True, tag="explain"):
    """What became of a message?"""

    message_id: str
    offset: int

    def answer(self, node: Node) -> Explanation:
        return explain(node, self.message_id, self.offset)


class Describe(Struct, frozen=True, tag="describe"):
    """What is there to say about a worker?"""


class Metrics(Struct):
    """Counters since the start, so that two readings make a rate."""

    interval: float
    items: dict[str, float]


class Process(Struct):
    """CPU in seconds since the start, resident memory in bytes."""

    cpu: float
    rss: int


class NodeInfo(Struct):
    """One worker. `uptime` is in seconds."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_channels: int
    num_subs: int
    uptime: int
    metrics: Metrics
    process: Process
