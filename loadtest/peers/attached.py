"""A server of this repository that somebody else has started on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from loadtest.feeds import AmqpFeed, Feed
from loadtest.opening import ADDRESS
from loadtest.peers.peer import Missing, NotStarted
from loadtest.peers.product import EXCHANGE, Product, api_feed
from loadtest.peers.product_wire import ProductWire
from loadtest.wire import Wire


class Access(msgspec.Struct, frozen=True):
    """Where it is and what it accepts. With `amqp_url` it is published to through RabbitMQ, else over its API."""

    url: str
    pid: int
    hmac_key: str
    api_key: str
    amqp_url: str


class Attached(Product):
    """Is neither started nor stopped, nor moved to another core; its rule for `#` must let everybody subscribe."""

    label = "notifier (attached)"

    def __init__(self, cache: Path, access: Access) -> None:
        super().__init__(cache)
        self._access = access
        self.wire: Wire = ProductWire(access.hmac_key)

    def install(self) -> dict[str, str]:
        address = urlsplit(self._access.url)
        if address.hostname not in {ADDRESS, "localhost"} or not address.port:
            raise Missing(f"{self._access.url}: only a server on {ADDRESS} can be measured, with its port")
        self.port = address.port
        try:
            cores = sorted(os.sched_getaffinity(self._access.pid))
        except ProcessLookupError:
            raise Missing(f"there is no process {self._access.pid}") from None
        return {"pid": str(self._access.pid), "cores": ", ".join(map(str, cores))}

    def prepare(self) -> None:
        """It has its own RabbitMQ."""

    def command(self, folder: Path) -> Sequence[str]:
        raise NotImplementedError

    def start(self, folder: Path, core: int) -> int:  # noqa: ARG002 - it runs already
        try:
            if self.ready():
                return self._access.pid
        except OSError as error:
            raise NotStarted(f"{self._access.url}: {error}") from error
        raise NotStarted(f"{self._access.url}: not ready")

    def feed(self) -> Feed:
        if self._access.amqp_url:
            return AmqpFeed(self._access.amqp_url, EXCHANGE)
        return api_feed(self.port, self._access.api_key)
