"""Log lines."""

from __future__ import annotations

import json
import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.telemetry import logs
from notifier.telemetry.logs import JsonFormatter, TextFormatter


def entry(message: str, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "notifier.x", **fields})


def test_json_has_the_message_and_the_fields() -> None:
    line = json.loads(JsonFormatter().format(entry("connected", broker="host:5672", n=3)))
    assert line["message"] == "connected"
    assert line["level"] == "info"
    assert (line["broker"], line["n"]) == ("host:5672", 3)
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("said", ["", "a b", "x" * 65, "a\nb", "a\x1b[31m", "é"])
def test_a_request_has_the_id_that_its_sender_gave_it_or_a_new_one(said: str) -> None:
    with logs.of_request("order-17") as given:
        line = json.loads(JsonFormatter().format(entry("x")))
        with logs.of_request(said) as made:
            assert f" request={made}" in TextFormatter().format(entry("x"))
    assert (line["request"], given) == ("order-17", "order-17")
    assert re.fullmatch("[0-9a-f]{16}", made)
    assert "request" not in json.loads(JsonFormatter().format(entry("x")))


@given(st.text())
def test_an_entry_is_one_line_whatever_is_in_it(text: str) -> None:
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(entry(text.replace("%", ""), client=text))
        assert len(line.splitlines()) == 1
        line.encode()


def test_long_values_are_cut() -> None:
    assert len(JsonFormatter().format(entry("x", agent="y" * 10**6))) < 5000


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_is_shown_with_its_traceback(formatter: logging.Formatter) -> None:
    try:
        int("broken")
    except ValueError:
        text = formatter.format(entry("failed", exc_info=sys.exc_info()))
    assert "Traceback" in text
    assert "broken" in text
