"""The kinds of attackers: what each sends, and when. Pure: bytes in, bytes out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import ClassVar

from loadtest.frames import CLOSE, FIN, MASK_KEY, MASKED, PING, TEXT, client_frame, server_frame
from loadtest.peers.product_wire import token
from loadtest.wire import HTTP_END

FROM_ONE_ADDRESS = "198.51.100.1"
"""TEST-NET-2 (RFC 5737)."""
_UPGRADE = (
    "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_POST = (
    "POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {}\r\nContent-Length: 1000\r\n\r\n"
)
_PING, _PONG = server_frame(b"{}"), client_frame(b"{}")
_KEPT = 4096  # of what the server said last; a close frame and the head of an answer are shorter


def address_of(number: int) -> str:
    """Of 198.18.0.0/15, which is for tests of this kind (RFC 2544); 25 attackers share one."""
    place = number // 25
    return f"198.18.{place // 254 % 256}.{place % 254 + 1}"


class Attacker:
    """One connection. `first` when it is made, `take` with what comes, `act` every `every_s` from the moment on at
    which it is `ready`: at once, or when the server has taken its WebSocket and answered its `words`.

    Without `reads` it reads nothing from then on.
    """

    key: ClassVar[str]
    every_s: ClassVar[float] = 1.0
    reads: ClassVar[bool] = True
    upgrades: ClassVar[bool] = True

    def __init__(self, number: int, channel: str, secret: str) -> None:
        self.number = number
        self.channel = channel
        self.secret = secret
        self.ready = not self.upgrades
        self._said = b""
        self._upgraded = False

    @property
    def address(self) -> str:
        """Where its proxy says that it comes from."""
        return address_of(self.number)

    def first(self) -> bytes:
        return _UPGRADE.format(self.address).encode()

    def words(self) -> list[str]:
        """The commands that it begins with; once the last one is answered, it is ready."""
        return [self._connect()]

    def act(self) -> bytes:
        """What it does again and again."""
        return b""

    def take(self, data: bytes) -> bytes:
        """The answer to what came."""
        self._said = (self._said + data)[-_KEPT:]
        if self.ready:
            return _PONG * data.count(_PING)
        if not self._upgraded:
            if not self._said.startswith(b"HTTP/1.1 101 ") or HTTP_END not in self._said:
                return b""
            self._upgraded = True
            self._said = self._said.partition(HTTP_END)[2]
            words = self.words()
            self.ready = not words
            return client_frame("\n".join(words).encode()) if words else b""
        if b'{"id":%d,' % len(self.words()) in self._said:
            self.ready = True
        return b""

    def ending(self, error: str = "") -> str:
        """How the server has ended the connection, from what it said last: a status, a code, or nothing."""
        if not self._upgraded and self._said.startswith(b"HTTP/1.1 "):
            status = self._said[9:12].decode(errors="replace")
            return f"{status} with Retry-After" if b"\r\nRetry-After: " in self._said else status
        if code := _close_code(self._said):
            return str(code)
        return error or "closed"

    def _connect(self) -> str:
        return f'{{"id":1,"connect":{{"token":"{token(self.number, self.secret)}"}}}}'


class Silent(Attacker):
    """Opens a connection and says nothing."""

    key = "silent"
    upgrades = False

    def first(self) -> bytes:
        return b""


class Headers(Attacker):
    """Sends a request's headers byte by byte (slowloris)."""

    key = "headers byte by byte"
    upgrades = False

    def __init__(self, number: int, channel: str, secret: str) -> None:
        super().__init__(number, channel, secret)
        self._left = iter(_UPGRADE.format(self.address).removesuffix("\r\n").encode() + b"X-More: " + b"x" * 500)

    def first(self) -> bytes:
        return self.act()

    def act(self) -> bytes:
        return bytes(itertools.islice(self._left, 1))


class Body(Attacker):
    """Sends a body byte by byte."""

    key = "body byte by byte"
    upgrades = False

    def first(self) -> bytes:
        return _POST.format(self.address).encode()

    def act(self) -> bytes:
        return b"{"


class Stale(Attacker):
    """Opens a WebSocket and never says who it is."""

    key = "no connect"

    def words(self) -> list[str]:
        return []


