"""What the core needs from outside, as protocols. `server.py` hands each room its implementations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from notifier.core.identity import Identity, SubscriptionGrant
from notifier.core.record import Draft, Record
from notifier.protocol.codes import Disconnect


class Connection(Protocol):
    """The way to one client. Everything the server sends goes this one way, so that order is kept."""

    @property
    def send(self) -> Callable[[bytes], int]:
        """Hands bytes to the kernel at once and answers how many it took, or raises OSError. The hub keeps the function
        and calls it for each delivery."""
        ...

    def queue(self, data: bytes, taken: int) -> None:
        """Deal with what `send` did not take. Never waits; a client that is too slow is disconnected instead."""
        ...

    def write(self, data: bytes) -> None:
        """`send`, and `queue` what is left."""
        ...

    def write_large(self, data: bytes) -> None:
        """The same for an answer, which may be longer than what a client may leave unread."""
        ...

    def unread(self) -> int:
        """How many bytes of what was written the client has not taken yet, here and in the kernel."""
        ...

    def close(self, disconnect: Disconnect) -> None:
        """Tell the client why and end. Never waits; the connection is gone after a deadline at the latest."""
        ...


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


class Clock(Protocol):
    """Time, so that tests can move it."""

    def time(self) -> float:
        """Wall time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...
