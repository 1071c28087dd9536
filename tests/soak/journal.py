"""What is written down while a run goes on: one JSON array a line, appended by the test's side only.

Every time is the machine's CLOCK_MONOTONIC in seconds, so the lines of several processes can be compared. The lines of
one client, and of one publication, are in one file, in the order in which things happened.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

import msgspec
from msgspec import Struct

Outcome = Literal["ok", "no", "unknown"]


class Line(Struct, array_like=True, tag_field="type"):
    """What all lines have."""

    at: float


# --- publishers -----------------------------------------------------------------------------------------------------


class Sent(Line, tag="sent"):
    """An attempt to publish begins. `repeat`: the publication was confirmed before and is sent again on purpose."""

    id: str
    channels: list[str]
    attempt: int
    way: Literal["amqp", "api"]
    repeat: bool = False


class Answered(Line, tag="answered"):
    """What became of the attempt. `ok`: confirmed. `no`: refused or returned. `unknown`: anything else.

    `epoch` and `offset` are what the server API said, for the publication's first channel.
    """

    id: str
    attempt: int
    outcome: Outcome
    epoch: str = ""
    offset: int = 0
    detail: str = ""


# --- clients --------------------------------------------------------------------------------------------------------


class Connected(Line, tag="connected"):
    client: str
    kind: str
    node: int
    direct: bool


class Closed(Line, tag="closed"):
    """The connection ended. `code` is the server's, 0 without one; `own`: the client wanted it."""

    client: str
    code: int
    reason: str
    own: bool


class Subscribed(Line, tag="subscribed"):
    """A subscription began. `asked_offset` is -1 when no position was given. `offset` is -1 where the position is told
    later (SSE). The publications that were recovered follow as `Delivered`."""

    client: str
    channel: str
    asked_epoch: str
    asked_offset: int
    recovered: bool
    epoch: str
    offset: int
    count: int


class Refused(Line, tag="refused"):
    """A subscription was answered with an error, or a request with a status."""

    client: str
    channel: str
    code: int
    message: str


class Delivered(Line, tag="delivered"):
    """A publication. `intact`: its checksum is right and it says the channel it came on. `sent_at` is in its body."""

    client: str
    channel: str
    epoch: str
    offset: int
    id: str
    sent_at: float
    intact: bool
    recovered: bool


class Placed(Line, tag="placed"):
    """A position for all channels of a client at once (the id of a server-sent event without data)."""

    client: str
    epoch: str
    offset: int


class Unsubscribed(Line, tag="unsubscribed"):
    client: str
    channel: str
    code: int


class AtRest(Line, tag="at_rest"):
    """The client is connected and subscribed, and stays so until the journals are judged. `sse` clients hold theirs in
    one stream."""

    client: str
    channels: list[str]


class Lag(Line, tag="lag"):
    """The journaling process itself: how late its loop came, and its CPU time so far. Both in seconds."""

    process: str
    late_s: float
    cpu_s: float


# --- nemesis and what the orchestrator sees --------------------------------------------------------------------------


class Phase(Line, tag="phase"):
    """warm-up, chaos, heal, drain, read, leave, end."""

    name: str


class FaultBegun(Line, tag="fault"):
    number: int
    kind: str
    target: str
    nodes: list[int]


class FaultSeen(Line, tag="effect"):
    """Whether the fault verifiably took effect, and how that was seen."""

    number: int
    seen: bool
    how: str


class FaultEnded(Line, tag="healed"):
    """Nothing is wrong any more on our side; `recovered_s` later every node was ready, -1: not within the deadline."""

    number: int
    recovered_s: float


class StreamDeleted(Line, tag="deleted"):
    """The stream's records since its last read are gone for good, as they should be. That read began at `since`."""

    since: float
    generation: int


class Record(Line, tag="record"):
    """A publication in the stream, read by a plain consumer. `id` stands in its body."""

    generation: int
    offset: int
    channels: list[str]
    message_id: str
    id: str


class ReadDone(Line, tag="read"):
    """A stream has been read to where it ended at `since`, or further. `complete`: from its first record on."""

    since: float
    generation: int
    end: int
    complete: bool


class Gauges(Line, tag="gauges"):
    """A node's numbers. `when`: "begun", "running", or "left" after all clients have left."""

    node: int
    when: str
    values: dict[str, float]


class Presence(Line, tag="presence"):
    """What a node answered at rest about who is on a channel, and how many clients are."""

    node: int
    channel: str
    answered: int
    expected: int


class Complaint(Line, tag="complaint"):
    """A line in a node's output that should not be there, or an end that it should not have had."""

    node: int
    text: str


Event = (
    Sent
    | Answered
    | Connected
    | Closed
    | Subscribed
    | Refused
    | Delivered
    | Placed
    | Unsubscribed
    | AtRest
    | Lag
    | Phase
    | FaultBegun
    | FaultSeen
    | FaultEnded
    | StreamDeleted
    | Record
    | ReadDone
    | Gauges
    | Presence
    | Complaint
)

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(Event).decode
BUFFER_BYTES = 1 << 16


class Journal:
    """Appends lines to a file. Use ``with``."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=BUFFER_BYTES)

    def write(self, event: Event) -> None:
        self._file.write(_encode(event) + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def now() -> float:
    """The time of all journals, to the microsecond."""
    return round(time.monotonic(), 6)


def read(paths: Iterable[Path]) -> Iterator[Event]:
    """The events of the files, one file after the other. A last line that was cut off is left out."""
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield _decode(line)
