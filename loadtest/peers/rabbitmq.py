"""RabbitMQ itself, spoken to by its clients without a server between: its plugins Web STOMP and Web MQTT.

Every client is a consumer with a queue of its own, bound to the topic exchange `amq.topic`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from loadtest.feeds import AmqpFeed, Feed
from loadtest.frames import BINARY, client_frame
from loadtest.limits import on_core
from loadtest.peers.peer import Missing, NotStarted, Peer
from loadtest.peers.versions import of_package
from loadtest.wire import Step, Wire, upgrade
from tests.services.rabbitmq import RabbitMQ

EXCHANGE = "amq.topic"
MEMORY = "8GiB"  # a queue for each of 10,000 clients; an alarm would hold up the publisher
QOS_0 = 0


class StompWire(Wire):
    """STOMP 1.2. A subscription's acknowledgements are `auto`: none are sent."""

    def steps(self, index: int, *channels: str) -> list[Step]:  # noqa: ARG002 - all connections are alike
        connect = _stomp("CONNECT", "accept-version:1.2", "host:/", "login:guest", "passcode:guest", "heart-beat:0,0")
        return [
            upgrade("/ws", protocol="v12.stomp"),
            Step(connect, b"CONNECTED"),
            *(_subscribe(number, channel) for number, channel in enumerate(channels)),
        ]

    def switch(self, turn: int, before: str, after: str) -> list[Step]:  # noqa: ARG002 - known by the number
        leave = Step(_stomp("UNSUBSCRIBE", f"id:{turn}", f"receipt:u{turn}"), b"receipt-id:u%d" % turn)
        return [leave, _subscribe(turn + 1, after)]

    def body(self, message: bytes) -> bytes:
        head, _, rest = message.partition(b"\n\n")
        if not head.startswith(b"MESSAGE"):
            raise ValueError(f"not a message: {message[:80]!r}…")
        return rest.rstrip(b"\n").removesuffix(b"\0")


def _subscribe(number: int, channel: str) -> Step:
    where = f"destination:/topic/{channel}"
    words = _stomp("SUBSCRIBE", f"id:{number}", where, "ack:auto", f"receipt:s{number}")
    return Step(words, b"receipt-id:s%d" % number)


def _stomp(command: str, *headers: str) -> bytes:
    return client_frame("\n".join([command, *headers, "", "\0"]).encode())


class MqttWire(Wire):
    """MQTT 3.1.1 (sections 3.1, 3.8, 3.10) in binary frames, quality of service 0, sessions that end with their
    connections."""

    def steps(self, index: int, *channels: str) -> list[Step]:
        who = _text(f"load-{index}") + _text("guest") + _text("guest")
        # User name, password, clean session; no keep-alive.
        connect = _packet(0x10, _text("MQTT") + bytes((4, 0b1100_0010, 0, 0)) + who)
        return [
            upgrade("/ws", protocol="mqtt"),
            Step(connect, b"\x20\x02\x00\x00"),
            *(self._subscribe(number, channel) for number, channel in enumerate(channels, 1)),
        ]

    def switch(self, turn: int, before: str, after: str) -> list[Step]:
        number = _number(10 + 2 * turn)
        leave = _packet(0xA2, number + _text(_topic(before)))
        return [Step(leave, b"\xb0\x02" + number), self._subscribe(11 + 2 * turn, after)]

    def body(self, message: bytes) -> bytes:
        if message[:1] != b"\x30":
            raise ValueError(f"not a publication: {message[:80]!r}…")
        at = 1
        while message[at] & 0x80:
            at += 1
        topic = at + 3
        return message[topic + int.from_bytes(message[at + 1 : topic], "big") :]

    @staticmethod
    def _subscribe(number: int, channel: str) -> Step:
        packet = _packet(0x82, _number(number) + _text(_topic(channel)) + bytes((QOS_0,)))
        return Step(packet, b"\x90\x03" + _number(number) + b"\x00")


def _packet(kind: int, rest: bytes) -> bytes:
    """Its length takes seven bits a byte, the lowest first (section 2.2.3)."""
    length, left = b"", len(rest)
    while left > 0x7F:
        length += bytes((left & 0x7F | 0x80,))
        left >>= 7
    return client_frame(bytes((kind,)) + length + bytes((left,)) + rest, BINARY)


def _text(text: str) -> bytes:
    return _number(len(text)) + text.encode()


def _number(value: int) -> bytes:
    """Two bytes; packets are numbered from 1 to 65,535."""
    return (value % 0xFFFF or 0xFFFF).to_bytes(2, "big")


def _topic(channel: str) -> str:
    """The plugin turns levels into words of the routing key."""
    return channel.replace(".", "/")


class BrokerPeer(Peer, ABC):
    """A broker of its own for each start."""

    plugin: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, cache: Path) -> None:
        super().__init__(cache)
        self._broker: RabbitMQ | None = None

    def install(self) -> dict[str, str]:
        if missing := RabbitMQ.missing():
            raise Missing(f"{missing} is not installed")
        return {"rabbitmq": of_package("rabbitmq-server"), "erlang": of_package("erlang-base")}

    def start(self, folder: Path, core: int) -> int:  # noqa: ARG002 - the broker has one of its own
        settings = {
            f"{self.prefix}.tcp.backlog": "4096",
            f"{self.prefix}.ws_opts.compress": "false",
            f"{self.prefix}.ws_opts.idle_timeout": "3600000",
            "vm_memory_high_watermark.absolute": MEMORY,
            "log.file.level": "error",
        }
        self._broker = broker = RabbitMQ(plugins=[self.plugin], settings=settings)
        self.port = broker.port_of(self.plugin)
        try:
            with on_core(core):
                broker.start()
        except RuntimeError as error:
            self.stop()
            raise NotStarted(str(error)) from error
        return broker.pid

    def stop(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.close()

    def command(self, folder: Path) -> Sequence[str]:
        raise NotImplementedError("the broker has its own way of starting")

    def feed(self) -> Feed:
        assert self._broker is not None, "not started"
        return AmqpFeed(self._broker.url, EXCHANGE)

    def last_words(self) -> str:
        return ""


class WebStomp(BrokerPeer):
    """Web STOMP."""

    key = "web-stomp"
    label = "RabbitMQ Web STOMP"
    settings = "no compression, no heart-beats, ack:auto, log level error; published to amq.topic over AMQP"
    plugin = "rabbitmq_web_stomp"
    prefix = "web_stomp"
    wire: Wire = StompWire()


class WebMqtt(BrokerPeer):
    """Web MQTT."""

    key = "web-mqtt"
    label = "RabbitMQ Web MQTT"
    settings = "MQTT 3.1.1, QoS 0, clean sessions, no compression, log level error; published to amq.topic over AMQP"
    plugin = "rabbitmq_web_mqtt"
    prefix = "web_mqtt"
    wire: Wire = MqttWire()
