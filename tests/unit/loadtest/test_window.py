"""The measuring window."""

from __future__ import annotations

import os

from loadtest.window import Meter


def test_a_window_holds_what_was_received_between_its_ends() -> None:
    core = min(os.sched_getaffinity(0))
    meter = Meter([os.getpid()], core, core)
    meter.open(deliveries=10, received_bytes=1000)
    window = meter.close(deliveries=15, received_bytes=1600)
    assert (window.deliveries, window.received_bytes) == (5, 600)
