"""What the log holds, before and after it got its place there."""

from __future__ import annotations

from msgspec import Struct

NEVER = float("inf")


class Record(Struct, gc=False):
    """One raw entry of the log, as it was read.

    `offset` is its place in the log plus one. `channels` are more channels for the same body, names separated by
    spaces. `ttl_s` is how long it is worth delivering. `sent_at` is the wall time in seconds at which the broker or the
    publisher says that it had it; 0 when nobody says. `ref` is set when a worker wants to know its own record again.
    """

    offset: int
    channel: str
    body: bytes
    channels: str = ""
    message_id: str = ""
    ttl_s: float = NEVER
    event: str = ""
    tags: dict[str, str] | None = None
    info: str = ""
    traceparent: str = ""
    skip_history: bool = False
    version: int = 0
    version_epoch: str = ""
    ref: str = ""
    sent_at: float = 0.0


class Draft(Struct, gc=False):
    """A record to append. The fields mean the same as a Record's; `channels` holds all of them, the first one too."""

    channels: list[str]
    body: bytes
    message_id: str = ""
    tags: dict[str, str] | None = None
    info: str = ""
    skip_history: bool = False
    version: int = 0
    version_epoch: str = ""
