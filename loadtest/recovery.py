"""A recovery storm: all clients lose their connections, miss some publications, come back at once and get them."""

from __future__ import annotations

import socket
import time

import msgspec

from loadtest import arrivals, orders, procfs, publisher
from loadtest.frames import split
from loadtest.measurement import LEAD_S, SETTLE_S, Measurement, MeasurementFailed
from loadtest.opening import ADDRESS, RECEIVE_BYTES
from loadtest.peers.product_wire import ProductWire
from loadtest.results import Row, trust_notes
from loadtest.traffic import MARK, Traffic
from loadtest.window import Meter
from loadtest.wire import Dialogue, Step

MISSED, RATE = 50, 100.0
KEPT = 100  # publications of history: more than are missed
DEADLINE_S = 10.0


class Position(msgspec.Struct):
    """Where a subscription stands (protocol.md section 2.3)."""

    epoch: str = ""
    offset: int = 0


class _Reply(msgspec.Struct):
    subscribe: Position | None = None


class ReturningWire(ProductWire):
    """A client that subscribes from a position and must get all that it has missed, in the reply."""

    def __init__(self, wire: ProductWire, position: Position) -> None:
        super().__init__(wire.secret)
        self.wishes = f',"recover":true,"epoch":"{position.epoch}","offset":{position.offset}'

    def steps(self, index: int, *channels: str) -> list[Step]:
        *before, last = super().steps(index, *channels)
        return [*before, last._replace(needs=MARK, times=MISSED)]


class Recovery(Measurement):
    """Memory before is that with everybody connected; after, the same again when all have recovered."""

    def _wanted(self) -> Traffic:
        return Traffic("fanout", self._point.connections, RATE, self._point.size)

    def _start(self) -> int:
        self._peer.history, before = KEPT, self._peer.history
        try:
            return super()._start()
        finally:
            self._peer.history = before

    def _act(self, row: Row, pids: list[int]) -> None:
        wire = self._peer.wire
        if not isinstance(wire, ProductWire):
            raise MeasurementFailed("its clients cannot say where they were")
        crowd = self._connect(row, pids)
        position = where(self._peer.port, wire)
        before = row.memory_after or 0
        crowd.tell(orders.Quit())
        crowd.end()
        time.sleep(SETTLE_S)
        self._publish_missed()
        names = [self._traffic.channels_of(index) for index in range(self._point.connections)]
        spec = arrivals.Spec(self._peer.port, ReturningWire(wire, position), 0, names, self._timing.client_core)
        storm = self._helper(arrivals.main, spec)
        storm.hear(arrivals.Prepared)
        self._tell("recovering")
        meter = Meter(pids, self._timing.server_core, self._timing.client_core)
        meter.open()
        storm.tell(arrivals.Come())
        came = storm.hear(arrivals.Arrived)
        row.window = window = meter.close()
        time.sleep(SETTLE_S)
        row.memory_before, row.memory_after = before, procfs.memory_bytes(pids)
        row.memory_ratio = row.memory_after / before if before else None
        row.recovered_s = came.seconds
        row.connections_per_s = self._point.connections / came.seconds
        row.connection_cpu_us = window.server_cpu_s / self._point.connections * 1e6
        row.connection_latency = came.latency
        row.generator_cpu = came.cpu_s / came.seconds
        row.notes += trust_notes(window)

    def _publish_missed(self) -> None:
        self._tell("publishing what is missed")
        voice = self._helper(publisher.main, publisher.Spec(self._peer.feed(), self._traffic, self._timing.client_core))
        voice.hear(publisher.Connected)
        voice.tell(publisher.Start(time.monotonic() + LEAD_S, MISSED))
        voice.hear(publisher.Published)
        time.sleep(SETTLE_S / 2)  # from the broker to the server


def where(port: int, wire: ProductWire) -> Position:
    """The position that a new subscriber is given. Raises MeasurementFailed."""
    *_, last = steps = wire.steps(0, "bench")
    dialogue, seen = Dialogue(steps), b""
    with socket.create_connection((ADDRESS, port), timeout=DEADLINE_S) as client:
        client.sendall(dialogue.begin())
        while not dialogue.done:
            data = client.recv(RECEIVE_BYTES)
            if not data:
                raise MeasurementFailed("the server closed the connection")
            seen += data
            if reply := dialogue.take(data):
                client.sendall(reply)
    frames, _ = split(seen.partition(b"\r\n\r\n")[2])
    for line in b"\n".join(frame.message for frame in frames).split(b"\n"):
        if line.startswith(last.until):
            found = msgspec.json.decode(line, type=_Reply).subscribe
            if found is not None and found.epoch:
                return found
    raise MeasurementFailed("the server gives no positions")
