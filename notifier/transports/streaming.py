"""Answers whose body never ends: server-sent events and HTTP streams."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from email.utils import formatdate
from typing import Any, TypeVar

from aiohttp import web

from notifier.core.node import Node
from notifier.core.session import Session
from notifier.protocol import frames
from notifier.protocol.codes import CONNECTION_CLOSED, Disconnect
from notifier.protocol.encoding import ClientEncoding
from notifier.protocol.messages import Push, Reply
from notifier.transports.entrance import about, gone
from notifier.transports.line import HandedOver, Line, hand_over, transport_of
from notifier.transports.outlet import Farewell, StreamOutlet

S = TypeVar("S", bound=Session)

HEADERS = {
    "Content-Type": "application/octet-stream",
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
    "Pragma": "no-cache",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


def head(headers: Mapping[str, str]) -> bytes:
    """What stands before a body without length and chunks: it is raw until the connection's end, so that the same bytes
    are right for every client."""
    fields = {
        "Content-Type": "application/octet-stream",
        **HEADERS,
        **headers,
        "Date": formatdate(usegmt=True),
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode()


def begin(request: web.Request, headers: Mapping[str, str], outlet: StreamOutlet) -> Line:
    """Take the connection from aiohttp and begin the answer. What the session writes comes after that."""
    line = Line(outlet)
    hand_over(request, line)
    outlet.write(head(headers))
    return line


def farewell(encoding: ClientEncoding, node: Node | None = None) -> Farewell:
    """What says why a stream ends, in its own encoding. With a node, an EventSource is told to come back after about
    its `sse_retry`: those who are sent away together do not come together."""

    def told(disconnect: Disconnect) -> bytes:
        if disconnect.code == CONNECTION_CLOSED.code:
            return b""
        told = encoding.replies([Reply(push=Push(disconnect=disconnect))])
        return told if node is None else frames.retry(about(node.limits.sse_retry)) + told

    return told


def serve(
    request: web.Request,
    headers: Mapping[str, str],
    node: Node,
    told: Farewell,
    made: Callable[[StreamOutlet], S],
    start: Callable[[S], Coroutine[Any, Any, None]],
    first: bytes,
) -> web.StreamResponse:
    """A session whose replies and pushes are the body of an answer; `first` are the bytes before all of them, which
    only event streams have."""
    transport = transport_of(request)
    if transport is None:
        return gone()
    outlet = StreamOutlet(transport, node.limits.max_buffer, node.limits.close_timeout, told)
    outlet.session = session = made(outlet)
    line = begin(request, headers, outlet)
    if first:
        outlet.write(first)
    line.run(start(session))
    raise HandedOver
