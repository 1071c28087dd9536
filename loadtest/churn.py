"""Churn: clients that leave one channel for another, all the time, each as soon as it has been answered."""

from __future__ import annotations

import select
import time
from multiprocessing.connection import Connection

import msgspec

from loadtest.frames import FrameError
from loadtest.limits import on_core
from loadtest.measurement import Measurement
from loadtest.opening import RECEIVE_BYTES, Opener, OpeningFailed, Ready
from loadtest.results import Row, trust_notes
from loadtest.traffic import Traffic
from loadtest.window import Meter, Window
from loadtest.wire import Dialogue, Refused, Step, Unspeakable, Wire

ACTIVE = 64  # clients that wait for an answer at the same time


class Spec(msgspec.Struct, frozen=True):
    port: int
    wire: Wire
    connections: int
    seconds: float
    warm_up_s: float
    server_pids: list[int]
    server_core: int
    client_core: int


class Churned(msgspec.Struct, frozen=True):
    """`window.deliveries`: how often a client left one channel for another."""

    window: Window


class Failed(msgspec.Struct, frozen=True):
    reason: str


class Churn(Measurement):
    """The server's CPU for one unsubscribe and one subscribe, and how many of both it does in a second."""

    def _wanted(self) -> Traffic:
        return Traffic("unicast", self._point.connections, 0, self._point.size)

    def _act(self, row: Row, pids: list[int]) -> None:
        timing = self._timing
        spec = Spec(
            self._peer.port, self._peer.wire, self._point.connections, timing.seconds, timing.warm_up_s, pids,
            timing.server_core, timing.client_core,
        )  # fmt: skip
        self._tell("churning")
        row.window = window = self._helper(main, spec).hear(Churned).window
        row.switches_per_s = window.deliveries / window.seconds
        row.cpu_us = window.server_cpu_s / window.deliveries * 1e6 if window.deliveries else None
        row.generator_cpu = window.generator_cpu_s / window.seconds
        row.notes += trust_notes(window)


def main(spec: Spec, pipe: Connection) -> None:
    """The process with the clients."""
    with on_core(spec.client_core):
        try:
            pipe.send(Churned(_Clients(spec).run()))
        except (OpeningFailed, OSError, Refused, FrameError, Unspeakable) as error:
            pipe.send(Failed(f"{type(error).__name__}: {error}"))


class _Clients:
    def __init__(self, spec: Spec) -> None:
        """Raises OpeningFailed."""
        self._spec = spec
        steps = [spec.wire.steps(index, _channel(index, 0)) for index in range(spec.connections)]
        self._clients = {one.socket.fileno(): one for one in Opener(spec.port, steps).run(128, 120.0)}
        self._turns = dict.fromkeys(self._clients, 0)
        self._dialogues: dict[int, Dialogue] = {}
        self._idle = list(self._clients)[::-1]
        self._poll = select.epoll()
        self._done = 0

    def run(self) -> Window:
        """Raises OSError, Refused, FrameError, Unspeakable."""
        for _ in range(min(ACTIVE, len(self._clients))):
            self._next()
        meter = Meter(self._spec.server_pids, self._spec.server_core, self._spec.client_core)
        self._until(time.monotonic() + self._spec.warm_up_s)
        meter.open(self._done)
        self._until(time.monotonic() + self._spec.seconds)
        return meter.close(self._done)

    def _until(self, end: float) -> None:
        while time.monotonic() < end:
            for fd, _ in self._poll.poll(0.1):
                self._advance(fd)

    def _next(self) -> None:
        """Whoever has rested longest."""
        fd = self._idle.pop()
        self._poll.register(fd, select.EPOLLIN)
        turn = self._turns[fd]
        self._turns[fd] += 1
        one = self._clients[fd]
        self._dialogues[fd] = dialogue = Dialogue(self._switch(one, turn))
        one.socket.send(dialogue.begin())

    def _switch(self, one: Ready, turn: int) -> list[Step]:
        return self._spec.wire.switch(turn, _channel(one.number, turn), _channel(one.number, turn + 1))

    def _advance(self, fd: int) -> None:
        data = self._clients[fd].socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the server closed a connection")
        dialogue = self._dialogues[fd]
        if reply := dialogue.take(data):
            self._clients[fd].socket.send(reply)
        if dialogue.done:
            self._done += 1
            self._poll.unregister(fd)
            self._idle.insert(0, fd)
            self._next()


def _channel(index: int, turn: int) -> str:
    return f"{'left' if turn % 2 else 'room'}.{index:06d}"
