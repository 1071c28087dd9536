"""Encoding: codec, framing and form as one value. The hub groups by it and never asks what is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from notifier.protocol import codec_json, codec_protobuf, frames
from notifier.protocol.deflate import Deflated
from notifier.protocol.messages import Command, Form, Publication, Reply

# Events that this server makes itself; an AMQP type that starts so is not used as an event's name.
OWN_EVENTS = "notifier."

Framing = Callable[[bytes], bytes]


class Encoding(Protocol):
    """How a publication looks on the wire for all connections that share this value."""

    name: str

    def publication(self, message: Publication, epoch: str) -> bytes:
        """The bytes to write for one publication, frame and all."""
        ...

    def announcement(self, message: Reply) -> bytes:
        """The bytes for another push that all of them get; empty where it has no place."""
        ...


class Codec(Protocol):
    """Messages to bytes and back. `join` puts several into what one frame holds."""

    name: str
    ping: bytes

    def commands(self, data: bytes) -> list[Command]: ...
    def reply(self, message: Reply) -> bytes: ...
    def push(self, message: Publication, form: Form, via: str) -> bytes: ...
    def join(self, messages: Sequence[bytes]) -> bytes: ...


class JsonCodec:
    """The Centrifuge protocol in JSON."""

    name = "json"
    ping = codec_json.PING
    reply = staticmethod(codec_json.reply)
    push = staticmethod(codec_json.push)
    join = staticmethod(codec_json.join)

    @staticmethod
    def commands(data: bytes) -> list[Command]:
        return codec_json.commands(data.decode())


class ProtobufCodec:
    """The Centrifuge protocol in Protobuf."""

    name = "protobuf"
    ping = b""
    commands = staticmethod(codec_protobuf.commands)
    reply = staticmethod(codec_protobuf.reply)
    push = staticmethod(codec_protobuf.push)
    join = staticmethod(codec_protobuf.join)


class BareCodec(JsonCodec):
    """Pushes without their wrapper, for one-way transports (protocol.md section 1.8)."""

    name = "bare"
    reply = staticmethod(codec_json.bare_reply)
    push = staticmethod(codec_json.bare_push)


class ClientEncoding:
    """The Centrifuge protocol by a codec in a framing. `form` and `via` belong to a subscription; see `variant`."""

    __slots__ = ("__weakref__", "_frame", "_variants", "codec", "form", "name", "ping", "via")

    def __init__(
        self, name: str, codec: Codec, frame: Framing, *, form: Form = Form.PLAIN, via: str = "", also_ping: bytes = b""
    ) -> None:
        """`also_ping` is what goes out with every ping."""
        self.name = name
        self.codec = codec
        self.form = form
        self.via = via
        self.ping = frame(codec.join([codec.ping])) + also_ping
        self._frame = frame
        self._variants: WeakValueDictionary[tuple[Form, str], ClientEncoding] = WeakValueDictionary()

    def variant(self, form: Form, via: str = "") -> ClientEncoding:
        """The same for subscriptions with deltas, or by a pattern; the same object for the same question."""
        if form is self.form and via == self.via:
            return self
        found = self._variants.get((form, via))
        if found is None:
            found = ClientEncoding(self.name, self.codec, self._frame, form=form, via=via)
            self._variants[form, via] = found
        return found

    def publication(self, message: Publication, epoch: str) -> bytes:  # noqa: ARG002 - clients hold the epoch already
        return self._frame(self.codec.join([self.codec.push(message, self.form, self.via)]))

    def replies(self, messages: Sequence[Reply]) -> bytes:
        """Several replies in one frame."""
        return self._frame(self.codec.join([self.codec.reply(message) for message in messages]))

    def announcement(self, message: Reply) -> bytes:
        return self.replies([message])


class EventStream:
    """Server-sent events for EventSource: `data` is the publication's data, or an envelope that names the channel."""

    answers_pings = False

    def __init__(self, *, envelope: bool) -> None:
        self.name = "sse-envelope" if envelope else "sse"
        self._envelope = envelope

    def publication(self, message: Publication, epoch: str) -> bytes:
        name = "" if message.event.startswith(OWN_EVENTS) else message.event
        data = codec_json.envelope(message) if self._envelope else message.data
        return frames.event(data, name=name, cursor=cursor(epoch, message) if message.offset else "")

    def told(self, event: str, data: bytes) -> bytes:
        """An event that the server makes itself."""
        return frames.event(data, name=OWN_EVENTS + event)

    def position(self, at: str) -> bytes:
        """Nothing but the cursor."""
        return frames.cursor_event(at)

    heartbeat = position

    def announcement(self, message: Reply) -> bytes:  # noqa: ARG002
        return b""


