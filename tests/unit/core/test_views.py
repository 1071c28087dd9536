"""Whatever happens in whatever order: what a client sees of a channel is the channel, without a gap, a repeat or a
swap, or it was told that it missed something."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import msgspec
import pytest
from centrifuge.fossil import apply_delta
from centrifuge.protocol import client_pb2 as sdk
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.config import ChannelRule, Clients, Duration, HistoryRule
from notifier.core import commands
from notifier.core.node import Node
from notifier.core.record import Draft
from notifier.core.session import Session
from notifier.errors import Rejected
from notifier.protocol import codec_protobuf
from notifier.protocol.encoding import JSON_WEBSOCKET, PROTOBUF_WEBSOCKET, ClientEncoding, deflated
from notifier.testing import SECRET, ManualClock, RecordingConnection, Ticks, make_node, payloads

RULE = ChannelRule(
    match="a.*",
    history=HistoryRule(size=4, ttl=Duration(3600)),
    delta=True,
    tag_filter=True,
    wildcard=True,
    subscribe=["anyone"],
)
EVEN = {"key": "even", "cmp": "eq", "val": "yes"}
EXPIRES = int(time.time()) + 86_400


class Viewer:
    """A client as an SDK is one: it keeps a position and a base, and recovers with them."""

    def __init__(self, node: Node, encoding: ClientEncoding, channel: str, **wish: Any) -> None:
        self.node = node
        self.encoding = encoding
        self.channel = channel
        self.wish = wish
        self.seen: list[int] = []  # numbers of the publications, since the view began
        self.since = 0  # how many had been published to the channel when it began
        self.offset, self.epoch = 0, ""
        self.base = b""
        self.connection: RecordingConnection | None = None
        self.session: Session | None = None
        self.is_subscribed = False

    async def connect(self) -> None:
        self.connection = RecordingConnection()
        self.session = Session(self.node, self.connection, "websocket", self.encoding)
        claims = {"sub": "ann", "exp": EXPIRES}
        await self.command({"id": 1, "connect": {"token": jwt.encode(claims, SECRET, algorithm="HS256")}})

    def leave(self) -> None:
        """Without a word; what was written has arrived, what waits has not."""
        if self.session is not None:
            self.read()
            self.session.end()
        self.session = None
        self.is_subscribed = False

    async def subscribe(self, published: list[int]) -> None:
        if self.session is None:
            await self.connect()
        if self.is_subscribed:
            return
        request = {"channel": self.channel, **self.wish}
        recovers = bool(self.epoch)
        if recovers:
            request |= {"recover": True, "offset": self.offset, "epoch": self.epoch}
        [result] = [reply for reply in await self.command({"id": 2, "subscribe": request}) if reply.get("id") == 2]
        found = result["subscribe"]
        self.is_subscribed = True
        self.epoch = found["epoch"]
        self.offset = found.get("offset", 0)
        if not found.get("recovered"):
            self.seen, self.since, self.base = [], len(published), b""
        for publication in found.get("publications", []):
            self.take(publication)

    async def do(self, what: str, published: list[int]) -> None:
        match what:
            case "subscribe":
                await self.subscribe(published)
            case "unsubscribe":
                await self.unsubscribe()
            case "refresh":
                await self.refresh()
            case _:
                self.leave()

    async def unsubscribe(self) -> None:
        if self.session is not None and self.is_subscribed:
            await self.command({"id": 3, "unsubscribe": {"channel": self.channel}})
            self.is_subscribed = False

    async def refresh(self) -> None:
        if self.session is not None:
            token = jwt.encode({"sub": "ann", "exp": EXPIRES}, SECRET, algorithm="HS256")
            await self.command({"id": 4, "refresh": {"token": token}})

    async def command(self, command: dict[str, Any]) -> list[dict[str, Any]]:
        assert self.session is not None
        is_protobuf = self.encoding.codec.name == "protobuf"
        data = codec_protobuf.join([in_protobuf(command)]) if is_protobuf else json.dumps(command).encode()
        before = self.read()
        assert all("push" in message for message in before)
        await commands.run(self.session, self.encoding.codec.commands(data))
        return self.read()

    def read(self) -> list[dict[str, Any]]:
        assert self.connection is not None
        messages = messages_in(self.connection, self.encoding)
        for message in messages:
            if "pub" in message.get("push", {}):
                self.take(message["push"]["pub"])
        return messages

    def take(self, publication: dict[str, Any]) -> None:
        data = publication["data"]
        if self.wish.get("delta"):
            raw = data.encode() if isinstance(data, str) else data
            self.base = bytes(apply_delta(self.base, raw)) if publication.get("delta") else bytes(raw)
            value = json.loads(self.base)
        else:
            value = json.loads(data) if isinstance(data, bytes) else data
        self.seen.append(value["n"])
        self.offset = publication["offset"]


def messages_in(connection: RecordingConnection, encoding: ClientEncoding) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    data = b"".join(connection.writes)
    connection.writes.clear()
    for payload in payloads(data):
        if encoding.codec.name == "protobuf":
            found += [as_json(sdk.Reply.FromString(part)) for part in split(payload)]
        else:
            found += [json.loads(line) for line in payload.split(b"\n")]
    return found


def split(data: bytes) -> list[bytes]:
    parts = []
    while data:
        length, start = codec_protobuf._length(data, 0)
        parts.append(data[start : start + length])
        data = data[start + length :]
    return parts


def as_json(message: Any) -> Any:
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "publications":
            values[field.name] = [as_json(each) for each in value]
        elif field.name == "tags":
            values[field.name] = dict(value)
        else:
            values[field.name] = as_json(value) if field.type == field.TYPE_MESSAGE else value
    return values


def in_protobuf(command: dict[str, Any]) -> bytes:
    message = sdk.Command(id=command["id"])
    [(name, request)] = [(name, value) for name, value in command.items() if name != "id"]
    part = getattr(message, name)
    part.SetInParent()
    for key, value in request.items():
        if key == "tf":
            part.tf.key, part.tf.cmp, part.tf.val = value["key"], value["cmp"], value["val"]
        else:
            setattr(part, key, value)
    return bytes(message.SerializeToString())


def viewers(node: Node) -> list[Viewer]:
    return [
        Viewer(node, JSON_WEBSOCKET, "a.1"),
        Viewer(node, JSON_WEBSOCKET, "a.1"),
        Viewer(node, JSON_WEBSOCKET, "a.1", delta="fossil"),
        Viewer(node, PROTOBUF_WEBSOCKET, "a.1"),
        Viewer(node, JSON_WEBSOCKET, "a.1", delta="fossil"),
        Viewer(node, PROTOBUF_WEBSOCKET, "a.1", delta="fossil"),
        Viewer(node, deflated(JSON_WEBSOCKET, 15), "a.1", delta="fossil"),
        Viewer(node, JSON_WEBSOCKET, "a.1", tf=EVEN),
        Viewer(node, PROTOBUF_WEBSOCKET, "a.*"),
        Viewer(node, deflated(JSON_WEBSOCKET, 9), "a.2"),
    ]


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["subscribe", "unsubscribe", "leave", "refresh"]), st.integers(0, 9)),
        st.tuples(st.just("publish"), st.sampled_from(["a.1", "a.1", "a.2", "other"])),
        st.tuples(st.just("tick"), st.just(0)),
    ),
    min_size=30,
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(steps)
async def test_every_view_of_a_channel_is_whole_and_in_order(taken: list[tuple[str, Any]]) -> None:
    ticks = Ticks()
    node = make_node([RULE], ticks=ticks, clock=ManualClock(time.time()), clients=Clients(command_rate=0))
    everybody = viewers(node)
    published: dict[str, list[int]] = {"a.1": [], "a.2": [], "a.*": [], "even": []}
    for what, which in taken:
        if what == "publish":
            await publish(node, published, which)
        elif what == "tick":
            ticks.end()
        else:
            await everybody[which].do(what, published[expected_by(everybody[which])])
    ticks.end()
    for viewer in everybody:
        whole = published[expected_by(viewer)]
        if viewer.is_subscribed:
            viewer.read()
            assert viewer.seen == whole[viewer.since :], (viewer.channel, viewer.wish)
        else:
            assert viewer.seen == whole[viewer.since : viewer.since + len(viewer.seen)]
        viewer.leave()
    assert len(node.hub) == 0
    assert not node.hub._patterns
    assert node.stats.subscriptions == 0


async def publish(node: Node, published: dict[str, list[int]], channel: str) -> None:
    """The next number, and to whom it belongs."""
    n = sum(map(len, published.values())) + 1
    even = n % 2 == 0
    data = json.dumps({"n": n, "text": "é€😀" * 10, "tail": "x" * 60}).encode()
    await node.publish(Draft([channel], data, tags={"even": "yes" if even else "no"}))
    if channel in published:
        published[channel].append(n)
        published["a.*"].append(n)
    if channel == "a.1" and even:
        published["even"].append(n)


def expected_by(viewer: Viewer) -> str:
    return "even" if "tf" in viewer.wish else viewer.channel


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 2]))
async def test_any_payload_comes_out_as_it_went_in(value: Any, indent: int | None) -> None:
    """On every encoding, live and recovered; formatted ones too."""
    ticks = Ticks()
    node = make_node([RULE], ticks=ticks, clock=ManualClock(time.time()))
    everybody = [viewer for viewer in viewers(node) if viewer.channel == "a.1" and "tf" not in viewer.wish]
    late = viewers(node)[0]
    for viewer in (*everybody, late):
        viewer.take = lambda publication, viewer=viewer: viewer.seen.append(publication["data"])  # type: ignore[method-assign,misc]
        await viewer.subscribe([])
    late.leave()
    await node.publish(Draft(["a.1"], node.check_data(json.dumps(value, indent=indent, ensure_ascii=False).encode())))
    ticks.end()
    await late.subscribe([])
    for viewer in (*everybody, late):
        viewer.read()
        [data] = viewer.seen
        if viewer.encoding.codec.name == "protobuf" or viewer.wish.get("delta"):
            data = json.loads(data)  # type: ignore[arg-type]
        assert json.dumps(data) == json.dumps(value)


@pytest.mark.parametrize("depth", [50, 400])
async def test_deep_payloads_pass_or_are_refused_but_never_break_anything(depth: int) -> None:
    node = make_node([RULE], clock=ManualClock(time.time()))
    try:
        data = node.check_data(b"[" * depth + b"]" * depth)
    except Rejected as error:
        assert "deep" in error.detail
        return
    await node.publish(Draft(["a.1"], data))
    assert msgspec.json.decode(node.history.after("a.1", 0, 0)[0].data, type=msgspec.Raw)
