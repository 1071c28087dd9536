"""The process with the fleet: one epoll loop for all clients, each parsed and checked in full.

A client's life: away → connecting → shaking hands → subscribing → there, and away again when its connection ends.
"""

from __future__ import annotations

import array
import gc
import heapq
import itertools
import os
import random
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum
from multiprocessing.connection import Connection

import jwt

from loadtest.fleet.balancer import Balancer
from loadtest.fleet.orders import Cut, CutAll, Failed, Finish, Mend, Opened, Order, Quit, Spec, Told
from loadtest.fleet.place import Place, Refused
from loadtest.frames import CLOSE, PING, PONG, Frame, FrameError, client_frame, split
from loadtest.latency import Quantiles
from loadtest.limits import on_core, source_address
from loadtest.opening import RECEIVE_BYTES, connecting
from loadtest.traffic import Bodies
from loadtest.wire import HTTP_END, upgrade

TOKEN_TTL_S = 6 * 3600
LONGEST_RETRY_S = 20.0
AGAIN_S = 0.05
ATTEMPT_S = 10.0
LOOK_EVERY_S = 0.1
EVENTS_AT_ONCE = 256
FAULTS_TOLD = 5
NO_LINGER = struct.pack("ii", 1, 0)
PONG_COMMAND = client_frame(b"{}")
UPGRADE = upgrade("/connection/websocket").send


def main(spec: Spec, pipe: Connection) -> None:
    """The process. Opens the connections, says `Opened`, then does what it is told through the pipe."""
    os.nice(spec.niceness)
    with on_core(spec.core):
        crowd = Crowd(spec, pipe)
        gc.collect()
        gc.freeze()
        gc.disable()
        crowd.run()


class State(Enum):
    AWAY = "away"
    CONNECTING = "connecting"
    SHAKING_HANDS = "shaking hands"
    SUBSCRIBING = "subscribing"
    THERE = "there"


class Client:
    """`turn` is the number of its connection: what was planned for an earlier one is not for this one."""

    __slots__ = ("attempts", "began_ns", "lost_ns", "number", "place", "rest", "socket", "state", "tried", "turn")

    def __init__(self, number: int, place: Place) -> None:
        self.number = number
        self.place = place
        self.state = State.AWAY
        self.socket: socket.socket | None = None
        self.rest = b""
        self.turn = 0
        self.attempts = 0
        self.tried: list[int] = []
        self.began_ns = 0
        self.lost_ns = 0


