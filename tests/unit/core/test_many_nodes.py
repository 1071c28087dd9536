"""Several nodes that read one log, each as fast as it likes; clients that come, go and come back to another one; nodes
that begin anew. Every step is drawn, nothing waits for a clock, and a failing run is shown as short as it can be.

What is checked is the promise (docs/reliability.md): from where a chain begins, a client has all of its channel's
publications, once and in order; a chain breaks only for a reason.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core.node import Node
from notifier.core.record import Draft, Record
from notifier.testing import Client, ManualClock, Ticks, make_node

EPOCH, SIZE, REPEATS, NODES, CLIENTS, CHANNELS = "the-log", 4, 6, 3, 4, "ab"
RULES = [ChannelRule(match="#", history=HistoryRule(size=SIZE, ttl=Duration(3600)), subscribe=["anyone"])]


class Log:
    """One node's place in the log. A `core.ports.Log`."""

    ready, problem, lag_s, blocked = True, "", 0.0, False

    def __init__(self, records: list[Record], place: int) -> None:
        """It begins to read at a place, and answers for what is a repeat window later (`log.tail`)."""
        self.records = records
        self.ticks = Ticks()
        self.clock = ManualClock()
        self.node: Node = make_node(RULES, clock=self.clock, ticks=self.ticks, repeat_window=REPEATS)
        self.node.feed.begin(place + REPEATS if place else 0)
        self.node.feed.named(EPOCH)
        self.read = place
        self.go_on(len(records))
        self.node.feed.caught_up()
        self.node.log = self

    def go_on(self, count: int) -> None:
        for record in self.records[self.read : self.read + count]:
            self.read = record.offset
            self.node.feed.take(record, self.clock.time())

    async def append(self, _draft: Draft) -> int:
        raise AssertionError("backends publish here")

    async def catch_up(self) -> None:
        self.go_on(len(self.records))


class Follower:
    """A client of one channel, and the chain that it is on: from which offset, and what has come since."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.at: tuple[Log, Client] | None = None
        self.begin = self.position = -1  # never subscribed
        self.had: list[int] = []

    def go(self) -> None:
        if self.at is not None:
            self.at[1].session.gone()
            self.at = None

    async def come(self, log: Log, world: World) -> None:
        self.go()
        client = Client(log.node)
        wanted: dict[str, Any] = {"channel": self.channel}
        if self.position >= 0:
            wanted |= {"recover": True, "offset": self.position, "epoch": EPOCH}
        said = await client.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": wanted})
        [told] = [message["subscribe"] for message in said if "subscribe" in message]
        if self.position >= 0 and told.get("recovered"):
            assert len(told.get("publications", [])) <= SIZE
            for publication in told.get("publications", []):
                self.take(publication["offset"])
            self.position = max(self.position, told.get("offset", 0))
        else:
            assert not told.get("publications")
            assert self.position < 0 or world.may_break(self, log)
            self.begin = self.position = told.get("offset", 0)
            self.had = []
        self.at = log, client

    def hear(self) -> None:
        if self.at is not None:
            for message in self.at[1].connection.take_messages():
                if "pub" in message.get("push", {}):
                    self.take(message["push"]["pub"]["offset"])

    def take(self, offset: int) -> None:
        assert offset > self.position, "in order, and once"
        self.had.append(offset)
        self.position = offset


class World:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.logs = [Log(self.records, 0) for _ in range(NODES)]
        self.followers = [Follower(CHANNELS[index % len(CHANNELS)]) for index in range(CLIENTS)]

    def published(self, channel: str, after: int, to: int) -> list[int]:
        """Offsets of the channel's publications; of one message id the first only."""
        found, known = [], set()
        for record in self.records:
            if record.channel == channel and record.message_id not in known:
                known.add(record.message_id)
                if after < record.offset <= to:
                    found.append(record.offset)
        return found

    def may_break(self, follower: Follower, log: Log) -> bool:
        missed = self.published(follower.channel, follower.position, log.read)
        return len(missed) > SIZE or follower.position < log.node.history.known_from

    async def do(self, step: str, which: int, number: int) -> None:
        if step == "publish":
            for _ in range(number):
                self.publish(CHANNELS[which % len(CHANNELS)])
        elif step == "repeat":
            self.publish(CHANNELS[which % len(CHANNELS)], back=number)
        elif step == "read":
            self.logs[which % NODES].go_on(number + 1)
        elif step == "tick":
            self.logs[which % NODES].ticks.end()
        elif step == "come":
            await self.followers[which % CLIENTS].come(self.logs[number % NODES], self)
        elif step == "go":
            self.followers[which % CLIENTS].go()
        else:
            self.restart(which % NODES, number)
        self.look()

    def publish(self, channel: str, back: int = 0) -> None:
        """With `back`, the message id of so many records ago."""
        number = len(self.records)
        self.records.append(Record(number + 1, channel, b"1", message_id=f"m{max(0, number - back)}"))

    def restart(self, index: int, back: int) -> None:
        """It reads back so far. Its clients notice nothing but that it is gone."""
        for follower in self.followers:
            if follower.at is not None and follower.at[0] is self.logs[index]:
                follower.at = None
        self.logs[index] = Log(self.records, max(0, len(self.records) - 3 * back - REPEATS))

    def look(self) -> None:
        for follower in self.followers:
            follower.hear()
            if follower.begin >= 0:
                assert follower.had == self.published(follower.channel, follower.begin, follower.position)

    def settle(self) -> None:
        """All is read and written: whoever is there has everything."""
        for log in self.logs:
            log.go_on(len(self.records))
            log.ticks.end()
        self.look()
        for follower in self.followers:
            if follower.at is not None:
                assert follower.had == self.published(follower.channel, follower.begin, len(self.records))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["publish", "publish", "repeat", "read", "read", "tick", "come", "come", "come", "go", "restart"]
        ),
        st.integers(0, 11),
        st.integers(0, 5),
    ),
    min_size=20,
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_whatever_node_a_client_comes_to_it_misses_nothing_or_is_told(steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        world = World()
        for step in steps:
            await world.do(*step)
        world.settle()

    asyncio.run(run())
