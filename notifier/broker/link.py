"""Link: one connection to the broker, made again with jittered delays whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AuthenticationError,
    ChannelClosed,
    ConnectionClosed,
    DeliveryError,
    ProbableAuthenticationError,
)

from notifier.broker import decoding
from notifier.config import RabbitMQ
from notifier.core.stats import Stats
from notifier.errors import WorkRefused

_logger = logging.getLogger(__name__)

FIRST_DELAY_S, LONGEST_DELAY_S, REFUSED_DELAY_S = 1.0, 4.0, 5.0

LOST = (*CONNECTION_EXCEPTIONS, TimeoutError)


class Lost(ConnectionError):
    """What a connection was needed for is of no use any more; it is to be made again. The text says why."""


@contextlib.contextmanager
def lost_is_no_cancellation() -> Iterator[None]:
    """When nothing has come for three heartbeats, aiormq ends a connection by cancelling its own reader, and whoever
    waits for an answer gets that reader's CancelledError (seen with 7.2.4): it would end a task that nobody wants to
    end, and nobody would notice. Here it becomes Lost; who was cancelled stays cancelled."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Lost("nothing came from the broker any more") from None


class Link:
    """Does its work on a connection for as long as it lasts, again and again.

    `purpose` is "reading" or "publishing"; `problem` says why it does not work now.
    """

    def __init__(self, section: RabbitMQ, purpose: str, node_id: str, stats: Stats) -> None:
        self._section = section
        self._purpose = purpose
        self._name = f"notifier {node_id} {purpose}"
        self._stats = stats
        self._connection: AbstractConnection | None = None
        self.problem = "not connected yet"
        decoding.be_tolerant()

    async def run(self, work: Callable[[AbstractConnection], Awaitable[None]]) -> None:
        """Never returns. `work` clears `problem` when all is well, and ends or raises when the connection is lost."""
        longer_s = FIRST_DELAY_S
        while True:
            self.problem = self.problem or "connecting"
            refused = False
            try:
                with lost_is_no_cancellation():
                    self._connection = await self._connect()
                    await work(self._connection)
                self._lost("the connection was lost", None)
            except WorkRefused as error:
                self._lost(str(error), None)
                refused = True
            except LOST as error:
                self._lost(describe(error), error)
                refused = isinstance(error, (AuthenticationError, ProbableAuthenticationError))
            except Exception as error:  # nobody looks at this task: it must not end without a word
                _logger.exception("the work on a connection to RabbitMQ failed", extra={"purpose": self._purpose})
                self._lost(f"an error of this server: {type(error).__name__}", None)
            finally:
                await self._close()
            if self._was_well:
                longer_s = FIRST_DELAY_S  # how long an earlier outage took says nothing about this one
            delay_s = REFUSED_DELAY_S if refused else longer_s
            longer_s = min(longer_s * 1.5, LONGEST_DELAY_S)
            await asyncio.sleep(delay_s * random.uniform(1, 1.5))  # noqa: S311 - so that workers do not come at once
            self._stats.reconnects[self._purpose] += 1

    _was_well = False

    def well(self) -> None:
        """The work goes on as it should."""
        if self.problem:
            _logger.info("connected to RabbitMQ", extra={"purpose": self._purpose, "broker": self._address})
        self.problem = ""
        self._was_well = True

    @property
    def blocked(self) -> bool:
        """Whether the broker has told this connection that publishers must wait (a memory or disk alarm).

        aiormq keeps it to itself: it is read where it is kept, and a test tells when it moves.
        """
        transport = getattr(self._connection, "transport", None)
        free = getattr(getattr(transport, "connection", None), "_Connection__connection_unblocked", None)
        return isinstance(free, asyncio.Event) and not free.is_set() and not self.problem

    async def _connect(self) -> AbstractConnection:
        section = self._section
        async with asyncio.timeout(section.connect_timeout):
            return await aio_pika.connect(
                str.__str__(section.url),
                client_properties={"connection_name": self._name},
                heartbeat=int(section.heartbeat),
            )

    def _lost(self, reason: str, error: BaseException | None) -> None:
        if reason != self.problem:
            _logger.warning(
                "RabbitMQ is away: %s",
                reason,
                extra={"purpose": self._purpose, "broker": self._address},
                exc_info=error if _logger.isEnabledFor(logging.DEBUG) else None,
            )
        self._was_well = not self.problem
        self.problem = reason

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                with lost_is_no_cancellation():
                    async with asyncio.timeout(1):
                        await connection.close()
            except LOST:
                pass
            except Exception:  # as in `run`
                _logger.exception("a connection to RabbitMQ could not be closed", extra={"purpose": self._purpose})

    @property
    def _address(self) -> str:
        url = urlsplit(str.__str__(self._section.url))
        return f"{url.hostname}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}"


def describe(error: BaseException) -> str:
    """What happened, for people. Never the broker's URL: it holds a password."""
    match error:
        case Lost():
            return str(error)
        case AuthenticationError() | ProbableAuthenticationError():
            return "the broker refused the credentials"
        case DeliveryError():
            return "the broker returned a record: the exchange has no binding to the stream"
        case ChannelClosed() | ConnectionClosed():
            return f"the broker said: {error.args[-1]}" if error.args else "the broker closed the connection"
        case TimeoutError():
            return "the broker did not answer in time"
        case OSError() if error.errno == errno.ECONNREFUSED:
            return "the broker refused the connection"
        case OSError() if error.strerror:
            return f"the broker cannot be reached: {error.strerror}"
        case _:
            return f"the connection was lost ({type(error).__name__})"
