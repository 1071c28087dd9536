"""The Protobuf codec, against the messages that the public Python SDK has of the same protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from centrifuge.fossil import apply_delta
from centrifuge.protocol import client_pb2 as sdk
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from notifier.protocol import client_pb2, codec_json, codec_protobuf
from notifier.protocol.codes import (
    NO_PONG,
    PERMISSION_DENIED,
    TOO_MANY_REQUESTS,
    UNSUBSCRIBED_EXPIRED,
    ConnectionEnded,
)
from notifier.protocol.filters import MAX_DEPTH, TagFilter
from notifier.protocol.messages import (
    ClientInfo,
    Command,
    ConnectResult,
    Empty,
    Form,
    HistoryResult,
    Message,
    Presence,
    PresenceResult,
    PresenceStatsResult,
    Publication,
    Push,
    RefreshResult,
    Reply,
    RpcResult,
    Shown,
    SubscribePush,
    SubscribeResult,
)
from tests.servers import lacking


def framed(*messages: Any) -> bytes:
    return codec_protobuf.join([message.SerializeToString() for message in messages])


@pytest.mark.parametrize(
    "command",
    [
        {"id": 1, "connect": {"token": "t", "data": {"a": 1}, "name": "x", "version": "1", "headers": {"a": "b"}}},
        {"id": 1, "connect": {}},
        {"id": 1, "connect": {"subs": {"a": {"recover": True, "epoch": "e", "offset": 5}}}},
        {"id": 2, "subscribe": {"channel": "a", "token": "t", "recover": True, "epoch": "e", "offset": 2**60}},
        {"id": 2, "subscribe": {"channel": "a", "positioned": True, "recoverable": True, "join_leave": True}},
        {"id": 2, "subscribe": {"channel": "a", "delta": "fossil", "flag": 3, "data": 1}},
        {
            "id": 2,
            "subscribe": {
                "channel": "a",
                "tf": {
                    "op": "and",
                    "nodes": [{"key": "k", "cmp": "in", "vals": ["x", "é"]}, {"key": "k", "cmp": "ex"}],
                },
            },
        },
        {"id": 3, "unsubscribe": {"channel": "a"}},
        {"id": 4, "publish": {"channel": "a", "data": {"text": "é"}}},
        {"id": 5, "presence": {"channel": "a"}},
        {"id": 6, "presence_stats": {"channel": "a"}},
        {"id": 7, "history": {"channel": "a", "limit": -1, "since": {"offset": 3, "epoch": "e"}, "reverse": True}},
        {"id": 8, "ping": {}},
        {"id": 8, "rpc": {"method": "m", "data": [1, 2]}},
        {"send": {"data": 1}},
        {"id": 9, "refresh": {"token": "t"}},
        {"id": 10, "sub_refresh": {"channel": "a", "token": "t"}},
        {},
    ],
)
def test_a_command_means_the_same_in_both_encodings(command: dict[str, Any]) -> None:
    text = msgspec.json.encode(command).decode()
    assert codec_protobuf.commands(framed(sdk_command(command))) == codec_json.commands(text)


def sdk_command(command: dict[str, Any]) -> Any:
    """The same in the SDK's messages, where payloads are bytes."""
    message = sdk.Command()
    for name, value in command.items():
        if name == "id":
            message.id = value
            continue
        request = getattr(message, name)
        request.SetInParent()
        fill(request, value)
    return message


def fill(message: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name == "data":
            message.data = msgspec.json.encode(value)
        elif name == "subs":
            for channel, each in value.items():
                fill(message.subs[channel], each)
        elif name == "headers":
            message.headers.update(value)
        elif name == "nodes":
            for each in value:
                fill(message.nodes.add(), each)
        elif isinstance(value, dict):
            fill(getattr(message, name), value)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)


def test_several_commands_in_a_frame_come_in_order_and_an_empty_one_is_a_pong() -> None:
    frame = framed(sdk.Command(id=1, connect=sdk.ConnectRequest()), sdk.Command(), sdk.Command(id=2))
    assert [command.id for command in codec_protobuf.commands(frame)] == [1, 0, 2]
    assert codec_protobuf.commands(b"\x00") == [Command()]


