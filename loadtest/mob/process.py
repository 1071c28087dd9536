"""The process with attackers: one epoll loop for all of them. Whoever is thrown out comes again."""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import random
import select
import socket
import time
from collections import Counter
from multiprocessing.connection import Connection

from loadtest.limits import on_core, source_address
from loadtest.mob.attackers import Attacker, attacker
from loadtest.mob.orders import Ask, Came, Deeds, Order, Quit, Spec
from loadtest.opening import RECEIVE_BYTES, connecting

EVENTS_AT_ONCE = 256
ACTS_AT_ONCE = 64
LOOK_EVERY_S = 0.2
MOST_READ = 16  # times, of one that is over


def main(spec: Spec, pipe: Connection) -> None:
    """The process; ends with the other end of the pipe."""
    os.nice(spec.niceness)
    with on_core(spec.core):
        gc.disable()
        Mob(spec, pipe).run()


class Member:
    """A place in the mob: one attacker after the other, with a connection each. `turn` is the number of it."""

    __slots__ = ("attacker", "began", "connected", "number", "socket", "turn", "unsent")

    def __init__(self, number: int) -> None:
        self.number = number
        self.attacker: Attacker | None = None
        self.socket: socket.socket | None = None
        self.connected = False
        self.began = 0.0
        self.turn = 0
        self.unsent = b""


