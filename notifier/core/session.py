"""Session: one client's state here, and its life: opened, connected, subscribed, expired, closed.

What each command does is in `commands.py`. A session never sees a socket: it is given commands and writes replies to
its connection.
"""

from __future__ import annotations

import logging
import math

from msgspec import Raw

from notifier.core.channel import Pattern
from notifier.core.hub import Audience, Manner
from notifier.core.identity import ANONYMOUS, Identity, SubscriptionGrant
from notifier.core.node import Node
from notifier.core.ports import NOWHERE, Connection
from notifier.core.rules import Rule, Rules
from notifier.protocol.codes import (
    CONNECTION_EXPIRED,
    INSUFFICIENT_STATE,
    SUBSCRIPTION_EXPIRED,
    UNSUBSCRIBED_BY_SERVER,
    UNSUBSCRIBED_EXPIRED,
    UNSUBSCRIBED_INSUFFICIENT_STATE,
    Disconnect,
    Unsubscribe,
    counted_as,
)
from notifier.protocol.encoding import ClientEncoding
from notifier.protocol.filters import TagFilter
from notifier.protocol.messages import EMPTY, Caller, ClientInfo, Push, Reply

_logger = logging.getLogger(__name__)

NEVER = math.inf


class Subscription:
    """A client's place in one channel, or in all of a rule's channels that match a pattern.

    `grant` is what a token for the channel said, None when the right comes from who the client is. `server_side`: the
    server has subscribed the client, not the client itself. `since` is the offset after which it gets everything that
    its filter `accepts`; what stands in the log up to `recovered_to` it got as what it had missed.
    """

    __slots__ = (
        "accepts",
        "audience",
        "by_pattern",
        "expires_at",
        "grant",
        "is_present",
        "name",
        "recovered_to",
        "rule",
        "server_side",
        "since",
        "tells",
    )

    def __init__(
        self,
        name: str,
        rule: Rule,
        *,
        by_pattern: bool = False,
        grant: SubscriptionGrant | None = None,
        server_side: bool = False,
        since: int = 0,
        recovered_to: int = 0,
        accepts: TagFilter | None = None,
    ) -> None:
        self.name = name
        self.since = since
        self.recovered_to = recovered_to
        self.accepts = accepts
        self.rule = rule
        self.by_pattern = by_pattern
        self.grant = grant
        self.server_side = server_side
        self.expires_at = NEVER if grant is None else grant.expires_at
        wanted = {} if grant is None else grant.overrides
        self.is_present = not by_pattern and wanted.get("presence", rule.presence)
        self.tells = not by_pattern and wanted.get("join_leave", rule.join_leave != "off")
        self.audience: Audience | None = None

    def covers(self, channel: str, rules: Rules) -> bool:
        """Whether the channel is one of those that this pattern stands for."""
        return rules.find(channel) is self.rule and Pattern(self.name).matches(channel)


