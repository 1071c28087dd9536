"""Handshake: a request for a WebSocket, and the answer to it (RFC 6455 section 4.2; RFC 7692 section 7)."""

from __future__ import annotations

import binascii
import hashlib
import re

from aiohttp import web
from msgspec import Struct

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes
_VERSION = "13"
_ANSWER = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n"
    "{}\r\n"
)  # fmt: skip
# Its zlib cannot make windows of 8 bits.
_WINDOW = re.compile(r"9|1[0-5]")
_ANY_WINDOW = re.compile(r"|[89]|1[0-5]")


class Handshake(Struct, frozen=True):
    """What was agreed on, and the bytes that say so. `window_bits`: of compressed frames to the client, 0 for none."""

    answer: bytes
    protocol: str = ""
    window_bits: int = 0


def handshake(request: web.Request, *, protocols: tuple[str, ...] = (), compress: bool = False) -> Handshake:
    """Raises HTTPUpgradeRequired for a request that does not ask for a WebSocket."""
    accepted = _accepted(request)
    if not accepted:
        raise web.HTTPUpgradeRequired(
            text="this is a WebSocket endpoint\n", headers={"Upgrade": "websocket", "Sec-WebSocket-Version": _VERSION}
        )
    lines = ""
    protocol = _first_known(request, protocols) if protocols else ""
    if protocol:
        lines += f"Sec-WebSocket-Protocol: {protocol}\r\n"
    window_bits = _agreed_window(request) if compress else 0
    if window_bits:
        # Neither side keeps a window between messages: ours are the same bytes for everybody, and a silent client costs
        # no memory for one of its own.
        parameters = "server_no_context_takeover; client_no_context_takeover"
        if window_bits < 15:
            parameters += f"; server_max_window_bits={window_bits}"
        lines += f"Sec-WebSocket-Extensions: permessage-deflate; {parameters}\r\n"
    return Handshake(_ANSWER.format(accepted, lines).encode(), protocol, window_bits)


def _accepted(request: web.Request) -> str:
    """The answer to the request's key; empty when this is no handshake."""
    headers = request.headers
    if headers.get("Upgrade", "").strip().lower() != "websocket" or headers.get("Sec-WebSocket-Version") != _VERSION:
        return ""
    if "upgrade" not in _words(headers.getall("Connection", [])):
        return ""
    key = headers.get("Sec-WebSocket-Key", "").strip()
    if _KEY.fullmatch(key) is None:
        return ""
    digest = hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode()


def _first_known(request: web.Request, protocols: tuple[str, ...]) -> str:
    """The first of the client's subprotocols that is one of ours; empty for none, which is an answer too."""
    asked = ",".join(request.headers.getall("Sec-WebSocket-Protocol", [])).split(",")
    return next((name for name in map(str.strip, asked) if name in protocols), "")


def _agreed_window(request: web.Request) -> int:
    """The bits of the window for the first offer of permessage-deflate that can be kept to; 0 when there is none."""
    for offer in ",".join(request.headers.getall("Sec-WebSocket-Extensions", [])).split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name == "permessage-deflate" and (bits := _window_of(parameters)):
            return bits
    return 0


def _window_of(parameters: list[str]) -> int:
    """0 for an offer that must be declined (RFC 7692 section 7.1)."""
    bits, seen = 15, set()
    for parameter in parameters:
        name, _, value = (part.strip().strip('"') for part in parameter.partition("="))
        if name in seen:
            return 0
        seen.add(name)
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover" if not value:
                pass
            case "client_max_window_bits" if _ANY_WINDOW.fullmatch(value):
                pass  # a client's messages can be unpacked whatever its window is
            case "server_max_window_bits" if _WINDOW.fullmatch(value):
                bits = int(value)
            case _:
                return 0
    return bits


def _words(values: list[str]) -> list[str]:
    return [word.strip().lower() for value in values for word in value.split(",")]
