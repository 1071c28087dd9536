"""Operators: people who log in to look after the server, and their sessions.

A session is a signed text that the browser keeps: any worker of any node with the same configuration can check it, and
none has to remember it. Its key is made from the operator's own entry in the configuration, so another password, or no
entry any more, ends all sessions of the old one. Only that one was ended before its time has to be remembered
(`core.logouts`), by those who heard of it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from notifier.auth import passwords
from notifier.auth.passwords import Password
from notifier.config import Secret

MAX_TOKEN_BYTES = 512
_PURPOSE = b"notifier: session of an operator, 1"

_encode = msgspec.json.Encoder().encode


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """An operator's session. Times are wall time in seconds."""

    name: str
    id: str
    began: float
    ends: float


_decode = msgspec.json.Decoder(Login).decode


class Operators:
    """Those of the configuration; `time` is wall time. A session ends `idle_s` after it was last renewed, and
    `longest_s` after it began."""

    def __init__(self, entries: Sequence[Secret], idle_s: float, longest_s: float, time: Callable[[], float]) -> None:
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._time = time
        self._one_at_a_time = asyncio.Lock()
        self._passwords: dict[str, Password] = {}
        self.replace(entries)

    def replace(self, entries: Sequence[Secret]) -> None:
        """These are the operators from now on."""
        self._passwords = dict(map(passwords.parsed, entries))
        self._stranger = passwords.stranger(next(iter(self._passwords.values()), None))

    def __bool__(self) -> bool:
        return bool(self._passwords)

    def __contains__(self, name: str) -> bool:
        return name in self._passwords

    async def check(self, name: str, password: str) -> bool:
        """Whether this is an operator's name and password. One at a time: each takes 32 MiB."""
        known = self._passwords.get(name)
        async with self._one_at_a_time:
            right = await asyncio.to_thread((known or self._stranger).is_, password)
        return right and known is not None and self._passwords.get(name) == known

    def begin(self, name: str) -> Login:
        now = self._time()
        return Login(name, secrets.token_urlsafe(16), now, now + self._idle_s)

    def renewed(self, login: Login) -> Login | None:
        """The same for longer, None while it is not worth it."""
        now = self._time()
        ends = min(now + self._idle_s, login.began + self._longest_s)
        return msgspec.structs.replace(login, ends=ends) if ends - login.ends > self._idle_s / 10 else None

    def token(self, login: Login) -> str:
        """What the browser keeps. Raises KeyError when there is no such operator any more."""
        body = _encode(login)
        return f"{_to_text(body)}.{_to_text(self._signature(login.name, body))}"

    def find(self, token: str) -> Login | None:
        """The session that a token stands for; None when it is over or was never made here."""
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            return None
        text, _, signature = token.partition(".")
        try:
            body, given = _to_bytes(text), _to_bytes(signature)
            login = _decode(body)
            right = hmac.compare_digest(given, self._signature(login.name, body))
        except (msgspec.MsgspecError, UnicodeError, RecursionError, binascii.Error, KeyError):
            return None
        return login if right and self.goes_on(login) else None

    def goes_on(self, login: Login) -> bool:
        """Whether it is not over yet."""
        return login.name in self._passwords and self._time() < min(login.ends, login.began + self._longest_s)

    def _signature(self, name: str, body: bytes) -> bytes:
        known = self._passwords[name]
        key = hmac.digest(known.digest + known.salt, _PURPOSE, "sha256")
        return hmac.digest(key, body, "sha256")


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _to_bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
