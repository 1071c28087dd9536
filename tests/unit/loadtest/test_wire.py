"""Openings, and bodies taken out of frames."""

from __future__ import annotations

import pytest

from loadtest import frames
from loadtest.frames import client_frame, server_frame
from loadtest.peers.node import SocketIoWire
from loadtest.peers.product import SECRET, ProductWire
from loadtest.sample import Sample
from loadtest.traffic import Bodies, Reader
from loadtest.wire import Dialogue, PlainWire, Refused, Step, upgrade

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def test_a_dialogue_says_its_next_words_when_it_is_answered() -> None:
    dialogue = Dialogue(PlainWire().steps(0, "bench"))
    assert dialogue.begin().startswith(b"GET /subscribe HTTP/1.1\r\n")
    assert dialogue.take(ACCEPTED[:-1]) == b""
    assert dialogue.take(ACCEPTED[-1:]) == client_frame(b"bench")
    assert (dialogue.done, dialogue.take(server_frame(b"ok") + b"more"), dialogue.done) == (False, b"", True)
    assert dialogue.rest == b"more"


def test_an_answer_may_come_with_the_one_before_it() -> None:
    """Engine.IO's first frame follows the upgrade at once, and nothing is said in between."""
    dialogue = Dialogue(SocketIoWire().steps(0, "bench"))
    dialogue.begin()
    assert dialogue.take(ACCEPTED + server_frame(b'0{"sid":"a"}')) == client_frame(b"40")
    assert dialogue.take(server_frame(b'40{"sid":"b"}')) == client_frame(b'420["subscribe","bench"]')
    dialogue.take(server_frame(b'430["ok"]'))
    assert dialogue.done


@pytest.mark.parametrize("together", [True, False])
def test_the_two_replies_of_the_server_may_come_in_one_frame_or_in_two(together: bool) -> None:
    replies = [b'{"id":1,"connect":{"client":"x","version":"1"}}', b'{"id":2,"subscribe":{"recoverable":true}}']
    dialogue = Dialogue(ProductWire(SECRET).steps(0, "bench"))
    dialogue.begin()
    assert b'"subscribe":{"channel":"bench"}' in dialogue.take(ACCEPTED)
    dialogue.take(server_frame(b"\n".join(replies)) if together else b"".join(map(server_frame, replies)))
    assert dialogue.done
    assert dialogue.rest == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        ACCEPTED + server_frame(b'{"id":2,"error":{"code":103,"message":"permission denied"}}'),
        ACCEPTED + server_frame(b"\x0d\xacinvalid token", frames.CLOSE),
    ],
    ids=["http", "error", "close"],
)
def test_a_refusal_is_told(answer: bytes) -> None:
    dialogue = Dialogue([upgrade("/"), Step(b"", b'"id":2,"subscribe"')])
    dialogue.begin()
    with pytest.raises(Refused):
        dialogue.take(answer)


def test_bodies_are_taken_out_of_their_envelopes() -> None:
    body = Bodies(200).make(1, 2)
    push = b'{"push":{"channel":"bench","pub":{"data":%s,"offset":15}}}' % body
    assert ProductWire(SECRET).body(push) == body
    assert SocketIoWire().body(b'42["m",%s]' % body) == body
    assert PlainWire().body(body) == body


def test_two_pushes_in_one_frame_are_refused_since_frames_are_counted() -> None:
    push = b'{"push":{"channel":"bench","pub":{"data":%s,"offset":15}}}' % Bodies(200).make(1, 2)
    with pytest.raises(ValueError, match="not one push"):
        ProductWire(SECRET).body(push + b"\n" + push)


def sample(rest: bytes = b"") -> Sample:
    return Sample(ProductWire(SECRET), Reader(Bodies(200), 0, 1), 200, rest)


def pushed(number: int) -> bytes:
    body = Bodies(200).make(number, 1000 + number)
    return server_frame(b'{"push":{"channel":"bench","pub":{"data":%s,"offset":%d}}}' % (body, number + 1))


def test_a_sample_reads_times_across_chunks_and_hands_out_pings() -> None:
    one = sample(rest=pushed(0)[:100])
    ping = server_frame(b"{}")
    assert one.take(pushed(0)[100:] + ping + pushed(1)[:3]) == [frames.Frame(frames.TEXT, b"{}")]
    assert one.times_ns == [1000]
    assert one.take(pushed(1)[3:] + pushed(2)) == []
    assert one.times_ns == [1001, 1002]
    assert (one.received, one.collect_faults()) == (3, [])


def test_a_sample_tells_of_what_is_missing() -> None:
    one = sample()
    one.take(pushed(0) + pushed(2))
    assert one.collect_faults() == ["publication 2 came where 1 was due"]
    assert one.collect_faults() == []