class Crowd:
    """All clients."""

    def __init__(self, spec: Spec, pipe: Connection) -> None:
        self._spec = spec
        self._pipe = pipe
        self._poll = select.epoll()
        self._poll.register(pipe, select.EPOLLIN)
        self._balancer = Balancer(spec.ports)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = itertools.count()
        bodies = Bodies(spec.size)
        self._clients = [
            Client(number, Place(bodies, spec.channel, _token(spec, number))) for number in range(spec.clients)
        ]
        self._open: dict[int, Client] = {}
        self._waiting = iter(self._clients)
        self._there = 0
        self._opening_since: float | None = time.monotonic()
        self._cut: Cut | None = None
        self._finish: Finish | None = None
        self._look_again = 0.0
        self._leaving = False
        self._returns = self._refused = 0
        self._ends: Counter[str] = Counter()
        self._faults: list[str] = []
        self._away = array.array("q")
        self._replay = array.array("q")

    def run(self) -> None:
        """Until told to quit, or the other end of the pipe is gone."""
        for _ in range(self._spec.in_flight):
            self._begin_next()
        while not self._leaving:
            for fd, _ in self._poll.poll(self._until_next(), EVENTS_AT_ONCE):
                if fd == self._pipe.fileno():
                    self._obey()
                elif (client := self._open.get(fd)) is not None:
                    self._advance(client)
            self._run_timers()
            self._look_at_the_whole()
        self._balancer.close()
        for client in self._open.values():
            if client.socket is not None:
                client.socket.close()

    # --- time ---------------------------------------------------------------------------------------------------------

    def _later(self, delay_s: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._counter), work))

    def _until_next(self) -> float:
        return min(0.2, max(0.0, self._timers[0][0] - time.monotonic())) if self._timers else 0.2

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    # --- a client's life ----------------------------------------------------------------------------------------------

    def _begin_next(self) -> None:
        client = next(self._waiting, None)
        if client is not None:
            self._connect(client)

    def _connect(self, client: Client) -> None:
        client.turn += 1
        if not client.tried:
            client.began_ns = time.monotonic_ns()
        port = self._balancer.choose(client.tried)
        client.tried.append(port)
        try:
            client.socket = connecting(source_address(client.number), port)
        except OSError as error:
            self._refuse(client, str(error.strerror))
            return
        client.rest = b""
        client.state = State.CONNECTING
        self._open[client.socket.fileno()] = client
        self._poll.register(client.socket, select.EPOLLOUT)
        turn = client.turn
        self._later(ATTEMPT_S, lambda: self._give_up(client, turn))

    def _give_up(self, client: Client, turn: int) -> None:
        if client.turn == turn and client.state is not State.THERE:
            self._refuse(client, "no answer in time")

    def _refuse(self, client: Client, why: str) -> None:
        """This attempt has failed: another node is tried at once, as balancers do; after all of them, later."""
        self._refused += 1
        self._ends[f"attempt: {why}"] += 1
        self._close(client)
        if len(client.tried) < len(self._spec.ports):
            self._connect(client)
        else:
            self._come_back(client)

    def _come_back(self, client: Client) -> None:
        first_s = self._spec.first_retry_s
        delay_s = min(LONGEST_RETRY_S, first_s + random.uniform(0, first_s * 2**client.attempts)) if first_s else 0.0
        if not first_s and client.attempts:
            delay_s = AGAIN_S
        client.attempts = min(client.attempts + 1, 10)
        client.tried = []
        self._later(delay_s, lambda: self._connect(client))

    def _lose(self, client: Client, why: str) -> None:
        """The connection of a client that was there has ended."""
        if client.state is not State.THERE:
            self._refuse(client, why)
            return
        self._ends[why] += 1
        self._close(client)
        self._come_back(client)

    def _close(self, client: Client, *, abruptly: bool = False) -> None:
        if client.state is State.THERE:
            self._there -= 1
            client.lost_ns = time.monotonic_ns()
        client.state = State.AWAY
        client.turn += 1
        if client.socket is not None:
            self._open.pop(client.socket.fileno(), None)
            if abruptly:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            client.socket.close()
            client.socket = None

    def _arrive(self, client: Client) -> None:
        now_ns = time.monotonic_ns()
        client.state = State.THERE
        client.attempts = 0
        client.tried = []
        self._there += 1
        if client.lost_ns:
            self._returns += 1
            self._away.append(now_ns - client.lost_ns)
            self._replay.append(now_ns - client.began_ns)
        else:
            self._begin_next()
        if self._cut is not None:
            self._plan_cut(client)

    # --- bytes --------------------------------------------------------------------------------------------------------

    def _advance(self, client: Client) -> None:
        assert client.socket is not None
        try:
            if client.state is State.CONNECTING:
                self._shake_hands(client, client.socket)
                return
            data = client.socket.recv(RECEIVE_BYTES)
            if data:
                self._take(client, client.socket, data)
            else:
                self._lose(client, "closed without a word")
        except BlockingIOError:
            return
        except (Refused, FrameError, ValueError) as error:
            self._fault(str(error))
            self._lose(client, "something wrong was said")
        except OSError as error:
            self._lose(client, str(error.strerror))

    def _shake_hands(self, client: Client, connection: socket.socket) -> None:
        if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        client.state = State.SHAKING_HANDS
        self._poll.modify(connection, select.EPOLLIN)
        connection.send(UPGRADE)

    def _take(self, client: Client, connection: socket.socket, data: bytes) -> None:
        client.rest += data
        if client.state is State.SHAKING_HANDS:
            head, found, rest = client.rest.partition(HTTP_END)
            if not found:
                return
            if b" 101 " not in head[:16]:
                self._refuse(client, head.partition(b"\r\n")[0].decode(errors="replace"))
                return
            client.state = State.SUBSCRIBING
            client.rest = rest
            connection.send(client_frame(client.place.request()))
        frames, client.rest = split(client.rest)
        for frame in frames:
            if not self._take_frame(client, connection, frame):
                return

    def _take_frame(self, client: Client, connection: socket.socket, frame: Frame) -> bool:
        """False when that was the last one."""
        if frame.opcode == PING:
            connection.send(client_frame(frame.payload, PONG))
        elif frame.opcode == CLOSE:
            connection.send(client_frame(frame.payload[:2], CLOSE))
            code = int.from_bytes(frame.payload[:2], "big")
            self._lose(client, f"{code} {frame.payload[2:].decode(errors='replace')}")
            return False
        elif frame.payload == b"{}":
            connection.send(PONG_COMMAND)
        else:
            for line in frame.payload.split(b"\n"):
                subscribed, _ = client.place.take(line)
                if subscribed:
                    self._arrive(client)
        return True

    def _fault(self, text: str) -> None:
        if len(self._faults) < FAULTS_TOLD:
            self._faults.append(text[:200])

    # --- faults on purpose --------------------------------------------------------------------------------------------

    def _plan_cut(self, client: Client) -> None:
        if self._cut is not None:
            turn = client.turn
            self._later(self._cut.every_s * random.uniform(0.5, 1.5), lambda: self._cut_off(client, turn))

    def _cut_off(self, client: Client, turn: int) -> None:
        if self._cut is None or client.turn != turn or client.state is not State.THERE:
            return
        self._ends["cut"] += 1
        self._close(client, abruptly=True)
        self._later(self._cut.away_s, lambda: self._connect(client))

    def _cut_all(self) -> None:
        self._opening_since = time.monotonic()
        for client in self._clients:
            if client.state is State.THERE:
                self._ends["cut"] += 1
                self._close(client, abruptly=True)
                self._connect(client)

    # --- orders -------------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        try:
            order: Order = self._pipe.recv()
        except EOFError:
            order = Quit()
        match order:
            case Cut():
                self._cut = order
                for client in self._clients:
                    self._plan_cut(client)
            case Mend():
                self._cut = None
            case CutAll():
                self._cut_all()
            case Finish():
                self._finish = Finish(order.expected, time.monotonic() + order.deadline_s)
            case _:
                self._leaving = True

    def _look_at_the_whole(self) -> None:
        everybody = self._there == len(self._clients)
        if self._opening_since is not None:
            seconds = time.monotonic() - self._opening_since
            if everybody:
                self._opening_since = None
                self._pipe.send(Opened(seconds))
            elif seconds > self._spec.deadline_s:
                there = f"{self._there} of {len(self._clients)} clients were there in time"
                self._pipe.send(Failed(f"{there}: {dict(self._ends.most_common(5))}"))
                self._leaving = True
        if self._finish is not None and time.monotonic() > self._look_again:
            self._look_again = time.monotonic() + LOOK_EVERY_S
            wanted = self._finish.expected
            done = everybody and all(client.place.next >= wanted for client in self._clients)
            if done or time.monotonic() > self._finish.deadline_s:
                self._finish = None
                self._pipe.send(self._told(wanted))

    def _told(self, expected: int) -> Told:
        places = [client.place for client in self._clients]
        return Told(
            clients=len(places),
            received=sum(place.received for place in places),
            missing=sum(place.missed + max(0, expected - place.next) for place in places),
            doubled=sum(place.doubled for place in places),
            broken=sum(place.broken for place in places),
            absent=len(places) - self._there,
            returns=self._returns,
            refused=self._refused,
            ends=dict(self._ends.most_common(20)),
            faults=self._faults,
            away=Quantiles.of_ns(self._away),
            replay=Quantiles.of_ns(self._replay),
        )


def _token(spec: Spec, number: int) -> str:
    claims = {"sub": f"user-{number}", "exp": int(time.time()) + TOKEN_TTL_S}
    return jwt.encode(claims, spec.secret, algorithm="HS256")
