"""Frames and events, read back by independent parsers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Opcode
from websockets.protocol import CLIENT, Protocol

from notifier.protocol import frames
from notifier.protocol.codes import Disconnect
from notifier.protocol.encoding import SSE, SSE_ENVELOPE
from notifier.protocol.messages import Publication


def received(data: bytes) -> list[tuple[Opcode, bytes]]:
    """What an independent client makes of a server's bytes."""
    protocol = Protocol(CLIENT, max_size=None)
    protocol.receive_data(data)
    return [(event.opcode, bytes(event.data)) for event in protocol.events_received()]  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_frames_of_any_size_are_read_by_a_client(size: int) -> None:
    payload = b"x" * size
    assert received(frames.frame(frames.TEXT, payload)) == [(Opcode.TEXT, payload)]


def test_frames_can_be_joined() -> None:
    data = frames.frame(frames.TEXT, b"1") + frames.frame(frames.BINARY, b"2")
    assert received(data) == [(Opcode.TEXT, b"1"), (Opcode.BINARY, b"2")]


@given(st.integers(3000, 4999), st.text())
def test_a_close_frame_is_valid_whatever_the_reason(code: int, reason: str) -> None:
    try:
        reason.encode()
    except UnicodeEncodeError:
        return
    protocol = Protocol(CLIENT)
    protocol.receive_data(frames.close_frame(Disconnect(code, reason)))
    assert protocol.close_rcvd is not None
    assert protocol.close_rcvd == Close(code, protocol.close_rcvd.reason)
    assert reason.startswith(protocol.close_rcvd.reason)


def parse_events(text: str) -> list[dict[str, str]]:
    """An event stream by the letter of the HTML standard, section 9.2.6."""
    events, last_id = [], ""
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if "id" in fields:
                last_id = fields["id"]
            if data:
                events.append({"id": last_id, "event": fields.get("event", "message"), "data": "\n".join(data)})
            fields, data = {}, []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name:
            fields[name] = value
    return events


@given(
    st.binary().map(lambda data: data.replace(b"\n", b"").replace(b"\r", b"").decode(errors="ignore").encode()),
    st.from_regex(r"[ -~]{0,20}", fullmatch=True),
)
def test_an_event_is_read_as_it_was_meant(data: bytes, name: str) -> None:
    publication = Publication("a", 5, data, event=name)
    [event] = parse_events(SSE.publication(publication, "e").decode())
    shown = name if name and not name.startswith("notifier.") else "message"
    assert event == {"id": "e:5", "event": shown, "data": data.decode()}


def test_an_event_without_data_moves_the_cursor_and_shows_nothing() -> None:
    events = parse_events((frames.cursor_event("e:9") + frames.event(b"1")).decode())
    assert events == [{"id": "e:9", "event": "message", "data": "1"}]


def test_a_type_that_looks_like_an_event_of_the_server_is_none() -> None:
    forged = Publication("a", 5, b"1", event="notifier.disconnect")
    assert b"event:" not in SSE.publication(forged, "e")


def test_a_publication_without_an_offset_has_no_cursor() -> None:
    assert SSE_ENVELOPE.publication(Publication("a", 0, b"1"), "e") == b'data: {"channel":"a","data":1}\n\n'
