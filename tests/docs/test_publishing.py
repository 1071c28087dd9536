"""The examples of docs/publishing.md: each is run against a real broker and a real server."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from tests.docs.programs import ADMIN, AIO_PIKA, CURL, JAVA_CLIENT, NODE, PHP_CLIENT, PIKA, Program, run
from tests.docs.relay import LosesAConfirm
from tests.servers import API_KEY, ServerProcess
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST
from tests.services.rabbitmq import RabbitMQ

AMQP = [PIKA, AIO_PIKA, NODE, JAVA_CLIENT, PHP_CLIENT]
ALL = [*AMQP, ADMIN, CURL]
DATA = {"id": 7, "text": "Grüße"}


@pytest.fixture
def variables(broker: RabbitMQ, server: ServerProcess) -> dict[str, str]:
    """Where everything is. For the examples alone: a user would have it at the usual ports."""
    return {
        "AMQP_URL": broker.url.rstrip("/"),
        "RABBITMQADMIN_OPTIONS": f"--host {LOCALHOST} --port {broker.port_of('rabbitmq_management')}",
        "NOTIFIER_URL": server.url,
        "NOTIFIER_API_KEY": API_KEY,
    }


@pytest.fixture
def channel() -> str:
    """One of its own for each test."""
    return f"open.{secrets.token_hex(4)}"


async def kept(server: ServerProcess, channel: str) -> list[Any]:
    """What the clients of a channel have got, in order."""
    return [each["data"] for each in (await server.call("history", channel=channel, limit=-1))["publications"]]


@pytest.mark.parametrize("program", ALL, ids=lambda each: each.file)
async def test_what_it_publishes_arrives(
    program: Program, server: ServerProcess, variables: dict[str, str], channel: str, tmp_path: Path
) -> None:
    code, output = await run(program, tmp_path, variables, channel, json.dumps(DATA, ensure_ascii=False))
    assert code == 0, output
    await eventually(lambda: _is(server, channel, [DATA]), 20 * SECOND)


@pytest.mark.parametrize("silently", [False, True], ids=["closed", "silent"])
@pytest.mark.parametrize("program", AMQP, ids=lambda each: each.file)
async def test_a_publish_whose_confirm_was_lost_is_tried_again_and_delivered_once(
    program: Program,
    broker: RabbitMQ,
    server: ServerProcess,
    variables: dict[str, str],
    channel: str,
    tmp_path: Path,
    *,
    silently: bool,
) -> None:
    async with LosesAConfirm(LOCALHOST, broker.port, silently=silently) as relay:
        variables["AMQP_URL"] = broker.url_at(relay.port).rstrip("/")
        code, output = await run(program, tmp_path, variables, channel, json.dumps(DATA))
        assert code == 0, output
        assert relay.lost
    assert "confirmed" in output
    await server.publish(channel, "and then")
    assert await kept(server, channel) == [DATA, "and then"]


@pytest.mark.parametrize("program", [*AMQP, ADMIN], ids=lambda each: each.file)
async def test_it_says_so_when_nobody_would_get_it(
    program: Program, broker: RabbitMQ, variables: dict[str, str], channel: str, tmp_path: Path
) -> None:
    await _unbound(broker)
    variables["AMQP_URL"] = f"{broker.url}empty"
    variables["RABBITMQADMIN_OPTIONS"] += " --vhost empty"
    code, output = await run(program, tmp_path, variables, channel, json.dumps(DATA))
    assert code != 0, output
    assert "confirmed" not in output
    assert any(word in output for word in ("Unroutable", "no stream is bound", "PublishError", "NOT routed")), output


async def test_curl_s_publish_with_the_same_id_is_delivered_once(
    server: ServerProcess, variables: dict[str, str], channel: str, tmp_path: Path
) -> None:
    for data in ("first", "the same again"):
        code, output = await run(CURL, tmp_path, variables, channel, json.dumps(data), "order-7")
        assert (code, "offset" in output) == (0, True), output
    assert await kept(server, channel) == ["first"]


async def test_curl_s_publish_fails_with_what_was_wrong(variables: dict[str, str], tmp_path: Path) -> None:
    code, output = await run(CURL, tmp_path, variables, "nowhere.at.all", "1")
    assert (code, "unknown channel" in output) == (22, True), output
    code, output = await run(CURL, tmp_path, {**variables, "NOTIFIER_API_KEY": "wrong"}, "open.a", "1")
    assert (code, "API key" in output) == (22, True), output


async def _is(server: ServerProcess, channel: str, expected: list[Any]) -> bool:
    assert await kept(server, channel) == expected
    return True


async def _unbound(broker: RabbitMQ) -> None:
    """A virtual host whose exchange leads nowhere."""
    if "empty" not in broker.ctl("list_vhosts").split():
        broker.ctl("add_vhost", "empty")
        broker.ctl("set_permissions", "-p", "empty", "guest", ".*", ".*", ".*")
    async with await aio_pika.connect(f"{broker.url}empty") as connection:
        channel = await connection.channel()
        await channel.declare_exchange("notifications", aio_pika.ExchangeType.TOPIC, durable=True)
