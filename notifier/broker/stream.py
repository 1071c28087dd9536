"""Connections that speak RabbitMQ's stream protocol (plugin rabbitmq_stream), each to read one stream.

rstream brings the protocol, but for chunks (`stream_frames`): handshake, credit, heartbeats. How long a connection
lives is our affair: rstream's own consumer makes a lost one again by itself, goes to the address that the broker names,
and hands over message by message. Brokers in containers and behind load balancers name addresses that nobody else can
reach, so only the configured one is used; whether there is a replica of the stream, the broker says when it is asked to
send it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from rstream import exceptions, schema
from rstream.client import Client
from rstream.connection import Connection, ConnectionClosed
from rstream.constants import OffsetType
from rstream.encoding import decode_frame, encode_frame

from notifier.broker.link import Lost, describe
from notifier.broker.stream_frames import Chunk, Frames, Handle
from notifier.config import RabbitMQ
from notifier.tasks import end

_logger = logging.getLogger(__name__)

T = TypeVar("T")

PORT, TLS_PORT, TLS_SCHEME = 5552, 5551, "rabbitmq-stream+tls"
FRAME_MAX = 2**20
SILENT_HEARTBEATS = 3
GONE = "the stream was deleted or moved"
_ID = 0  # of the one subscription of a connection


class Address(NamedTuple):
    """Where, and as whom. `cluster` is the name of the broker that must answer there; empty: any."""

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: ssl.SSLContext | None
    cluster: str

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"  # nothing secret


async def address_of(section: RabbitMQ, cluster: str) -> Address:
    """The configured address. What `stream_url` leaves open is as in `url`."""
    amqp, own = urlsplit(str.__str__(section.url)), urlsplit(str.__str__(section.stream_url))
    secure = own.scheme == TLS_SCHEME if own.scheme else amqp.scheme == "amqps"
    who = amqp if own.username is None else own
    path = own.path if own.path.strip("/") else amqp.path
    return Address(
        own.hostname or amqp.hostname or "localhost",
        own.port or (TLS_PORT if secure else PORT),
        unquote(who.username or "guest"),
        unquote(who.password or "guest"),
        unquote(path[1:]) or "/",
        await asyncio.to_thread(_context, own if own.query else amqp) if secure else None,
        cluster,
    )


def _context(url: SplitResult) -> ssl.SSLContext:
    """With the same parameters as an amqps URL. Reads files."""
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    context = ssl.create_default_context(cafile=query.get("cafile"), capath=query.get("capath"))
    if "certfile" in query:
        context.load_cert_chain(query["certfile"], query.get("keyfile"))
    if query.get("no_verify_ssl", "0") != "0":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class StreamConnection:
    """One connection with one subscription. `lost` is done with the reason when nothing will come any more.
    `unreadable` says that it could not be understood. `deadline_s` is for each of `open` and `subscribe`."""

    def __init__(self, address: Address, name: str, heartbeat_s: float, deadline_s: float) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._address = address
        self._heartbeat_s = max(1, int(heartbeat_s))
        self._deadline_s = deadline_s
        self._client = _Client(address, name, self._heartbeat_s, self._handle, self.lose, self._give_up)
        self._on_chunk: Callable[[Chunk], Awaitable[None]] = _unasked
        self._is_handling = False
        self._watch: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self.unreadable = False

    def lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    def _give_up(self, error: Exception) -> None:
        self.unreadable = True
        self.lose(f"what the broker sent could not be read ({type(error).__name__})")

    async def open(self) -> None:
        """Connect and log in. Raises Lost, saying what is wrong. `close` is to be called in any case."""
        await self._do(self._log_in())
        cluster = (self._client.server_properties or {}).get("cluster_name", "")
        if self._address.cluster and cluster != self._address.cluster:
            raise self._refused("not the broker of rabbitmq.url answers there, but another one")

    async def _log_in(self) -> None:
        address = self._address
        await self._client.start()
        await self._client.authenticate(address.vhost, address.user, address.password)

    async def subscribe(
        self,
        stream: str,
        start: OffsetType,
        value: int | None,
        credit: int,
        on_chunk: Callable[[Chunk], Awaitable[None]],
    ) -> None:
        """Have `on_chunk` called with each chunk in its order, with the next one when it has ended. Raises Lost."""

        self._on_chunk = on_chunk
        client = self._client
        client.add_handler(schema.Heartbeat, lambda _: self.heard(), name="heard")
        client.add_handler(schema.MetadataUpdate, lambda _: self.lose(GONE), name="gone")
        specification = schema.OffsetSpec.from_params(start, value)
        await self._do(client.subscribe(stream, _ID, specification, credit))
        self.heard()
        self._watch = asyncio.create_task(self._watch_silence())

    async def _handle(self, chunk: Chunk) -> None:
        self._is_handling = True
        try:
            await self._on_chunk(chunk)
        except ConnectionClosed:
            raise
        except Exception as error:
            _logger.exception("a chunk could not be handled", extra={"place": chunk.first_place})
            self._give_up(error)
            raise ConnectionClosed from error  # nothing more is read
        self._is_handling = False
        self.heard()

    async def credit(self, chunks: int) -> None:
        """Let the broker send so many more. Raises ConnectionClosed."""
        try:
            await self._client.credit(_ID, chunks)
        except OSError as error:
            raise ConnectionClosed from error

    def heard(self) -> None:
        """The broker lives, or it is we who do not listen."""
        self._heard_at = time.monotonic()

    async def close(self) -> None:
        """At once, whatever state it is in."""
        if self._watch is not None:
            self._watch.cancel()
        await self._client.end()

    async def _watch_silence(self) -> None:
        """The broker sends something in every heartbeat; when it does not, rstream only writes a log line."""
        while time.monotonic() - self._heard_at < SILENT_HEARTBEATS * self._heartbeat_s:
            await asyncio.sleep(self._heartbeat_s / 2)
            if self._is_handling:
                self.heard()
        self.lose("the broker fell silent")

    async def _do(self, step: Awaitable[T]) -> T:
        """One step of the way in. On a connection that has ended, rstream alone would go on waiting for an answer."""
        task = asyncio.ensure_future(step)
        try:
            ends: set[asyncio.Future[Any]] = {task, self.lost}
            await asyncio.wait(ends, timeout=self._deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise self._refused(self.lost.result() if self.lost.done() else "the broker did not answer in time")
        except (exceptions.ServerError, ConnectionClosed, OSError, AssertionError) as error:
            if isinstance(error, Lost):
                raise
            raise self._refused(_what_was_wrong(error)) from error
        finally:
            task.cancel()
            task.add_done_callback(_forget)

    def _refused(self, why: str) -> Lost:
        return Lost(f"the stream protocol at {self._address!r}: {why}")


class _Client(Client):
    """rstream's client. It tells when it has ended and why, and reads nothing while `handle` does with a chunk what it
    does, so that those behind it wait at the broker and not in our memory."""

    def __init__(
        self,
        address: Address,
        name: str,
        heartbeat_s: int,
        handle: Handle,
        on_end: Callable[[str], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        # With every frame it writes what is in it, at the level of debugging: passwords when it logs in.
        logging.getLogger("rstream").setLevel(logging.ERROR)
        super().__init__(
            address.host,
            address.port,
            ssl_context=address.tls,
            frame_max=FRAME_MAX,
            heartbeat=heartbeat_s,
            connection_name=name,
            connection_closed_handler=lambda _: None,  # without any it writes a traceback
        )
        self._handle = handle
        self._on_end = on_end
        self._on_error = on_error

    async def start(self) -> None:
        self._conn = connection = _Connection(self.host, self.port, self._ssl_context, self._handle)
        await connection.open()
        if not self._is_not_closed:  # it was ended meanwhile, and a cancellation can get lost on the way in
            connection.abandon()
            raise ConnectionClosed
        self.start_task("listener", self._listener())
        self.add_handler(schema.Close, self._on_close)

    def _on_close(self, close: schema.Close) -> None:
        self._on_end(f"the broker said: {close.reason}")

    async def _listener(self) -> None:
        try:
            await super()._listener()
        except Exception as error:  # a frame that it does not know, or a wrong checksum
            _logger.exception("a frame of the stream protocol could not be read")
            self._on_error(error)
        self._on_end("the broker closed the stream connection")

    async def end(self) -> None:
        """Stop all tasks and let go of the socket. Tells the broker, and does not wait for an answer."""
        self._is_not_closed = False
        connection = self._conn if isinstance(self._conn, _Connection) else None
        try:
            if connection is not None:
                await connection.frames.stop()
            await end(*self._tasks.values())
            self._tasks.clear()
        finally:
            if connection is not None:
                connection.abandon(encode_frame(schema.Close(self._corr_id_seq.next(), code=1, reason="OK")))


class _Connection(Connection):
    """rstream's connection, but for how it reads."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, handle: Handle) -> None:
        super().__init__(host, port, tls)
        self.frames = Frames(handle)
        self._transport: asyncio.Transport | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(
            lambda: self.frames, self.host, self.port, ssl=self._ssl_context
        )

    async def read_frame(self) -> schema.Frame:
        """The next one that is no chunk. Raises as `Frames.read` does."""
        return decode_frame(bytes(await self.frames.read()))

    async def write_frame(self, frame: schema.Frame, version: int = 1) -> None:
        """All that is ever written is short. Raises ConnectionResetError."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection is gone")
        transport.write(encode_frame(frame, version))

    def abandon(self, farewell: bytes = b"") -> None:
        """Close, without waiting for what could not be sent yet."""
        transport = self._transport
        if transport is None:
            return
        if not transport.is_closing() and not transport.get_write_buffer_size():
            transport.write(farewell)
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()


async def _unasked(_chunk: Chunk) -> None:
    raise ValueError("a chunk came before it was asked for")


def _forget(task: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more, however it ended."""
    if not task.cancelled():
        task.exception()


def _what_was_wrong(error: BaseException) -> str:
    match error:
        case (
            exceptions.AuthenticationFailure() | exceptions.SASLError() | exceptions.SASLAuthenticationFailureLoopback()
        ):
            return "the broker refused the credentials"
        case exceptions.VirtualHostAccessFailure() | exceptions.AccessRefused():
            return "the broker allows this user no access"
        case exceptions.StreamDoesNotExist():
            return "the stream is not there"
        case exceptions.StreamNotAvailable():
            return "the broker's node at this address has no running replica of the stream"
        case exceptions.ServerError():
            return f"the broker said: {type(error).__name__}"
        case AssertionError():
            return "the broker takes no passwords"
        case _:
            return describe(error)
