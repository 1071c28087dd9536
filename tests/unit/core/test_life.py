"""Whatever clients, backends, operators and time do, in any order: who is subscribed is who is written to, the figures
say what is there, their labels are from sets that nobody outside can add to, and in the end nothing stays behind."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client.parser import text_string_to_metric_families

from notifier.config import ChannelRule, Clients, Connect, Duration, HistoryRule, RpcRule
from notifier.core import commands
from notifier.core.channel import is_pattern
from notifier.core.history import Verdict
from notifier.core.rpc import Methods
from notifier.protocol import codes
from notifier.protocol.codes import CommandFailed, Disconnect, Error
from notifier.telemetry.metrics import Metrics
from notifier.testing import SECRET, Client, ManualClock, Ticks, make_node

KEPT = HistoryRule(size=5, ttl=Duration(60))
OPEN = ChannelRule(
    match="a.#",
    history=KEPT,
    presence=True,
    join_leave="always",
    wildcard=True,
    subscribe=["anyone"],
    publish=["anyone"],
)
RULES = [
    [OPEN, ChannelRule(match="b.*", subscribe=["token", "role:staff"])],
    [ChannelRule(match="a.1", subscribe=["role:staff"]), OPEN, ChannelRule(match="b.*", subscribe=["anyone"])],
    [ChannelRule(match="#", subscribe=["user.{sub}"])],
]
CHANNELS = ["a.1", "a.2", "a.3.4", "b.1", "nowhere", "a.*", "a.#", "#", "", "no name", "$notifier.x"]
CALLS = [RpcRule(method="#", queue="q", allow=["anyone"])]
LABELS: dict[str, set[str]] = {
    "transport": {"websocket"},
    "code": {str(code) for code in codes._OURS} | {codes.OTHERS},
    "method": set(commands._HANDLERS),
    "verdict": {verdict.name.lower() for verdict in Verdict},
    "reason": {"user_connections"},
    "version": {"0"},
}
users, channels, anybody = st.sampled_from(["", "ann", "bob"]), st.sampled_from(CHANNELS), st.integers(0, 30)


class Backends:
    """Answers every call with an error of its own."""

    code = 400

    async def call(self, *_: Any) -> bytes:
        raise CommandFailed(Error(self.code, "mine"))

    async def send(self, *_: Any) -> None:
        """Taken."""


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock, self.ticks = ManualClock(), Ticks()
        limits = Clients(max_per_user=3, max_channels=4, command_rate=2, command_burst=20)
        self.node = make_node(RULES[0], clock=self.clock, ticks=self.ticks, clients=limits)
        self.limits = limits
        self.backends = self.node.backends = Backends()
        self.node.methods = Methods(CALLS)
        self.clients: list[Client] = []
        self.counted: dict[str, float] = {}

    def send(self, index: int, **command: Any) -> None:
        if self.clients:
            asyncio.run(self.clients[index % len(self.clients)].send({"id": 2, **command}))

    def token(self, user: str, ttl_s: int, **claims: Any) -> str:
        return jwt.encode({"sub": user, "exp": self.clock.time() + ttl_s, **claims}, SECRET, algorithm="HS256")

    @rule(user=users, ttl_s=st.integers(1, 60), roles=st.sampled_from([[], ["staff"]]))
    def connect(self, user: str, ttl_s: int, roles: list[str]) -> None:
        self.clients.append(Client(self.node))
        token = self.token(user, ttl_s, roles=roles) if user else ""
        self.send(len(self.clients) - 1, connect={"token": token})

    @rule(index=anybody, channel=channels, recover=st.booleans(), offset=st.integers(0, 30))
    def subscribe(self, index: int, channel: str, recover: bool, offset: int) -> None:
        self.send(index, subscribe={"channel": channel, "recover": recover, "offset": offset, "epoch": "epoch-1"})

    @rule(index=anybody, channel=channels, user=users, ttl_s=st.integers(1, 60))
    def subscribe_with_a_token(self, index: int, channel: str, user: str, ttl_s: int) -> None:
        self.send(index, subscribe={"channel": channel, "token": self.token(user, ttl_s, channel=channel)})

    @rule(index=anybody, channel=channels)
    def unsubscribe(self, index: int, channel: str) -> None:
        self.send(index, unsubscribe={"channel": channel})

    @rule(index=anybody, channel=channels)
    def publish(self, index: int, channel: str) -> None:
        self.send(index, publish={"channel": channel, "data": 1})

    @rule(index=anybody, user=users, ttl_s=st.integers(-10, 60))
    def refresh(self, index: int, user: str, ttl_s: int) -> None:
        self.send(index, refresh={"token": self.token(user, ttl_s)})

    @rule(index=anybody, code=st.integers(100, 1999))
    def call_a_backend(self, index: int, code: int) -> None:
        self.backends.code = code
        self.send(index, rpc={"method": "m", "data": 1})

    @rule(index=anybody, text=st.text(max_size=20))
    def say_anything(self, index: int, text: str) -> None:
        if self.clients:
            asyncio.run(self.clients[index % len(self.clients)].send_text(text))

    @rule(index=anybody)
    def go(self, index: int) -> None:
        if self.clients:
            self.clients.pop(index % len(self.clients)).session.gone()

    @rule(user=users, code=st.integers(3000, 4999))
    def disconnect(self, user: str, code: int) -> None:
        for session in self.node.of_user(user):
            session.disconnect(Disconnect(code, "a backend's reason"))

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.node.tick()

    @rule(rules=st.sampled_from(RULES))
    def other_rules(self, rules: list[ChannelRule]) -> None:
        self.node.reload(rules, self.limits, Connect(), CALLS)

    @rule()
    def end_the_tick(self) -> None:
        self.ticks.end()

    @invariant()
    def who_is_subscribed_is_who_is_written_to(self) -> None:
        wanted: dict[str, set[object]] = {}
        for client in self.clients:
            for name in client.session.subscriptions:
                wanted.setdefault(name, set()).add(client.connection)
        hub = self.node.hub
        found = {name: members(kept) for name, kept in hub._channels.items()}
        for patterns in hub._patterns.values():
            for name in filter(is_pattern, wanted):
                if (kept := patterns.get(name)) is not None:
                    found.setdefault(name, set()).update(members(kept))
        assert found == wanted

    @invariant()
    def figures_say_what_is_there(self) -> None:
        stats, sessions = self.node.stats, [client.session for client in self.clients]
        there = [session for session in sessions if not session.closed]
        assert stats.connections.total() == len(there)
        assert stats.connected.total() == len(self.node.sessions) == sum(s.is_connected for s in there)
        assert stats.subscriptions == sum(len(session.subscriptions) for session in sessions)
        assert not [session for session in sessions if session.closed and session.subscriptions]
        assert all(client.session.closed for client in self.clients if client.closed_with)

    @invariant()
    def labels_are_known_and_counters_rise(self) -> None:
        counted: dict[str, float] = {}
        for family in text_string_to_metric_families(Metrics(self.node).text().decode()):
            for sample in family.samples if family.name.startswith("notifier_") else ():
                for name, value in sample.labels.items():
                    assert name == "le" or value in LABELS[name], sample
                if family.type == "counter":
                    counted[f"{sample.name}{sample.labels}"] = sample.value
        assert all(counted.get(name, -1) >= value for name, value in self.counted.items())
        self.counted = counted

    def teardown(self) -> None:
        for client in self.clients:
            client.session.gone()
        self.ticks.end()
        node = self.node
        left = [
            node.sessions,
            node.inboxes,
            node.users,
            len(node.hub),
            node.hub._channels,
            node.hub._patterns,
            node.going,
        ]
        assert not any(left)
        assert not any([node.stats.connections.total(), node.stats.connected.total(), node.stats.subscriptions])
        assert not any(node.presence.of(channel) for channel in CHANNELS)


def members(kept: Any) -> set[object]:
    return {connection for audience in kept.audiences for connection in audience.members}


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40)
