"""What the core needs from outside, as protocols. `server.py` hands each room its implementations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from notifier.config import Limits
from notifier.core.archiving import Batch
from notifier.core.identity import Identity, SubscriptionGrant
from notifier.core.rates import What
from notifier.core.record import Draft, Record
from notifier.protocol.codes import Disconnect
from notifier.protocol.messages import ClientInfo, PresenceStatsResult, Publication


class Sink(Protocol):
    """Where one client's bytes go at once."""

    def send(self, data: bytes, /) -> int:
        """Answers how many were taken, or raises OSError."""
        ...


class Connection(Protocol):
    """The way to one client. Everything the server sends goes this one way, so that order is kept."""

    @property
    def sink(self) -> Sink:
        """The same one for as long as the connection lasts: the hub keeps it, and sends each delivery there."""
        ...

    def queue(self, data: bytes, taken: int) -> None:
        """Deal with what the sink did not take. Never waits; a client that is too slow is disconnected instead."""
        ...

    def write(self, data: bytes) -> None:
        """Send to the sink, and `queue` what is left."""
        ...

    def write_large(self, data: bytes) -> None:
        """The same for an answer, which may be longer than what a client may leave unread."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether more waits for the client than it may leave unread, or nothing is written any more."""
        ...

    async def breathe(self) -> None:
        """Between two commands: let all others go on, then wait until the client is not behind, or disconnected
        because it takes nothing."""
        ...

    def unread(self) -> int:
        """How many bytes of what was written the client has not taken yet, here and in the kernel."""
        ...

    def close(self, disconnect: Disconnect) -> None:
        """Tell the client why and end. Never waits; the connection is gone after a deadline at the latest."""
        ...

    def abort(self) -> None:
        """End now, whatever is still unsent."""
        ...


class Nowhere:
    """The `Connection` of a session that has none any more."""

    is_behind = True

    async def breathe(self) -> None:
        """Nobody is waited for."""

    @property
    def sink(self) -> Sink:
        return self

    def send(self, data: bytes, /) -> int:
        return len(data)

    def queue(self, data: bytes, taken: int) -> None:
        """Nobody takes it."""

    def write(self, data: bytes) -> None:
        """Nobody takes it."""

    def write_large(self, data: bytes) -> None:
        """Nobody takes it."""

    def unread(self) -> int:
        return 0

    def close(self, disconnect: Disconnect) -> None:
        """It is."""

    def abort(self) -> None:
        """It is gone."""


NOWHERE = Nowhere()


class Row(IntEnum):
    """Where somebody stands who waits for a turn, by what it has asked for lately."""

    QUIET = 0
    NEW = 1  # is not connected yet
    BUSY = 2
    FLOODING = 3


class Turns(Protocol):
    """The loop's turns: what clients ask for may take up a part of each, so that deliveries have the rest."""

    @property
    def is_over(self) -> bool:
        """Whether what is left to be done must wait for a later turn."""
        ...

    def must_wait(self, row: Row) -> bool:
        """The same for somebody who has not begun: nobody overtakes those who wait in its row or in one before it."""
        ...

    async def wait(self, row: Row) -> None:
        """For a later turn, in which one piece of work may be done without asking. Rows before go first."""
        ...


class AtOnce:
    """`Turns` where nothing waits."""

    is_over = False

    def must_wait(self, row: Row) -> bool:  # noqa: ARG002
        return False

    async def wait(self, row: Row) -> None:
        """For nothing."""


class Verifier(Protocol):
    """Tokens to identities."""

    async def connection(self, token: str) -> Identity:
        """Raises TokenExpired or TokenError, and TokensUnavailable when there is nothing to verify it with now."""
        ...

    async def subscription(self, token: str, user: str, channel: str, client: str = "") -> SubscriptionGrant:
        """What a token for this user's subscription to the channel grants. Raises TokenExpired or TokenError."""
        ...


class Reader(Protocol):
    """What a log calls, in the log's order, never from another thread."""

    def begin(self, known_from: int) -> None:
        """What follows is read from this position on without a hole. Called again when all is read anew."""
        ...

    def named(self, epoch: str) -> None:
        """The log's epoch is known now."""
        ...

    def take(self, record: Record, time_s: float) -> None:
        """The next record, with the wall time at which it was appended, as far as the log knows.

        Raises Rejected when it is no publication.
        """
        ...

    def caught_up(self) -> None:
        """What there was when reading began has been read; what follows is new."""
        ...

    def pass_over(self, offset: int) -> None:
        """A record that is not for clients was read."""
        ...

    def sent(self, at: float) -> None:
        """What was read last was on its way to the log at this time of the monotonic clock."""
        ...


