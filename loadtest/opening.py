"""Opens thousands of connections, a fixed number at a time, and brings each to the point where it is subscribed."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import NamedTuple

from loadtest.limits import source_address
from loadtest.wire import Dialogue, Refused, Step

ADDRESS = "127.0.0.1"
RECEIVE_BYTES = 65_536
# From linux/in.h: choose the port at connect, so that one is only taken for the pair of addresses.
IP_BIND_ADDRESS_NO_PORT = 24


class OpeningFailed(Exception):
    """A connection was refused, broke, or did not get ready in time."""


class Ready(NamedTuple):
    """`rest`: what came after the last answer of the opening."""

    number: int
    socket: socket.socket
    rest: bytes


class _Attempt:
    __slots__ = ("began_ns", "connected", "dialogue", "index", "socket")

    def __init__(self, index: int, steps: list[Step], port: int) -> None:
        self.index = index
        self.dialogue = Dialogue(steps)
        self.began_ns = time.monotonic_ns()
        self.connected = False
        self.socket = connecting(source_address(index), port)


class Opener:
    """`steps` holds the opening of each connection."""

    def __init__(self, port: int, steps: list[list[Step]]) -> None:
        self._port = port
        self._steps = steps
        self._poll = select.epoll()
        self._attempts: dict[int, _Attempt] = {}
        self.ready: list[Ready] = []
        self.durations_ns: list[int] = []

    def run(self, in_flight: int, deadline_s: float) -> list[Ready]:
        """All connections, ready. Raises OpeningFailed; then all of them are closed."""
        ends = time.monotonic() + deadline_s
        waiting = iter(enumerate(self._steps))
        try:
            self._start(waiting, in_flight)
            while self._attempts:
                self._check_time(ends)
                for fd, _ in self._poll.poll(1.0, in_flight):
                    self._advance(fd)
                self._start(waiting, in_flight)
        except (OSError, ValueError, Refused, OpeningFailed) as error:
            self._close_all()
            raise OpeningFailed(f"after {len(self.ready):,} ready connections: {error}") from error
        finally:
            self._poll.close()
        return self.ready

    def _check_time(self, ends: float) -> None:
        if time.monotonic() > ends:
            raise OpeningFailed(f"{len(self._steps) - len(self.ready):,} were not ready in time")

    def _start(self, waiting: enumerate[list[Step]], in_flight: int) -> None:
        while len(self._attempts) < in_flight and (one := next(waiting, None)):
            attempt = _Attempt(*one, self._port)
            self._attempts[attempt.socket.fileno()] = attempt
            self._poll.register(attempt.socket, select.EPOLLOUT)

    def _advance(self, fd: int) -> None:
        attempt = self._attempts[fd]
        if not attempt.connected:
            if error := attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
            attempt.connected = True
            self._poll.modify(fd, select.EPOLLIN)
            attempt.socket.send(attempt.dialogue.begin())
            return
        data = attempt.socket.recv(RECEIVE_BYTES)
        if not data:
            raise OpeningFailed("the server closed the connection")
        if reply := attempt.dialogue.take(data):
            attempt.socket.send(reply)
        if attempt.dialogue.done:
            self._finish(fd, attempt)

    def _finish(self, fd: int, attempt: _Attempt) -> None:
        self.durations_ns.append(time.monotonic_ns() - attempt.began_ns)
        self._poll.unregister(fd)
        del self._attempts[fd]
        self.ready.append(Ready(attempt.index, attempt.socket, attempt.dialogue.rest))

    def _close_all(self) -> None:
        for attempt in self._attempts.values():
            attempt.socket.close()
        for one in self.ready:
            one.socket.close()


def connecting(source: str, port: int) -> socket.socket:
    """A socket on its way to the server. Does not wait."""
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if source != ADDRESS:
        made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((source, 0))
    error = made.connect_ex((ADDRESS, port))
    if error not in (0, errno.EINPROGRESS):
        made.close()
        raise OSError(error, os.strerror(error))
    return made
