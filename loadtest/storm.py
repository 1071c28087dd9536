"""A connect storm: how fast new clients are ready, and how late deliveries to those already there are meanwhile."""

from __future__ import annotations

import time

from loadtest import arrivals, orders, publisher
from loadtest.measurement import LEAD_S, Measurement
from loadtest.results import Row, trust_notes
from loadtest.traffic import Traffic
from loadtest.window import Window

PRESENT, RATE = 1000, 20.0  # those already there, and what they get a second
LONGEST_S = 15.0  # of a storm during which there is traffic


class Storm(Measurement):
    """Each newcomer subscribes to two channels: one of its own and one of all newcomers, both silent."""

    def _wanted(self) -> Traffic:
        return Traffic("fanout", min(PRESENT, self._point.connections), RATE, self._point.size)

    def _act(self, row: Row, pids: list[int]) -> None:
        crowd = self._connect(row, pids)
        storm = self._helper(arrivals.main, self._newcomers())
        storm.hear(arrivals.Prepared)
        rate, warm_up_s = self._traffic.rate, self._timing.warm_up_s
        voice = self._helper(publisher.main, publisher.Spec(self._peer.feed(), self._traffic, self._timing.client_core))
        voice.hear(publisher.Connected)
        begin = time.monotonic() + LEAD_S
        voice.tell(publisher.Start(begin, int((warm_up_s + LONGEST_S) * rate)))
        time.sleep(max(0.0, begin + warm_up_s - time.monotonic()))
        self._tell("storm")
        crowd.tell(orders.OpenWindow())
        storm.tell(arrivals.Come())
        came = storm.hear(arrivals.Arrived)
        crowd.tell(orders.CloseWindow())
        row.window = crowd.hear(Window)
        voice.end(0)
        crowd.tell(orders.Finish(0, 0))
        self._judge_storm(row, came, crowd.hear(orders.Totals))
        crowd.tell(orders.Quit())

    def _newcomers(self) -> arrivals.Spec:
        count = self._point.connections
        names = [[f"user.{number:06d}", "news.000000"] for number in range(count)]
        return arrivals.Spec(self._peer.port, self._peer.wire, PRESENT, names, self._timing.client_core)

    def _judge_storm(self, row: Row, came: arrivals.Arrived, totals: orders.Totals) -> None:
        window, count = row.window, self._point.connections
        assert window is not None
        row.connections_per_s = count / came.seconds
        row.connection_latency = came.latency
        row.connection_cpu_us = window.server_cpu_s / count * 1e6
        row.latency = window.latency
        row.generator_cpu = (window.generator_cpu_s + came.cpu_s) / window.seconds
        row.notes += trust_notes(window)
        if came.seconds > LONGEST_S:
            row.notes.append(f"uneven: publishing ended {LONGEST_S:g} s into a storm of {came.seconds:.0f} s")
        if totals.lost_connections:
            row.notes.append(f"incomplete: {totals.lost_connections:,} of those already there were lost")
        if totals.fault_count:
            row.notes.append(f"wrong: {totals.fault_count:,} faults, such as: {totals.faults[0]}")
