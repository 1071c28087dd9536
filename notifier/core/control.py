"""Control: what concerns clients wherever they are connected, at this worker or at another one.

Each kind of message says itself what it does on one worker; `Control` does it here and passes it on. Messages are
`told` (nobody answers) or `asked` (everybody answers, and the answers are put together).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

import msgspec

from notifier.core import ports
from notifier.core.asked import ChannelsLike, Connected, ConnectionsOf, Describe, Explain, NodeInfo, PresentOn
from notifier.core.inspection import ChannelsTop, ConnectionsLike, CountsOf, Inspect, LoggedOut, WorkerState, inspect
from notifier.core.node import Node
from notifier.core.ports import Bus
from notifier.core.presence import too_many
from notifier.core.seen import Explanation
from notifier.core.told import Announce, Coming, End, Join, Leave, Renew, Run
from notifier.errors import Rejected, Unavailable
from notifier.protocol.codes import CommandFailed
from notifier.protocol.messages import (
    ClientInfo,
    PresenceStatsResult,
)

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
