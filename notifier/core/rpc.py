"""Remote procedure calls of clients: methods of this server, and those that go to a queue of the broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from notifier.config import RpcRule
from notifier.core.channel import Pattern
from notifier.core.rules import Rights
from notifier.errors import ConfigError
from notifier.protocol import codes
from notifier.protocol.codec_json import compact
from notifier.protocol.codes import CommandFailed

if TYPE_CHECKING:
    from notifier.core.session import Session

Method = Callable[["Session", bytes], object]


class Forwarding:
    """One compiled entry of `[[rpc]]`."""

    __slots__ = ("allow", "pattern", "queue", "timeout_s")

    def __init__(self, index: int, spec: RpcRule) -> None:
        """Raises ConfigError."""
        try:
            self.pattern = Pattern(spec.method)
            self.allow = Rights(spec.allow)
        except ValueError as error:
            raise ConfigError([f"rpc[{index}]: {error}"]) from error
        self.queue = spec.queue
        self.timeout_s = float(spec.timeout)


def compiled(entries: Sequence[RpcRule]) -> list[Forwarding]:
    """Raises ConfigError when an entry cannot be used."""
    return [Forwarding(index, entry) for index, entry in enumerate(entries)]


class Methods:
    """All methods that clients can call: first those registered here, then the first entry that matches."""

    def __init__(self, entries: Sequence[RpcRule]) -> None:
        """Raises ConfigError when an entry cannot be used."""
        self._own: dict[str, Method] = {}
        self.forwarded = compiled(entries)
        self.register("notifier.time", _time)
        self.register("notifier.whoami", _whoami)

    def register(self, name: str, method: Method) -> None:
        """`method` gets the session and the data, and answers with what JSON can hold. It must not wait."""
        self._own[name] = method

    async def call(self, session: Session, name: str, data: bytes) -> bytes:
        """The result's JSON. Raises CommandFailed, or Unavailable when nobody answered in time."""
        if name in self._own:
            return msgspec.json.encode(self._own[name](session, data))
        entry = next((entry for entry in self.forwarded if name and entry.pattern.matches(name)), None)
        if entry is None:
            raise CommandFailed(codes.METHOD_NOT_FOUND)
        if not entry.allow.allow(session.identity, name):
            raise CommandFailed(codes.PERMISSION_DENIED)
        info = msgspec.json.encode(session.caller())
        answer = await session.node.backends.call(entry.queue, name, data, info, entry.timeout_s)
        try:
            return compact(answer)
        except ValueError as error:
            raise CommandFailed(codes.INTERNAL) from error


def _time(session: Session, _data: bytes) -> object:
    return {"time": session.node.clock.time()}


def _whoami(session: Session, _data: bytes) -> object:
    return {"user": session.identity.user, "client": session.client_id, "roles": sorted(session.identity.roles)}
