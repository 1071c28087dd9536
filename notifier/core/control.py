"""Control: what concerns clients wherever they are connected, at this worker or at another one.

Each kind of message says itself what it does on one worker; `Control` does it here and passes it on. Messages are told
(nobody answers) or asked (everybody answers, and the answers are put together).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec
from msgspec import Struct

from notifier.core import ports, subscribing, target
from notifier.core.identity import SubscriptionGrant
from notifier.core.inspection import ChannelsTop, ConnectionsLike, CountsOf, Inspect, LoggedOut, WorkerState, inspect
from notifier.core.node import Node
from notifier.core.ports import Bus
from notifier.core.presence import too_many
from notifier.core.seen import Explanation, explain
from notifier.core.session import NEVER, Session
from notifier.errors import Rejected, Unavailable
from notifier.protocol import codes
from notifier.protocol.codes import CommandFailed, Disconnect, Unsubscribe
from notifier.protocol.messages import (
    ClientInfo,
    Form,
    Presence,
    PresenceStatsResult,
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


Told = End | Leave | Renew | Join | Announce | Run | LoggedOut
Asked = (
    PresentOn | ChannelsLike | ConnectionsOf | Explain | Describe | Inspect | ConnectionsLike | ChannelsTop | CountsOf
)

T = TypeVar("T")

_decode = msgspec.json.Decoder(Told | Asked).decode
_encode = msgspec.json.Encoder().encode


class Control:
    """`describe` says what there is to say about this worker, `presence` who is there: without it the others are
    asked."""

    def __init__(
        self, node: Node, bus: Bus, describe: Callable[[], NodeInfo], presence: ports.Presence | None = None
    ) -> None:
        self._node = node
        self._bus = bus
        self._describe = describe
        self._presence = presence or AskedPresence(node, self)
        self._comings: list[Coming] = []
        bus.on_message = self._take

    async def tell(self, message: Told) -> None:
        """Do it here and everywhere else. Raises Unavailable, and CommandFailed when it could not be done here."""
        await self._bus.tell(_encode(message))
        await self._obey(message)

    def announce(self, channel: str, info: ClientInfo, *, left: bool) -> None:
        """Somebody came or left. Here it is told at once, elsewhere soon, as far as the others can be reached."""
        coming = Coming(channel, info, left)
        Announce([coming]).obey(self._node)
        if not self._comings:
            self._node.defer(self._say_comings)
        self._comings.append(coming)

    def _say_comings(self) -> None:
        """All of one tick, in one message."""
        comings, self._comings = self._comings, []
        self._bus.say(_encode(Announce(comings)))

    async def run(self, node_id: str, session: str, data: bytes) -> bool:
        """Commands of an emulated connection (protocol.md section 1.6). False when there is no such node."""
        if node_id == self._node.node_id:
            inbox = self._node.inboxes.get(session)
            if inbox is None:
                return False
            await inbox(data)
            return True
        if not self._bus.knows(node_id):
            return False
        await self._bus.tell(_encode(Run(node_id, session, data)))
        return True

    def announce_again(self) -> None:
        """Others have been told that this worker's clients had left, because it was taken for gone."""
        for session in self._node.sessions.values():
            for name, subscription in session.subscriptions.items():
                if subscription.tells and subscription.is_present:
                    self.announce(name, session.info_on(subscription), left=False)

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        """By client id. Raises Unavailable, and CommandFailed when there are more than `clients.presence_limit`."""
        return await self._presence.of(channel, self._node.limits.presence_limit)

    async def presence_stats(self, channel: str) -> PresenceStatsResult:
        """Raises Unavailable."""
        return await self._presence.count(channel)

    async def channels(self, pattern: str) -> dict[str, int]:
        """Subscribers by channel. Raises Unavailable."""
        question = ChannelsLike(pattern)
        found = question.answer(self._node)
        for answer in await self.ask(question, dict[str, int]):
            for channel, number in answer.items():
                found[channel] = found.get(channel, 0) + number
        return found

    async def connections(self, user: str) -> list[Connected]:
        """Raises Unavailable."""
        question = ConnectionsOf(user)
        found = question.answer(self._node)
        for answer in await self.ask(question, list[Connected]):
            found += answer
        return found

    async def explain(self, message_id: str, offset: int) -> list[Explanation]:
        """Of all workers, this one first. Raises Unavailable."""
        question = Explain(message_id, offset)
        return [question.answer(self._node), *await self.ask(question, Explanation)]

    async def info(self) -> list[NodeInfo]:
        """All workers, this one first. Raises Unavailable."""
        return [self._describe(), *await self.ask(Describe(), NodeInfo)]

    async def states(self) -> list[WorkerState]:
        """All workers, this one first. Raises Unavailable."""
        return [self._inspect(), *await self.ask(Inspect(), WorkerState)]

    def _inspect(self) -> WorkerState:
        process = self._describe().process
        return inspect(self._node, process.cpu, process.rss)

    async def ask(self, question: Asked, answer: type[T]) -> list[T]:
        """The answers of all others. Raises Unavailable."""
        answers = await self._bus.ask(_encode(question))
        try:
            return [msgspec.json.decode(body, type=answer) for body in answers]
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise Unavailable("a worker of another version has answered otherwise") from error

    async def _take(self, body: bytes) -> bytes:
        """A message of another worker; the answer is empty where none is wanted. Raises Rejected."""
        try:
            message = _decode(body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise Rejected("bad_control", "not a message of a worker") from error
        if isinstance(message, Describe):
            return _encode(self._describe())
        if isinstance(message, Inspect):
            return _encode(self._inspect())
        if isinstance(message, Told):
            with contextlib.suppress(CommandFailed, Unavailable):  # whoever told it does not wait for an answer
                await self._obey(message)
            return b""
        return _encode(message.answer(self._node))

    async def _obey(self, message: Told) -> None:
        done = message.obey(self._node)
        if done is not None:
            await done


class AskedPresence:
    """A `core.ports.Presence` that nobody keeps: each worker is asked for its own clients."""

    def __init__(self, node: Node, control: Control) -> None:
        self._node = node
        self._control = control

    async def of(self, channel: str, most: int) -> dict[str, ClientInfo]:
        found = await self._all(channel)
        if len(found) > most:
            raise too_many(len(found), most)
        return found

    async def count(self, channel: str) -> PresenceStatsResult:
        found = await self._all(channel)
        return PresenceStatsResult(len(found), len({info.user for info in found.values()}))

    async def _all(self, channel: str) -> dict[str, ClientInfo]:
        question = PresentOn(channel)
        found = dict(question.answer(self._node))
        for answer in await self._control.ask(question, dict[str, ClientInfo]):
            found.update(answer)
        return found