class Log(Protocol):
    """Where publications come from, in order, and go to."""

    async def append(self, draft: Draft) -> int:
        """Append a record, wait until this worker has read it back, answer with its offset.

        Raises Unavailable when the outcome is not known in time: the record may still appear.
        """
        ...

    async def catch_up(self) -> None:
        """Wait until everything that was in the log when this was called has been read. Raises Unavailable."""
        ...

    @property
    def ready(self) -> bool:
        """Whether all of the log that there was at the start has been read."""
        ...

    @property
    def problem(self) -> str:
        """Why the log does not work now; empty when it does."""
        ...

    @property
    def lag_s(self) -> float:
        """How long ago this worker last saw that it has read everything, in seconds; 0 where nothing can lag."""
        ...

    @property
    def blocked(self) -> bool:
        """Whether the broker holds publishers back."""
        ...


class Excerpt(NamedTuple):
    """A part of what an archive holds of a channel.

    Up to `filled`, an offset, everything was put into it that the log of this epoch had for it. `floor` is the offset
    after which nothing of the channel is missing, as far as it was asked; publications that have expired are in it.
    """

    epoch: str
    filled: int
    floor: int
    publications: list[Publication]


class Archive(Protocol):
    """Keeps what the rules with an `archive` want for longer than memory does.

    Whoever joins its answer to what memory has says up to where it must have been filled (`reach`, an offset): it is
    waited for briefly. Both raise Unavailable when that takes too long, and when the archive is away.
    """

    async def after(self, channel: str, offset: int, reach: int) -> Excerpt:
        """All publications of the channel after the offset, oldest first; none when some of them are gone."""
        ...

    async def page(self, channel: str, offset: int | None, limit: int, reach: int, *, reverse: bool) -> Excerpt:
        """At most `limit` publications: from the oldest, or after the offset; backwards from the newest, or from before
        the offset. `floor` means nothing here."""
        ...


class Vault(Protocol):
    """The side of an archive from which it is filled. It has parts, which go forward each by itself; a channel is in
    one of them. `name` tells those apart that are filled by other rules."""

    name: str
    parts: int

    def part_of(self, channel: str) -> int: ...

    async def places(self, epoch: str) -> list[int | None]:
        """The offset up to which each part is filled with the log of this epoch; None for one that is empty. Raises
        Unavailable."""
        ...

    async def advance(self, epoch: str, part: int, batch: Batch) -> int | None:
        """Take the batch, if the part is where the batch begins; the answer is where the part is then, or was found.
        All of the batch is taken or, after Unavailable, perhaps; then it can be given again."""
        ...


class Backends(Protocol):
    """Programs that answer clients' calls."""

    async def call(self, queue: str, method: str, data: bytes, info: bytes, timeout_s: float) -> bytes:
        """The JSON value that whoever consumes the queue answers. Raises Unavailable, and CommandFailed with the error
        that it answered with."""
        ...

    async def send(self, queue: str, data: bytes, info: bytes) -> None:
        """Hand the queue a message. Raises Unavailable."""
        ...


class Bus(Protocol):
    """The way to the other workers."""

    on_message: Callable[[bytes], Awaitable[bytes]]
    """Set by whoever takes the others' messages; the answer to what was told is empty."""

    def knows(self, node_id: str) -> bool:
        """Whether there is such a worker, as far as one can tell."""
        ...

    async def tell(self, message: bytes) -> None:
        """To all others. Raises Unavailable."""
        ...

    def say(self, message: bytes) -> None:
        """To all others, soon and in order; what cannot be said is dropped."""
        ...

    async def ask(self, question: bytes) -> list[bytes]:
        """The answers of all others, but for who does not answer in time: it is taken for gone, until it is heard of
        again. Raises Unavailable when nobody can be asked."""
        ...


class Tracer(Protocol):
    """Follows messages that their publisher wants to have followed."""

    def note(self, record: Record, channel: str, reached: int, time_s: float) -> None:
        """A record with a `traceparent`, appended at this wall time, has just been queued for so many connections."""
        ...


class Watcher(Protocol):
    """Shows operators what is read from the log, while one of them looks."""

    def note(
        self, record: Record, channels: Sequence[str], fates: Sequence[int | str], now_s: float, rejected: str
    ) -> None:
        """A record was just read. `fates` says for each channel to how many connections of this worker it was written,
        or why to none; `rejected` why it is no publication, empty when it is one."""
        ...


class Presence(Protocol):
    """Who is on the channels, of all workers. Entries are made from this worker's `PresenceList`."""

    async def of(self, channel: str, most: int) -> dict[str, ClientInfo]:
        """By client id. Raises Unavailable, and CommandFailed (106) when there are more than `most`."""
        ...

    async def count(self, channel: str) -> PresenceStatsResult:
        """How many clients and how many users that are. Raises Unavailable."""
        ...


class Rates(Protocol):
    """How often users may do things."""

    async def take(self, what: What, user: str) -> float:
        """Seconds to wait; 0 when it may be done now, which is then counted."""
        ...

    def reload(self, limits: Limits) -> None:
        """Other limits from now on; what was counted stays."""
        ...


class Clock(Protocol):
    """Time, so that tests can move it."""

    def time(self) -> float:
        """Wall time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...
