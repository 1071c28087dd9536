"""Measures one server at one point: start it, connect, publish, look at a window of time, stop it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from loadtest import generator, orders, procfs, publisher
from loadtest.peers.peer import NotStarted, Peer
from loadtest.results import Point, Row, lag_notes, missing, pace_notes, trust_notes
from loadtest.traffic import Traffic
from loadtest.window import Meter, Window

SETTLE_S = 2.0
# One connection in so many is looked at closely. Where each gets little, there is time for more.
SAMPLE_EVERY = {"fanout": 50, "mixed": 50}
SAMPLE_EVERY_ELSE = 5
SAMPLE_LEAST = 20
# Where each gets very much there are fewer: the broker shares their core, and must not come too late.
SAMPLED_A_SECOND = 8000
TRAFFIC: dict[str, Literal["fanout", "unicast", "mixed"]] = {
    "fanout": "fanout",
    "subscribers": "fanout",
    "many": "fanout",
    "mixed": "mixed",
}
LEAD_S = 0.3  # from the order to publish to the first publication
TAIL_S = 0.5  # publishing goes on for a moment after the window
ANSWER_DEADLINE_S = 180.0
FINISH_DEADLINE_S = 30.0
# A server that has fallen behind is not waited for: its row is worth no more with the rest of its queue.
BEHIND_DEADLINE_S = 3.0
# The window's edges lie shortly before a publication is due, so that none is cut in two.
BEFORE_DUE = 0.1

T = TypeVar("T")


class Timing(msgspec.Struct, frozen=True):
    """`seconds` is the window's length, after `warm_up_s` of the same traffic."""

    seconds: float
    warm_up_s: float
    server_core: int
    client_core: int
    read_every_s: float
    settle_s: float = SETTLE_S


class MeasurementFailed(Exception):
    """There is no result; the message says why."""


