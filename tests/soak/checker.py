"""The checker: a pure function of the journals. It has no access to the server and knows none of its code.

A *chain* is what one client was told on one channel without a break: it starts where a subscription without a position
stands, goes on through live publications and through recoveries that the server calls complete, and ends with
`recovered: false`. Within a chain every publication of the channel between its start and its end must have been
delivered, once and in the log's order, and every break must have a cause that is on a list.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from tests.soak.journal import (
    AtRest,
    Closed,
    Connected,
    Delivered,
    Event,
    Gauges,
    Placed,
    Presence,
    Refused,
    Subscribed,
    Unsubscribed,
)
from tests.soak.ledger import Generation, Ledger
from tests.soak.sizes import Settings, rule_of

History = Callable[[], Iterable[Event]]
"""All events of a run; walked over twice."""

SHOWN = 12
"""Findings of one kind that are kept with their text."""

CLOCK_SLACK_S = 2.5
"""How much earlier than by our clock a publication may age out: a node that reads old records knows their time by the
marker before them (which is further away when the broker was), and a record is older than its reading."""

MAX_RSS_GROWTH = 64 * 2**20
MAX_FD_GROWTH = 30

SEVERE = ("node.", "deploy", "client.")
TO_THE_LOG = ("broker.", "link.", "stream.")


class Finding(Struct):
    """Something that must not be. `kind` names the invariant that was broken."""

    kind: str
    text: str


class Verdict(Struct):
    """What a run showed. `counts` are all findings by kind, `findings` the first of each kind, `thin` what the run did
    not see enough of to count."""

    findings: list[Finding]
    counts: dict[str, int]
    seen: dict[str, int]
    causes: dict[str, int]
    thin: list[str]

    @property
    def clean(self) -> bool:
        return not self.counts

    @property
    def counts_as_proof(self) -> bool:
        return self.clean and not self.thin


class Chain:
    """What one client holds of one channel. `next` is the place in the channel's line of what must come next. `start`
    is -1 while it is not known yet where the chain begins."""

    __slots__ = ("epoch", "generation", "next", "position", "skipped", "start")

    def __init__(self, epoch: str, generation: Generation | None, channel: str, start: int) -> None:
        self.epoch = epoch
        self.generation = generation
        self.start = self.position = start
        self.next = bisect_right(generation.lines[channel], start) if generation is not None and start >= 0 else 0
        self.skipped: set[int] = set()


def check(settings: Settings, history: History, *, unfinished: bool = False) -> Verdict:
    """Walk over the journals, first for what was true, then for what was shown. Of an unfinished run only what happened
    before the log was last read is judged."""
    ledger = Ledger(settings.size.repeat_window)
    ledger.take_all(history())
    checker = Checker(settings, ledger, ledger.known_until if unfinished else float("inf"))
    for event in history():
        if event.at <= checker.until:
            checker.take(event)
    checker.finish()
    return checker.verdict()


class Checker:
    """One walk over the clients' events, of each client in order."""

    def __init__(self, settings: Settings, ledger: Ledger, until: float) -> None:
        self.settings = settings
        self.ledger = ledger
        self.until = until
        self.counts: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self._chains: dict[str, dict[str, Chain]] = defaultdict(dict)
        self._truth: dict[tuple[str, int], str] = {}
        self._at_rest: set[str] = set()
        self._clients: dict[str, tuple[str, int]] = {}
        self._begun: dict[int, dict[str, float]] = {}
        self._joined_late: set[str] = set()
        self._recovering: dict[tuple[str, str], int] = {}

    def take(self, event: Event) -> None:
        take = _TAKES.get(type(event))
        if take is not None:
            take(self, event)

    def _find(self, kind: str, event: object, text: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            self.findings.append(Finding(kind, f"{text}: {event}"))

    # --- deliveries -------------------------------------------------------------------------------------------------

    def _deliver(self, event: Delivered) -> None:
        self.seen["deliveries"] += 1
        self._check_content(event)
        chain = self._chains[event.client].get(event.channel)
        if chain is None:
            self._find("delivery without a subscription", event, "nothing was subscribed")
            return
        if chain.start < 0:
            self._start(chain, event.channel, event.epoch, event.offset - 1)
        if event.epoch != chain.epoch:
            self._find("foreign epoch", event, f"the chain is in {chain.epoch}")
            return
        if event.recovered:
            self.seen["recovered publications"] += 1
            if self._recovering.pop((event.client, event.channel), 0):
                self.seen["recoveries"] += 1
        generation = chain.generation
        if generation is None or event.offset > generation.end:
            self._deliver_unread(chain, event)
            return
        self._deliver_known(chain, generation, event)

    def _check_content(self, event: Delivered) -> None:
        publication = self.ledger.sent.get(event.id)
        if not event.intact:
            self._find("damaged", event, "checksum or channel is wrong")
        elif publication is None:
            self._find("phantom", event, "nobody has sent it")
        elif not publication.may_be_there:
            self._find("phantom", event, "it was refused")
        before = self._truth.setdefault((event.epoch, event.offset), event.id)
        if before != event.id:
            self._find("two truths", event, f"under this epoch and offset {before} was shown")

    def _deliver_unread(self, chain: Chain, event: Delivered) -> None:
        """Behind the last read of a stream that was deleted: only the order can be judged."""
        if event.offset <= chain.position:
            self._find("duplicate", event, f"the chain was at {chain.position}")
            return
        if not self.ledger.deleted_between(chain.generation, event.at):
            self._find("two truths", event, "no such place was in the log")
        chain.position = event.offset
        if chain.generation is not None:
            self._skip(chain, event.channel, len(chain.generation.lines[event.channel]), event)

    def _deliver_known(self, chain: Chain, generation: Generation, event: Delivered) -> None:
        if generation.ids.get(event.offset) != event.id:
            self._find("two truths", event, f"in the log it is {generation.ids.get(event.offset)}")
            return
        if (event.channel, event.offset) in generation.repeats:
            self._find("repeat shown", event, "its message id was in the window")
            return
        line = generation.lines[event.channel]
        place = bisect_left(line, event.offset)
        if place == len(line) or line[place] != event.offset:
            self._find("two truths", event, "it is not on this channel in the log")
            return
        if event.offset <= chain.position:
            kind = "inversion" if event.offset in chain.skipped else "duplicate"
            self._find(kind, event, f"the chain was at {chain.position}")
            return
        self._skip(chain, event.channel, place, event)
        chain.next = place + 1
        chain.position = event.offset
        self.seen["pairs"] += 1

    def _skip(self, chain: Chain, channel: str, place: int, event: object) -> None:
        """Everything before this place must have been delivered."""
        if chain.generation is None or chain.next >= place:
            return
        missing = chain.generation.lines[channel][chain.next : place]
        chain.skipped.update(missing)
        chain.next = place
        ids = [chain.generation.ids[offset] for offset in missing[:5]]
        self._find("gap", event, f"{len(missing)} publications of {channel} are missing, {ids}")
        self.seen["missing publications"] += len(missing)

    def _move(self, chain: Chain, channel: str, offset: int, event: object) -> None:
        """The chain goes on at a later position: there must have been nothing between."""
        if offset < chain.position:
            self._find("position went back", event, f"{channel} was at {chain.position}")
            return
        if chain.generation is not None:
            self._skip(chain, channel, bisect_right(chain.generation.lines[channel], offset), event)
        chain.position = offset

    def _start(self, chain: Chain, channel: str, epoch: str, offset: int) -> None:
        chain.epoch = epoch
        chain.generation = self.ledger.by_epoch.get(epoch)
        chain.start = chain.position = offset
        line = chain.generation.lines[channel] if chain.generation is not None else []
        chain.next = bisect_right(line, offset)

    def _place(self, event: Placed) -> None:
        for channel, chain in self._chains[event.client].items():
            if chain.start < 0:
                self._start(chain, channel, event.epoch, event.offset)
            elif chain.epoch != event.epoch:
                self._find("foreign epoch", event, f"the chain of {channel} is in {chain.epoch}")
            else:
                self._move(chain, channel, event.offset, event)

    # --- subscriptions ----------------------------------------------------------------------------------------------

    def _subscribe(self, event: Subscribed) -> None:
        chain = self._chains[event.client].get(event.channel)
        generation = self.ledger.by_epoch.get(event.epoch)
        self._recovering.pop((event.client, event.channel), None)
        if event.asked_offset < 0 or chain is None:
            self.seen["chains"] += 1
            if event.recovered:
                self._find("recovered without a position", event, "nothing was asked")
            if event.client in self._joined_late:
                self.seen["late"] += 1
                self._joined_late.discard(event.client)
            self._chains[event.client][event.channel] = Chain(event.epoch, generation, event.channel, event.offset)
            return
        self.seen["recoveries asked"] += 1
        if event.recovered:
            self._recover(chain, event)
            return
        if chain.start >= 0:
            self._justify(chain, event)
        self.seen["chains"] += 1
        self._chains[event.client][event.channel] = Chain(event.epoch, generation, event.channel, event.offset)

    def _recover(self, chain: Chain, event: Subscribed) -> None:
        if chain.start >= 0 and event.epoch != chain.epoch:
            self._find("foreign epoch", event, f"recovered, but the chain is in {chain.epoch}")
            return
        self._recovering[event.client, event.channel] = 1
        if event.count == 0 and chain.start >= 0 and not event.client.startswith("sse"):
            self._move(chain, event.channel, event.offset, event)

    def _justify(self, chain: Chain, event: Subscribed) -> None:
        self.seen["refused"] += 1
        cause = self._cause(chain, event)
        self.causes[cause or "none"] += 1
        if not cause:
            self._find("unjustified break", event, f"the chain was at {chain.epoch}:{chain.position}")

    def _cause(self, chain: Chain, event: Subscribed) -> str:
        """Why a chain had to break, by what was in the log then; empty when there was no reason."""
        generation, ledger = chain.generation, self.ledger
        if ledger.deleted_between(generation, event.at):
            return "the stream was deleted"
        if generation is None or event.epoch not in ("", chain.epoch):
            return ""
        rule = rule_of(event.channel)
        missed = [
            sent_at
            for offset in generation.lines[event.channel][chain.next :]
            if (sent_at := self._sent_at(generation, offset)) <= event.at
        ]
        if len(missed) > rule.size:
            return "more were missed than the history's size"
        if missed and missed[0] <= event.at - rule.ttl_s + CLOCK_SLACK_S + ledger.longest_silence(missed[0]):
            return "what was missed is older than the history's ttl"
        after = generation.next_after(chain.position)
        if after and self._sent_at(generation, after) <= self._last_start(event.at) - self._known_for_s + CLOCK_SLACK_S:
            return "older than a node knew that had started since"
        return ""

    @property
    def _known_for_s(self) -> float:
        return self.settings.size.known_for_s

    def _last_start(self, at: float) -> float:
        """The latest time, not after this one, at which a node may have begun to read the log; in the far past when
        none did since the beginning."""
        found = [
            min(at, fault.ended + max(0.0, fault.recovered_s))
            for fault in self.ledger.faults.values()
            if fault.kind.startswith(("node.kill", "node.terminate", "deploy")) and fault.begun <= at
        ]
        return max(found, default=float("-inf"))

    def _sent_at(self, generation: Generation, offset: int) -> float:
        publication = self.ledger.sent.get(generation.ids[offset])
        return publication.first_at if publication is not None else float("inf")

    # --- connections ------------------------------------------------------------------------------------------------

    def _connect(self, event: Connected) -> None:
        if event.client not in self._clients and event.kind == "late":
            self._joined_late.add(event.client)
        self._clients[event.client] = event.kind, event.node

    def _close(self, event: Closed) -> None:
        kind, node = self._clients.get(event.client, ("", -1))
        self.seen[f"closed {event.code}"] += 1
        if event.own or self._is_explained(event, kind, node):
            return
        self._find("unexplained disconnect", event, f"a {kind} client of node {node}")

    def _is_explained(self, event: Closed, kind: str, node: int) -> bool:
        felt = self.ledger.felt
        if event.code in (0, 1006, 3008, 3012) and self.ledger.generator_was_late(event.at):
            return True
        match event.code:
            case 0 | 1006:
                flooded = kind.startswith("sse") and felt(event.at, TO_THE_LOG, node)
                return flooded or felt(event.at, SEVERE, node) or kind == "slow"
            case 3001:
                leaving = felt(event.at, ("deploy", "node.terminate"), node)
                return leaving or (event.reason == "not ready" and felt(event.at, (*TO_THE_LOG, "node."), node))
            case 3008 | 3012:
                # What comes at once when the log is back is more than the narrow buffers of these nodes hold.
                flooded = event.code == 3008 and felt(event.at, TO_THE_LOG, node)
                return flooded or kind == "slow" or felt(event.at, ("client.freeze", "node.freeze"), node)
            case 3010:
                return felt(event.at, TO_THE_LOG)
            case _:
                return False

    def _unsubscribe(self, event: Unsubscribed) -> None:
        if event.code != 2500 or not self.ledger.felt(event.at, (*TO_THE_LOG, "node.")):
            self._find("unexplained unsubscribe", event, "nothing was wrong with the log")

    def _refuse(self, event: Refused) -> None:
        self.seen["temporary errors"] += 1
        if event.code not in (100, 503) or not self.ledger.felt(event.at, (*TO_THE_LOG, "node.", "deploy", "redis.")):
            self._find("unexplained error", event, "no fault was felt")

    def _rest(self, event: AtRest) -> None:
        self._at_rest.add(event.client)
        last = self.ledger.last
        for channel in event.channels:
            chain = self._chains[event.client].get(channel)
            if chain is None or chain.start < 0:
                self._find("absent", event, f"nothing was ever subscribed on {channel}")
            elif chain.generation is not last:
                self._find("foreign epoch", event, f"at rest the chain of {channel} is in {chain.epoch}")
            else:
                self._skip(chain, channel, len(last.lines[channel]), event)

    def _count_present(self, event: Presence) -> None:
        if event.answered != event.expected:
            self._find("presence", event, f"{event.answered} clients are said to be there")

    def _weigh(self, event: Gauges) -> None:
        """F-C7: nothing stays of those who have left."""
        if event.when == "begun":
            self._begun[event.node] = event.values
        if event.when != "left":
            return
        values, before = event.values, self._begun.get(event.node, {})
        if not values:
            self._find("residue", event, "the node did not answer")
            return
        for name in ("notifier_subscriptions", "notifier_connections", "notifier_clients"):
            if values[name]:
                self._find("residue", event, f"{name} is {values[name]:g} though nobody is there")
        growth = values["process_open_fds"] - before.get("process_open_fds", 0)
        if growth > MAX_FD_GROWTH:
            self._find("residue", event, f"{growth:g} more file descriptors than at the beginning")
        growth = values["process_resident_memory_bytes"] - before.get("process_resident_memory_bytes", 0)
        if growth > MAX_RSS_GROWTH + 2 * values["notifier_history_bytes"]:
            self._find("residue", event, f"{growth / 2**20:.0f} MiB more memory than at the beginning")

    # --- what can be judged only at the end -------------------------------------------------------------------------

    def finish(self) -> None:
        for complaint in self.ledger.complaints:
            self._find("complaint", complaint, "a node should not have said or done so")
        if self.until == float("inf"):
            for client in sorted(self._clients.keys() - self._at_rest):
                self._find("absent", client, "was not at rest at the end")
        self._check_log()
        self._check_order()
        self._check_answers()
        ledger = self.ledger
        self.seen["faults"] = sum(
            fault.seen and not fault.kind.startswith("client.") for fault in ledger.faults.values()
        )
        self.seen["repeats"] = sum(len(generation.repeats) for generation in ledger.generations.values())
        for outcome in ("ok", "no", "unknown"):
            self.seen[outcome] = sum(publication.outcomes[outcome] for publication in ledger.sent.values())

    def _check_log(self) -> None:
        """Every confirmed publication is in a stream, on all of its channels, unless its stream was deleted."""
        generations = self.ledger.generations.values()
        for ident, publication in self.ledger.sent.items():
            if not 0 < publication.ok_at <= self.until:
                continue
            self.seen["confirmed"] += 1
            lacking = [
                channel
                for channel in publication.channels
                if not any((channel, ident) in generation.first_of for generation in generations)
            ]
            if lacking and not self._fell_into_deletion(publication.first_at, publication.ok_at):
                self._find("lost", ident, f"confirmed at {publication.ok_at}, but not in the log on {lacking}")

    def _fell_into_deletion(self, sent_at: float, ok_at: float) -> bool:
        return any(
            generation.deleted is not None and sent_at <= generation.deleted.at and ok_at >= generation.deleted.since
            for generation in self.ledger.generations.values()
        )

    def _check_order(self) -> None:
        """What one publisher sent once each, one after the other, stands in that order."""
        last: dict[tuple[int, str, str], tuple[int, int, str]] = {}
        for generation in self.ledger.generations.values():
            for (channel, ident), offset in sorted(generation.first_of.items(), key=lambda item: item[1]):
                publication = self.ledger.sent.get(ident)
                publisher, home, number = ident.split("/") if ident.count("/") == 2 else ("", "", "0")
                if publication is None or home != channel or publication.attempts != 1:
                    continue
                if not publication.ok_at:
                    continue
                key = generation.number, publisher, channel
                before = last.get(key, (0, 0, ""))
                if int(number) < before[0]:
                    self._find("order", ident, f"stands at {offset}, behind {before[2]} at {before[1]}")
                last[key] = max(before, (int(number), offset, ident))

    def _check_answers(self) -> None:
        """The offset that the server API answered with is where the publication stands."""
        for channel, answer in self.ledger.answers:
            if answer.at > self.until:
                continue
            generation = self.ledger.by_epoch.get(answer.epoch)
            if generation is None or answer.offset > generation.end:
                if generation is None or not self.ledger.deleted_between(generation, answer.at):
                    self._find("false answer", answer, "no such place was in the log")
            elif generation.ids.get(answer.offset) != answer.id:
                self._find("false answer", answer, f"on {channel} it is {generation.ids.get(answer.offset)}")

    def verdict(self) -> Verdict:
        return Verdict(
            self.findings, dict(self.counts), dict(sorted(self.seen.items())), dict(self.causes), self._thin()
        )

    def _thin(self) -> list[str]:
        """What a run must have seen to count. With some of the faults only, less is asked."""
        enough = dict(self.settings.size.enough)
        if self.settings.faults != "all":
            for name in ("unknown", "faults", "refused"):
                enough.pop(name, None)
            if self.settings.faults != "none":
                enough["faults"] = 1
        return [f"{name}: {self.seen[name]} of {least}" for name, least in enough.items() if self.seen[name] < least]


_TAKES: dict[type, Callable[[Checker, Any], None]] = {
    Delivered: Checker._deliver,
    Placed: Checker._place,
    Subscribed: Checker._subscribe,
    Unsubscribed: Checker._unsubscribe,
    Connected: Checker._connect,
    Closed: Checker._close,
    Refused: Checker._refuse,
    AtRest: Checker._rest,
    Gauges: Checker._weigh,
    Presence: Checker._count_present,
}
