"""Encoding: codec, envelope and framing as one value. The hub groups by it and never asks what is in it."""

from __future__ import annotations

from typing import Protocol

from notifier.protocol import codec_json, frames
from notifier.protocol.messages import Publication, Reply

# Events that this server makes itself; an AMQP type that starts so is not used as an event's name.
OWN_EVENTS = "notifier."


class Encoding(Protocol):
    """How a publication looks on the wire for all connections that share this value."""

    name: str

    def publication(self, message: Publication, epoch: str) -> bytes:
        """The bytes to write for one publication, frame and all."""
        ...


class JsonWebSocket:
    """The Centrifuge protocol in JSON, one message a text frame."""

    name = "json"

    def publication(self, message: Publication, epoch: str) -> bytes:  # noqa: ARG002 - clients hold the epoch already
        return frames.frame(frames.TEXT, codec_json.push(message))

    def replies(self, messages: list[Reply]) -> bytes:
        """Several replies in one frame."""
        return frames.frame(frames.TEXT, b"\n".join(map(codec_json.reply, messages)))


class EventStream:
    """Server-sent events for EventSource: `data` is the publication's data, or an envelope that names the channel."""

    def __init__(self, *, envelope: bool) -> None:
        self.name = "sse-envelope" if envelope else "sse"
        self._envelope = envelope

    def publication(self, message: Publication, epoch: str) -> bytes:
        name = "" if message.event.startswith(OWN_EVENTS) else message.event
        data = codec_json.envelope(message) if self._envelope else message.data
        return frames.event(data, name=name, cursor=cursor(epoch, message) if message.offset else "")


def cursor(epoch: str, message: Publication) -> str:
    """A publication's place in a stream of several channels: `EPOCH:OFFSET`, or `EPOCH:OFFSET.INDEX` when more
    publications of the same record come after it, so that a cut between them loses none."""
    return f"{epoch}:{message.offset}" if message.last else f"{epoch}:{message.offset}.{message.index}"


JSON_WEBSOCKET = JsonWebSocket()
SSE = EventStream(envelope=False)
SSE_ENVELOPE = EventStream(envelope=True)
