"""Who gets which bytes, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.config import ChannelRule
from notifier.core.hub import Audience, Hub, Manner
from notifier.core.rules import Rule
from notifier.core.stats import Stats
from notifier.protocol.encoding import JSON_WEBSOCKET, SSE
from notifier.protocol.messages import Form, Publication, Reply
from notifier.testing import OPEN_RULE, ManualClock, RecordingConnection, Ticks

RULE = Rule(0, OPEN_RULE)
OTHER_RULE = Rule(1, ChannelRule(match="#"))
PLAIN = Manner(JSON_WEBSOCKET)


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
    hub.join("a", client, PLAIN)
    for offset in (1, 2, 3):
        hub.publish(pub("a", offset), RULE)
    assert client.writes == []
    ticks.end()
    assert len(client.writes) == 1
    assert offsets(client) == [1, 2, 3]


def test_a_publication_is_encoded_once_however_many_get_it(ticks: Ticks) -> None:
    stats = Stats()
    hub = make_hub(ticks, stats)
    clients = [RecordingConnection() for _ in range(50)]
    for client in clients:
        hub.join("a", client, PLAIN)
    hub.publish(pub("a", 1), RULE)
    ticks.end()
    assert stats.encodings == 1
    assert stats.deliveries == 50
    assert len({id(client.writes[0]) for client in clients}) == 1


class Reluctant(RecordingConnection):
    """Takes so many bytes at once, or fails with None; what is left over is queued."""

    def __init__(self, takes: int | None) -> None:
        super().__init__()
        self._takes = takes
        self.queued: list[tuple[bytes, int]] = []

    def send(self, data: bytes, /) -> int:
        if self._takes is None:
            raise BlockingIOError
        return min(self._takes, len(data))

    def queue(self, data: bytes, taken: int) -> None:
        self.queued.append((data, taken))


@given(st.lists(st.sampled_from([None, 0, 3, 10_000]), min_size=1, max_size=8))
def test_what_is_left_over_is_queued_for_the_member_that_left_it(takes: list[int | None]) -> None:
    ticks, stats = Ticks(), Stats()
    hub = make_hub(ticks, stats)
    clients = [Reluctant(each) for each in takes]
    for client in clients:
        hub.join("a", client, PLAIN)
    hub.publish(pub("a", 1), RULE)
    ticks.end()
    data = JSON_WEBSOCKET.publication(pub("a", 1), "")
    for client, most in zip(clients, takes, strict=True):
        assert client.queued == ([] if most == 10_000 else [(data, most or 0)])
    assert stats.deliveries == len(clients)


@pytest.mark.parametrize(("flush_s", "pause_s"), [(0.0001, 0), (0.003, 0.003), (0.5, 0.005)])
def test_after_a_flush_comes_a_pause_as_long_but_never_a_long_one(flush_s: float, pause_s: float) -> None:
    ticks, clock = Ticks(), ManualClock()

    class Busy(RecordingConnection):
        def send(self, data: bytes) -> int:
            clock.advance(flush_s)
            return super().send(data)

    client = Busy()
    hub = make_hub(ticks, clock=clock)
    hub.join("a", client, PLAIN)
    hub.publish(pub("a", 1), RULE)
    ticks.end()
    hub.publish(pub("a", 2), RULE)
    ticks.end()
    assert len(client.writes) == (1 if pause_s else 2)
    hub.publish(pub("a", 3), RULE)
    ticks.end()
    assert ticks.delays == ([pytest.approx(pause_s)] if pause_s else [])
    assert offsets(client) == [1, 2, 3]


def test_with_a_write_delay_what_comes_soon_after_a_write_waits_for_the_next() -> None:
    ticks, clock = Ticks(), ManualClock()
    hub = Hub(ticks, ticks.later, clock, Stats(), write_delay_s=0.04)
    client = RecordingConnection()
    hub.join("a", client, PLAIN)
    hub.publish(pub("a", 1), RULE)
    ticks.end()
    assert offsets(client) == [1]  # nobody waits without need
    clock.advance(0.01)
    hub.publish(pub("a", 2), RULE)
    ticks.end()
    assert client.writes == []
    assert ticks.delays == [pytest.approx(0.03)]
    hub.publish(pub("a", 3), RULE)
    hub.flush()
    assert len(client.writes) == 1
    assert offsets(client) == [2, 3]
    clock.advance(0.05)
    hub.publish(pub("a", 4), RULE)
    ticks.end()
    assert offsets(client) == [4]


def test_each_encoding_gets_its_own_bytes(hub: Hub, ticks: Ticks) -> None:
    hub.epoch = "e"
    socket, stream = RecordingConnection(), RecordingConnection()
    hub.join("a", socket, PLAIN)
    hub.join("a", stream, Manner(SSE))
    hub.publish(pub("a", 1), RULE)
    ticks.end()
    assert offsets(socket) == [1]
    assert stream.writes == [b'id: e:1\ndata: "1"\n\n']


def test_who_joins_in_the_middle_of_a_tick_gets_only_what_comes_after(hub: Hub, ticks: Ticks) -> None:
    early, late = RecordingConnection(), RecordingConnection()
    hub.join("a", early, PLAIN)
    hub.publish(pub("a", 1), RULE)
    hub.join("a", late, PLAIN)
    hub.publish(pub("a", 2), RULE)
    ticks.end()
    assert offsets(early) == [1, 2]
    assert offsets(late) == [2]


def test_who_leaves_in_the_middle_of_a_tick_gets_what_came_before(hub: Hub, ticks: Ticks) -> None:
    client = RecordingConnection()
    audience = hub.join("a", client, PLAIN)
    hub.publish(pub("a", 1), RULE)
    hub.leave(audience, client)
    hub.publish(pub("a", 2), RULE)
    ticks.end()
    assert offsets(client) == [1]


def test_nothing_stays_when_everybody_has_left(hub: Hub) -> None:
    one, two, three, four = (RecordingConnection() for _ in range(4))
    left: list[tuple[Audience, RecordingConnection]] = [
        (hub.join("a", one, PLAIN), one),
        (hub.join("a", two, Manner(SSE)), two),
        (hub.attach([("a", RULE, False), ("b", RULE, False), ("c.*", RULE, True)], three, SSE), three),
        (hub.join_by_pattern("c.*", RULE, four, PLAIN), four),
    ]
    assert hub.subscribers("a") == 3
    for audience, connection in left:
        hub.leave(audience, connection)
        hub.leave(audience, connection)
    assert len(hub) == 0
    assert hub.subscribers("a") == 0
    hub.publish(pub("c.d", 1), RULE)
    assert not four.writes


def test_who_subscribes_by_a_pattern_gets_the_channels_of_its_rule_alone(hub: Hub, ticks: Ticks) -> None:
    client = RecordingConnection()
    hub.join_by_pattern("orders.*.eu", RULE, client, Manner(JSON_WEBSOCKET.variant(Form.PLAIN, "orders.*.eu")))
    for offset, (channel, rule) in enumerate(
        [("orders.1.eu", RULE), ("orders.1.us", RULE), ("orders.2.eu", OTHER_RULE), ("orders.3.eu", RULE)], start=1
    ):
        hub.publish(pub(channel, offset), rule)
    ticks.end()
    pushes = [message["push"] for message in client.take_messages()]
    assert [(push["channel"], push["pub"]["channel"]) for push in pushes] == [
        ("orders.*.eu", "orders.1.eu"),
        ("orders.*.eu", "orders.3.eu"),
    ]
    assert pushes[0]["pub"]["tags"] == {"channel": "orders.1.eu"}


def test_a_pattern_that_comes_later_gets_channels_that_were_published_to_before(hub: Hub, ticks: Ticks) -> None:
    first, second = RecordingConnection(), RecordingConnection()
    hub.join_by_pattern("a.*", RULE, first, PLAIN)
    hub.publish(pub("a.b", 1), RULE)
    hub.join_by_pattern("*.b", RULE, second, PLAIN)
    hub.publish(pub("a.b", 2), RULE)
    ticks.end()
    assert offsets(first) == [1, 2]
    assert offsets(second) == [2]


def test_announcements_reach_those_who_asked_for_them_in_order_with_publications(hub: Hub, ticks: Ticks) -> None:
    curious, other = RecordingConnection(), RecordingConnection()
    hub.join("a", curious, Manner(JSON_WEBSOCKET, joins=True))
    hub.join("a", other, PLAIN)
    hub.publish(pub("a", 1), RULE)
    hub.announce("a", Reply(id=7))
    hub.announce("b", Reply(id=8))
    hub.publish(pub("a", 2), RULE)
    ticks.end()
    assert [message.get("id", "pub") for message in curious.take_messages()] == ["pub", 7, "pub"]
    assert offsets(other) == [1, 2]


def with_deltas() -> Manner:
    return Manner(JSON_WEBSOCKET.variant(Form.PATCH), JSON_WEBSOCKET.variant(Form.WHOLE))


@given(st.lists(st.sampled_from(["publish", "join", "leave", "tick"]), max_size=40))
def test_with_deltas_the_first_publication_is_whole_and_all_others_are_differences_to_the_one_before(
    steps: list[str],
) -> None:
    """Whenever one joins, and however the ticks fall."""
    ticks = Ticks()
    hub = make_hub(ticks)
    clients: list[tuple[Audience, RecordingConnection, int]] = []
    gone: list[tuple[RecordingConnection, int, int]] = []
    published = 0
    data = b""
    for step in steps:
        if step == "publish":
            published += 1
            publication = pub("a", published)
            publication.data, base = b'"%s%d"' % (b"x" * 200, published), data
            publication.base, data = base or None, publication.data
            hub.publish(publication, RULE)
        elif step == "join":
            connection = RecordingConnection()
            clients.append((hub.join("a", connection, with_deltas()), connection, published))
        elif step == "leave" and clients:
            audience, connection, since = clients.pop(0)
            hub.leave(audience, connection)
            gone.append((connection, since, published))
        else:
            ticks.end()
    ticks.end()
    for connection, since, until in [*gone, *((connection, since, published) for _, connection, since in clients)]:
        got = [message["push"]["pub"] for message in connection.take_messages()]
        assert [entry["offset"] for entry in got] == list(range(since + 1, until + 1))
        assert [entry.get("delta", False) for entry in got] == [False, *[True] * len(got)][: len(got)]
    assert hub.subscribers("a") == len(clients)
    for audience, connection, _ in clients:
        hub.leave(audience, connection)
    assert len(hub) == 0


@given(st.lists(st.sampled_from(["a", "b", "tick"]), max_size=40))
def test_a_stream_of_several_channels_keeps_the_order_of_the_log(steps: list[str]) -> None:
    ticks = Ticks()
    hub = make_hub(ticks)
    stream, others = RecordingConnection(), [RecordingConnection(), RecordingConnection()]
    hub.attach([("a", RULE, False), ("b", RULE, False)], stream, JSON_WEBSOCKET)
    for channel, other in zip("ab", others, strict=True):
        hub.join(channel, other, PLAIN)
    published = 0
    for step in steps:
        if step == "tick":
            ticks.end()
        else:
            published += 1
            hub.publish(pub(step, published), RULE)
    ticks.end()
    assert offsets(stream) == list(range(1, published + 1))


def test_the_oldest_thing_of_a_flush_says_how_long_its_way_was(ticks: Ticks) -> None:
    stats, clock = Stats(), ManualClock()
    hub = make_hub(ticks, stats, clock)
    hub.join("a", RecordingConnection(), PLAIN)
    began = clock.monotonic()
    clock.advance(0.2)
    hub.publish(pub("a", 1), RULE)
    hub.sent(began + 0.1)
    hub.sent(began)
    clock.advance(0.05)
    ticks.end()
    assert stats.broker_to_socket.count == 1
    assert stats.broker_to_socket.total == pytest.approx(0.25)
    hub.publish(pub("a", 2), RULE)
    ticks.end()
    assert stats.broker_to_socket.count == 1, "nobody knows when that one was sent"


def test_the_way_is_measured_where_nobody_listens_too(ticks: Ticks) -> None:
    stats, clock = Stats(), ManualClock()
    hub = make_hub(ticks, stats, clock)
    hub.sent(clock.monotonic() - 0.5)
    hub.sent(clock.monotonic() + 5)  # clocks need not agree
    ticks.end()
    assert stats.broker_to_socket.total == pytest.approx(0.5)
    assert stats.flush_seconds.count == 0, "there was nothing to write"
