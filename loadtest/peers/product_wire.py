"""How clients talk to the server of this repository: the Centrifuge protocol in JSON, plain, compressed, as deltas."""

from __future__ import annotations

import time

import jwt
import msgspec

from loadtest import fossil
from loadtest.frames import client_frame
from loadtest.wire import Decode, Step, Wire, upgrade

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
        self._secret = secret

    def steps(self, index: int, channel: str) -> list[Step]:
        claims = {"sub": f"user-{index}", "exp": int(time.time()) + TOKEN_TTL_S}
        token = jwt.encode(claims, self._secret, algorithm="HS256")
        connect = f'{{"id":1,"connect":{{"token":"{token}"}}}}'
        subscribe = f'{{"id":2,"subscribe":{{"channel":"{channel}"{self.wishes}}}}}'
        return [
            upgrade("/connection/websocket", compressed=self.compressed),
            Step(client_frame(f"{connect}\n{subscribe}".encode()), b'{"id":2,"subscribe":', needs=self.needs),
        ]

    def body(self, message: bytes) -> bytes:
        begin, end = message.find(self._data), message.rfind(self._offset)
        if not 0 < begin < end or b"\n" in message:
            raise ValueError(f"not one push of a publication: {message[:80]!r}…")
        return message[begin + len(self._data) : end]


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
