"""One client's place in its channel, kept over all its connections. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from loadtest.traffic import Bodies


class _Publication(msgspec.Struct):
    data: Raw
    offset: int = 0


class _Subscribed(msgspec.Struct):
    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    was_recovering: bool = False
    publications: list[_Publication] = []


class _Push(msgspec.Struct):
    pub: _Publication | None = None


class _Reply(msgspec.Struct):
    id: int = 0
    error: Raw = Raw()
    subscribe: _Subscribed | None = None
    push: _Push | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class Refused(Exception):
    """The server answered with an error."""


class Place:
    """`next` is the number of the publication that is due. `missed` and `doubled` count publications, `broken` how
    often the server said that it could not tell what was missed."""

    __slots__ = (
        "_bodies",
        "_channel",
        "_epoch",
        "_offset",
        "_token",
        "broken",
        "doubled",
        "missed",
        "next",
        "received",
    )

    def __init__(self, bodies: Bodies, channel: str, token: str) -> None:
        self._bodies = bodies
        self._channel = channel
        self._token = token
        self._epoch = ""
        self._offset = 0
        self.next = 0
        self.received = 0
        self.missed = 0
        self.doubled = 0
        self.broken = 0

    def request(self) -> bytes:
        """Connect and subscribe in one frame, from where it was, as the SDKs do."""
        since = f',"recover":true,"epoch":"{self._epoch}","offset":{self._offset}' if self._epoch else ""
        connect = f'{{"id":1,"connect":{{"token":"{self._token}"}}}}'
        return f'{connect}\n{{"id":2,"subscribe":{{"channel":"{self._channel}"{since}}}}}'.encode()

    def take(self, message: bytes) -> tuple[bool, int]:
        """Whether the message says that it is subscribed, and when the publication in it was published, in nanoseconds
        of the monotonic clock; 0 without one. Raises Refused, and ValueError for what was not published so."""
        reply = _decode(message)
        if bytes(reply.error):
            raise Refused(bytes(reply.error).decode(errors="replace"))
        if reply.push is not None and reply.push.pub is not None:
            return False, self._publication(reply.push.pub)
        if reply.subscribe is None:
            return False, 0
        self._subscribed(reply.subscribe)
        return True, 0

    def _subscribed(self, reply: _Subscribed) -> None:
        if self._epoch and not reply.recovered:
            self.broken += 1
        self._epoch = reply.epoch
        for publication in reply.publications:
            self._publication(publication)
        self._offset = max(self._offset, reply.offset)

    def _publication(self, publication: _Publication) -> int:
        number, time_ns = self._bodies.read(bytes(publication.data))
        self._offset = max(self._offset, publication.offset)
        if number < self.next:
            self.doubled += 1
            return time_ns
        self.missed += number - self.next
        self.received += 1
        self.next = number + 1
        return time_ns
