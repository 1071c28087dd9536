"""The server of this repository, behind a private RabbitMQ or with its log in memory."""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import aiormq
from aiormq.exceptions import AMQPError

import notifier
from loadtest.feeds import AmqpFeed, Feed, HttpFeed
from loadtest.opening import ADDRESS
from loadtest.peers.broker import BROKER, stream_url
from loadtest.peers.peer import ROOT, Missing, NotStarted, Peer
from loadtest.peers.product_wire import DeflateWire, DeltaWire, ProductEventsWire, ProductWire
from loadtest.peers.versions import of_package, said
from loadtest.wire import Wire
from tests.services.rabbitmq import RabbitMQ

SECRET = "only-for-the-load-test-on-loopback-0123456789"
API_KEY = "load-test"
EXCHANGE = "notifications"
STREAM = "notifier.log"

CONFIG = """
[server]
host = "{host}"
port = {port}

[log]
kind = "{log}"

[rabbitmq]
url = "{url}"
reader = "{reader}"
stream_url = "{stream_url}"
exchange = "{exchange}"
stream = "{stream}"

[auth]
hmac_keys = ["{secret}"]

[api]
keys = ["{api_key}"]

[clients]
{clients}

[logging]
level = "warning"

[[channels]]
match = "#"
history = {{ size = {history}, ttl = "1m" }}
subscribe = ["anyone"]
{rule}
"""


class Product(Peer):
    """`log`: "rabbitmq" publishes over AMQP, "memory" over the HTTP API (for low rates). `reader` is how it
    reads the broker's stream; `clients_settings` and `rule_settings` are further lines of its configuration."""

    key = "notifier"
    label = "notifier"
    settings = "HS256 tokens, one rule, 10 publications of history for 1 min"
    ping_every_s = 25.0
    wire: Wire = ProductWire(SECRET)
    reader: ClassVar[str] = "stream"
    clients_settings: ClassVar[str] = ""
    rule_settings: ClassVar[str] = ""

    def __init__(self, cache: Path, log: Literal["rabbitmq", "memory"] = "rabbitmq") -> None:
        super().__init__(cache)
        self._log = log
        self._broker: RabbitMQ | None = None

    def install(self) -> dict[str, str]:
        found = {"notifier": notifier.__version__, "commit": said(["git", "describe", "--always", "--dirty"], ROOT)}
        if self._log == "rabbitmq":
            if missing := RabbitMQ.missing():
                raise Missing(f"{missing} is not installed; --log memory does without")
            found["rabbitmq"] = of_package("rabbitmq-server")
        return found

    def prepare(self) -> None:
        if self._log == "rabbitmq":
            self._broker = BROKER.acquire()

    def release(self) -> None:
        if self._broker:
            self._broker = None
            BROKER.release()

    def command(self, folder: Path) -> Sequence[str]:
        if self._broker:
            try:
                asyncio.run(_forget_stream(self._broker.url))
            except (OSError, AMQPError) as error:
                raise NotStarted(f"RabbitMQ does not answer: {error!r}") from error
        text = CONFIG.format(
            host=ADDRESS,
            port=self.port,
            log=self._log,
            url=self._broker.url if self._broker else "amqp://none",
            reader=self.reader,
            stream_url=stream_url(self._broker) if self._broker else "",
            exchange=EXCHANGE,
            stream=STREAM,
            secret=SECRET,
            api_key=API_KEY,
            clients=self.clients_settings,
            rule=self.rule_settings,
            history=self.history,
        )
        config = folder / "notifier.toml"
        config.write_text(text)
        return [sys.executable, "-m", "notifier", "serve", "--config", str(config)]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{ADDRESS}:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False

    def feed(self) -> Feed:
        if self._broker:
            return AmqpFeed(self._broker.url, EXCHANGE)
        return api_feed(self.port, API_KEY)


class ProductEvents(Product):
    """Subscribers are event sources."""

    key = "notifier-sse"
    label = "notifier, SSE"
    wire: Wire = ProductEventsWire(SECRET)


class ProductAmqp(Product):
    """The broker has no stream protocol."""

    key = "notifier-amqp"
    label = "notifier, AMQP 0.9.1"
    settings = Product.settings + "; the log is read over AMQP 0.9.1"
    reader = "amqp"


class ProductDelayed(Product):
    """What is published within 40 ms is written together, about what Nagle's algorithm does where it is left on."""

    key = "notifier-delayed"
    label = "notifier, write delay 40 ms"
    clients_settings = 'write_delay = "40ms"'


class ProductDelta(Product):
    """Subscribers get the difference to the publication before."""

    key = "notifier-delta"
    label = "notifier, delta"
    wire: Wire = DeltaWire(SECRET)
    rule_settings = "delta = true"


class ProductDeflate(Product):
    """Frames are compressed."""

    key = "notifier-deflate"
    label = "notifier, deflate"
    wire: Wire = DeflateWire(SECRET)
    clients_settings = "compression = true"


def api_feed(port: int, key: str) -> Feed:
    """Over the server's HTTP API."""
    return HttpFeed(port, "/api/publish", '{"channel":"%s","data":%s}', f"X-API-Key: {key}\r\n")


async def _forget_stream(url: str) -> None:
    """Each start begins with an empty log, or the later rounds would measure the reading of the earlier ones."""
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel()
        await channel.queue_delete(STREAM)
    finally:
        await connection.close()