def test_fields_that_are_not_known_are_ignored() -> None:
    frame = codec_protobuf.join([sdk.Command(id=5).SerializeToString() + b"\xf8\x07\x01"])
    assert codec_protobuf.commands(frame) == [Command(id=5)]


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10, b"\x05\x08", b"\x02\xff\xff", b"\x04\x22\x02\x0a\xff"])
def test_what_is_no_frame_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ConnectionEnded) as caught:
        codec_protobuf.commands(data)
    assert caught.value.disconnect.code == 3501


@given(st.binary(max_size=200))
def test_whatever_comes_is_commands_or_the_end_of_the_connection(data: bytes) -> None:
    try:
        codec_protobuf.commands(data)
    except ConnectionEnded as error:
        assert error.disconnect.code == 3501


@pytest.mark.parametrize("data", [b"\x80\x01", b"\x81\x00", b"\x05\x08\x01"])
def test_a_command_that_its_frame_does_not_hold_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ConnectionEnded):
        codec_protobuf.commands(data)


@pytest.mark.parametrize("size", [121, 122, 123, 20_000])
def test_a_length_of_several_bytes_is_read_whole(size: int) -> None:
    """The first ones make commands of 127, 128 and 129 bytes: from 128 on a length has two."""
    token = "t" * size
    frame = framed(sdk.Command(id=1, connect=sdk.ConnectRequest(token=token)), sdk.Command(id=2))
    [first, second] = codec_protobuf.commands(frame)
    assert first.connect is not None
    assert (first.connect.token, second.id) == (token, 2)


def test_a_filter_deeper_than_any_may_be_is_passed_on_to_be_answered() -> None:
    """The compiler of filters refuses it with 107, in either encoding."""
    [command] = codec_protobuf.commands(framed(filter_command(MAX_DEPTH + 1)))
    assert command.subscribe is not None
    assert command.subscribe.tf is not None
    with pytest.raises(ValueError, match="deeper than"):
        TagFilter(command.subscribe.tf)


@pytest.mark.parametrize("depth", [17, 90, 1000])
def test_a_filter_that_goes_on_and_on_ends_the_connection(depth: int) -> None:
    with pytest.raises(ConnectionEnded) as caught:
        codec_protobuf.commands(codec_protobuf.join([nested(depth)]))
    assert caught.value.disconnect.code == 3501


def filter_command(depth: int) -> Any:
    return sdk.Command.FromString(nested(depth))


def nested(depth: int) -> bytes:
    """A subscribe command whose filter is that deep: bytes, since no runtime makes the deepest ones."""
    node = part(1, b"not")
    leaf = part(2, b"k") + part(3, b"ex")
    for _ in range(depth - 1):
        leaf = node + part(6, leaf)
    return part(5, part(1, b"a") + part(13, leaf))


def part(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + codec_protobuf.join([content])


def test_the_runtime_without_c_refuses_the_same() -> None:
    """It raises an error of its own for a text that is not UTF-8."""
    program = """
from google.protobuf.internal import api_implementation
from notifier.protocol import codec_protobuf
from notifier.protocol.codes import ConnectionEnded
assert api_implementation.Type() == "python"
for data in (b"\\x05\\x22\\x03\\x0a\\x01\\xff", b"\\x02\\xff\\xff", b""):
    try:
        codec_protobuf.commands(data)
    except ConnectionEnded as error:
        print(error.disconnect.code)
try:
    codec_protobuf.emulation(b"\\x0a\\x01\\xff")
except ValueError as error:
    print(error)
"""
    environ = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["3501"] * 3 + ["not an emulation request in Protobuf"], done.stderr


ROOT = Path(client_pb2.__file__).parent.parent.parent
INFO = ClientInfo("ann", "c1", Raw(b'{"name":"Ann"}'))
PUBLICATION = Publication("a", 7, b'{"text":"\xc3\xa9"}', info=msgspec.json.encode(INFO), tags={"k": "v"})
RESULT = SubscribeResult(
    expires=True,
    ttl=9,
    recoverable=True,
    epoch="e",
    publications=[PUBLICATION, Shown(PUBLICATION, named=True)],
    recovered=True,
    offset=5,
    positioned=True,
    data=Raw(b"1"),
    was_recovering=True,
    delta=True,
)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(),
        Reply(id=1, error=PERMISSION_DENIED),
        Reply(id=1, error=TOO_MANY_REQUESTS),
        Reply(
            id=1,
            connect=ConnectResult(
                "c",
                "1",
                expires=True,
                ttl=5,
                data=Raw(b"2"),
                subs={"a": RESULT},
                ping=25,
                pong=True,
                session="s",
                node="n",
            ),
        ),
        Reply(id=2, subscribe=RESULT),
        Reply(id=2, subscribe=SubscribeResult()),
        Reply(id=3, unsubscribe=Empty()),
        Reply(id=4, publish=Empty()),
        Reply(id=5, presence=PresenceResult({"c1": INFO})),
        Reply(id=6, presence_stats=PresenceStatsResult(2, 1)),
        Reply(id=7, history=HistoryResult([PUBLICATION], "e", 9)),
        Reply(id=8, rpc=RpcResult(Raw(b"[1]"))),
        Reply(id=9, refresh=RefreshResult(expires=True, ttl=5)),
        Reply(id=10, sub_refresh=RefreshResult(expires=True, ttl=5)),
        Reply(push=Push(channel="a", join=Presence(INFO))),
        Reply(push=Push(channel="a", leave=Presence(INFO))),
        Reply(push=Push(channel="a", unsubscribe=UNSUBSCRIBED_EXPIRED)),
        Reply(push=Push(message=Message(Raw(b"1")))),
        Reply(push=Push(channel="a", subscribe=SubscribePush(True, "e", 4, True, Raw(b"1")))),
        Reply(push=Push(disconnect=NO_PONG)),
        Reply(push=Push(refresh=RefreshResult(expires=True, ttl=5))),
    ],
)
def test_a_reply_means_the_same_in_both_encodings(reply: Reply) -> None:
    found = sdk.Reply.FromString(codec_protobuf.reply(reply))
    assert as_json(found) == without_zeros(msgspec.json.decode(codec_json.reply(reply)))


