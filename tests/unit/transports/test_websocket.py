"""Answers to pings, which are most of what silent clients send."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.core.session import Session
from notifier.protocol.encoding import JSON_WEBSOCKET, PROTOBUF_WEBSOCKET, ClientEncoding
from notifier.protocol.reading import FrameReader
from notifier.testing import RecordingConnection, make_node
from notifier.transports.websocket import Talk

MASK = b"\x01\x02\x03\x04"


def frame(payload: bytes, first: int = 0x81) -> bytes:
    masked = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
    return bytes((first, 0x80 | len(payload))) + MASK + masked


class Begun(Talk):
    """Notes what it would make a task for."""

    __slots__ = ("works",)

    works: int

    def run(self, work: Any) -> None:
        work.close()
        self.works += 1


def talk(encoding: ClientEncoding = JSON_WEBSOCKET, *, pinged: bool = True) -> tuple[Begun, Session]:
    connection: Any = RecordingConnection()
    session = Session(make_node(), connection, "websocket", encoding)
    connection.session = session
    session.awaits_pong = pinged

    async def take(_session: Session, _data: bytes) -> None:
        """Never asked."""

    found = Begun(connection, take, FrameReader(1000))
    found.works = 0
    return found, session


def test_an_answer_to_a_ping_is_taken_without_a_task() -> None:
    conversation, session = talk()
    conversation.data_received(frame(b"{}"))
    assert not session.awaits_pong
    assert not conversation.works


@pytest.mark.parametrize(
    "data",
    [
        frame(b"{}")[:5],  # not all of it
        frame(b"{}") + frame(b"{}"),
        frame(b'{"id":1}'),
        frame(b"[]"),
        frame(b"{}", first=0x82),  # binary
        frame(b"{}", first=0x01),  # a part
        frame(b"{}", first=0xC1),  # compressed, which was not agreed on
        frame(b"\n\n"),
    ],
)
def test_everything_else_goes_its_usual_way(data: bytes) -> None:
    conversation, session = talk()
    conversation.data_received(data)
    assert session.awaits_pong
    assert conversation.works == 1


def test_nor_is_it_one_within_a_message_in_parts() -> None:
    conversation, session = talk()
    reader = conversation._reader
    reader.feed(frame(b"{", first=0x01))
    assert reader.read() is not None
    conversation.data_received(frame(b"{}"))
    assert session.awaits_pong
    assert conversation.works == 1


def test_nor_when_nobody_asked_or_it_is_over_or_in_another_codec() -> None:
    conversation, _ = talk(pinged=False)
    conversation.data_received(frame(b"{}"))
    assert conversation.works == 1
    conversation, session = talk()
    session.closed = True
    conversation.data_received(frame(b"{}"))
    assert conversation.works == 1
    conversation, session = talk(PROTOBUF_WEBSOCKET)
    conversation.data_received(frame(b"{}"))
    assert session.awaits_pong
    assert conversation.works == 1
