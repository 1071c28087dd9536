"""The targets: each takes any bytes, and raises only when something is wrong with the program."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiormq.abc import DeliveredMessage
from pamqp import commands as spec
from pamqp.header import ContentHeader

from notifier.auth import claims, signatures
from notifier.broker import decoding
from notifier.config import Auth, ChannelRule, Config, Duration, HistoryRule, Server, load
from notifier.core import channel as channels
from notifier.core import commands, orders, stream
from notifier.core.channel import Pattern
from notifier.core.rules import Rules
from notifier.errors import ConfigError, Rejected, TokenError
from notifier.log import amqp, chunks, markers
from notifier.log.reader_amqp import entry_of
from notifier.log.reader_stream import entry_at
from notifier.protocol import frames
from notifier.protocol.codes import ConnectionEnded
from notifier.protocol.encoding import JSON_WEBSOCKET, PROTOBUF_WEBSOCKET, SSE, ClientEncoding
from notifier.protocol.fossil import make_patch
from notifier.protocol.frames import event
from notifier.protocol.messages import Publication
from notifier.protocol.reading import FrameError, FrameReader, Message
from notifier.testing import Client, make_node
from notifier.transports.gate import Gate
from tests.unit.protocol.test_fossil import applied
from tests.unit.protocol.test_frames import parse_events

MAX_UNFOLDED_BYTES = chunks.MAX_BATCH_BYTES
SLOW_S = 2.0
LARGEST_MESSAGE = 1000
KEPT = HistoryRule(size=10, ttl=Duration(3600))
RULES = [
    ChannelRule(match="a.#", history=KEPT, delta=True, tag_filter=True, subscribe=["anyone"], publish=["anyone"]),
    ChannelRule(match="#", history=KEPT, presence=True, wildcard=True, join_leave="always", subscribe=["anyone"]),
]
Target = Callable[[bytes], None]


def json_commands(data: bytes) -> None:
    _converse(JSON_WEBSOCKET, data)


def protobuf_commands(data: bytes) -> None:
    _converse(PROTOBUF_WEBSOCKET, data)


def _converse(encoding: ClientEncoding, data: bytes) -> None:
    """A connected client sends a frame: it is answered, or the connection ends with a code, soon."""
    began = time.monotonic()
    try:
        decoded = encoding.codec.commands(data)
    except (ConnectionEnded, UnicodeDecodeError):
        return
    if len(decoded) > 50:
        return  # what many commands cost is bounded elsewhere, by a frame's size
    node = make_node(RULES)
    for first in ([], JSON_WEBSOCKET.codec.commands(b'{"id":1,"connect":{}}')):
        client = Client(node, encoding)
        asyncio.run(commands.run(client.session, [*first, *decoded]))
        client.session.end()
    assert not node.sessions
    assert len(node.hub) == 0
    assert node.stats.subscriptions == 0
    assert time.monotonic() - began < SLOW_S


def websocket_frames(data: bytes) -> None:
    """What a client sends on its WebSocket, at once or byte by byte: the same messages, and the same refusal if any."""
    at_once = _read([data])
    assert at_once == _read([data[at : at + 1] for at in range(len(data))])
    messages, _ = at_once
    for message in messages:
        assert len(message.payload) <= LARGEST_MESSAGE
        if message.opcode == frames.TEXT:
            message.payload.decode()


def _read(parts: list[bytes]) -> tuple[list[Message], int]:
    """The messages, and the code of the refusal behind them; 0 for none."""
    reader, found = FrameReader(LARGEST_MESSAGE, packed=True), []
    try:
        for part in parts:
            reader.feed(part)
            while (message := reader.read()) is not None:
                found.append(message)
    except FrameError as error:
        return found, error.code
    return found, 0


def records(data: bytes) -> None:
    """A message with anything as its properties and body: a record, or a reason why not; the next one goes on."""
    node = make_node(RULES)
    header, body = data[: len(data) // 2], data[len(data) // 2 :]
    with contextlib.suppress(Rejected):
        node.feed.take(amqp.to_record(entry_of(_message(header, body)), 1), 1.0)
    node.feed.take(amqp.to_record(entry_of(_message(b"", b"1")), 2), 1.0)
    assert node.history.end == 2


def _message(header: bytes, body: bytes) -> DeliveredMessage:
    decoding.be_tolerant()
    content: Any = ContentHeader()
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
        content.unmarshal(b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + header)
    if not isinstance(content.properties, spec.Basic.Properties):
        content.properties = spec.Basic.Properties()
    key = header[:20].decode("latin1") or "a"
    delivery = spec.Basic.Deliver(consumer_tag="c", delivery_tag=1, exchange="e", routing_key=key)
    return DeliveredMessage(delivery=delivery, header=content, body=body, channel=None)  # type: ignore[arg-type]


def stream_chunks(data: bytes) -> None:
    """What the stream protocol brings: a message at each place, or why not, and nothing that was not in it."""
    with contextlib.suppress(ValueError):  # no chunk
        for place, message in enumerate(chunks.messages(data[1:], data[0] % 8 if data else 0)):
            entry = entry_at(message, place, "stream")
            assert entry.place == place
            assert len(entry.body) <= MAX_UNFOLDED_BYTES
    whole = entry_at(data, 1, "stream")
    assert whole.body == data or len(whole.body) < len(data)


def amqp_tables(data: bytes) -> None:
    """What stands in a message's headers is read without reading on behind its end."""
    with contextlib.suppress(ValueError):
        size, found = decoding.table(data)
        assert size <= len(data)
        assert isinstance(found, dict)


