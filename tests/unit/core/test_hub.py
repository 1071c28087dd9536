"""Who gets which bytes, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.core.hub import Hub
from notifier.core.stats import Stats
from notifier.protocol.encoding import JSON_WEBSOCKET, SSE
from notifier.protocol.messages import Publication
from notifier.testing import ManualClock, RecordingConnection, Ticks


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def hub(ticks: Ticks) -> Hub:
    return make_hub(ticks)


def make_hub(ticks: Ticks, stats: Stats | None = None, clock: ManualClock | None = None) -> Hub:
    return Hub(ticks, ticks.later, clock or ManualClock(), stats or Stats())


def pub(channel: str, offset: int) -> Publication:
    return Publication(channel, offset, b'"%d"' % offset)


def offsets(connection: RecordingConnection) -> list[int]:
    return [message["push"]["pub"]["offset"] for message in connection.take_messages()]


def test_all_publications_of_a_tick_are_one_write(hub: Hub, ticks: Ticks) -> None:
    client = RecordingConnection()
    hub.join("a", client)
    for offset in (1, 2, 3):
        hub.publish(pub("a", offset))
    assert client.writes == []
    ticks.end()
    assert len(client.writes) == 1
    assert offsets(client) == [1, 2, 3]


def test_a_publication_is_encoded_once_however_many_get_it(ticks: Ticks) -> None:
    stats = Stats()
    hub = make_hub(ticks, stats)
    clients = [RecordingConnection() for _ in range(50)]
    for client in clients:
        hub.join("a", client)
    hub.publish(pub("a", 1))
    ticks.end()
    assert stats.encodings == 1
    assert stats.deliveries == 50
    assert len({id(client.writes[0]) for client in clients}) == 1


@pytest.mark.parametrize(("flush_s", "pause_s"), [(0.0001, 0), (0.003, 0.003), (0.5, 0.005)])
def test_after_a_flush_comes_a_pause_as_long_but_never_a_long_one(flush_s: float, pause_s: float) -> None:
    ticks, clock = Ticks(), ManualClock()

    class Busy(RecordingConnection):
        def send(self, data: bytes) -> int:
            clock.advance(flush_s)
            return super().send(data)

    client = Busy()
    hub = make_hub(ticks, clock=clock)
    hub.join("a", client)
    hub.publish(pub("a", 1))
    ticks.end()
    hub.publish(pub("a", 2))
    ticks.end()
    assert len(client.writes) == (1 if pause_s else 2)
    hub.publish(pub("a", 3))
    ticks.end()
    assert ticks.delays == ([pytest.approx(pause_s)] if pause_s else [])
    assert offsets(client) == [1, 2, 3]


def test_each_encoding_gets_its_own_bytes(hub: Hub, ticks: Ticks) -> None:
    hub.epoch = "e"
    socket, stream = RecordingConnection(JSON_WEBSOCKET), RecordingConnection(SSE)
    hub.join("a", socket)
    hub.join("a", stream)
    hub.publish(pub("a", 1))
    ticks.end()
    assert offsets(socket) == [1]
    assert stream.writes == [b'id: e:1\ndata: "1"\n\n']


def test_who_joins_in_the_middle_of_a_tick_gets_only_what_comes_after(hub: Hub, ticks: Ticks) -> None:
    early, late = RecordingConnection(), RecordingConnection()
    hub.join("a", early)
    hub.publish(pub("a", 1))
    hub.join("a", late)
    hub.publish(pub("a", 2))
    ticks.end()
    assert offsets(early) == [1, 2]
    assert offsets(late) == [2]


def test_who_leaves_in_the_middle_of_a_tick_gets_what_came_before(hub: Hub, ticks: Ticks) -> None:
    client = RecordingConnection()
    hub.join("a", client)
    hub.publish(pub("a", 1))
    hub.leave("a", client)
    hub.publish(pub("a", 2))
    ticks.end()
    assert offsets(client) == [1]


def test_nothing_stays_when_everybody_has_left(hub: Hub) -> None:
    one, two = RecordingConnection(), RecordingConnection(SSE)
    hub.join("a", one)
    hub.join("a", two)
    audience = hub.attach(["a", "b"], RecordingConnection(SSE))
    assert hub.subscribers("a") == 3
    hub.leave("a", one)
    hub.leave("a", one)
    hub.leave("a", two)
    hub.detach(["a", "b"], audience)
    assert len(hub) == 0
    assert hub.subscribers("a") == 0


@given(st.lists(st.sampled_from(["a", "b", "tick"]), max_size=40))
def test_a_stream_of_several_channels_keeps_the_order_of_the_log(steps: list[str]) -> None:
    ticks = Ticks()
    hub = make_hub(ticks)
    stream, others = RecordingConnection(), [RecordingConnection(), RecordingConnection()]
    hub.attach(["a", "b"], stream)
    for channel, other in zip("ab", others, strict=True):
        hub.join(channel, other)
    published = 0
    for step in steps:
        if step == "tick":
            ticks.end()
        else:
            published += 1
            hub.publish(pub(step, published))
    ticks.end()
    assert offsets(stream) == list(range(1, published + 1))
