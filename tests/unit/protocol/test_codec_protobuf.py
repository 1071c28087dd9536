"""The Protobuf codec, against the messages that the public Python SDK has of the same protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from centrifuge.protocol import client_pb2 as sdk
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
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
    schema = "notifier/protocol/client.proto"
    target = tmp_path / "descriptors"
    assert protoc.main(["protoc", f"--proto_path={ROOT}", f"--descriptor_set_out={target}", f"{ROOT}/{schema}"]) == 0
    [file] = FileDescriptorSet.FromString(target.read_bytes()).file
    made = FileDescriptorProto.FromString(client_pb2.DESCRIPTOR.serialized_pb)
    assert [each.SerializeToString() for each in without_json_names(file)] == [
        each.SerializeToString() for each in without_json_names(made)
    ]


def without_json_names(file: FileDescriptorProto) -> list[DescriptorProto]:
    """Compilers write them into descriptors, and leave them out of generated classes."""
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
        for nested in message.nested_type:
            for field in nested.field:
                field.ClearField("json_name")
    return list(file.message_type)
