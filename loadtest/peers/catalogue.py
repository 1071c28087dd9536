"""All servers that can be measured, by the name the command line knows them by."""

from __future__ import annotations

from loadtest.peers.floor import Floor, PythonFloor
from loadtest.peers.go import Centrifugo, Mercure
from loadtest.peers.naive import Naive
from loadtest.peers.nchan import Nchan, NchanEvents, NchanNoDelay
from loadtest.peers.node import MicroWebSockets, SocketIo, Ws
from loadtest.peers.peer import Peer
from loadtest.peers.product import (
    Product,
    ProductAmqp,
    ProductDeflate,
    ProductDelayed,
    ProductDelta,
    ProductEvents,
)
from loadtest.peers.python import DjangoChannels, PythonSocketIo, Starlette, Websockets
from loadtest.peers.rabbitmq import WebMqtt, WebStomp

PEERS: dict[str, type[Peer]] = {
    peer.key: peer
    for peer in (
        Product, ProductAmqp, ProductEvents, ProductDelayed, ProductDelta, ProductDeflate, Floor, PythonFloor,
        MicroWebSockets, Ws, SocketIo, Nchan, NchanNoDelay, NchanEvents, Naive, Websockets, Starlette, PythonSocketIo,
        DjangoChannels, WebStomp, WebMqtt, Centrifugo, Mercure,
    )
}  # fmt: skip
