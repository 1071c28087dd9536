"""Openings, and bodies taken out of frames."""

from __future__ import annotations

import json
import zlib

import pytest

from loadtest import frames
from loadtest.frames import client_frame, server_frame, split
from loadtest.peers.node import SocketIoWire
from loadtest.peers.product import SECRET
from loadtest.peers.product_wire import DeflateWire, DeltaWire, ProductEventsWire, ProductWire
from loadtest.peers.rabbitmq import MqttWire, StompWire
from loadtest.recovery import MISSED, Position, ReturningWire
from loadtest.sample import Sample
from loadtest.traffic import SMALLEST_BODY, Bodies, Reader
from loadtest.wire import Dialogue, PlainWire, Refused, Step, Unspeakable, Wire, upgrade
from notifier.protocol.fossil import make_patch

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


def sample(rest: bytes = b"", wire: Wire | None = None) -> Sample:
    return Sample(wire or ProductWire(SECRET), Reader(Bodies(200), 0, 1), 200, rest)


def push(number: int) -> bytes:
    body = Bodies(200).make(number, 1000 + number)
    return b'{"push":{"channel":"bench","pub":{"data":%s,"offset":%d}}}' % (body, number + 1)


def pushed(number: int) -> bytes:
    return server_frame(push(number))


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


# --- smaller on the wire ------------------------------------------------------------------------------------------


def packed_frame(message: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    payload = packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH)
    return server_frame(payload.removesuffix(b"\x00\x00\xff\xff"), frames.TEXT | frames.RSV1)


def connected(wire: ProductWire, accepted: bytes, reply: bytes) -> Dialogue:
    dialogue = Dialogue(wire.steps(0, "bench"))
    dialogue.begin()
    dialogue.take(accepted)
    dialogue.take(reply)
    return dialogue


SUBSCRIBED = b'{"id":1,"connect":{"client":"x"}}\n{"id":2,"subscribe":{"recoverable":true%s}}'
COMPRESSING = ACCEPTED.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")


def test_compression_is_offered_and_compressed_answers_are_read() -> None:
    wire = DeflateWire(SECRET)
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n" in wire.steps(0, "bench")[0].send
    assert connected(wire, COMPRESSING, packed_frame(SUBSCRIBED % b"")).done


def test_a_server_that_does_not_compress_is_not_measured_as_one_that_does() -> None:
    with pytest.raises(Refused, match="without permessage-deflate"):
        connected(DeflateWire(SECRET), ACCEPTED, b"")


def test_compression_is_not_offered_by_others() -> None:
    for wire in (ProductWire(SECRET), DeltaWire(SECRET), PlainWire()):
        assert b"Extensions" not in wire.steps(0, "bench")[0].send


def test_deltas_are_asked_for() -> None:
    wire = DeltaWire(SECRET)
    assert b'"subscribe":{"channel":"bench","delta":"fossil"}' in wire.steps(0, "bench")[1].send
    assert connected(wire, ACCEPTED, server_frame(SUBSCRIBED % b',"delta":true')).done


def test_a_server_that_gives_no_deltas_is_not_measured_as_one_that_does() -> None:
    with pytest.raises(Refused, match='without "delta":true'):
        connected(DeltaWire(SECRET), ACCEPTED, server_frame(SUBSCRIBED % b""))


def test_compressed_publications_are_checked_byte_by_byte() -> None:
    one = sample(wire=DeflateWire(SECRET))
    one.take(b"".join(packed_frame(push(number)) for number in range(3)))
    assert (one.received, one.times_ns, one.collect_faults()) == (3, [1000, 1001, 1002], [])
    one.take(packed_frame(push(3).replace(b'"pad":"', b'"pad":"!')))
    assert len(one.collect_faults()) == 1


def test_a_compressed_frame_that_nobody_asked_for_is_a_fault() -> None:
    one = Sample(ProductWire(SECRET), Reader(Bodies(SMALLEST_BODY), 0, 1), SMALLEST_BODY, b"")
    one.take(packed_frame(push(0)))
    assert one.collect_faults() == ["a compressed frame that nobody asked for"]


