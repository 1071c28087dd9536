"""Inspection: what operators ask all workers, in answers whose length is bounded.

Each kind of message says itself what it answers on one worker, as those in `control.py` do.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct

from notifier.core import channel as channels
from notifier.core.channel import Pattern

if TYPE_CHECKING:
    from notifier.core.node import Node
    from notifier.core.session import Session
    from notifier.core.stats import Histogram

MOST_CHANNELS_SHOWN = 20


class LoggedOut(Struct, frozen=True, tag="logged_out"):
    """An operator's session is over before its time; `until` is wall time in seconds."""

    session: str
    until: float

    def obey(self, node: Node) -> None:
        node.logouts.add(self.session, self.until, node.clock.time())


class Inspect(Struct, frozen=True, tag="inspect"):
    """How is a worker?"""


class Observations(Struct):
    """A histogram since the worker's start: `counts` has one more entry than `bounds`, for what is above all of them.
    In seconds."""

    bounds: tuple[float, ...]
    counts: list[int]


class WorkerState(Struct):
    """One worker. `state` is one of ready, starting, leaving, failing, of which `problem` says more. Counters count
    since the start: two readings make a rate over the time between their `uptime_s`."""

    uid: str
    name: str
    worker: int
    version: str
    state: str
    problem: str
    uptime_s: float
    cpu_s: float
    rss_bytes: int
    connections: int
    clients: int
    users: int
    channels: int
    subscriptions: int
    waiting: int
    epoch: str
    log_end: int
    log_known_from: int
    log_lag_s: float
    log_blocked: bool
    redis_up: bool | None
    history_publications: int
    history_bytes: int
    publications: int
    deliveries: int
    delivered_bytes: int
    rejected: int
    ended: int
    disconnects: int
    errors: int
    refused: int
    append_to_read: Observations
    record_to_socket: Observations
    loop_lag: Observations


def inspect(node: Node, cpu_s: float, rss_bytes: int) -> WorkerState:
    """This worker now."""
    stats, history, log = node.stats, node.history, node.log
    return WorkerState(
        uid=node.node_id,
        name=node.name,
        worker=node.worker,
        version=node.version,
        state=_state(node),
        problem=log.problem,
        uptime_s=round(node.clock.monotonic() - node.started_at, 3),
        cpu_s=cpu_s,
        rss_bytes=rss_bytes,
        connections=stats.connections.total(),
        clients=len(node.sessions),
        users=node.users,
        channels=len(node.hub),
        subscriptions=stats.subscriptions,
        waiting=stats.waiting,
        epoch=history.epoch,
        log_end=history.end,
        log_known_from=history.known_from,
        log_lag_s=round(log.lag_s, 3),
        log_blocked=log.blocked,
        redis_up=None if stats.redis_up is None else bool(stats.redis_up),
        history_publications=history.publications,
        history_bytes=history.size_bytes,
        publications=stats.publications,
        deliveries=stats.deliveries,
        delivered_bytes=stats.delivered_bytes,
        rejected=stats.rejected.total(),
        ended=stats.ended,
        disconnects=stats.disconnects.total(),
        errors=stats.errors.total(),
        refused=stats.refused.total(),
        append_to_read=_observations(stats.append_to_read),
        record_to_socket=_observations(stats.record_to_socket),
        loop_lag=_observations(stats.loop_lag),
    )


def _state(node: Node) -> str:
    if node.leaving:
        return "leaving"
    if node.log.problem:
        return "failing"
    return "ready" if node.log.ready else "starting"


def _observations(histogram: Histogram) -> Observations:
    return Observations(histogram.bounds, histogram.counts)


class Found(Struct, omit_defaults=True):
    """A connection that was found. `channels` are the first of its subscriptions, `subscriptions` is how many there
    are; `unread_bytes` waits for it. `expires_at` is wall time in seconds, 0 for never."""

    client: str
    user: str
    transport: str
    protocol: str
    channels: list[str]
    subscriptions: int
    unread_bytes: int = 0
    expires_at: float = 0.0


class FoundHere(Struct):
    """Of one worker: `total` is how many there are, `connections` a part of them in the order in which they came."""

    uid: str
    total: int
    connections: list[Found]


class ConnectionsLike(Struct, frozen=True, tag="connections_like", omit_defaults=True):
    """Which connections are there whose user has this text in it, or whose client id begins with it, and which are
    subscribed to this channel? Each empty one asks for all. `after` says of workers by id how many to leave out."""

    search: str
    channel: str
    most: int
    after: dict[str, int] = {}

    def answer(self, node: Node) -> FoundHere:
        skipped = self.after.get(node.node_id, 0)
        sessions = node.sessions.values()
        if not self.search and not self.channel:
            return FoundHere(
                node.node_id, len(sessions), [_found(each) for each in islice(sessions, skipped, skipped + self.most)]
            )
        search = self.search.casefold()
        found = [each for each in sessions if self._is_meant(each, search)]
        page = found[skipped : skipped + self.most]
        return FoundHere(node.node_id, len(found), [_found(each) for each in page])

    def _is_meant(self, session: Session, search: str) -> bool:
        if self.channel and self.channel not in session.subscriptions:
            return False
        return search in session.identity.user.casefold() or session.client_id.startswith(search)


def _found(session: Session) -> Found:
    expires_at = session.identity.expires_at
    return Found(
        session.client_id,
        session.identity.user,
        session.transport,
        "protobuf" if session.encoding.codec.name == "protobuf" else "json",
        sorted(islice(session.subscriptions, MOST_CHANNELS_SHOWN)),
        len(session.subscriptions),
        session.connection.unread(),
        0.0 if expires_at == float("inf") else expires_at,
    )


class ChannelsTop(Struct, frozen=True, tag="channels_top"):
    """Which channels have most subscribers, of those with this text in their names, or that match it as a pattern?"""

    search: str
    most: int

    def answer(self, node: Node) -> dict[str, int]:
        hub = node.hub
        names = hub.channels()
        if channels.is_pattern(self.search):
            pattern = Pattern(self.search)
            names = [name for name in names if pattern.matches(name)]
        elif self.search:
            names = [name for name in names if self.search in name]
        return dict(heapq.nlargest(self.most, ((name, hub.subscribers(name)) for name in names), key=_number))


class CountsOf(Struct, frozen=True, tag="counts"):
    """How many are subscribed to these channels?"""

    names: list[str]

    def answer(self, node: Node) -> dict[str, int]:
        return {name: number for name in self.names if (number := node.hub.subscribers(name))}


def _number(entry: tuple[str, int]) -> int:
    return entry[1]