class PlainWebSocket:
    """The same stream as JSON objects in text frames: `{"channel", "data", "cursor", …}`, and for what the server says
    itself `{"event", "data"}`."""

    name = "ws"
    answers_pings = True  # with the frames that a WebSocket has for it

    def publication(self, message: Publication, epoch: str) -> bytes:
        body = codec_json.envelope(message)[:-1]
        if message.event and not message.event.startswith(OWN_EVENTS):
            body += b',"event":' + codec_json.encode(message.event)
        if message.offset:
            body += b',"cursor":' + codec_json.encode(cursor(epoch, message))
        return frames.frame(frames.TEXT, body + b"}")

    def told(self, event: str, data: bytes) -> bytes:
        return frames.frame(frames.TEXT, b'{"event":%b,"data":%b}' % (codec_json.encode(OWN_EVENTS + event), data))

    def position(self, at: str) -> bytes:
        body = b'{"event":%b,"cursor":%b}' % (codec_json.encode(f"{OWN_EVENTS}position"), codec_json.encode(at))
        return frames.frame(frames.TEXT, body)

    def heartbeat(self, at: str) -> bytes:
        return self.position(at) + frames.frame(frames.PING, b"")

    def announcement(self, message: Reply) -> bytes:  # noqa: ARG002
        return b""


StreamEncoding = EventStream | PlainWebSocket


def cursor(epoch: str, message: Publication) -> str:
    """A publication's place in a stream of several channels: `EPOCH:OFFSET`, or `EPOCH:OFFSET.INDEX` when more
    publications of the same record come after it, so that a cut between them loses none."""
    return f"{epoch}:{message.offset}" if message.last else f"{epoch}:{message.offset}.{message.index}"


def _text_frame(data: bytes) -> bytes:
    return frames.frame(frames.TEXT, data)


def _binary_frame(data: bytes) -> bytes:
    return frames.frame(frames.BINARY, data)


def _line(data: bytes) -> bytes:
    return data + b"\n"


def _as_it_is(data: bytes) -> bytes:
    return data


JSON_WEBSOCKET = ClientEncoding("json", JsonCodec(), _text_frame)
PROTOBUF_WEBSOCKET = ClientEncoding("protobuf", ProtobufCodec(), _binary_frame)
JSON_LINES = ClientEncoding("json-lines", JsonCodec(), _line)
PROTOBUF_STREAM = ClientEncoding("protobuf-stream", ProtobufCodec(), _as_it_is)
JSON_EVENTS = ClientEncoding("json-events", JsonCodec(), frames.event)
BARE_WEBSOCKET = ClientEncoding("bare", BareCodec(), _text_frame, also_ping=frames.frame(frames.PING, b""))
BARE_LINES = ClientEncoding("bare-lines", BareCodec(), _line)
BARE_EVENTS = ClientEncoding("bare-events", BareCodec(), frames.event)
SSE = EventStream(envelope=False)
SSE_ENVELOPE = EventStream(envelope=True)
PLAIN_WEBSOCKET = PlainWebSocket()

_deflated: dict[tuple[ClientEncoding, int], ClientEncoding] = {}


def deflated(encoding: ClientEncoding, window_bits: int) -> ClientEncoding:
    """One of the two WebSocket encodings with its frames compressed; there are as many as sizes of a window."""
    found = _deflated.get((encoding, window_bits))
    if found is None:
        opcode = frames.TEXT if encoding is JSON_WEBSOCKET else frames.BINARY
        found = ClientEncoding(f"{encoding.name}-deflate", encoding.codec, Deflated(opcode, window_bits))
        _deflated[encoding, window_bits] = found
    return found
