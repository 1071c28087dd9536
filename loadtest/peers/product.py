"""The server of this repository, behind a private RabbitMQ or with its log in memory."""

from __future__ import annotations

import asyncio
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import aiormq
import jwt
from aiormq.exceptions import AMQPError

import notifier
from loadtest.feeds import AmqpFeed, Feed, HttpFeed
from loadtest.frames import client_frame
from loadtest.opening import ADDRESS
from loadtest.peers.peer import ROOT, Missing, NotStarted, Peer
from loadtest.peers.versions import of_package, said
from loadtest.wire import Step, Wire, upgrade
from tests.services.rabbitmq import RabbitMQ

SECRET = "only-for-the-load-test-on-loopback-0123456789"
API_KEY = "load-test"
EXCHANGE = "notifications"
STREAM = "notifier.log"
TOKEN_TTL_S = 6 * 3600

CONFIG = """
[server]
host = "{host}"
port = {port}

[log]
kind = "{log}"

[rabbitmq]
url = "{url}"
exchange = "{exchange}"
stream = "{stream}"

[auth]
hmac_keys = ["{secret}"]

[api]
keys = ["{api_key}"]

[logging]
level = "warning"

[[channels]]
match = "#"
history = {{ size = 10, ttl = "1m" }}
subscribe = ["anyone"]
"""


class ProductWire:
    """The Centrifuge protocol in JSON: connect and subscribe in one frame, as its SDKs do. Tokens are HS256."""

    ping = b"{}"
    pong = client_frame(b"{}")
    _data = b'"pub":{"data":'
    _offset = b',"offset":'

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def steps(self, index: int, channel: str) -> list[Step]:
        claims = {"sub": f"user-{index}", "exp": int(time.time()) + TOKEN_TTL_S}
        token = jwt.encode(claims, self._secret, algorithm="HS256")
        commands = f'{{"id":1,"connect":{{"token":"{token}"}}}}\n{{"id":2,"subscribe":{{"channel":"{channel}"}}}}'
        return [upgrade("/connection/websocket"), Step(client_frame(commands.encode()), b'{"id":2,"subscribe":')]

    def body(self, payload: bytes) -> bytes:
        begin, end = payload.find(self._data), payload.rfind(self._offset)
        if not 0 < begin < end or b"\n" in payload:
            raise ValueError(f"not one push of a publication: {payload[:80]!r}…")
        return payload[begin + len(self._data) : end]


class Product(Peer):
    """`log`: "rabbitmq" publishes over AMQP, "memory" over the HTTP API (for low rates)."""

    key = "notifier"
    label = "notifier"
    wire: Wire = ProductWire(SECRET)

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
            self._broker = RabbitMQ()
            try:
                self._broker.start()
            except RuntimeError as error:
                self.release()
                raise NotStarted(str(error)) from error

    def release(self) -> None:
        if self._broker:
            self._broker.close()
            self._broker = None

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
            exchange=EXCHANGE,
            stream=STREAM,
            secret=SECRET,
            api_key=API_KEY,
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
