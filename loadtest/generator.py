"""The process with all the connections: a bare epoll loop that counts, and looks closely at a sample.

Nearly all connections only count (`Wire.counter`). A sample parses, checks and times every publication; it is
read at once, also between every few reads of the others, so that their bulk does not show as the server's latency. How
long the sample had to wait all the same is measured too, and reported as the generator's own lag.

The bulk is read every few milliseconds only, so that one read takes many frames. That also keeps the generator's own
state out of the numbers: a reader asleep is woken by the server's `send` itself, which a busy one is not.
`read_every_s` = 0 reads at once all the same.
"""

from __future__ import annotations

import array
import gc
import select
import time
from multiprocessing.connection import Connection

from loadtest.frames import CLOSE, PING, PONG, Frame, FrameError, client_frame
from loadtest.latency import Quantiles
from loadtest.limits import on_core
from loadtest.opening import RECEIVE_BYTES, Opener, OpeningFailed, Ready
from loadtest.orders import CloseWindow, Failed, Finish, Opened, OpenWindow, Order, Quit, Spec, Totals
from loadtest.sample import Sample
from loadtest.traffic import Bodies, Reader
from loadtest.window import Meter, Window

BUFFER_BYTES = 262_144
READS_BETWEEN_LOOKS = 16
FAULTS_TOLD = 5
IDLE_S = 0.1
QUIET_S = 3.0  # after this long without a delivery, nothing more is waited for


def main(spec: Spec, pipe: Connection) -> None:
    """The process. Opens the connections, says `Opened`, then does what it is told through the pipe."""
    with on_core(spec.client_core):
        try:
            generator = Generator(spec, pipe)
        except OpeningFailed as error:
            pipe.send(Failed(str(error)))
            return
        gc.collect()
        gc.freeze()
        gc.disable()
        generator.run()