class Session:
    """`due_*` say where the node's agendas hold this session. `key` is the secret under which commands find a session
    that they do not come over the connection of; empty for all others."""

    __slots__ = (
        "allowance",
        "allowed_at",
        "awaits_pong",
        "client_id",
        "closed",
        "connection",
        "due_connect",
        "due_expiry",
        "due_ping",
        "due_pong",
        "encoding",
        "excess",
        "failed",
        "identity",
        "is_connected",
        "key",
        "node",
        "running",
        "subscriptions",
        "transport",
        "unread",
    )

    def __init__(self, node: Node, connection: Connection, transport: str, encoding: ClientEncoding) -> None:
        self.node = node
        self.connection = connection
        self.transport = transport
        self.encoding = encoding
        self.client_id = ""
        self.key = ""
        self.identity: Identity = ANONYMOUS
        self.subscriptions: dict[str, Subscription] = {}
        self.is_connected = False
        self.failed = False
        self.closed = False
        self.awaits_pong = False
        self.running = 0  # frames of commands that have begun and not ended
        self.unread = 0
        self.allowance = float(node.limits.command_burst)
        self.excess = 0.0
        self.allowed_at = node.clock.monotonic()
        self.due_connect = self.due_expiry = self.due_ping = self.due_pong = 0
        node.opened(self)

    # --- out --------------------------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        if not self.closed:
            self.connection.write_large(self.encoding.replies([reply]))

    def push(self, push: Push) -> None:
        """Something for this client alone. What waits for it on its channels comes later."""
        self.reply(Reply(push=push))

    @property
    def ping_interval_s(self) -> float:
        return self.node.limits.ping_interval

    def ping(self) -> bool:
        """Ping the client; the answer is whether one is expected from it."""
        self.awaits_pong = True
        self.connection.write(self.encoding.ping)
        self.unread = self.connection.unread()
        return True

    @property
    def takes_subscriptions(self) -> bool:
        """Whether subscriptions can be added once it is connected."""
        return True

    def heard(self) -> None:
        """The client has answered with a frame of the WebSocket's own, which is not an answer here."""

    @property
    def answers_pings(self) -> bool:
        """Whether the client is asked to answer pings with a command."""
        return True

    def may_be_late(self) -> bool:
        """Whether a missing pong is no sign: the ping waits behind a long answer that the client is taking, be it
        slowly, or the pong behind a command of the client's that waits for something here."""
        before, self.unread = self.unread, self.connection.unread()
        return self.awaits_pong and (self.running > 0 or 0 < self.unread < before)

    # --- life -------------------------------------------------------------------------------------------------------

    def connect(self, identity: Identity) -> None:
        """The client is who the identity says, from now on."""
        self.identity = identity
        self.client_id = self.node.new_id()
        self.is_connected = True
        _logger.debug("a client has connected", extra=self._named())
        self.node.connected(self)

    def fail(self) -> None:
        """Connecting was answered with an error: the client closes, and is helped to it if it does not."""
        self.failed = True
        self.node.await_connect(self, self.node.limits.close_timeout)

    def disconnect(self, disconnect: Disconnect) -> None:
        """End the connection and tell the client why."""
        if not self.closed:
            self.node.stats.disconnects[counted_as(disconnect.code)] += 1
            _logger.debug("a client is disconnected: %s", disconnect.reason, extra=self._named(code=disconnect.code))
            self.end()  # writes what waits for the client, so before the close frame
            self.node.going.add(self)
            self.connection.close(disconnect)

    def end(self) -> None:
        """Let go of everything; the socket is gone or going."""
        if self.closed:
            return
        self.closed = True
        for name in list(self.subscriptions):
            self.leave(name)
        self.node.closed(self)
        _logger.debug("a client has gone", extra=self._named())

    def _named(self, **more: int) -> dict[str, object]:
        """For log lines."""
        return {"client": self.client_id, "user": self.identity.user, "transport": self.transport, **more}

    def gone(self) -> None:
        """The connection is no more. They part from each other: objects in a circle would have to be looked for, and to
        look for them takes as long as there are others, during which nothing is delivered."""
        self.end()
        self.node.going.discard(self)
        self.connection = NOWHERE

    # --- subscriptions ----------------------------------------------------------------------------------------------

    def join(self, subscription: Subscription, manner: Manner) -> None:
        node, name = self.node, subscription.name
        self.subscriptions[name] = subscription
        node.stats.subscriptions += 1
        if subscription.by_pattern:
            subscription.audience = node.hub.join_by_pattern(name, subscription.rule, self.connection, manner)
        else:
            subscription.audience = node.hub.join(name, self.connection, manner)
        self.enter(subscription)
        if subscription.expires_at != NEVER:
            node.watch_expiry(self)

    def leave(self, name: str) -> None:
        subscription = self.subscriptions.pop(name, None)
        if subscription is None:
            return
        node = self.node
        node.stats.subscriptions -= 1
        if subscription.audience is not None:
            node.hub.leave(subscription.audience, self.connection)
        self.exit(subscription)

    def enter(self, subscription: Subscription) -> None:
        """Others see the client on the channel from now on, where they may."""
        name = subscription.name
        if subscription.is_present:
            self.node.presence.add(name, self.info_on(subscription))
        if subscription.tells:
            self.node.control.announce(name, self.info_on(subscription), left=False)

    def exit(self, subscription: Subscription) -> None:
        """They do not any more."""
        name = subscription.name
        if subscription.is_present:
            self.node.presence.remove(name, self.client_id)
        if subscription.tells:
            self.node.control.announce(name, self.info_on(subscription), left=True)

    def unsubscribe(self, name: str, why: Unsubscribe) -> None:
        """End a subscription from the server's side."""
        self.leave(name)
        self.push(Push(channel=name, unsubscribe=why))

    def info_on(self, subscription: Subscription | None = None) -> ClientInfo:
        """What others see of this client, on a channel or anywhere."""
        grant = subscription.grant if subscription is not None else None
        return ClientInfo(
            self.identity.user,
            self.client_id,
            Raw(self.identity.info) if self.identity.info else EMPTY,
            Raw(grant.info) if grant is not None and grant.info else EMPTY,
        )

    def caller(self) -> Caller:
        """What backends see of this client."""
        info = self.info_on()
        return Caller(info.user, info.client, info.conn_info, meta=dict(self.identity.meta))

    def lose_positions(self) -> None:
        """The worker can no longer say what followed on the positions that clients hold: all subscribe anew, and learn
        then whether they missed something."""
        if any(subscription.server_side for subscription in self.subscriptions.values()):
            self.disconnect(INSUFFICIENT_STATE)
            return
        for name in list(self.subscriptions):
            self.unsubscribe(name, UNSUBSCRIBED_INSUFFICIENT_STATE)

    # --- rights that change -----------------------------------------------------------------------------------------

    def become(self, identity: Identity) -> None:
        """A refreshed token: what it no longer allows ends."""
        self.identity = identity
        for name, subscription in list(self.subscriptions.items()):
            by_itself = subscription.grant is None and not subscription.server_side
            if by_itself and not subscription.rule.subscribe.allow(identity, name):
                self.unsubscribe(name, UNSUBSCRIBED_BY_SERVER)
        self.node.watch_expiry(self)

    def follow_rules(self) -> None:
        """The rules have changed. What is no longer allowed ends; what is kept or told otherwise begins anew, from the
        client's position."""
        for name, subscription in list(self.subscriptions.items()):
            if subscription.name not in self.subscriptions:
                continue
            found = self._rule_now(subscription)
            if found is subscription.rule:
                continue
            if found is not None and not subscription.by_pattern and found.differs_in_rights_only(subscription.rule):
                subscription.rule = found
                by_itself = subscription.grant is None and not subscription.server_side
                if by_itself and not found.subscribe.allow(self.identity, name):
                    self.unsubscribe(name, UNSUBSCRIBED_BY_SERVER)
                continue
            if subscription.server_side:
                self.disconnect(INSUFFICIENT_STATE)
                return
            self.unsubscribe(name, UNSUBSCRIBED_INSUFFICIENT_STATE)

    def _rule_now(self, subscription: Subscription) -> Rule | None:
        rules = self.node.rules
        return rules.covering(subscription.name) if subscription.by_pattern else rules.find(subscription.name)

    def end_revoked(self) -> None:
        """End what rests on a token that was revoked. The client can come back with another one."""
        if self.node.is_revoked(self.identity):
            self.disconnect(CONNECTION_EXPIRED)
            return
        for name, subscription in list(self.subscriptions.items()):
            grant = subscription.grant
            if grant is not None and self.node.revocations.hit(self.identity.user, grant.token_id, grant.issued_at):
                self._end_expired(name, subscription)

    def first_expiry(self) -> float:
        """The wall time at which the first of the session's rights runs out."""
        return min(self.identity.expires_at, *(s.expires_at for s in self.subscriptions.values()), NEVER)

    def end_expired(self, before: float) -> bool:
        """End the subscriptions that ran out before this time; answers whether the connection itself did."""
        for name, subscription in list(self.subscriptions.items()):
            if subscription.expires_at <= before:
                self._end_expired(name, subscription)
        return self.identity.expires_at <= before

    def _end_expired(self, name: str, subscription: Subscription) -> None:
        if subscription.server_side:
            self.disconnect(SUBSCRIPTION_EXPIRED)
        else:
            self.unsubscribe(name, UNSUBSCRIBED_EXPIRED)


class OneWaySession(Session):
    """A session that only writes: it is given its subscriptions when it connects."""

    __slots__ = ()

    @property
    def answers_pings(self) -> bool:
        return False

    def ping(self) -> bool:
        self.connection.write(self.encoding.ping)
        return False
