"""How clients talk to the server of this repository: the Centrifuge protocol in JSON, plain, compressed, as deltas."""

from __future__ import annotations

import time
from collections.abc import Sequence

import jwt
import msgspec

from loadtest import fossil
from loadtest.frames import client_frame
from loadtest.wire import Decode, EventsWire, Step, Wire, listen, upgrade

TOKEN_TTL_S = 6 * 3600
# A publication has more bytes than this even as a patch, or compressed; a ping has two.
SMALLEST_SHRUNK = 32


class ProductWire(Wire):
    """Connect and subscribe in one frame, as the SDKs do. Tokens are HS256."""

    ping = b"{}"
    pong = client_frame(b"{}")
    wishes = ""
    needs = b""
    _data = b'"pub":{"data":'
    _offset = b',"offset":'

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def steps(self, index: int, *channels: str) -> list[Step]:
        commands = [f'{{"id":1,"connect":{{"token":"{token(index, self.secret)}"}}}}']
        commands += [_subscribe(number, channel, self.wishes) for number, channel in enumerate(channels, 2)]
        last = b'{"id":%d,"%s":' % (len(commands), b"subscribe" if channels else b"connect")
        return [
            upgrade("/connection/websocket", compressed=self.compressed),
            Step(client_frame("\n".join(commands).encode()), last, needs=self.needs),
        ]

    def switch(self, turn: int, before: str, after: str) -> list[Step]:
        number = 1000 + 2 * turn
        leave = f'{{"id":{number},"unsubscribe":{{"channel":"{before}"}}}}'
        words = f"{leave}\n{_subscribe(number + 1, after, self.wishes)}"
        return [Step(client_frame(words.encode()), b'{"id":%d,"subscribe":' % (number + 1))]

    def body(self, message: bytes) -> bytes:
        begin, end = message.find(self._data), message.rfind(self._offset)
        if not 0 < begin < end or b"\n" in message:
            raise ValueError(f"not one push of a publication: {message[:80]!r}…")
        return message[begin + len(self._data) : end]


def token(index: int, secret: str) -> str:
    """Of the user of that number, signed with HS256."""
    claims = {"sub": f"user-{index}", "exp": int(time.time()) + TOKEN_TTL_S}
    return jwt.encode(claims, secret, algorithm="HS256")


def _subscribe(number: int, channel: str, wishes: str) -> str:
    return f'{{"id":{number},"subscribe":{{"channel":"{channel}"{wishes}}}}}'


class ProductEventsWire(EventsWire):
    """`/sse` for a plain EventSource, with a token in the header. Subscribed is who has got the first event."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def path(self, channels: Sequence[str]) -> str:
        return f"/sse?channels={','.join(channels)}"

    def steps(self, index: int, *channels: str) -> list[Step]:
        bearer = f"Authorization: Bearer {token(index, self._secret)}\r\n"
        first, its_end = (Step(b"", until, framed=False) for until in (b"event: notifier.subscribed", b"\n\n"))
        return [listen(self.path(channels), bearer), first, its_end]


class DeflateWire(ProductWire):
    """The same messages; longer ones come compressed."""

    compressed = True

    def smallest(self, size: int) -> int:
        return min(size, SMALLEST_SHRUNK)


class DeltaWire(ProductWire):
    """A publication's data is a text, of the body or of the difference to the one before (protocol.md section 5.4)."""

    wishes = ',"delta":"fossil"'
    needs = b'"delta":true'

    def body(self, message: bytes) -> bytes:
        return self.decoder()(message)

    def decoder(self) -> Decode:
        return Deltas().take

    def smallest(self, size: int) -> int:
        return min(size, SMALLEST_SHRUNK)


class Deltas:
    """One connection's publications, each of them the base of the next."""

    def __init__(self) -> None:
        self._base: bytes | None = None

    def take(self, message: bytes) -> bytes:
        """The body. Raises ValueError for what is not one push, and for a patch that does not fit."""
        try:
            publication = _decode(message).push.pub
        except msgspec.DecodeError as error:
            raise ValueError(f"not one push of a publication, {error}: {message[:80]!r}…") from error
        data = publication.data.encode()
        if publication.delta:
            if self._base is None:
                raise ValueError("a patch, but nothing came before it")
            data = fossil.apply(self._base, data)
        self._base = data
        return data


class _Publication(msgspec.Struct):
    data: str
    delta: bool = False


class _Push(msgspec.Struct):
    pub: _Publication


class _Reply(msgspec.Struct):
    push: _Push


_decode = msgspec.json.Decoder(_Reply).decode
