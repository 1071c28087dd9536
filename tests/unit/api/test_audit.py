"""What is written down of API calls, and what is not."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from notifier.api import methods
from notifier.api.audit import REFUSALS_A_MINUTE, Audit, Mode
from notifier.config import ChannelRule
from notifier.protocol.codes import CommandFailed
from notifier.testing import make_node

STANDARD = {*vars(logging.makeLogRecord({})), "message"}


async def call(mode: Mode, method: str, **request: Any) -> None:
    node = make_node([ChannelRule(match="room.*", subscribe=["anyone"])])
    await Audit(mode).call(node, method, json.dumps(request).encode(), "key 1 at 10.0.0.9")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [record for record in caplog.records if record.name == "notifier.audit"]
    return [{name: value for name, value in vars(record).items() if name not in STANDARD} for record in found]


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "notifier.audit")


async def test_who_ended_what_is_written(caplog: pytest.LogCaptureFixture) -> None:
    await call("changes", "disconnect", user="42")
    [line] = lines(caplog)
    assert line.pop("ms") >= 0
    assert line == {"method": "disconnect", "by": "key 1 at 10.0.0.9", "outcome": "ok", "user": "42"}


async def test_which_message_was_asked_about_is_written(caplog: pytest.LogCaptureFixture) -> None:
    await call("all", "explain", id="m1")
    assert [line["message_id"] for line in lines(caplog)] == ["m1"]


@pytest.mark.parametrize(("mode", "count"), [("off", 0), ("changes", 0), ("all", 2)])
async def test_publishing_and_reading_are_written_on_request(
    caplog: pytest.LogCaptureFixture, mode: Mode, count: int
) -> None:
    await call(mode, "publish", channel="room.1", data={"secret": "canary"}, idempotency_key="m1")
    await call(mode, "channels")
    assert len(lines(caplog)) == count
    assert [line["message_id"] for line in lines(caplog)[:1]] == ["m1"][:count]
    assert "canary" not in str(lines(caplog))


async def test_what_a_person_publishes_is_written_and_what_a_person_reads_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = make_node([ChannelRule(match="room.*", subscribe=["anyone"])])
    for method, body in (("publish", b'{"channel":"room.1","data":"canary"}'), ("channels", b"{}")):
        await Audit("changes").call(node, method, body, "operator ann", by_hand=True)
    [line] = lines(caplog)
    assert (line["method"], line["by"], line["channel"]) == ("publish", "operator ann", "room.1")
    assert "canary" not in str(line)


async def test_what_failed_is_written_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CommandFailed):
        await call("changes", "subscribe", user="42", channel="nowhere")
    with pytest.raises(methods.NoSuchMethod):
        await call("changes", "x" * 1000)
    with pytest.raises(methods.BadBody):
        await call("changes", "unsubscribe", channel=5)
    first, second, third = lines(caplog)
    assert (first["outcome"], first["channel"]) == ("error 102", "nowhere")
    assert (second["method"], second["outcome"]) == ("unknown", "bad request")
    assert third["outcome"] == "bad request"


async def test_a_batch_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    await call("changes", "batch", commands=[{"disconnect": {"user": "42"}}, {"revoke": {"token": "t1"}}, {"odd": {}}])
    [line] = lines(caplog)
    assert line["commands"] == ["disconnect user=42", "revoke token=t1", "unknown"]


def test_many_who_have_no_key_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit("changes")
    for _ in range(1000):
        audit.refused("10.0.0.9")
    assert len(lines(caplog)) == REFUSALS_A_MINUTE
    audit._minute -= 1
    audit.refused("10.0.0.9")
    assert lines(caplog)[-2:] == [{"calls": 1000 - REFUSALS_A_MINUTE}, {"address": "10.0.0.9"}]
