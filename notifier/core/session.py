"""Session: one client's state here, and its life: opened, connected, subscribed, expired, closed.

What each command does is in `commands.py`. A session never sees a socket: it is given commands and writes replies to
its connection.
"""

from __future__ import annotations

import math

from notifier.core.identity import ANONYMOUS, Identity
from notifier.core.node import Node
from notifier.core.ports import Connection
from notifier.core.rules import Rule
from notifier.protocol import frames
from notifier.protocol.codec_json import PING
from notifier.protocol.codes import (
    UNSUBSCRIBED_BY_SERVER,
    UNSUBSCRIBED_EXPIRED,
    UNSUBSCRIBED_INSUFFICIENT_STATE,
    Disconnect,
    Unsubscribe,
)
from notifier.protocol.encoding import JSON_WEBSOCKET
from notifier.protocol.messages import Push, Reply

_PING = frames.frame(frames.TEXT, PING)
NEVER = math.inf


class Subscription:
    """A client's place in one channel. `by_token`: its right comes from a token for the channel."""

    __slots__ = ("by_token", "expires_at", "rule")

    def __init__(self, rule: Rule, *, by_token: bool, expires_at: float) -> None:
        self.rule = rule
        self.by_token = by_token
        self.expires_at = expires_at


class Session:
    """`due_*` say where the node's agendas hold this session."""

    __slots__ = (
        "awaits_pong",
        "client_id",
        "closed",
        "connection",
        "due_connect",
        "due_expiry",
        "due_ping",
        "due_pong",
        "failed",
        "identity",
        "is_connected",
        "node",
        "subscriptions",
        "transport",
        "unread",
    )

    def __init__(self, node: Node, connection: Connection, transport: str) -> None:
        self.node = node
        self.connection = connection
        self.transport = transport
        self.client_id = ""
        self.identity: Identity = ANONYMOUS
        self.subscriptions: dict[str, Subscription] = {}
        self.is_connected = False
        self.failed = False
        self.closed = False
        self.awaits_pong = False
        self.unread = 0
        self.due_connect = self.due_expiry = self.due_ping = self.due_pong = 0
        node.opened(self)

    # --- out --------------------------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        if not self.closed:
            self.connection.write_large(JSON_WEBSOCKET.replies([reply]))

    @property
    def ping_interval_s(self) -> float:
        return self.node.limits.ping_interval

    def ping(self) -> bool:
        """Ping the client; the answer is whether one is expected from it."""
        self.awaits_pong = True
        self.connection.write(_PING)
        self.unread = self.connection.unread()
        return True

    def still_reads(self) -> bool:
        """Whether the ping waits behind a long answer that the client is taking, be it slowly."""
        before, self.unread = self.unread, self.connection.unread()
        return self.awaits_pong and 0 < self.unread < before

    # --- life -------------------------------------------------------------------------------------------------------

    def connect(self, identity: Identity) -> None:
        """The client is who the identity says, from now on."""
        self.identity = identity
        self.client_id = self.node.new_id()
        self.is_connected = True
        self.node.connected(self)

    def fail(self) -> None:
        """Connecting was answered with an error: the client closes, and is helped to it if it does not."""
        self.failed = True
        self.node.await_connect(self, self.node.limits.close_timeout)

    def disconnect(self, disconnect: Disconnect) -> None:
        """End the connection and tell the client why."""
        if not self.closed:
            self.node.stats.disconnects[disconnect.code] += 1
            self.end()  # writes what waits for the client, so before the close frame
            self.connection.close(disconnect)

    def end(self) -> None:
        """Let go of everything; the socket is gone or going."""
        if self.closed:
            return
        self.closed = True
        for channel in self.subscriptions:
            self.node.hub.leave(channel, self.connection)
        self.node.stats.subscriptions -= len(self.subscriptions)
        self.subscriptions.clear()
        self.node.closed(self)

    # --- subscriptions ----------------------------------------------------------------------------------------------

    def join(self, channel: str, subscription: Subscription) -> None:
        self.subscriptions[channel] = subscription
        self.node.stats.subscriptions += 1
        self.node.hub.join(channel, self.connection)
        if subscription.expires_at != NEVER:
            self.node.watch_expiry(self)

    def leave(self, channel: str) -> None:
        if self.subscriptions.pop(channel, None) is not None:
            self.node.stats.subscriptions -= 1
            self.node.hub.leave(channel, self.connection)

    def unsubscribe(self, channel: str, why: Unsubscribe) -> None:
        """End a subscription from the server's side."""
        self.leave(channel)
        self.reply(Reply(push=Push(channel=channel, unsubscribe=why)))

    def lose_positions(self) -> None:
        """The worker can no longer say what followed on the positions that clients hold: all subscribe anew, and learn
        then whether they missed something."""
        for channel in list(self.subscriptions):
            self.unsubscribe(channel, UNSUBSCRIBED_INSUFFICIENT_STATE)

    def become(self, identity: Identity) -> None:
        """A refreshed token: what it no longer allows ends."""
        self.identity = identity
        for channel, subscription in list(self.subscriptions.items()):
            if not subscription.by_token and not subscription.rule.subscribe.allow(identity, channel):
                self.unsubscribe(channel, UNSUBSCRIBED_BY_SERVER)
        self.node.watch_expiry(self)

    # --- expiry -----------------------------------------------------------------------------------------------------

    def first_expiry(self) -> float:
        """The wall time at which the first of the session's rights runs out."""
        return min(self.identity.expires_at, *(s.expires_at for s in self.subscriptions.values()), NEVER)

    def end_expired(self, before: float) -> bool:
        """End the subscriptions that ran out before this time; answers whether the connection itself did."""
        for channel, subscription in list(self.subscriptions.items()):
            if subscription.expires_at <= before:
                self.unsubscribe(channel, UNSUBSCRIBED_EXPIRED)
        return self.identity.expires_at <= before