class Generator:
    """Raises OpeningFailed."""

    def __init__(self, spec: Spec, pipe: Connection) -> None:
        self._spec = spec
        self._pipe = pipe
        self._meter = Meter(spec.server_pids, spec.server_core, spec.client_core)
        ready = self._open()
        slots = max(one.socket.fileno() for one in ready) + 1
        self._sockets = {one.socket.fileno(): one.socket for one in ready}
        self._receive = {fd: one.recv_into for fd, one in self._sockets.items()}
        self._counter = spec.wire.counter(slots, spec.traffic.size)
        self._buffer = bytearray(BUFFER_BYTES)
        self._bulk_poll = select.epoll()
        self._front_poll = select.epoll()
        self._samples: dict[int, Sample] = {}
        self._received_bytes = 0
        self._lost = 0
        self._faults: list[str] = []
        self._fault_count = 0
        self._window_open = False
        self._latencies = array.array("q")
        self._lags = array.array("q")
        self._finish: Finish | None = None
        self._finish_by = 0.0
        self._quiet_since = 0.0
        self._last_total = -1
        self._leaving = False
        self._divide(ready)

    def run(self) -> None:
        """Until told to quit, or the other end of the pipe is gone."""
        every_s = self._spec.read_every_s
        due = 0.0
        while not self._leaving:
            left = due - time.monotonic() if every_s else IDLE_S
            self._look(self._front_poll.poll(max(left, 0.0)))
            if time.monotonic() >= due:
                due = time.monotonic() + every_s
                self._read_bulk()
            if self._finish:
                self._see_if_finished()
        for one in self._sockets.values():
            one.close()

    def _read_bulk(self) -> None:
        """Read what the connections that only count have got. Bounded: each is read about once."""
        poll, look, receive, feed = self._bulk_poll.poll, self._front_poll.poll, self._receive, self._counter.feed
        buffer, clock = self._buffer, time.monotonic_ns
        for _ in range(len(receive) // READS_BETWEEN_LOOKS + 1):
            began, read = clock(), 0
            events = poll(0, READS_BETWEEN_LOOKS)
            for fd, _ in events:
                try:
                    length = receive[fd](buffer)
                    read += length
                    others = feed(fd, buffer, length) if length else self._lose(fd)
                except (OSError, FrameError) as error:
                    others = self._lose(fd, error)
                if others:
                    self._answer(fd, others)
            self._received_bytes += read
            if self._window_open:
                self._lags.append(clock() - began)
            if front := look(0):
                self._look(front)
            if len(events) < READS_BETWEEN_LOOKS:
                break

    # --- opening ----------------------------------------------------------------------------------------------------

    def _open(self) -> list[Ready]:
        spec = self._spec
        steps = [spec.wire.steps(index, *spec.traffic.channels_of(index)) for index in range(spec.traffic.connections)]
        opener = Opener(spec.port, steps)
        self._meter.open()
        ready = opener.run(spec.in_flight, spec.open_deadline_s)
        self._pipe.send(Opened(self._meter.close(), Quantiles.of_ns(opener.durations_ns)))
        return ready

    def _divide(self, ready: list[Ready]) -> None:
        """The samples stand evenly between the others, in the order in which the server got to know them."""
        spec = self._spec
        traffic, bodies = spec.traffic, Bodies(spec.traffic.size)
        places = traffic.places()
        every = max(1, len(ready) // spec.samples)
        for place, one in enumerate(ready):
            fd = one.socket.fileno()
            if place % every == 0:
                reader = Reader(bodies, *places[one.number])
                self._samples[fd] = Sample(spec.wire, reader, traffic.size, one.rest)
                self._front_poll.register(fd, select.EPOLLIN)
                continue
            rest = bytearray(one.rest)
            if rest and (others := self._counter.feed(fd, rest, len(rest))):
                self._answer(fd, others)
            self._bulk_poll.register(fd, select.EPOLLIN)
        self._front_poll.register(self._pipe, select.EPOLLIN)
        if not spec.read_every_s:
            self._front_poll.register(self._bulk_poll, select.EPOLLIN)

    # --- the sample, and what is not a publication --------------------------------------------------------------------

    def _look(self, events: list[tuple[int, int]]) -> None:
        """At the samples that have got something, and at the pipe."""
        for fd, _ in events:
            sample = self._samples.get(fd)
            if sample is not None:
                self._read_sample(fd, sample)
            elif fd == self._pipe.fileno():
                self._obey()

    def _read_sample(self, fd: int, sample: Sample) -> None:
        try:
            data = self._sockets[fd].recv(RECEIVE_BYTES)
            now = time.monotonic_ns()
            self._received_bytes += len(data)
            others = sample.take(data) if data else self._lose(fd)
        except BlockingIOError:
            return  # an order made us read it in the meantime
        except (OSError, FrameError) as error:
            self._lose(fd, error)
            return
        if self._window_open:
            self._latencies.extend([now - published for published in sample.times_ns])
        for fault in sample.collect_faults():
            self._fault(fault)
        if others:
            self._answer(fd, others)

    def _answer(self, fd: int, frames: list[Frame]) -> None:
        wire = self._spec.wire
        for frame in frames:
            if frame.opcode == PING:
                self._sockets[fd].send(client_frame(frame.payload, PONG))
            elif wire.ping and frame.payload == wire.ping:
                self._sockets[fd].send(wire.pong)
            elif frame.opcode == CLOSE:
                self._fault(f"the server closed a connection: {frame.payload[2:].decode(errors='replace')}")

    def _lose(self, fd: int, error: Exception | None = None) -> list[Frame]:
        """The connection is gone. No frames came."""
        self._lost += 1
        if error:
            self._fault(f"a connection broke: {error}")
        (self._front_poll if fd in self._samples else self._bulk_poll).unregister(fd)
        return []

    def _fault(self, text: str) -> None:
        self._fault_count += 1
        if len(self._faults) < FAULTS_TOLD:
            self._faults.append(text)

    # --- orders -----------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        try:
            order: Order = self._pipe.recv()
        except EOFError:
            order = Quit()
        match order:
            case OpenWindow():
                self._read_bulk()
                del self._latencies[:], self._lags[:]
                self._meter.open(self._received(), self._received_bytes)
                self._window_open = True
            case CloseWindow():
                self._pipe.send(self._close_window())
            case Finish():
                self._finish = order
                self._finish_by = time.monotonic() + order.deadline_s
            case _:
                self._leaving = True

    def _close_window(self) -> Window:
        self._read_bulk()
        self._window_open = False
        return self._meter.close(self._received(), self._received_bytes, self._latencies, self._lags)

    def _received(self) -> int:
        return sum(self._counter.counts) + sum(sample.received for sample in self._samples.values())

    def _see_if_finished(self) -> None:
        now, total = time.monotonic(), self._received()
        if total != self._last_total:
            self._last_total, self._quiet_since = total, now
        assert self._finish
        if total >= self._finish.expected or now > self._finish_by or now > self._quiet_since + QUIET_S:
            sampled = sum(sample.received for sample in self._samples.values())
            self._pipe.send(Totals(total, sampled, self._lost, self._fault_count, self._faults))
            self._finish = None