class Helper:
    """A child process of ours and the pipe to it."""

    def __init__(self, main: Callable[[Any, Connection], None], spec: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=main, args=(spec, far), daemon=True)
        self._process.start()
        far.close()

    def tell(self, order: object) -> None:
        self._pipe.send(order)

    def hear(self, kind: type[T], deadline_s: float = ANSWER_DEADLINE_S) -> T:
        """Its next words. Raises MeasurementFailed when they are others."""
        try:
            said = self._pipe.recv() if self._pipe.poll(deadline_s) else "nothing in time"
        except EOFError:
            said = "nothing any more"
        if isinstance(said, kind):
            return said
        raise MeasurementFailed(getattr(said, "reason", None) or f"expected {kind.__name__}, got {said}")

    def end(self, patience_s: float = 10.0) -> None:
        self._pipe.close()
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Measurement:
    """One row: connect everybody, publish or wait. Other kinds of work say in `_wanted` who is connected first, and in
    `_act` what is done then. `tell` gets a word now and then on what is being done."""

    def __init__(self, peer: Peer, point: Point, timing: Timing, tell: Callable[[str], None]) -> None:
        self._peer = peer
        self._point = point
        self._timing = timing
        self._tell = tell
        self._helpers: list[Helper] = []
        self._beside: list[int] = []
        self._traffic = self._wanted()

    def _wanted(self) -> Traffic:
        """What those who are connected first get."""
        point = self._point
        return Traffic(
            TRAFFIC.get(point.scenario, "unicast"), point.connections, point.rate, point.size, point.channels
        )

    def run(self, number: int) -> Row:
        """Never raises for a server that does not do what it should: the row says so."""
        row = Row(server=self._peer.key, point=self._point, round=number, notes=[])
        folder = Path(tempfile.mkdtemp(prefix="loadtest-"))
        try:
            self._tell("starting")
            self._folder = folder
            self._measure(row, self._start())
        except (MeasurementFailed, NotStarted, OSError) as error:
            row.failed = f"{error}\n{self._peer.last_words()}".strip()
        finally:
            for helper in self._helpers:
                helper.end()
            self._peer.stop()
            shutil.rmtree(folder, ignore_errors=True)
        return row

    def _start(self) -> int:
        """The server's process. Raises NotStarted."""
        return self._peer.start(self._folder, self._timing.server_core)

    def _measure(self, row: Row, pid: int) -> None:
        time.sleep(self._timing.settle_s / 2)
        pids = procfs.tree(pid)
        self._beside = sorted(set(procfs.tree(os.getpid())) - {os.getpid(), *pids})
        row.memory_before = procfs.memory_bytes(pids)
        self._act(row, pids)

    def _act(self, row: Row, pids: list[int]) -> None:
        """What is done to the running server. Raises MeasurementFailed."""
        crowd = self._connect(row, pids)
        if self._point.rate:
            self._publish(row, crowd)
        elif self._point.scenario == "idle":
            self._tell("idle")
            row.idle_cpu = self._idle(pids)
        crowd.tell(orders.Quit())

    def _connect(self, row: Row, pids: list[int]) -> Helper:
        self._tell("connecting")
        timing, traffic = self._timing, self._traffic
        spec = orders.Spec(
            port=self._peer.port,
            wire=self._peer.wire,
            traffic=traffic,
            server_pids=pids,
            server_core=timing.server_core,
            client_core=timing.client_core,
            read_every_s=timing.read_every_s,
            samples=samples_of(traffic),
        )
        crowd = self._helper(generator.main, spec)
        opened = crowd.hear(orders.Opened)
        time.sleep(self._timing.settle_s)
        connections = self._traffic.connections
        row.memory_after = procfs.memory_bytes(pids)
        row.kb_per_connection = (row.memory_after - (row.memory_before or 0)) / connections / 1000
        row.window = opened.window
        row.connections_per_s = connections / opened.window.seconds
        row.connection_cpu_us = opened.window.server_cpu_s / connections * 1e6
        row.connection_latency = opened.latency
        row.generator_cpu = opened.window.generator_cpu_s / opened.window.seconds
        if self._point.scenario == "connect":
            row.notes += trust_notes(opened.window)
        return crowd

    def _publish(self, row: Row, crowd: Helper) -> None:
        traffic, timing = self._traffic, self._timing
        voice = self._helper(publisher.main, publisher.Spec(self._peer.feed(), traffic, timing.client_core))
        voice.hear(publisher.Connected)
        self._tell("warming up")
        count = int((timing.warm_up_s + timing.seconds + TAIL_S) * traffic.rate)
        begin = time.monotonic() + LEAD_S
        voice.tell(publisher.Start(begin, count))
        beside_s = procfs.cpu_seconds(self._beside)
        row.window = self._window(crowd, begin + timing.warm_up_s - BEFORE_DUE / traffic.rate)
        row.beside_cpu_s = procfs.cpu_seconds(self._beside) - beside_s
        published = voice.hear(publisher.Published)
        row.publisher_lag, row.publisher_cpu_s = published.lag, published.cpu_s
        crowd.tell(orders.Finish(traffic.deliveries(count), patience_s(row.window, traffic)))
        totals = crowd.hear(orders.Totals)
        self._judge(row, row.window, totals, count)

    def _window(self, crowd: Helper, opens_at: float) -> Window:
        time.sleep(max(0.0, opens_at - time.monotonic()))
        crowd.tell(orders.OpenWindow())
        self._tell("measuring")
        time.sleep(max(0.0, opens_at + self._timing.seconds - time.monotonic()))
        crowd.tell(orders.CloseWindow())
        return crowd.hear(Window)

    def _judge(self, row: Row, window: Window, totals: orders.Totals, count: int) -> None:
        traffic = self._traffic
        row.expected, row.received = traffic.deliveries(count), totals.received
        row.latency = window.latency
        row.deliveries_per_s = window.deliveries / window.seconds
        row.generator_cpu = window.generator_cpu_s / window.seconds
        if window.deliveries:
            row.cpu_us = window.server_cpu_s / window.deliveries * 1e6
            row.bytes_a_delivery = window.received_bytes / window.deliveries
        row.notes += trust_notes(window) + pace_notes(window, traffic.deliveries_per_s, traffic.most_copies)
        row.notes += lag_notes(row.publisher_lag)
        if row.received != row.expected:
            kind = "incomplete" if row.received < row.expected else "wrong"
            row.notes.append(f"{kind}: {row.received:,} of {row.expected:,} deliveries received")
        if totals.lost_connections:
            row.notes.append(f"incomplete: {totals.lost_connections:,} connections lost")
        if totals.fault_count:
            row.notes.append(f"wrong: {totals.fault_count:,} faults, such as: {totals.faults[0]}")

    def _idle(self, pids: list[int]) -> float:
        meter = Meter(pids, self._timing.server_core, self._timing.client_core)
        meter.open()
        time.sleep(max(self._timing.seconds, self._peer.ping_every_s))  # pings come in one batch for each interval
        window = meter.close()
        return window.server_cpu_s / window.seconds

    def _helper(self, main: Callable[[Any, Connection], None], spec: object) -> Helper:
        helper = Helper(main, spec)
        self._helpers.append(helper)
        return helper


def samples_of(traffic: Traffic) -> int:
    wanted = max(SAMPLE_LEAST, traffic.connections // SAMPLE_EVERY.get(traffic.kind, SAMPLE_EVERY_ELSE))
    each_gets = traffic.rate * traffic.most_copies / traffic.connections
    return max(1, min(wanted, int(SAMPLED_A_SECOND / each_gets))) if each_gets else wanted


def patience_s(window: Window, traffic: Traffic) -> float:
    """How long what has not come yet is waited for."""
    behind = missing(window, traffic.deliveries_per_s, traffic.most_copies) > 0
    return BEHIND_DEADLINE_S if behind else FINISH_DEADLINE_S
