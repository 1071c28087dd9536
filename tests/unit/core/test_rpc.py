"""Calls of clients: this server's own methods, and those that go to a queue."""

from __future__ import annotations

import json
from typing import Any

import pytest

from notifier.config import Clients, Duration, RpcRule
from notifier.core.identity import Identity
from notifier.core.rpc import Methods
from notifier.errors import ConfigError, Unavailable
from notifier.protocol.codes import CommandFailed, Error
from notifier.testing import Client, make_node


class Backends:
    """Answers as it is told, and notes what it was asked."""

    def __init__(self, answer: bytes | Exception = b"1") -> None:
        self.answer = answer
        self.calls: list[tuple[str, str, bytes, float]] = []
        self.sent: list[tuple[str, bytes]] = []
        self.infos: list[Any] = []

    async def call(self, queue: str, method: str, data: bytes, info: bytes, timeout_s: float) -> bytes:
        self.infos.append(json.loads(info))
        self.calls.append((queue, method, data, timeout_s))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def send(self, queue: str, data: bytes, info: bytes) -> None:
        self.infos.append(json.loads(info))
        self.sent.append((queue, data))


async def client_with(backends: Backends, **limits: Any) -> Client:
    node = make_node(clients=Clients(**limits))
    node.backends = backends
    node.methods = Methods(
        [
            RpcRule(method="math.*", queue="math", timeout=Duration(2), allow=["anyone"]),
            RpcRule(method="secret.#", queue="secret", allow=["role:boss"]),
        ]
    )
    client = Client(node)
    await client.send({"id": 1, "connect": {}})
    return client


async def call(client: Client, method: str, data: Any = None) -> dict[str, Any]:
    [reply] = await client.send({"id": 2, "rpc": {"method": method, "data": data}})
    return reply


async def test_a_call_goes_to_the_queue_of_its_method_and_its_answer_comes_back() -> None:
    backends = Backends(b'{"sum":\n3}')
    client = await client_with(backends)
    assert await call(client, "math.sum", [1, 2]) == {"id": 2, "rpc": {"data": {"sum": 3}}}
    assert backends.calls == [("math", "math.sum", b"[1,2]", 2.0)] or backends.calls == [
        ("math", "math.sum", b"[1, 2]", 2.0)
    ]


@pytest.mark.parametrize(
    ("method", "answer", "code"),
    [
        ("unknown", b"1", 104),
        ("", b"1", 104),
        ("secret.plan", b"1", 103),
        ("math.sum", b"no json", 100),
        ("math.sum", Unavailable("away"), 100),
        ("math.sum", CommandFailed(Error(1234, "too big")), 1234),
    ],
)
async def test_what_goes_wrong_is_an_error_and_the_connection_goes_on(
    method: str, answer: bytes | Exception, code: int
) -> None:
    client = await client_with(Backends(answer))
    assert (await call(client, method))["error"]["code"] == code
    assert not client.closed_with


async def test_backends_see_what_the_token_says_for_them_alone() -> None:
    backends = Backends()
    client = await client_with(backends, send_queue="from-clients")
    client.session.identity = Identity("ann", info=b'{"name":"Ann"}', meta={"plan": "gold"})
    await call(client, "math.sum", 1)
    await client.send({"send": {"data": 1}})
    assert backends.infos == 2 * [
        {"user": "ann", "client": client.session.client_id, "conn_info": {"name": "Ann"}, "meta": {"plan": "gold"}}
    ]


async def test_own_methods() -> None:
    client = await client_with(Backends())
    assert (await call(client, "notifier.time"))["rpc"]["data"] == {"time": client.session.node.clock.time()}
    whoami = (await call(client, "notifier.whoami"))["rpc"]["data"]
    assert whoami == {"user": "", "client": client.session.client_id, "roles": []}


async def test_what_is_sent_goes_to_the_queue_of_the_configuration_without_an_answer() -> None:
    backends = Backends()
    client = await client_with(backends, send_queue="from-clients")
    assert await client.send({"send": {"data": {"a": 1}}}) == []
    [(queue, data)] = backends.sent
    assert queue == "from-clients"
    assert data in (b'{"a": 1}', b'{"a":1}')


def test_an_entry_that_cannot_be_used_is_told() -> None:
    with pytest.raises(ConfigError, match=r"rpc\[0\]"):
        Methods([RpcRule(method="a b", queue="q")])
