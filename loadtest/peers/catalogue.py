"""All servers that can be measured, by the name the command line knows them by."""

from __future__ import annotations

from loadtest.peers.floor import Floor
from loadtest.peers.naive import Naive
from loadtest.peers.nchan import Nchan, NchanNoDelay
from loadtest.peers.node import MicroWebSockets, SocketIo, Ws
from loadtest.peers.peer import Peer
from loadtest.peers.product import Product, ProductDeflate, ProductDelta

PEERS: dict[str, type[Peer]] = {
    peer.key: peer
    for peer in (
        Product, ProductDelta, ProductDeflate, Floor, MicroWebSockets, Ws, SocketIo, Nchan, NchanNoDelay, Naive,
    )
}  # fmt: skip