class Vanished(Attacker):
    """Is subscribed, and from then on as if its network were gone: half-open."""

    key = "half-open"
    reads = False

    def words(self) -> list[str]:
        return [self._connect(), f'{{"id":2,"subscribe":{{"channel":"{self.channel}.quiet"}}}}']


class Pings(Attacker):
    """Floods with pings of the WebSocket's own, each of which wants an answer."""

    key = "flood of pings"
    every_s = 0.05
    _flood = client_frame(b"x" * 16, PING) * 100

    def act(self) -> bytes:
        return self._flood


class Fragments(Attacker):
    """A message in fragments without an end: of one byte each, or of none."""

    key = "flood of fragments"
    every_s = 0.05
    _begin = bytes((TEXT, MASKED | 1)) + MASK_KEY + b"{"
    _floods = tuple((bytes((0, MASKED | size)) + MASK_KEY + b" " * size) * 200 for size in (0, 1))

    def act(self) -> bytes:
        flood = self._floods[self.number // len(KINDS) % 2]
        begin, self._begin = self._begin, b""
        return begin + flood


class Commands(Attacker):
    """Floods with commands that are refused, and costly to refuse."""

    key = "flood of commands"
    every_s = 0.05

    def act(self) -> bytes:
        words = "\n".join(
            f'{{"id":{number},"publish":{{"channel":"{self.channel}","data":[1,2,3]}}}}' for number in _IDS
        )
        return client_frame(words.encode())


class Subscriptions(Attacker):
    """Subscribes and unsubscribes without an end, to channels and patterns of its own."""

    key = "flood of subscriptions"
    every_s = 0.05

    def __init__(self, number: int, channel: str, secret: str) -> None:
        super().__init__(number, channel, secret)
        self._turn = itertools.count()

    def act(self) -> bytes:
        turn = next(self._turn)
        names = [f"wild.{self.number}.{place}" for place in range(turn * 10, turn * 10 + 10)]
        names = [*names, *(f"{name}.*" for name in names)]
        old = [f"wild.{self.number}.{place}" for place in range(turn * 10 - 20, turn * 10 - 10)]
        words = [f'{{"id":{100 + place},"subscribe":{{"channel":"{name}"}}}}' for place, name in enumerate(names)]
        words += [f'{{"id":{200 + place},"unsubscribe":{{"channel":"{name}"}}}}' for place, name in enumerate(old)]
        return client_frame("\n".join(words).encode())


class Tokens(Attacker):
    """Comes with bad tokens."""

    key = "bad tokens"

    def _connect(self) -> str:
        good = token(self.number, self.secret)
        bad = (good[:-6] + "AAAAAA", "x.y.z", good.partition(".")[2], "e30." * 2000)[self.number // len(KINDS) % 4]
        return f'{{"id":1,"connect":{{"token":"{bad}"}}}}'


class Unread(Attacker):
    """Asks for long answers and does not read them."""

    key = "asks without reading"
    every_s = 0.2
    reads = False

    def act(self) -> bytes:
        words = [f'{{"id":{number},"history":{{"channel":"{self.channel}","limit":300}}}}' for number in range(10, 14)]
        return client_frame("\n".join(words).encode())


class Crowd(Attacker):
    """Comes and goes, with all others of its kind from one address."""

    key = "all from one address"
    every_s = 0.5

    @property
    def address(self) -> str:
        return FROM_ONE_ADDRESS

    def act(self) -> bytes:
        return client_frame((1000).to_bytes(2, "big"), CLOSE)


_IDS = range(10, 60)
KINDS: tuple[Callable[[int, str, str], Attacker], ...] = (
    Silent, Headers, Body, Stale, Vanished, Pings, Fragments, Commands, Subscriptions, Tokens, Unread, Crowd,
)  # fmt: skip


def attacker(number: int, channel: str, secret: str) -> Attacker:
    """Of every kind as many."""
    return KINDS[number % len(KINDS)](number, channel, secret)


def _close_code(said: bytes) -> int:
    """Of a close frame that stands at the end; 0 without one."""
    at = said.rfind(bytes((FIN | CLOSE,)))
    while at >= 0:
        if at + 4 <= len(said) and at + 2 + said[at + 1] == len(said):
            return int.from_bytes(said[at + 2 : at + 4], "big")
        at = said.rfind(bytes((FIN | CLOSE,)), 0, at)
    return 0
