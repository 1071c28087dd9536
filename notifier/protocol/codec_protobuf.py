"""The Protobuf codec (protocol.md sections 1.2, 2): the same commands, replies and pushes as in JSON.

The schema is `client.proto`. Payloads are bytes there; here they are JSON all the same, because a publication goes to
clients of every encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from google.protobuf.message import DecodeError, Message
from msgspec import Raw, Struct

from notifier.protocol import client_pb2 as pb
from notifier.protocol.codes import bad_command
from notifier.protocol.filters import FilterNode
from notifier.protocol.messages import (
    ChannelRequest,
    ClientInfo,
    Command,
    ConnectRequest,
    Form,
    HistoryRequest,
    Position,
    Publication,
    PublishRequest,
    RefreshRequest,
    Reply,
    RpcRequest,
    SendRequest,
    Shown,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)

_MAX_LENGTH_BYTES = 5
_MAX_FILTER_DEPTH = 16  # only bounds the recursion: what is too deep for a filter is answered with 107, as in JSON
_MAX_U32 = 0xFFFF_FFFF

# Protobuf's runtime without C lets the second one through.
_DECODE_ERRORS = (DecodeError, UnicodeDecodeError)

_REQUESTS: dict[str, type[Struct]] = {
    "connect": ConnectRequest,
    "subscribe": SubscribeRequest,
    "unsubscribe": UnsubscribeRequest,
    "publish": PublishRequest,
    "presence": ChannelRequest,
    "presence_stats": ChannelRequest,
    "history": HistoryRequest,
    "send": SendRequest,
    "rpc": RpcRequest,
    "refresh": RefreshRequest,
    "sub_refresh": SubRefreshRequest,
}
_decode_info = msgspec.json.Decoder(ClientInfo).decode


# --- in -------------------------------------------------------------------------------------------------------------


def commands(data: bytes) -> list[Command]:
    """The commands of one frame, each after its length as a varint.

    Raises ConnectionEnded (3501) when any of them is no command; then none is to be run.
    """
    if not data:
        raise bad_command("an empty frame")
    found = []
    at = 0
    while at < len(data):
        # One frame may hold as many commands as bytes, and the loop waits: no calls for what is short.
        length, at = (data[at], at + 1) if data[at] < 0x80 else _length(data, at)
        if at + length > len(data):
            raise bad_command("a command is longer than its frame")
        found.append(_command(data[at : at + length]) if length else Command())
        at += length
    return found


def emulation(data: bytes) -> tuple[str, str, bytes]:
    """Node, session and commands of a request to `/emulation`. Raises ValueError."""
    try:
        found = pb.EmulationRequest.FromString(data)
    except _DECODE_ERRORS as error:
        raise ValueError("not an emulation request in Protobuf") from error
    return found.node, found.session, found.data


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The varint that begins there, and where it ends."""
    length = 0
    for count, byte in enumerate(data[at : at + _MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return length, at + count + 1
    raise bad_command("a length that does not end")


def _command(data: bytes) -> Command:
    try:
        message = pb.Command.FromString(data)
    except _DECODE_ERRORS as error:
        raise bad_command("not a command in Protobuf") from error
    command = Command(id=message.id)
    for field, value in message.ListFields():
        if field.name == "ping":
            command.ping = {}
        elif field.name in _REQUESTS:
            setattr(command, field.name, _request(value, _REQUESTS[field.name]))
    return command


def _request(message: Message, kind: type[Struct]) -> Any:
    """A request from its message; fields that we do not know have no place in it."""
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "subs":
            values["subs"] = {channel: _request(each, SubscribeRequest) for channel, each in value.items()}
        elif field.name == "headers":
            values["headers"] = dict(value)
        elif field.name == "since":
            values["since"] = Position(value.offset, value.epoch)
        elif field.name == "tf":
            values["tf"] = _filter(value, 1)
        else:
            values[field.name] = Raw(value) if isinstance(value, bytes) else value
    return kind(**values)


def _filter(node: pb.FilterNode, depth: int) -> FilterNode:
    if depth > _MAX_FILTER_DEPTH:
        raise bad_command("a tag filter that is too deep")
    return FilterNode(
        node.op, node.key, node.cmp, node.val, list(node.vals), [_filter(each, depth + 1) for each in node.nodes]
    )


# --- out ------------------------------------------------------------------------------------------------------------


def reply(message: Reply) -> bytes:
    """One reply, without its length."""
    found = pb.Reply()
    _fill(found, message)
    return found.SerializeToString()


def push(message: Publication, form: Form = Form.PLAIN, via: str = "") -> bytes:
    """The push of one publication. `via` is the pattern by which the client is subscribed, if it is by one."""
    found = pb.Reply()
    found.push.channel = via or message.channel
    _show(found.push.pub, message, form, named=bool(via))
    return found.SerializeToString()


def join(messages: Sequence[bytes]) -> bytes:
    """Several messages in one frame, each after its length."""
    parts: list[bytes] = []
    for message in messages:
        parts += (_varint(len(message)), message)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _fill(message: Any, value: Struct) -> None:
    """Fields have the same names on both sides. What is None is absent; what is empty but there is present."""
    for name in value.__struct_fields__:
        field = getattr(value, name)
        if isinstance(field, Struct):
            part = getattr(message, name)
            part.SetInParent()
            _fill(part, field)
        elif isinstance(field, dict):
            for key, each in field.items():
                _fill(getattr(message, name)[key], each)
        elif isinstance(field, list):
            for each in field:
                _add(getattr(message, name).add(), each)
        elif isinstance(field, Raw):
            setattr(message, name, bytes(field))
        elif name == "ttl":
            message.ttl = min(field, _MAX_U32)  # of a token with its end in milliseconds, say
        elif field is not None:
            setattr(message, name, field)


def _add(message: pb.Publication, entry: Publication | Shown) -> None:
    if isinstance(entry, Shown):
        _show(message, entry.publication, entry.form, named=entry.named)
    else:
        _show(message, entry, Form.PLAIN, named=False)


def _show(found: pb.Publication, message: Publication, form: Form, *, named: bool) -> None:
    patch = message.patch(as_text=False) if form is Form.PATCH else None
    found.data = message.data if patch is None else patch
    found.delta = patch is not None
    if message.info:
        _fill(found.info, _decode_info(message.info))
    if message.offset and message.positioned:
        found.offset = message.offset
    if message.tags:
        found.tags.update(message.tags)
    if named:
        found.tags["channel"] = found.channel = message.channel