class Mob:
    """All of them."""

    def __init__(self, spec: Spec, pipe: Connection) -> None:
        self._spec = spec
        self._pipe = pipe
        self._poll = select.epoll()
        self._poll.register(pipe, select.EPOLLIN)
        self._open: dict[int, Member] = {}
        self._counter = itertools.count()
        self._due: list[tuple[float, int, Member, int]] = []
        self._still_to_come = spec.attackers
        self._attempts = self._most_open = self._sent_bytes = 0
        self._ends: dict[str, Counter[str]] = {}
        self._longest_s: dict[str, float] = {}
        self._leaving = False
        began = time.monotonic()
        for place in range(spec.attackers):
            self._plan(began + spec.coming_s * place / spec.attackers, Member(spec.first + place))

    def run(self) -> None:
        while not self._leaving:
            self._act()
            for fd, events in self._poll.poll(self._until_next(), EVENTS_AT_ONCE):
                if fd == self._pipe.fileno():
                    self._obey()
                elif (member := self._open.get(fd)) is not None:
                    self._advance(member, events)
            self._most_open = max(self._most_open, len(self._open))
        for member in self._open.values():
            if member.socket is not None:
                member.socket.close()

    # --- time -------------------------------------------------------------------------------------------------------

    def _plan(self, at: float, member: Member) -> None:
        heapq.heappush(self._due, (at, next(self._counter), member, member.turn))

    def _until_next(self) -> float:
        return min(LOOK_EVERY_S, max(0.0, self._due[0][0] - time.monotonic())) if self._due else LOOK_EVERY_S

    def _act(self) -> None:
        """Those whose time has come; a bounded number, so that those who are thrown out are seen meanwhile."""
        now = time.monotonic()
        for _ in range(ACTS_AT_ONCE):
            if not self._due or self._due[0][0] > now:
                return
            _, _, member, turn = heapq.heappop(self._due)
            if member.turn != turn:
                continue
            if member.socket is None:
                self._come(member)
            elif member.attacker is not None:
                if member.connected and member.attacker.ready:
                    self._send(member, b"" if member.unsent else member.attacker.act())
                if member.socket is not None:
                    self._plan(now + member.attacker.every_s, member)

    # --- a member's life --------------------------------------------------------------------------------------------

    def _come(self, member: Member) -> None:
        spec = self._spec
        if not member.turn:
            self._still_to_come -= 1
            if not self._still_to_come:
                self._pipe.send(Came())
        member.turn += 1
        member.attacker = attacker(member.number, spec.channel, spec.secret)
        member.connected, member.unsent, member.began = False, b"", time.monotonic()
        self._attempts += 1
        try:
            member.socket = connecting(source_address(member.number), spec.port)
        except OSError as error:
            self._end(member, str(error.strerror))
            return
        self._open[member.socket.fileno()] = member
        self._poll.register(member.socket, select.EPOLLOUT)
        self._plan(member.began + member.attacker.every_s, member)

    def _end(self, member: Member, error: str) -> None:
        """The connection is over; it comes again after a while."""
        assert member.attacker is not None
        now = time.monotonic()
        key = member.attacker.key
        self._ends.setdefault(key, Counter())[member.attacker.ending(error)] += 1
        self._longest_s[key] = max(self._longest_s.get(key, 0.0), now - member.began)
        if member.socket is not None:
            del self._open[member.socket.fileno()]
            member.socket.close()
            member.socket = None
        member.turn += 1
        self._plan(now + self._spec.again_s * random.uniform(0.5, 1.5), member)

    # --- bytes ------------------------------------------------------------------------------------------------------

    def _advance(self, member: Member, events: int) -> None:
        assert member.socket is not None
        assert member.attacker is not None
        if not member.connected:
            if error := member.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._end(member, os.strerror(error))
                return
            member.connected = True
            self._poll.modify(member.socket, select.EPOLLIN)
            self._send(member, member.attacker.first())
            return
        if events & select.EPOLLOUT:
            self._send(member, b"")
        if events & (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
            self._read(member)

    def _read(self, member: Member) -> None:
        """Whoever does not read does so only when it is over, to see why."""
        for _ in range(MOST_READ):
            if member.socket is None or member.attacker is None:
                return
            try:
                data = member.socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(member, str(error.strerror))
                return
            if not data:
                self._end(member, "")
                return
            was_ready = member.attacker.ready
            self._send(member, member.attacker.take(data))
            if member.socket is not None and member.attacker.ready and not was_ready and not member.attacker.reads:
                self._poll.modify(member.socket, select.EPOLLRDHUP)
                return
            if member.attacker.reads or not member.attacker.ready:
                return

    def _send(self, member: Member, data: bytes) -> None:
        """What the kernel does not take is sent before anything else, so that frames stay frames."""
        data = member.unsent + data
        if not data or member.socket is None or member.attacker is None:
            return
        try:
            taken = member.socket.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            self._read_last(member)
            return
        self._sent_bytes += taken
        before, member.unsent = member.unsent, data[taken:]
        if bool(before) != bool(member.unsent):
            wanted = select.EPOLLRDHUP if member.attacker.ready and not member.attacker.reads else select.EPOLLIN
            self._poll.modify(member.socket, wanted | (select.EPOLLOUT if member.unsent else 0))

    def _read_last(self, member: Member) -> None:
        """It cannot be written to any more; what was said before may still be there."""
        assert member.socket is not None
        assert member.attacker is not None
        try:
            while data := member.socket.recv(RECEIVE_BYTES):
                member.attacker.take(data)
            self._end(member, "")
        except OSError as error:
            self._end(member, str(error.strerror))

    # --- orders -----------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        try:
            order: Order = self._pipe.recv()
        except EOFError:
            order = Quit()
        if isinstance(order, Ask):
            self._pipe.send(self._deeds())
        else:
            self._leaving = True

    def _deeds(self) -> Deeds:
        now, longest_s = time.monotonic(), dict(self._longest_s)
        for member in self._open.values():
            if member.attacker is not None:
                key = member.attacker.key
                longest_s[key] = max(longest_s.get(key, 0.0), now - member.began)
        return Deeds(
            attempts=self._attempts,
            open=len(self._open),
            most_open=self._most_open,
            sent_bytes=self._sent_bytes,
            ends={key: dict(found.most_common()) for key, found in self._ends.items()},
            longest_s=longest_s,
        )
