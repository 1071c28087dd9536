"""Between AMQP messages and records."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp.header import ContentHeader

from notifier.core.record import NEVER, Draft
from notifier.errors import Rejected
from notifier.log import amqp
from notifier.log.entry import Entry
from notifier.log.reader_amqp import entry_of


def delivered(body: bytes = b"1", key: str = "a", place: int = 5, **properties: Any) -> Entry:
    headers = {"x-stream-offset": place, **properties.pop("headers", {})}
    message = DeliveredMessage(
        delivery=spec.Basic.Deliver("tag", 1, False, "notifications", key),
        header=ContentHeader(0, len(body), spec.Basic.Properties(headers=headers, **properties)),
        body=body,
        channel=None,  # type: ignore[arg-type]
    )
    return entry_of(message)


def test_a_bare_message_is_a_record_of_its_routing_key() -> None:
    record = amqp.to_record(delivered(b"[1]", "user.42"), 6)
    assert (record.offset, record.channel, record.body) == (6, "user.42", b"[1]")
    assert (record.channels, record.message_id, record.ttl_s, record.event, record.tags) == ("", "", NEVER, "", None)


def test_properties_and_headers_mean_what_the_contract_says() -> None:
    headers = {"channels": "b c", "tag-lang": "en", "tag-n": 5, "traceparent": "00-a-b-01", "other": "x"}
    record = amqp.to_record(delivered(message_id="id", expiration="1500", message_type="made", headers=headers), 6)
    assert record.channels == "b c"
    assert record.message_id == "id"
    assert record.ttl_s == 1.5
    assert record.event == "made"
    assert record.tags == {"lang": "en", "n": "5"}
    assert record.traceparent == "00-a-b-01"


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"expiration": "soon"}, "bad_expiration"),
        ({"headers": {"channels": 5}}, "bad_header"),
        ({"headers": {"traceparent": 5.5}}, "bad_header"),
    ],
)
def test_properties_of_another_kind_are_rejected_with_a_reason(properties: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        amqp.to_record(delivered(**properties), 6)
    assert caught.value.reason == reason


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(["channels", "notifier-info", "notifier-ref", "tag-x", "x"]), VALUES), st.text())
def test_any_headers_are_a_record_or_rejected(headers: dict[str, Any], expiration: str) -> None:
    message = delivered(headers=headers, expiration=expiration)
    with contextlib.suppress(Rejected):
        amqp.to_record(message, 6)
    assert isinstance(amqp.ref_of(message), str)


def test_what_a_worker_appends_comes_back_as_it_was() -> None:
    info = '{"user":"u","client":"c"}'
    draft = Draft(["a", "b", "c"], b"1", message_id="key", tags={"lang": "en"}, info=info, skip_history=True)
    message = amqp.to_message(draft, "node-1")
    sent = message.properties
    again = delivered(message.body, "a", headers=dict(sent.headers or {}), message_id=sent.message_id)
    record = amqp.to_record(again, 6)
    assert (record.channels, record.message_id, record.tags) == ("b c", "key", {"lang": "en"})
    assert (record.info, record.skip_history) == (info, True)
    assert amqp.ref_of(again) == "node-1"
    assert message.delivery_mode == 2


def test_an_append_without_a_key_has_no_message_id_for_the_repeat_window() -> None:
    message = amqp.to_message(Draft(["a"], b"1"), "node-1")
    again = delivered(headers=dict(message.properties.headers or {}), message_id=message.message_id)
    assert amqp.to_record(again, 6).message_id == ""


@pytest.mark.parametrize("info", ["x", "{}", '{"user":"u"}', '{"user":5,"client":"c"}', "[" * 500, 5])
def test_info_that_no_worker_wrote_is_rejected(info: Any) -> None:
    with pytest.raises(Rejected) as caught:
        amqp.to_record(delivered(headers={amqp.INFO: info, "x-stream-offset": 1}), 1)
    assert caught.value.reason == "bad_header"


def test_info_is_made_one_line() -> None:
    record = amqp.to_record(delivered(headers={amqp.INFO: '{"user":"u",\n"client":"c"}', "x-stream-offset": 1}), 1)
    assert record.info == '{"user":"u", "client":"c"}'


def test_when_the_broker_got_a_message_is_known_if_it_says_so() -> None:
    stamped = delivered(headers={"timestamp_in_ms": 1_800_000_000_250})
    assert amqp.to_record(stamped, 6).sent_at == 1_800_000_000.25
    assert amqp.to_record(delivered(headers={"timestamp_in_ms": "soon"}), 6).sent_at == 0
