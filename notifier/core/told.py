"""Told: messages from one worker to all, each of which says itself what it does on one. Nobody answers."""

from __future__ import annotations

from msgspec import Struct

from notifier.core import subscribing, target
from notifier.core.identity import SubscriptionGrant
from notifier.core.node import Node
from notifier.core.session import NEVER, Session
from notifier.errors import Rejected, Unavailable
from notifier.protocol import codes
from notifier.protocol.codes import CommandFailed, Disconnect, Unsubscribe
from notifier.protocol.messages import (
    ClientInfo,
    Form,
    Presence,
    Push,
    RefreshResult,
    Reply,
    Shown,
    SubscribePush,
    SubscribeRequest,
    SubscribeResult,
)


class Whom(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The connections of a user (the empty user is nobody in particular), or only one of them."""

    user: str = ""
    client: str = ""
    session: str = ""
    spared: list[str] = []

    def on(self, node: Node) -> list[Session]:
        return [
            session
            for session in node.of_user(self.user)
            if (not self.client or session.client_id == self.client)
            and (not self.session or session.key == self.session)
            and session.client_id not in self.spared
        ]


class End(Struct, frozen=True, tag="end"):
    """Disconnect them."""

    whom: Whom
    why: Disconnect

    def obey(self, node: Node) -> None:
        node.disconnect_all(self.why, self.whom.on(node))


class Leave(Struct, frozen=True, tag="leave"):
    """End their subscriptions to a channel."""

    whom: Whom
    channel: str
    why: Unsubscribe

    def obey(self, node: Node) -> None:
        for session in self.whom.on(node):
            if self.channel in session.subscriptions:
                session.unsubscribe(self.channel, self.why)


class Renew(Struct, frozen=True, tag="renew"):
    """Let their connections end at another time, wall time in seconds; 0: never."""

    whom: Whom
    expires_at: float = 0.0
    info: str = ""

    def obey(self, node: Node) -> None:
        for session in self.whom.on(node):
            session.identity = session.identity.renewed(self.expires_at or NEVER, self.info.encode())
            node.watch_expiry(session)
            expires, ttl = subscribing.time_left(session, session.identity.expires_at)
            session.push(Push(refresh=RefreshResult(expires=expires, ttl=ttl)))


class Join(Struct, frozen=True, tag="join", omit_defaults=True):
    """Subscribe them to a channel."""

    whom: Whom
    channel: str
    info: str = ""
    data: str = ""
    expires_at: float = 0.0
    overrides: dict[str, bool] = {}
    since: tuple[int, str] | None = None

    async def obey(self, node: Node) -> None:
        """Raises CommandFailed when one of them is subscribed already, Unavailable before the log has been read, and
        when what was missed cannot be told now."""
        try:
            found = target.find(node.rules, self.channel)
        except ValueError as error:
            raise Rejected("bad_control", str(error)) from error
        if not node.log.ready:
            raise Unavailable("the log is still being read")
        if found is None:
            raise CommandFailed(codes.UNKNOWN_CHANNEL)
        grant = SubscriptionGrant(
            info=self.info.encode(),
            data=self.data.encode(),
            expires_at=self.expires_at or NEVER,
            overrides=self.overrides,
        )
        request = SubscribeRequest(channel=self.channel)
        if self.since is not None:
            request.recover = True
            request.offset, request.epoch = self.since
        failed = False
        for session in self.whom.on(node):
            if not session.takes_subscriptions:
                continue
            judged = await subscribing.judged(session, found, request, grant, server_side=True)
            full = len(session.subscriptions) >= node.limits.max_channels
            if self.channel in session.subscriptions or full:
                failed = True
            elif not session.closed:
                judged = subscribing.settled(session, judged)
                _push_subscription(session, self.channel, subscribing.begin(session, judged))
        if failed:
            raise CommandFailed(codes.INTERNAL)


def _push_subscription(session: Session, channel: str, result: SubscribeResult) -> None:
    """The push that begins it, and what was missed before as pushes of their own."""
    offset = result.offset
    session.push(
        Push(
            channel=channel,
            subscribe=SubscribePush(result.recoverable, result.epoch, offset, result.positioned, result.data),
        )
    )
    via = channel if session.subscriptions[channel].by_pattern else ""
    encoding = session.encoding.variant(Form.PLAIN, via)
    for entry in result.publications:
        publication = entry.publication if isinstance(entry, Shown) else entry
        session.connection.write_large(encoding.publication(publication, result.epoch))


class Coming(Struct, frozen=True, omit_defaults=True):
    """Somebody came to a channel or left it."""

    channel: str
    info: ClientInfo
    left: bool = False


class Announce(Struct, frozen=True, tag="announce"):
    """Tell those on the channels who want to know it."""

    comings: list[Coming]

    def obey(self, node: Node) -> None:
        for coming in self.comings:
            told = Presence(coming.info)
            push = Push(channel=coming.channel, leave=told) if coming.left else Push(channel=coming.channel, join=told)
            node.hub.announce(coming.channel, Reply(push=push))


class Run(Struct, frozen=True, tag="run"):
    """Commands for a connection of one worker, that came to another one."""

    node: str
    session: str
    data: bytes

    async def obey(self, node: Node) -> None:
        inbox = node.inboxes.get(self.session) if self.node == node.node_id else None
        if inbox is not None:
            await inbox(self.data)