def as_json(message: Any) -> Any:
    """What stands in the SDK's message, as the JSON encoding has it."""
    values = {}
    for field, value in message.ListFields():
        if field.type == field.TYPE_BYTES:
            values[field.name] = msgspec.json.decode(value)
        elif field.name in ("tags", "headers"):
            values[field.name] = dict(value)
        elif field.name in ("subs", "presence") and hasattr(value, "items"):
            values[field.name] = {key: as_json(each) for key, each in value.items()}
        elif field.name == "publications":
            values[field.name] = [as_json(each) for each in value]
        else:
            values[field.name] = as_json(value) if field.type == field.TYPE_MESSAGE else value
    return values


def without_zeros(value: Any) -> Any:
    """JSON always writes some fields; Protobuf never writes zeros."""
    if isinstance(value, dict):
        return {key: without_zeros(each) for key, each in value.items() if each not in (0, "", False, None, [])}
    return [without_zeros(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "reply",
    [
        Reply(id=1, refresh=RefreshResult(expires=True, ttl=10**12)),
        Reply(id=1, subscribe=SubscribeResult(expires=True, ttl=10**12)),
        Reply(id=1, connect=ConnectResult("c", "1", expires=True, ttl=10**12)),
    ],
)
def test_an_end_that_is_too_far_off_for_the_field_is_the_farthest_there_is(reply: Reply) -> None:
    found = sdk.Reply.FromString(codec_protobuf.reply(reply))
    [(_, _), (_, result)] = found.ListFields()
    assert (result.expires, result.ttl) == (True, 2**32 - 1)


def test_a_push_names_its_channel_or_the_pattern_it_came_by() -> None:
    plain = sdk.Reply.FromString(codec_protobuf.push(PUBLICATION)).push
    assert (plain.channel, plain.pub.data, plain.pub.offset, plain.pub.info.user) == ("a", PUBLICATION.data, 7, "ann")
    via = sdk.Reply.FromString(codec_protobuf.push(PUBLICATION, Form.PLAIN, "*")).push
    assert (via.channel, via.pub.channel, dict(via.pub.tags)) == ("*", "a", {"k": "v", "channel": "a"})


def test_a_patch_is_bytes_and_says_so() -> None:
    first, second = (Publication("a", n, b'{"n":%d,"pad":"%b"}' % (n, b"x" * 100)) for n in (1, 2))
    second.base = first.data
    assert not sdk.Reply.FromString(codec_protobuf.push(first, Form.PATCH)).push.pub.delta
    found = sdk.Reply.FromString(codec_protobuf.push(second, Form.PATCH)).push.pub
    assert found.delta
    assert found.data == second.patch(as_text=False)
    whole = sdk.Reply.FromString(codec_protobuf.push(second, Form.WHOLE)).push.pub
    assert (whole.delta, whole.data) == (False, second.data)


def test_a_patch_may_cut_a_character_in_two_since_it_is_no_text() -> None:
    first, second = (Publication("a", 1, f'"{"è" * 60}{letter}{"è" * 60}"'.encode()) for letter in "éê")
    second.base = first.data
    assert second.patch(as_text=False) != second.patch(as_text=True)
    found = sdk.Reply.FromString(codec_protobuf.push(second, Form.PATCH)).push.pub
    assert found.data == second.patch(as_text=False)
    assert bytes(apply_delta(first.data, found.data)) == second.data


def test_an_offset_is_told_only_where_a_history_has_it() -> None:
    kept, passing = (Publication("a", 7, b"1", positioned=positioned) for positioned in (True, False))
    offsets = [sdk.Reply.FromString(codec_protobuf.push(each)).push.pub.offset for each in (kept, passing)]
    assert offsets == [7, 0]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_messages_that_are_joined_can_be_told_apart(messages: list[bytes]) -> None:
    data, found = codec_protobuf.join(messages), []
    while data:
        length, start = codec_protobuf._length(data, 0)
        found.append(data[start : start + length])
        data = data[start + length :]
    assert found == messages


def test_a_request_of_an_emulated_connection() -> None:
    request = client_pb2.EmulationRequest(node="n", session="s", data=b"\x00")
    assert codec_protobuf.emulation(request.SerializeToString()) == ("n", "s", b"\x00")
    with pytest.raises(ValueError, match="Protobuf"):
        codec_protobuf.emulation(b"\xff")


def test_the_classes_are_those_of_the_schema(tmp_path: Path) -> None:
    """`make proto` was run after the last change of client.proto."""
    try:
        from grpc_tools import protoc
    except ImportError:
        lacking("grpcio-tools is missing, so nobody knows whether client_pb2.py is what client.proto says")
    schema = "notifier/protocol/client.proto"
    target = tmp_path / "descriptors"
    assert protoc.main(["protoc", f"--proto_path={ROOT}", f"--descriptor_set_out={target}", f"{ROOT}/{schema}"]) == 0
    [file] = FileDescriptorSet.FromString(target.read_bytes()).file
    made = FileDescriptorProto.FromString(client_pb2.DESCRIPTOR.serialized_pb)
    assert [each.SerializeToString() for each in without_json_names(file)] == [
        each.SerializeToString() for each in without_json_names(made)
    ]


OTHER_NAMES = {
    "ChannelRequest": ["PresenceRequest", "PresenceStatsRequest"],
    "ConnectPush": ["Connect"],
    "Empty": ["PingRequest", "PingResult", "PublishResult", "UnsubscribeResult"],
    "Position": ["StreamPosition"],
    "Presence": ["Join", "Leave"],
    "RefreshPush": ["Refresh"],
    "RpcRequest": ["RPCRequest"],
    "RpcResult": ["RPCResult"],
    "SubscribePush": ["Subscribe"],
}
"""What the SDK calls our messages, where it has other names or several of the same shape."""

NEWER = {("PublishRequest", "type"), ("SubRefreshRequest", "type"), ("SubscribeRequest", "type")}
"""Fields of the protocol that this SDK does not have yet."""


def test_every_field_has_the_number_and_the_type_that_it_has_in_the_sdk() -> None:
    theirs = sdk.DESCRIPTOR.message_types_by_name
    compared = set()
    for ours in client_pb2.DESCRIPTOR.message_types_by_name.values():
        for name in OTHER_NAMES.get(ours.name, [ours.name]):
            compared.add(name)
            fields = theirs[name].fields_by_name
            for field in ours.fields:
                if (name, field.name) in NEWER:
                    assert field.number not in theirs[name].fields_by_number
                    continue
                found = fields[field.name]
                told = (field.number, field.type, field.is_repeated)
                assert told == (found.number, found.type, found.is_repeated), (name, field.name)
    assert compared == set(theirs), "a message of the SDK that we do not have"


def without_json_names(file: FileDescriptorProto) -> list[DescriptorProto]:
    """Compilers write them into descriptors, and leave them out of generated classes."""
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
        for nested in message.nested_type:
            for field in nested.field:
                field.ClearField("json_name")
    return list(file.message_type)
