"""The measuring window: what server, generator and cores used between two moments."""

from __future__ import annotations

import os
import time
from collections.abc import MutableSequence

import msgspec

from loadtest import procfs
from loadtest.latency import Quantiles


class Window(msgspec.Struct, frozen=True):
    """`received_bytes`: all that clients read from their sockets. `*_waited_s`: ready to run, but something else had
    the core. `*_core_*`: shares of the whole core's time."""

    seconds: float
    deliveries: int
    received_bytes: int
    server_cpu_s: float
    server_waited_s: float
    generator_cpu_s: float
    generator_waited_s: float
    server_core_busy: float
    client_core_busy: float
    stolen: float
    latency: Quantiles | None
    generator_lag: Quantiles | None


class _Moment(msgspec.Struct, frozen=True):
    deliveries: int
    received_bytes: int
    time: float
    server_cpu_s: float
    server_waited_s: float
    own_cpu_s: float
    own_waited_s: float
    server_core: procfs.Core
    client_core: procfs.Core


class Meter:
    """Open, then close. Both read all numbers at one moment, in the process that counts the deliveries."""

    def __init__(self, server_pids: list[int], server_core: int, client_core: int) -> None:
        self._server_pids = server_pids
        self._cores = (server_core, client_core)
        self._begin: _Moment | None = None

    def open(self, deliveries: int = 0, received_bytes: int = 0) -> None:
        self._begin = self._now(deliveries, received_bytes)

    def close(
        self,
        deliveries: int = 0,
        received_bytes: int = 0,
        latencies_ns: MutableSequence[int] | None = None,
        lags_ns: MutableSequence[int] | None = None,
    ) -> Window:
        """Since `open`."""
        begin, end = self._begin, self._now(deliveries, received_bytes)
        assert begin, "close without open"
        seconds = end.time - begin.time
        stolen = (end.server_core.stolen_s - begin.server_core.stolen_s) + (
            end.client_core.stolen_s - begin.client_core.stolen_s
        )
        return Window(
            seconds=seconds,
            deliveries=end.deliveries - begin.deliveries,
            received_bytes=end.received_bytes - begin.received_bytes,
            server_cpu_s=end.server_cpu_s - begin.server_cpu_s,
            server_waited_s=end.server_waited_s - begin.server_waited_s,
            generator_cpu_s=end.own_cpu_s - begin.own_cpu_s,
            generator_waited_s=end.own_waited_s - begin.own_waited_s,
            server_core_busy=(end.server_core.busy_s - begin.server_core.busy_s) / seconds,
            client_core_busy=(end.client_core.busy_s - begin.client_core.busy_s) / seconds,
            stolen=stolen / seconds,
            latency=Quantiles.of_ns(latencies_ns or []),
            generator_lag=Quantiles.of_ns(lags_ns or []),
        )

    def _now(self, deliveries: int, received_bytes: int) -> _Moment:
        own = [os.getpid()]
        return _Moment(
            deliveries=deliveries,
            received_bytes=received_bytes,
            time=time.monotonic(),
            server_cpu_s=procfs.cpu_seconds(self._server_pids),
            server_waited_s=procfs.waited_seconds(self._server_pids),
            own_cpu_s=time.process_time(),
            own_waited_s=procfs.waited_seconds(own),
            server_core=procfs.core(self._cores[0]),
            client_core=procfs.core(self._cores[1]),
        )
