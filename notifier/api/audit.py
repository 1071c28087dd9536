"""Audit: who used the server API for what, one log line a call, by the logger `notifier.audit`.

A line names the request (`telemetry.logs.of_request`), the method, who asked (the number of the API key, never the key,
or the AMQP user), whom, which channel or which message it was about, and what came of it. What is published is never in
it.
"""

from __future__ import annotations

import logging
import time
from typing import Literal

import msgspec
from msgspec import Struct

from notifier.api import methods
from notifier.core.node import Node
from notifier.protocol.codec_json import DECODE_ERRORS
from notifier.protocol.codes import CommandFailed

_logger = logging.getLogger("notifier.audit")

Mode = Literal["off", "changes", "all"]
READING = {"history", "presence", "presence_stats", "channels", "info", "connections", "explain"}
PUBLISHING = {"publish", "broadcast"}
SUBJECTS = ("channel", "user", "client", "session", "token", "all", "message_id")
MAX_NAMED = 20
REFUSALS_A_MINUTE = 10


class Audit:
    """`mode`: "changes" leaves out what only reads or publishes, unless it is refused."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._minute = 0
        self._refused = 0

    async def call(self, node: Node, name: str, body: bytes, by: str, *, by_hand: bool = False) -> bytes:
        """`methods.call`, written down. What a person publishes is a change as well."""
        began = time.monotonic()
        outcome = "failed"
        try:
            answer = await methods.call(node, name, body)
        except CommandFailed as error:
            outcome = f"error {error.error.code}"
            raise
        except (methods.NoSuchMethod, methods.BadBody):
            outcome = "bad request"
            raise
        else:
            outcome = "ok"
            return answer
        finally:
            if self._wants(name, by_hand=by_hand):
                self._write(name, body, by, outcome, time.monotonic() - began)

    def note(self, method: str, by: str, outcome: str) -> None:
        """A call that is no method of `methods`."""
        if self.mode != "off":
            _logger.info("an API call", extra={"method": method, "by": by, "outcome": outcome})

    def refused(self, address: str) -> None:
        """Somebody came without a good key. Of many in a minute only some are written, and then how many there were."""
        if self.mode == "off":
            return
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            if self._refused > REFUSALS_A_MINUTE:
                _logger.warning("more calls without a good key", extra={"calls": self._refused - REFUSALS_A_MINUTE})
            self._minute, self._refused = minute, 0
        self._refused += 1
        if self._refused <= REFUSALS_A_MINUTE:
            _logger.warning("a call without a good key", extra={"address": address})

    def _wants(self, name: str, *, by_hand: bool) -> bool:
        left_out = READING if by_hand else READING | PUBLISHING
        return self.mode == "all" or (self.mode == "changes" and name not in left_out)

    def _write(self, name: str, body: bytes, by: str, outcome: str, took_s: float) -> None:
        known = name if name in methods.METHODS or name == methods.BATCH else "unknown"
        fields = {"method": known, "by": by, "outcome": outcome, "ms": round(took_s * 1000, 1)}
        _logger.info("an API call", extra=fields | _about(body))


class _About(Struct, omit_defaults=True, rename={"message_id": "idempotency_key"}):
    """What a request is about; everything else in it is left alone. `token` is a token's id, never a token."""

    channel: str = ""
    channels: list[str] | str = ""
    user: str = ""
    client: str = ""
    session: str = ""
    token: str = ""
    all: bool = False
    message_id: str = ""
    id: str = ""  # of a message, too: what `explain` is asked
    commands: list[dict[str, msgspec.Raw]] = []


def _about(body: bytes) -> dict[str, object]:
    try:
        about = msgspec.json.decode(body or b"{}", type=_About)
    except DECODE_ERRORS:
        return {}
    found: dict[str, object] = {name: value for name in SUBJECTS if (value := getattr(about, name))}
    if about.id:
        found["message_id"] = about.id
    if about.channels:
        found["channels"] = about.channels[:MAX_NAMED]
    if about.commands:
        found["commands"] = [_described(command) for command in about.commands[:MAX_NAMED]]
    return found


def _described(command: dict[str, msgspec.Raw]) -> str:
    """A command of a batch in a few words: `disconnect user=42`."""
    words: list[str] = []
    for method, body in list(command.items())[:2]:
        known = method if method in methods.METHODS else "unknown"
        words += [known, *(f"{name}={value}" for name, value in _about(bytes(body)).items() if name != "commands")]
    return " ".join(words)