def patched(number: int) -> bytes:
    """The push of a publication as the difference to the one before it."""
    patch = make_patch(Bodies(200).make(number - 1, 999 + number), Bodies(200).make(number, 1000 + number))
    return (
        b'{"push":{"channel":"bench","pub":{"data":%s,"offset":9,"delta":true}}}' % json.dumps(patch.decode()).encode()
    )


def whole(number: int) -> bytes:
    text = json.dumps(Bodies(200).make(number, 1000 + number).decode()).encode()
    return b'{"push":{"channel":"bench","pub":{"data":%s,"offset":9}}}' % text


def test_publications_are_put_together_from_their_deltas() -> None:
    one = sample(wire=DeltaWire(SECRET))
    assert len(patched(1)) < 200
    messages = [whole(number) if number in (0, 5) else patched(number) for number in range(13)]
    one.take(b"".join(map(server_frame, messages)))
    assert (one.received, one.times_ns[-1], one.collect_faults()) == (13, 1012, [])


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([patched(1)], "nothing came before it"),
        ([whole(0), patched(12)], "another source"),
        ([whole(0), whole(2)], "publication 2 came where 1 was due"),
        ([whole(0), push(1)], "not one push"),
        ([whole(0), whole(1) + b"\n" + whole(2)], "not one push"),
    ],
    ids=["no base", "another base", "gap", "not a text", "two"],
)
def test_deltas_that_do_not_fit_are_faults(messages: list[bytes], words: str) -> None:
    one = sample(wire=DeltaWire(SECRET))
    one.take(b"".join(map(server_frame, messages)))
    [fault] = one.collect_faults()
    assert words in fault


def test_each_connection_has_deltas_of_its_own() -> None:
    wire = DeltaWire(SECRET)
    one, other = sample(wire=wire), sample(wire=wire)
    one.take(server_frame(whole(0)))
    other.take(server_frame(patched(1)))
    assert one.collect_faults() == []
    assert len(other.collect_faults()) == 1


@pytest.mark.parametrize("size", [SMALLEST_BODY, 200, 1024])
def test_publications_are_told_from_pings_however_small_they_become(size: int) -> None:
    bodies = [Bodies(size).make(number, 10**12 + number) for number in range(2)]
    plain = b'{"push":{"channel":"b","pub":{"data":%s}}}'
    patch = json.dumps(make_patch(*bodies).decode()).encode()
    [packed], _ = split(packed_frame(plain % bodies[1]))
    assert len(packed.payload) >= DeflateWire(SECRET).smallest(size) > len(ProductWire.ping)
    assert len(plain % patch) >= DeltaWire(SECRET).smallest(size) > len(ProductWire.ping)
    assert ProductWire(SECRET).smallest(size) == size


# --- other protocols ----------------------------------------------------------------------------------------------


def talk(steps: list[Step], *answers: bytes) -> tuple[Dialogue, list[bytes]]:
    """The dialogue with a server that answers so, and what the client said."""
    dialogue = Dialogue(steps)
    said = [dialogue.begin()]
    said += [dialogue.take(answer) for answer in answers]
    return dialogue, said


