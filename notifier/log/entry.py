"""Entries: messages as they stand in the stream, and what every way of reading them does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Literal, Protocol

from msgspec import Struct

Start = int | datetime | Literal["first", "last"]
"""A place, a time, the stream's beginning, or its last chunk."""


class Entry(Struct, gc=False):
    """One message of the stream. `place` is where it stands, counted from 0; `key` is the routing key. The properties
    are those of AMQP 0.9.1, empty where there are none. `unreadable` says why nothing but `body`, which is all of it as
    it stands there, is known."""

    place: int
    key: str
    body: bytes
    message_id: str = ""
    type: str = ""
    expiration: str = ""
    content_type: str = ""
    headers: dict[str, Any] | None = None
    unreadable: str = ""


class EntryReader(Protocol):
    """One way of reading the stream, over one connection. All of them give the same entries."""

    @property
    def protocol(self) -> str:
        """ "amqp" or "stream"."""
        ...

    def read(
        self,
        start: Start,
        receive: Callable[[Entry], None],
        flowing: asyncio.Event,
        *,
        ahead: bool,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> AbstractAsyncContextManager[asyncio.Future[str]]:
        """Call `receive` with each entry from a place on, or from about a time on, in their order, while the block
        lasts. The future is done with the reason when none will come any more.

        While `flowing` is not set, as much as is on its way already may still come, and no more. Places that hold no
        message are skipped. A place behind the stream's end is waited for, one that is gone is taken for the first that
        is left. Not `ahead`: few entries are wanted, so few are fetched. `room` is awaited before the broker gets leave
        to send more. Raises Lost when it cannot begin.
        """
        ...
