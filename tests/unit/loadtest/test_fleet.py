"""Clients that come back: what they say, and what they notice."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.fleet.balancer import Balancer
from loadtest.fleet.place import Place, Refused
from loadtest.opening import ADDRESS
from loadtest.traffic import Bodies
from tests.services.deadline import wait_until

BODIES = Bodies(100)


def push(number: int, offset: int) -> bytes:
    data = BODIES.make(number, 1000 + number).decode()
    return f'{{"push":{{"channel":"bench","pub":{{"data":{data},"offset":{offset}}}}}}}'.encode()


def subscribed(offset: int, *missed: tuple[int, int], **more: Any) -> bytes:
    publications = [
        {"data": json.loads(BODIES.make(number, 1000 + number)), "offset": offset} for number, offset in missed
    ]
    reply = {"epoch": "e", "offset": offset, "publications": publications, **more}
    return json.dumps({"id": 2, "subscribe": reply}, separators=(",", ":")).encode()


@pytest.fixture
def place() -> Place:
    """Subscribed, and with three publications."""
    made = Place(BODIES, "bench", "token")
    assert made.take(b'{"id":1,"connect":{"client":"x"}}') == (False, 0)
    assert made.take(subscribed(10)) == (True, 0)
    assert [made.take(push(number, 11 + number)) for number in range(3)] == [(False, 1000 + n) for n in range(3)]
    return made


def test_it_asks_for_what_it_missed_from_where_it_was(place: Place) -> None:
    first = json.loads(Place(BODIES, "bench", "t").request().split(b"\n")[1])
    assert first["subscribe"] == {"channel": "bench"}
    again = json.loads(place.request().split(b"\n")[1])
    assert again["subscribe"] == {"channel": "bench", "recover": True, "epoch": "e", "offset": 13}


def test_what_was_missed_and_comes_with_the_reply_counts_like_the_rest(place: Place) -> None:
    assert place.take(subscribed(13, (3, 14), (4, 17), recovered=True)) == (True, 0)
    place.take(push(5, 18))
    assert (place.received, place.missed, place.doubled, place.broken) == (6, 0, 0, 0)
    assert json.loads(place.request().split(b"\n")[1])["subscribe"]["offset"] == 18


def test_the_end_of_the_log_is_the_position_where_nothing_was_missed(place: Place) -> None:
    place.take(subscribed(50, recovered=True))
    assert json.loads(place.request().split(b"\n")[1])["subscribe"]["offset"] == 50


def test_a_gap_a_repeat_and_a_lost_position_are_noticed(place: Place) -> None:
    place.take(push(5, 20))
    place.take(push(4, 21))
    place.take(subscribed(30))
    assert (place.received, place.missed, place.doubled, place.broken) == (4, 2, 1, 1)


def test_what_was_not_published_so_and_an_error_are_said(place: Place) -> None:
    with pytest.raises(ValueError, match="not the body"):
        place.take(push(3, 14).replace(b"pad", b"bad"))
    with pytest.raises(Refused, match="109"):
        place.take(b'{"id":1,"error":{"code":109,"message":"token expired"}}')


class Ready(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def nodes() -> Iterator[list[tuple[int, type[Ready]]]]:
    """Ports, and what can be told to say that it is not ready."""
    found = []
    servers = []
    for _ in range(2):
        handler = type("Handler", (Ready,), {})
        server = http.server.ThreadingHTTPServer((ADDRESS, 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        found.append((server.server_port, handler))
    yield found
    for server in servers:
        server.shutdown()
        server.server_close()


def test_newcomers_go_to_nodes_that_are_ready(nodes: list[tuple[int, type[Ready]]]) -> None:
    (one, at_one), (other, _) = nodes
    balancer = Balancer([one, other])
    assert {balancer.choose() for _ in range(100)} == {one, other}
    at_one.status = 503
    wait_until(lambda: {balancer.choose() for _ in range(100)} == {other})
    assert balancer.choose([other]) == one, "there is no other choice"
    assert balancer.choose([one, other]) == 0
    at_one.status = 200
    wait_until(lambda: {balancer.choose() for _ in range(100)} == {one, other})
    balancer.close()
