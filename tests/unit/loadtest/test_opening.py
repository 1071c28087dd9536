"""Connections opened against a server that answers all the same."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from loadtest.frames import server_frame
from loadtest.opening import ADDRESS, Opener, OpeningFailed
from loadtest.peers.product import SECRET
from loadtest.peers.product_wire import DeflateWire
from loadtest.wire import PlainWire, Wire

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
DEADLINE_S = 10.0


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server's port: to whatever a client says it gives the next answer. It ends when the client has gone."""
    with socket.create_server((ADDRESS, 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                for answer in answers:
                    if not client.recv(65_536):
                        return
                    client.sendall(answer)
                client.recv(65_536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def opener(port: int, wire: Wire) -> Opener:
    return Opener(port, [wire.steps(0, "bench")])


def test_a_connection_is_ready_when_it_is_subscribed() -> None:
    with answering(ACCEPTED, server_frame(b"ok") + b"more") as port:
        [ready] = opener(port, PlainWire()).run(1, DEADLINE_S)
        assert (ready.number, ready.rest) == (0, b"more")
        ready.socket.close()


@pytest.mark.parametrize(
    ("answer", "wire", "words"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", PlainWire(), "after 0 ready connections: HTTP/1.1 503"),
        (ACCEPTED, DeflateWire(SECRET), "without permessage-deflate"),
    ],
)
def test_a_refusal_ends_the_opening_with_the_servers_words(answer: bytes, wire: Wire, words: str) -> None:
    with answering(answer) as port, pytest.raises(OpeningFailed, match=words):
        opener(port, wire).run(1, DEADLINE_S)