def workers_messages(data: bytes) -> None:
    """What comes by the exchanges between workers, and the log's own records: understood or rejected."""
    node = make_node(RULES)
    for read in (markers.decode, orders.decode):
        with contextlib.suppress(Rejected):
            read(data)
    with contextlib.suppress(Rejected):
        asyncio.run(node.control._take(data))


def tokens(data: bytes) -> None:
    """A token, or the claims in one: read or refused, and what is believed has been looked at."""
    text = data.decode("latin1")
    with contextlib.suppress(TokenError):
        signatures.read(text)
    try:
        said, whole = claims.read(data)
        claims.accept(said, AUTH, now=1e9)
        identity = claims.identity(said, whole, AUTH)
    except TokenError:
        return
    assert whole.get("exp") is not None
    assert said.iss == AUTH.issuer
    assert isinstance(identity.user, str)


AUTH = Auth(issuer="i")


def request_headers(data: bytes) -> None:
    """Cursors, origins and channels' names: total functions, and what they let through is what it should be."""
    text = data.decode("latin1")
    cursor = stream.parse_cursor(text)
    assert cursor is None or (cursor.offset >= 0 and text.startswith(cursor.epoch + ":"))
    gate = Gate(Server(host="0.0.0.0", allowed_origins=["https://*.example.com"]))
    if gate.allows(text):
        rest = text.lower().removeprefix("https://").removesuffix(":443").removesuffix("/")
        assert rest.endswith(".example.com")
        assert not set(rest) & set("/?#@\\ ")
    if not channels.problem_with(text):
        assert text.isascii()
        assert text.isprintable()
        assert Rules(RULES).find(text) is not None
    with contextlib.suppress(ValueError):
        pattern = Pattern(text)
        assert not pattern.covers(text) or pattern.covers(text) is True


def patches(data: bytes) -> None:
    """A difference makes the target again."""
    at = len(data) // 2
    source, target = data[:at], data[at:]
    assert applied(source, make_patch(source, target)) == target


def events(data: bytes) -> None:
    """What a publisher writes stays in its own event."""
    text = data.decode("utf-8", "replace")
    node = make_node(RULES)
    body, name = text.encode(), text[:30]
    if not name.isprintable():
        name = ""  # such a type is rejected before
    try:
        data = node.check_data(body)
    except Rejected:
        return
    made = SSE.publication(Publication("a", 5, data, event=name), "e").decode()
    [found] = parse_events(made)
    assert found["data"].encode() == data
    assert parse_events(event(data).decode())[0]["data"].encode() == data


