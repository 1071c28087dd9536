"""Which way the stream is read: over its own protocol where the broker offers that, over AMQP 0.9.1 where not."""

from __future__ import annotations

import logging

from aio_pika.abc import AbstractConnection

from notifier.broker.link import Lost
from notifier.broker.stream import address_of
from notifier.config import RabbitMQ
from notifier.log.entry import EntryReader
from notifier.log.reader_amqp import AmqpReader
from notifier.log.reader_stream import StreamReader

_logger = logging.getLogger(__name__)

AUTO_DEADLINE_S = 2.0
"""For a port whose packets a firewall drops; it passes with each attempt to connect."""


class Readers:
    """Makes a reader for each AMQP connection. `protocol` is that of the last one, empty before the first; `instead`
    says why it is not the stream protocol, where that was tried."""

    def __init__(self, section: RabbitMQ, name: str) -> None:
        self._section = section
        self._name = name
        self._stream: StreamReader | None = None
        self.protocol = ""
        self.instead = ""

    async def choose(self, connection: AbstractConnection) -> EntryReader:
        """`find`, with a line in the server's log when it is another one than before."""
        before = (self.protocol, self.instead)
        reader = await self.find(connection)
        if before != (self.protocol, self.instead):
            _logger.info("reading the log", extra={"protocol": self.protocol, "because": self.instead or "configured"})
        return reader

    async def find(self, connection: AbstractConnection) -> EntryReader:
        """Raises Lost where the stream protocol is demanded and cannot be had."""
        self.instead = ""
        reader: EntryReader = AmqpReader(connection, self._section)
        if self._section.reader != "amqp":
            try:
                reader = await self._over_stream_protocol(connection)
            except Lost as error:
                self._stream = None
                if self._section.reader == "stream":
                    raise
                self.instead = str(error)
        self.protocol = reader.protocol
        return reader

    async def _over_stream_protocol(self, connection: AbstractConnection) -> StreamReader:
        if self._section.reader == "auto" and self._stream is not None and self._stream.unreadable:
            raise Lost("what came over the stream protocol could not be read")
        patience_s = AUTO_DEADLINE_S if self._section.reader == "auto" else self._section.connect_timeout
        address = await address_of(self._section, _cluster_of(connection))
        self._stream = StreamReader(address, self._section, self._name)
        await self._stream.check(min(patience_s, self._section.connect_timeout))
        return self._stream


def _cluster_of(connection: AbstractConnection) -> str:
    """How the broker calls itself; two of them on one machine have different ports for AMQP but may both be meant by
    the stream protocol's usual one."""
    transport = connection.transport
    properties = getattr(transport.connection, "server_properties", None) if transport is not None else None
    name = properties.get("cluster_name") if isinstance(properties, dict) else None
    return name if isinstance(name, str) else ""
