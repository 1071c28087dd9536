"""Between messages and records: the contract that publishers rely on (design.md section 3)."""

from __future__ import annotations

from typing import Any

import msgspec
from aio_pika import DeliveryMode, Message

from notifier.broker import decoding
from notifier.core.record import NEVER, Draft, Record
from notifier.errors import Rejected
from notifier.log.entry import Entry
from notifier.protocol.codec_json import DECODE_ERRORS, compact
from notifier.protocol.messages import ClientInfo

CHANNELS, TAG = "channels", "tag-"
INFO, REF, SKIP_HISTORY = "notifier-info", "notifier-ref", "notifier-skip-history"
VERSION, VERSION_EPOCH = "notifier-version", "notifier-version-epoch"
# In milliseconds: RabbitMQ writes it when told to (`message_interceptors.incoming.set_header_timestamp`, before 3.12
# the plugin rabbitmq_message_timestamp), and publishers may.
SENT_AT = "timestamp_in_ms"
_decode_info = msgspec.json.Decoder(ClientInfo).decode


def to_record(entry: Entry, offset: int) -> Record:
    """The record in an entry. Raises Rejected when a property is not what the contract says."""
    if entry.unreadable:
        raise Rejected("unreadable", entry.unreadable)
    record = Record(offset, entry.key, entry.body, message_id=entry.message_id, event=entry.type)
    if entry.expiration:
        record.ttl_s = _expiration(entry.expiration)
    if entry.headers:
        _take_headers(record, entry.headers)
    return record


def ref_of(entry: Entry) -> str:
    """What a worker of ours wrote to know its own record again; empty on the records of others."""
    ref = entry.headers.get(REF, "") if entry.headers else ""
    return ref if isinstance(ref, str) else ""


def to_message(draft: Draft, ref: str) -> Message:
    """A draft as a publisher would send it, with our mark on it."""
    headers: dict[str, Any] = {REF: ref}
    if len(draft.channels) > 1:
        headers[CHANNELS] = " ".join(draft.channels[1:])
    if draft.info:
        headers[INFO] = draft.info
    if draft.skip_history:
        headers[SKIP_HISTORY] = "1"
    if draft.version:
        headers[VERSION] = draft.version
        headers[VERSION_EPOCH] = draft.version_epoch
    for name, value in (draft.tags or {}).items():
        headers[TAG + name] = value
    return Message(
        draft.body,
        headers=headers,
        message_id=draft.message_id or ref,
        delivery_mode=DeliveryMode.PERSISTENT,
        content_type="application/json",
    )


def _take_headers(record: Record, headers: dict[str, Any]) -> None:
    if REF in headers and headers[REF] == record.message_id:
        record.message_id = ""  # nobody asked for this id: a worker's own append without an idempotency key
    record.channels = _text(headers, CHANNELS)
    record.info = _info(headers) if INFO in headers else ""
    record.traceparent = _text(headers, "traceparent")
    record.skip_history = SKIP_HISTORY in headers
    if isinstance(sent_at_ms := headers.get(SENT_AT), int):
        record.sent_at = sent_at_ms / 1000
    if VERSION in headers:
        record.version = _number(headers, VERSION)
        record.version_epoch = _text(headers, VERSION_EPOCH)
    tags = {name[len(TAG) :]: _shown(value) for name, value in headers.items() if name.startswith(TAG)}
    if tags:
        record.tags = tags


def _text(headers: dict[str, Any], name: str) -> str:
    value = headers.get(name, "")
    if isinstance(value, bytearray):
        value = _shown(value)
    if not isinstance(value, str):
        raise Rejected("bad_header", f"the header {name} is not a text")
    return value


def _shown(value: object) -> str:
    """RabbitMQ 4 makes a binary of every text of more than 255 bytes that it puts into a stream."""
    return decoding.text(bytes(value)) if isinstance(value, (bytes, bytearray)) else str(value)


def _info(headers: dict[str, Any]) -> str:
    """Who a client's publication is from, as a worker wrote it, or somebody in its name."""
    try:
        text = compact(_text(headers, INFO).encode())
        _decode_info(text)
    except (ValueError, *DECODE_ERRORS) as error:
        raise Rejected("bad_header", f"the header {INFO} is not what a worker writes") from error
    return text.decode()


def _number(headers: dict[str, Any], name: str) -> int:
    value = headers[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Rejected("bad_header", f"the header {name} is not a number")
    return value


def _expiration(text: str) -> float:
    try:
        milliseconds = int(text)
    except ValueError:
        raise Rejected("bad_expiration", "the property expiration is not a number of milliseconds") from None
    return milliseconds / 1000 if milliseconds >= 0 else NEVER