def configurations(data: bytes) -> None:
    """A file is a configuration, or a list of what is wrong with it."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        Path(file.name).write_bytes(data)
        try:
            config = load(Path(file.name), {})
        except ConfigError as error:
            assert error.problems
            return
        assert isinstance(config, Config)
        with contextlib.suppress(ConfigError):
            Rules(config.channels)


TARGETS: dict[str, Target] = {
    "json-commands": json_commands,
    "protobuf-commands": protobuf_commands,
    "websocket-frames": websocket_frames,
    "records": records,
    "stream-chunks": stream_chunks,
    "amqp-tables": amqp_tables,
    "workers-messages": workers_messages,
    "tokens": tokens,
    "request-headers": request_headers,
    "patches": patches,
    "events": events,
    "configurations": configurations,
}

SEEDS: dict[str, list[bytes]] = {
    "json-commands": [
        b'{"id":2,"subscribe":{"channel":"a.1","recover":true,"offset":1,"epoch":"epoch-1","delta":"fossil"}}',
        b'{"id":3,"publish":{"channel":"a.1","data":{"x":1}}}\n{"id":4,"history":{"channel":"a.1","limit":5}}',
        b'{"id":5,"presence":{"channel":"b"}}\n{"id":6,"subscribe":{"channel":"b.*","tf":{"op":"","cmp":"eq"}}}',
        b'{"id":7,"rpc":{"method":"notifier.whoami"}}\n{"send":{"data":1}}\n{"id":8,"unsubscribe":{"channel":"b"}}\n{}',
    ],
    "protobuf-commands": [b"\x06\x08\x01\x22\x00", b"\x0b\x08\x02\x2a\x07\x0a\x03a.1\x18\x01"],
    "websocket-frames": [
        b"\x81\x85\0\0\0\0hello\x89\x80abcd\x88\x82\0\0\0\0\x03\xe8",
        b"\x01\x81\0\0\0\0a\x89\x80\0\0\0\0\x80\x81\0\0\0\0b\x82\xfe\x00\x7e\0\0\0\0" + b"x" * 126,
        b"\xc1\x87\0\0\0\0\xcaH\xcd\xc9\xc9\x07\x00",
    ],
    "records": [b"\xa0\x00\x00\x00\x00\x0b\x09tag-abcdS\x00\x00\x00\x01x[1,2]" + b'{"a":1}' * 3],
    "stream-chunks": [
        b"\x01\x00\x00\x00\x08\x00\x53\x75\xa0\x03[1]",
        b"\x01\x80\x00\x01\x00\x00\x00\x0c\x00\x00\x00\x0c\x00\x00\x00\x08\x00\x53\x75\xa0\x03[1]",
        b"\x00\x53\x72\xc1\x14\x02\xa3\x0dx-routing-key\xa1\x01a\x00\x53\x73\xc0\x04\x01\xa1\x01i\x00\x53\x75\xa0\x011",
    ],
    "amqp-tables": [b"\x00\x00\x00\x0b\x04abcdS\x00\x00\x00\x01x", b"\x00\x00\x00\x04\x01aI\x00"],
    "workers-messages": [
        b'{"type":"end","whom":{"user":"a"},"why":{"code":3000,"reason":"x"}}',
        b'{"type":"join","whom":{"user":"a"},"channel":"a.1"}',
        b'{"type":"announce","comings":[{"channel":"a","info":{"user":"u","client":"c"}}]}',
        b'{"type":"explain","message_id":"m","offset":0}',
    ],
    "tokens": [b"eyJhbGciOiJIUzI1NiJ9.e30.AAAA", b'{"sub":"a","exp":2000000000,"iss":"i","channels":["a"],"info":{}}'],
    "request-headers": [
        b"epoch-1:12.3",
        b"https://a.example.com:443",
        b"https://a.example.com",
        b"user.42.*",
        b"chat:room.7",
    ],
    "patches": [b"hello world, hello all" * 2],
    "events": [b'"a\\nb"', b'{"a": "\xe2\x80\xa8"}', b"[1,\n2]"],
    "configurations": [
        b'[server]\nport = 1\n[[channels]]\nmatch = "a.{sub}"\nhistory = { size = 1, ttl = "1h" }\n',
        b'[auth]\nhmac_keys = ["x"]\npublic_keys = ["@/nowhere"]\n[clients]\nping_interval = "1.5s"\n',
    ],
}
