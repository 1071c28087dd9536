"""Node: one worker's state that sessions share, and what happens once a second."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from notifier.config import ChannelRule, Clients, Connect, HistorySection, Limits, Publications, RpcRule
from notifier.core.agenda import Agenda
from notifier.core.feed import Feed
from notifier.core.history import History, Verdict
from notifier.core.hub import Hub
from notifier.core.identity import Identity
from notifier.core.logouts import Logouts
from notifier.core.orders import CHANNEL as ORDERS
from notifier.core.orders import Order, Revocation
from notifier.core.orders import encode as encode_order
from notifier.core.ports import Archive, AtOnce, Backends, Clock, Log, Rates, Turns, Verifier
from notifier.core.presence import PresenceList
from notifier.core.rates import LocalRates, What
from notifier.core.record import Draft
from notifier.core.revocations import Revocations
from notifier.core.rpc import Methods, compiled
from notifier.core.rules import ClaimPattern, Rules
from notifier.core.stats import Stats
from notifier.core.target import Target
from notifier.errors import ConfigError, Rejected
from notifier.protocol.codec_json import compact
from notifier.protocol.codes import CONNECTION_EXPIRED, NO_PONG, STALE, Disconnect
from notifier.protocol.messages import Position

if TYPE_CHECKING:
    from notifier.core.control import Control
    from notifier.core.session import Session


FOLLOW_AT_ONCE, FOLLOW_EVERY_S = 200, 0.05
AT_ONCE, EVERY_S = 50, 0.01
"""Of a tick's work: a second's pings of 50,000 connections are done in half of it."""


class Appended(Struct, frozen=True):
    """Where a publication stands."""

    offset: int
    epoch: str


class Node:
    """Everything a session needs, made from its sections of the configuration. The outside world comes as ports.

    `defer` calls a function at the end of the loop's tick, `later` after so many seconds; `new_id` makes ids that
    nobody can guess. The log is given afterwards, since it reads into `feed`; so are `backends`, `control` and, where a
    rule wants one, the archive.
    `on_revoked` is called with each revocation in the log.
    """

    log: Log
    archive: Archive
    backends: Backends
    control: Control

    def __init__(
        self,
        *,
        name: str,
        version: str,
        channels: Sequence[ChannelRule],
        history: HistorySection,
        clients: Clients,
        connect: Connect,
        publications: Publications,
        repeat_window: int,
        anonymous: bool,
        rpc: Sequence[RpcRule] = (),
        max_batch: int = 1000,
        limits: Limits | None = None,
        leeway_s: float = 0.0,
        verifier: Verifier,
        clock: Clock,
        defer: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], object],
        new_id: Callable[[], str],
    ) -> None:
        """Raises ConfigError when the channel rules cannot be used."""
        self.node_id = new_id()
        self.name = name
        self.worker = 0  # its number on the node
        self.version = version
        self.stats = Stats()
        self.rules = Rules(channels)
        self.history = History(history.max_bytes, history.max_quiet_channels)
        self.hub = Hub(defer, later, clock, self.stats, clients.write_delay)
        self.max_publication = publications.max_bytes
        self.feed = Feed(
            self.rules,
            self.history,
            self.hub,
            self.stats,
            clock,
            max_bytes=publications.max_bytes,
            repeat_window=repeat_window,
        )
        self.feed.on_reset = self._reset
        self.feed.on_revoked = self._revoked
        self.presence = PresenceList()
        self.revocations = Revocations()
        self.logouts = Logouts()
        self.on_revoked: Callable[[Revocation], None] = _nothing
        self.own_channels = [_claim_pattern(index, text) for index, text in enumerate(connect.subscribe)]
        self.methods = Methods(rpc)
        self.max_batch = max_batch
        self.rates: Rates = LocalRates(limits or Limits(), clock.monotonic)
        self.limits = clients
        self.leeway_s = leeway_s
        self.anonymous = anonymous
        self.verifier = verifier
        self.clock = clock
        self.new_id = new_id
        self.defer = defer
        self.later = later
        self.leaving = False  # asked to end
        self.draining = False  # takes no new clients
        self.turns: Turns = AtOnce()
        self.sessions: dict[str, Session] = {}
        self.going: set[Session] = set()  # told that they are disconnected; their connections are not gone yet
        # Most users have one connection: a set for each of them would be the larger half of what this costs.
        self._by_user: dict[str, Session | set[Session]] = {}
        # Of connections that are written to one way only: where the commands for them go, by the connection's secret.
        self.inboxes: dict[str, Callable[[bytes], Awaitable[None]]] = {}
        self.started_at = clock.monotonic()
        now = int(self.started_at)
        self._pings: Agenda[Session] = Agenda(now)
        self._pongs: Agenda[Session] = Agenda(now)
        self._waiting: Agenda[Session] = Agenda(now)
        self._expiries: Agenda[Session] = Agenda(now)

    # --- sessions -----------------------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """A socket is open; its first command is due in time."""
        self.stats.connections[session.transport] += 1
        self.await_connect(session, self.limits.connect_timeout)

    def await_connect(self, session: Session, delay_s: float) -> None:
        session.due_connect = self._waiting.add(self._in(delay_s), session)

    def connected(self, session: Session) -> None:
        """The client is known now."""
        self._waiting.discard(session.due_connect, session)
        self.sessions[session.client_id] = session
        found = self._by_user.setdefault(session.identity.user, session)
        if isinstance(found, set):
            found.add(session)
        elif found is not session:
            self._by_user[session.identity.user] = {found, session}
        self.stats.connected[session.transport] += 1
        first = session.ping_interval_s * random.uniform(0.5, 1)  # noqa: S311 - spread, not secret
        session.due_ping = self._pings.add(self._in(first), session)
        self.watch_expiry(session)

    def watch_expiry(self, session: Session) -> None:
        """Look at the session again when the first of its rights runs out; called whenever one changes."""
        self._expiries.discard(session.due_expiry, session)
        first = session.first_expiry()
        if first != float("inf"):
            # Far-away dates would make buckets that nobody needs yet: look again in a day.
            delay_s = min(max(first - self.clock.time(), 0) + self.limits.expired_grace, 86400)
            session.due_expiry = self._expiries.add(self._in(delay_s) + 1, session)

    def closed(self, session: Session) -> None:
        """Nothing of the session stays behind."""
        self.stats.connections[session.transport] -= 1
        self.stats.ended += 1
        self._waiting.discard(session.due_connect, session)
        self._pings.discard(session.due_ping, session)
        self._pongs.discard(session.due_pong, session)
        self._expiries.discard(session.due_expiry, session)
        self.inboxes.pop(session.key, None)
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
            of_user = self._by_user[session.identity.user]
            if isinstance(of_user, set):
                of_user.discard(session)
            if of_user is session or not of_user:
                del self._by_user[session.identity.user]
            self.stats.connected[session.transport] -= 1

    def tick(self) -> None:
        """Once a second: pings, missing pongs, silent newcomers, expired tokens, old history."""
        now = int(self.clock.monotonic())
        self._in_slices(self._pongs.due(now), self._end_silent)
        self._in_slices(self._pings.due(now), self._ping)
        self._in_slices(self._waiting.due(now), self._end_stale)
        self._in_slices(self._expiries.due(now), self._end_expired)
        self.history.trim(self.clock.time())

    def _in_slices(self, sessions: list[Session], do: Callable[[Session], None]) -> None:
        """For each that is still there. A second's pings, and what a network takes along that fails, are thousands."""
        self.hub.flush()  # a stream's heartbeat names the log's end: what came before it must be written
        for session in sessions[:AT_ONCE]:
            if not session.closed:
                do(session)
        if len(sessions) > AT_ONCE:
            self.later(EVERY_S, lambda: self._in_slices(sessions[AT_ONCE:], do))

    def _ping(self, session: Session) -> None:
        session.due_ping = self._pings.add(self._in(int(session.ping_interval_s)), session)
        if session.awaits_pong:
            return  # it still reads what was sent before
        if session.ping():
            session.due_pong = self._pongs.add(self._in(int(self.limits.pong_timeout)), session)

    def _end_silent(self, session: Session) -> None:
        """Its answer to a ping is due."""
        if session.may_be_late():
            session.due_pong = self._pongs.add(self._in(self.limits.pong_timeout), session)
        elif session.awaits_pong:
            session.disconnect(NO_PONG)

    def _end_stale(self, session: Session) -> None:
        """It is late to say who it is."""
        if not session.is_connected:
            session.disconnect(STALE)

    def _end_expired(self, session: Session) -> None:
        """One of its rights may be over."""
        if session.end_expired(self.clock.time() - self.limits.expired_grace):
            session.disconnect(CONNECTION_EXPIRED)
        else:
            self.watch_expiry(session)

    def disconnect_all(self, disconnect: Disconnect, sessions: Iterable[Session]) -> None:
        for session in list(sessions):
            session.disconnect(disconnect)

    def newcomers(self) -> list[Session]:
        """Those who have not said yet who they are."""
        return self._waiting.items()

    def of_user(self, user: str) -> list[Session]:
        """The connected sessions of a user; those of nobody in particular for the empty one."""
        found = self._by_user.get(user)
        if found is None:
            return []
        return list(found) if isinstance(found, set) else [found]

    def tells(self, channel: str, client_id: str) -> bool:
        """Whether others are told when the client comes to the channel and leaves it."""
        session = self.sessions.get(client_id)
        subscription = session.subscriptions.get(channel) if session is not None else None
        return subscription is not None and subscription.tells

    def is_revoked(self, identity: Identity) -> bool:
        return (
            bool(self.revocations)
            and bool(identity.claims)
            and self.revocations.hit(identity.user, identity.token_id, identity.issued_at)
        )

    def is_over(self, identity: Identity) -> bool:
        """Whether its token let connections begin only until some time that has passed."""
        return identity.expires_at <= self.clock.time() - self.leeway_s

    @property
    def users(self) -> int:
        return len(self._by_user)

    def reload(
        self, channels: Sequence[ChannelRule], clients: Clients, connect: Connect, rpc: Sequence[RpcRule]
    ) -> None:
        """Other rules and limits from now on, for those who are connected too.

        Raises ConfigError with what cannot be used; then nothing has changed.
        """
        own_channels = [_claim_pattern(index, text) for index, text in enumerate(connect.subscribe)]
        forwarded = compiled(rpc)
        changed = self.rules.replace(channels, self.history.end)
        self.own_channels, self.methods.forwarded, self.limits = own_channels, forwarded, clients
        self.hub.write_delay_s = clients.write_delay
        if changed:
            self.hub.flush()
            self.history.follow(self.rules)
            self._follow_rules(list(self.sessions.values()))

    def _follow_rules(self, sessions: list[Session]) -> None:
        """In slices: those who subscribe anew shall not all come at once, and deliveries go on."""
        for session in sessions[:FOLLOW_AT_ONCE]:
            if not session.closed:
                session.follow_rules()
        if len(sessions) > FOLLOW_AT_ONCE:
            self.later(FOLLOW_EVERY_S, lambda: self._follow_rules(sessions[FOLLOW_AT_ONCE:]))

    def _in(self, delay_s: float) -> int:
        return int(self.clock.monotonic() + delay_s)

    def revoke(self, revocations: Iterable[Revocation]) -> None:
        """They hold from here on, for those who are connected too."""
        added = [self.revocations.add(revocation) for revocation in revocations]
        if any(added):
            for session in list(self.sessions.values()):
                session.end_revoked()

    def _revoked(self, revocation: Revocation) -> None:
        self.revoke([revocation])
        self.on_revoked(revocation)

    def _reset(self) -> None:
        for session in list(self.sessions.values()):
            session.lose_positions()

    async def exceeds(self, what: What, user: str) -> float:
        """How long a user has to wait, in seconds, who does this too often; 0 when it may, which is then counted."""
        wait_s = await self.rates.take(what, user)
        if wait_s:
            self.stats.refused[what.value] += 1
        return wait_s

    def is_full(self, user: str) -> bool:
        """Whether a user has as many connections here as anybody may have; one more is then counted as refused."""
        most = self.limits.max_per_user
        found = self._by_user.get(user) if user and most else None
        if found is None or (len(found) if isinstance(found, set) else 1) < most:
            return False
        self.stats.refused["user_connections"] += 1
        return True

    # --- publications ---------------------------------------------------------------------------------------------

    def check_data(self, data: bytes) -> bytes:
        """Data as it may be published. Raises Rejected."""
        if len(data) > self.max_publication:
            raise Rejected("too_large", f"{len(data)} bytes; the limit is {self.max_publication}")
        try:
            return compact(data)
        except ValueError as error:
            raise Rejected("not_json", str(error)) from error

    async def publish(self, draft: Draft) -> list[Appended]:
        """Append the publication, wait until this worker has read it back, and say where it stands on each channel.

        Raises Unavailable when the outcome is not known in time.
        """
        offset = await self.log.append(draft)
        epoch = self.history.epoch
        return [Appended(self.feed.offset_of(channel, draft, offset), epoch) for channel in draft.channels]

    async def order(self, order: Order) -> None:
        """Append the order, and wait until this worker has obeyed it. Raises Unavailable."""
        await self.log.append(Draft([ORDERS], encode_order(order)))

    async def judge(self, target: Target, position: Position) -> Verdict:
        """Whether the position is recoverable. One that is ahead of this worker, or in a log that it does not know, may
        come from another node that has read further, or has seen before this one that the log was made anew: the
        worker catches up before it calls the position foreign. Raises Unavailable when it cannot: the client may well
        recover elsewhere, or here later."""
        verdict = target.verdict(self.history, position)
        if verdict in (Verdict.AHEAD, Verdict.OTHER_EPOCH):
            await self.log.catch_up()
            verdict = target.verdict(self.history, position)
        return verdict


def _nothing(_revocation: Revocation) -> None:
    pass


def _claim_pattern(index: int, text: str) -> ClaimPattern:
    try:
        return ClaimPattern(text)
    except ValueError as error:
        raise ConfigError([f"connect.subscribe[{index}]: {error}"]) from error
