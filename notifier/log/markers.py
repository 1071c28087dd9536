"""Markers: small records that workers write into the log for each other; no client ever sees one.

A worker that reads back a marker of its own knows that it has read everything before it, and that the whole path works.
Markers also name the log's epoch: the first one in a new stream does, by its place, for every worker alike; all later
ones repeat the name. And they say up to where rejected records have been copied, so that none is copied twice.
"""

from __future__ import annotations

import uuid

import msgspec
from msgspec import Struct

from notifier.errors import Rejected

CHANNEL = "$notifier.marker"


class Marker(Struct, omit_defaults=True):
    """`epoch` is the log's name, or with `proposal` the name it should get if it has none. `time` is wall time in
    seconds. `seen` is the offset up to which the writer had read. `copied` is the offset up to which rejected records
    have been copied."""

    node: str
    time: float
    epoch: str
    proposal: bool = False
    seen: int = 0
    copied: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Marker).decode


def new_epoch() -> str:
    """A name that no log has had."""
    return uuid.uuid4().hex[:12]


def encode(marker: Marker) -> bytes:
    return _encode(marker)


def decode(body: bytes) -> Marker:
    """Raises Rejected for what no worker has written."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Rejected("bad_marker", "not a marker of a worker") from error


class Naming:
    """Finds out the log's epoch from its markers in their order."""

    __slots__ = ("_from_start", "_proposed", "epoch")

    def __init__(self, *, from_start: bool) -> None:
        self._from_start = from_start
        self._proposed = ""
        self.epoch = ""

    def read(self, marker: Marker, offset: int) -> None:
        """The marker that stands at this offset."""
        if self.epoch:
            return
        if marker.seen >= offset:
            # Nobody has read further than where it writes: the writer did not know yet that the log was made anew.
            return
        if not marker.proposal:
            self.epoch = marker.epoch
        elif not self._proposed:
            self._proposed = marker.epoch

    def settle(self) -> bool:
        """All there was has been read: with all of the log seen, its first marker's proposal is the name.

        False when the name may stand in the part of the log before the one that was read.
        """
        if not self.epoch and self._from_start:
            self.epoch = self._proposed
        return bool(self.epoch)
