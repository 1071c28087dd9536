"""What libraries do that one would not expect, and that the server relies on or keeps away from. When one of these
fails after an upgrade, look at the places that it names.

Elsewhere: the deadline for headers is aiohttp's `keepalive_timeout` (security/test_hostile.py); redirects, headers of
tokens and unmasked frames (unit/auth/test_jwks.py, unit/auth/test_signatures.py, unit/protocol/test_reading.py).
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
from collections.abc import AsyncIterator

import aio_pika
import jwt
import msgspec
import pytest
import redis.asyncio as redis_client
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import DeliveryError
from aiohttp import web
from aiormq.abc import DeliveredMessage
from aiormq.connection import Connection as AiormqConnection
from prometheus_client import CollectorRegistry, Counter
from redis.asyncio.retry import Retry

from notifier.core.record import Draft
from notifier.log import amqp
from notifier.protocol import codec_json
from notifier.state import client
from notifier.testing import SECRET
from tests.servers import ROOT
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ

# --- what is not used, so that its traps cannot be stepped into -------------------------------------------------------


def names_used() -> set[str]:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "notifier").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)} | {
        alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def metrics_used() -> set[str]:
    """What is imported from prometheus_client."""
    nodes = [node for path in (ROOT / "notifier").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    found = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "prometheus_client"]
    return {alias.name for node in found for alias in node.names}


@pytest.mark.parametrize(
    "name",
    [
        "connect_robust",  # publishing waits for it without a bound, before its timeout begins
        "RobustConnection",
        "pubsub",  # of Redis: subscribes again in silence, so that a gap is not seen
        "WebSocketResponse",  # close() and send() wait without a bound; 4 MiB and compression by default
        "PyJWKClient",  # blocks the loop; one cache for all issuers before 2.13
        "pickle",
    ],
)
def test_what_has_traps_is_not_used(name: str) -> None:
    used = names_used()
    assert name not in used
    assert not {"Counter", "Gauge", "Histogram"} & metrics_used(), "children of labels stay for ever"
    assert {"connect", "Redis", "RequestHandler", "decode"} <= used, "what is used is found"


# --- aio-pika, aiormq -------------------------------------------------------------------------------------------------


@pytest.fixture
async def connection(rabbitmq: RabbitMQ) -> AsyncIterator[AbstractConnection]:
    async with await aio_pika.connect(rabbitmq.url) as found:
        yield found


def test_a_message_is_transient_unless_it_says_otherwise() -> None:
    assert aio_pika.Message(b"").delivery_mode == aio_pika.DeliveryMode.NOT_PERSISTENT
    draft = Draft(["a"], b"1")
    assert amqp.to_message(draft, "r").delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def test_what_nobody_gets_comes_back_as_if_all_were_well_unless_the_channel_shall_raise(
    connection: AbstractConnection,
) -> None:
    message = aio_pika.Message(b"")
    channel: AbstractChannel = await connection.channel()
    answer = await channel.default_exchange.publish(message, "nobody.there")
    assert isinstance(answer, DeliveredMessage), "the message itself"
    raising = await connection.channel(on_return_raises=True)
    with pytest.raises(DeliveryError):
        await raising.default_exchange.publish(message, "nobody.there")


async def test_without_qos_each_delivery_is_a_task_at_once(connection: AbstractConnection) -> None:
    """So order ends at the first await, and memory with it. The log's reader asks for `rabbitmq.prefetch`."""
    channel = await connection.channel()
    queue = await channel.declare_queue("", exclusive=True)
    begun, go = 0, asyncio.Event()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal begun
        begun += 1
        await go.wait()
        await message.ack()

    for _ in range(300):
        await channel.default_exchange.publish(aio_pika.Message(b"1"), queue.name)
    await queue.consume(take)
    await eventually(lambda: begun == 300, 20 * SECOND)
    go.set()


def test_a_silent_broker_is_given_up_after_three_heartbeats() -> None:
    assert AiormqConnection.HEARTBEAT_GRACE_MULTIPLIER == 3


# --- redis ------------------------------------------------------------------------------------------------------------


async def test_redis_tries_every_command_ten_times_and_ours_not_at_all() -> None:
    """A script whose answer was lost would be run again."""
    async with redis_client.Redis() as usual:
        assert usual.get_retry()._retries == 10  # type: ignore[union-attr]
        assert usual.connection_pool.max_connections == 100
    assert inspect.signature(redis_client.Redis.__init__).parameters["socket_timeout"].default == 5
    made = [node for node in ast.walk(ast.parse(inspect.getsource(client))) if isinstance(node, ast.Call)]
    retries = [ast.unparse(call) for call in made if isinstance(call.func, ast.Name) and call.func.id == Retry.__name__]
    assert set(retries) == {"Retry(NoBackoff(), 0)"}


# --- aiohttp ----------------------------------------------------------------------------------------------------------


async def test_a_misspelt_bound_takes_all_others_away_with_a_warning_only(caplog: pytest.LogCaptureFixture) -> None:
    """So `transports.garbage.protocols` makes the protocols."""

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response()

    with caplog.at_level(logging.WARNING):
        made = web.Server(answer, keepalive_timeout=15, max_heeders=64)()
    assert made._keepalive_timeout == 3630
    assert "falling back" in caplog.text


# --- PyJWT ------------------------------------------------------------------------------------------------------------


def test_a_token_without_exp_is_good_for_pyjwt_and_a_short_key_too() -> None:
    """So claims and lengths of keys are looked at in `auth.claims` and `auth.signatures`, and PyJWT only verifies."""
    token = jwt.encode({"sub": "ann"}, SECRET, algorithm="HS256")
    assert jwt.decode(token, SECRET, algorithms=["HS256"]) == {"sub": "ann"}
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        short = jwt.encode({"sub": "ann"}, "short", algorithm="HS256")
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        assert jwt.decode(short, "short", algorithms=["HS256"])


# --- msgspec ----------------------------------------------------------------------------------------------------------


class Known(msgspec.Struct):
    value: msgspec.Raw = msgspec.Raw()


def test_raw_fields_and_unknown_ones_are_not_looked_into() -> None:
    """So `codec_json.compact` looks for UTF-8 itself: a browser closes for one bad byte."""
    assert bytes(msgspec.json.decode(b'{"value":"\xff"}', type=Known).value) == b'"\xff"'
    assert msgspec.json.decode(b'{"unknown":"\xff"}', type=Known) == Known()
    with pytest.raises(ValueError, match="UTF-8"):
        codec_json.compact(b'"\xff"')


def test_of_two_keys_the_last_one_counts_and_nul_is_a_character() -> None:
    assert msgspec.json.decode(b'{"a":1,"a":2}') == {"a": 2}
    assert msgspec.json.decode(b'"\\u0000"') == "\0"


def test_depth_and_bytes_raise_more_than_msgspec_s_own_errors() -> None:
    with pytest.raises(RecursionError):
        msgspec.json.decode(b"[" * 100_000)
    with pytest.raises(UnicodeDecodeError):
        msgspec.json.decode(b'"\xff"')
    assert {RecursionError, UnicodeError} <= set(codec_json.DECODE_ERRORS)


# --- prometheus_client ------------------------------------------------------------------------------------------------


def test_what_a_label_was_once_stays() -> None:
    """So metrics are made of the node's own counters whenever they are asked for (`telemetry.metrics`)."""
    registry = CollectorRegistry()
    counter = Counter("x", "x", ["kind"], registry=registry)
    for number in range(100):
        counter.labels(str(number)).inc()
    assert sum(len(family.samples) for family in registry.collect()) == 200
