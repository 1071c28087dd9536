"""The floor in Python: what is left when a Python program does nothing but `send` the same bytes to every socket.

It speaks as `floor.c` does: "SUB <number>\\n" or "PUB 0\\n", answered "OK\\n"; then records of a listener's number, a
length, and a frame that is ready. What one read brings for all is sent on with one `send` to each.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from collections.abc import Callable

EVERYBODY = 0xFFFF_FFFF
HEAD = struct.Struct("<II")
READ_BYTES = 1 << 20

_sends: list[Callable[[bytes], None]] = []
_by_number: dict[int, Callable[[bytes], None]] = {}


def publish(data: bytes) -> bytes:
    """Send on what is whole; answers the rest."""
    at, joined = 0, []
    while len(data) - at >= HEAD.size:
        number, length = HEAD.unpack_from(data, at)
        end = at + HEAD.size + length
        if end > len(data):
            break
        frame = data[at + HEAD.size : end]
        if number == EVERYBODY:
            joined.append(frame)
        else:
            _by_number[number](frame)
        at = end
    if joined:
        frames = b"".join(joined)
        for send in _sends:
            send(frames)
    return data[at:]


def hear(client: socket.socket, words: list[bytes]) -> bool:
    """Whether this is the publisher."""
    if words[0] == b"SUB":
        # The sockets block, as the floor's in C: who does not read holds up everybody, but nothing is lost or queued.
        _sends.append(client.sendall)
        _by_number[int(words[1])] = client.sendall
    client.sendall(b"OK\n")
    return words[0] == b"PUB"


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    publisher, rest = -1, b""
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            data = clients[fd].recv(READ_BYTES)
            if not data:
                poll.unregister(fd)
            elif fd == publisher:
                rest = publish(rest + data)
            elif hear(clients[fd], data.split()):
                publisher = fd


if __name__ == "__main__":
    main()