def test_an_event_source_is_subscribed_with_the_first_event() -> None:
    wire = ProductEventsWire(SECRET)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    dialogue, [asked, *_] = talk(wire.steps(0, "a", "b"), head, b"event: notifier.subscribed\ndata: {}\n\n")
    assert asked.startswith(b"GET /sse?channels=a,b HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer " in asked
    assert dialogue.done
    one = sample(rest=dialogue.rest, wire=wire)
    assert one.take(b"id: 1\ndata: %s\n\nid: 2\n\n" % Bodies(200).make(0, 77)) == [frames.Frame(frames.TEXT, b"")]
    assert (one.times_ns, one.collect_faults()) == ([77], [])


def test_an_answer_that_is_no_stream_is_a_refusal() -> None:
    with pytest.raises(Refused, match=r"HTTP/1\.1 401"):
        talk(ProductEventsWire(SECRET).steps(0, "a"), b"HTTP/1.1 401 Unauthorized\r\n\r\n")


def test_stomp_subscribes_with_receipts_and_reads_messages() -> None:
    answers = [b"CONNECTED\nversion:1.2\n\n\0", b"RECEIPT\nreceipt-id:s0\n\n\0", b"RECEIPT\nreceipt-id:s1\n\n\0"]
    dialogue, said = talk(StompWire().steps(0, "user.1", "news"), ACCEPTED, *map(server_frame, answers))
    assert dialogue.done
    assert b"\nheart-beat:0,0\n\n\0" in said[1]
    assert b"\nid:0\ndestination:/topic/user.1\nack:auto\n" in said[2]
    assert b"\nid:1\ndestination:/topic/news\n" in said[3]
    body = Bodies(200).make(1, 2)
    assert StompWire().body(b"MESSAGE\nsubscription:0\ncontent-length:200\n\n%s\0" % body) == body
    with pytest.raises(ValueError, match="not a message"):
        StompWire().body(b"ERROR\n\n\0")


@pytest.mark.parametrize("size", [100, 200, 20_000])
def test_mqtt_subscribes_and_reads_publications_of_any_length(size: int) -> None:
    answers = [b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x00"]
    dialogue, said = talk(MqttWire().steps(7, "user.1"), ACCEPTED, *(server_frame(a, frames.BINARY) for a in answers))
    assert dialogue.done
    assert said[2].endswith(b"\x82\x0b\x00\x01\x00\x06user/1\x00")
    body = Bodies(size).make(1, 2)
    rest = b"\x00\x06user/1" + body
    length, left = b"", len(rest)
    while left > 127:
        length, left = length + bytes((left % 128 + 128,)), left // 128
    assert MqttWire().body(b"\x30" + length + bytes((left,)) + rest) == body


@pytest.mark.parametrize(
    ("wire", "answers"),
    [
        (ProductWire(SECRET), [b'{"id":1006,"unsubscribe":{}}\n{"id":1007,"subscribe":{}}']),
        (SocketIoWire(), [b'430["ok"]', b'430["ok"]']),
        (StompWire(), [b"RECEIPT\nreceipt-id:u3\n\n\0", b"RECEIPT\nreceipt-id:s4\n\n\0"]),
        (MqttWire(), [b"\xb0\x02\x00\x10", b"\x90\x03\x00\x11\x00"]),
    ],
    ids=["notifier", "socketio", "stomp", "mqtt"],
)
def test_a_client_leaves_one_channel_for_another(wire: Wire, answers: list[bytes]) -> None:
    dialogue, said = talk(wire.switch(3, "left.1", "room.1"), *map(server_frame, answers))
    assert dialogue.done
    words = b"".join(said).replace(b"/1", b".1")
    assert b"room.1" in words


def test_not_all_clients_can_do_that() -> None:
    with pytest.raises(Unspeakable, match="PlainWire"):
        PlainWire().switch(0, "a", "b")


@pytest.mark.parametrize("missing", [0, 1])
def test_recovered_is_who_has_got_all_that_was_missed(missing: int) -> None:
    steps = ReturningWire(ProductWire(SECRET), Position("e", 7)).steps(0, "bench")
    assert b'"recover":true,"epoch":"e","offset":7' in steps[-1].send
    pubs = b",".join(b'{"data":%s}' % Bodies(100).make(number, 1) for number in range(MISSED - missing))
    reply = server_frame(b'{"id":2,"subscribe":{"recovered":true,"publications":[%s]}}' % pubs)
    if missing:
        with pytest.raises(Refused):
            talk(steps, ACCEPTED, reply)
    else:
        assert talk(steps, ACCEPTED, reply)[0].done
