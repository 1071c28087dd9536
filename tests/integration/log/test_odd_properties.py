"""Properties and headers that other programs fill in otherwise than AMQP says: none of them stops the log."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import msgspec
import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractQueue
from pamqp import encode

from notifier.api import methods
from notifier.api.methods import MAX_PROPERTIES_BYTES
from notifier.config import LogSection, RabbitMQ
from tests.integration.log.worker import Worker
from tests.services.deadline import eventually

ODD = "replaced-with-bytes-that-are-not-utf-8"
BYTES = b"\xff\xfe\xc3"
MICROSECONDS = 1_800_000_000_000_000


@contextlib.contextmanager
def careless_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A client library that does not look at what it writes."""
    short_string = encode.short_string

    def any_bytes(value: str) -> bytes:
        return bytes([len(BYTES)]) + BYTES if value == ODD else short_string(value)

    with monkeypatch.context() as patch:
        patch.setattr(encode, "short_string", any_bytes)
        patch.setitem(encode.METHODS, "shortstr", any_bytes)
        patch.setitem(encode.METHODS, "timestamp", lambda _: MICROSECONDS.to_bytes(8))
        yield


@pytest.mark.parametrize(
    ("properties", "key", "is_taken"),
    [
        ({"message_id": ODD}, "a", True),
        ({"type": ODD}, "a", True),
        ({"correlation_id": ODD}, "a", True),
        ({"content_type": ODD}, "a", True),
        ({"timestamp": 1}, "a", True),
        ({"headers": {"tag-a": "x", ODD: "y"}}, "a", True),
        ({}, ODD, False),
        ({"message_id": ODD}, ODD, False),
    ],
)
async def test_the_log_goes_on(
    properties: dict[str, object],
    key: str,
    is_taken: bool,
    new_worker: Callable[[], Worker],
    publisher: AbstractChannel,
    section: tuple[RabbitMQ, LogSection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F-B15."""
    worker = new_worker()
    await worker.log.start()
    await worker.ready()
    exchange = await publisher.get_exchange(section[0].exchange)
    with careless_library(monkeypatch):
        await exchange.publish(Message(b'"odd"', **properties), key)  # type: ignore[arg-type]
    await exchange.publish(Message(b'"next"'), "a")
    await eventually(lambda: worker.bodies("a")[-1:] == [b'"next"'])
    assert worker.bodies("a") == ([b'"odd"', b'"next"'] if is_taken else [b'"next"'])
    assert worker.node.stats.reconnects.total() == 0
    if not is_taken:
        assert worker.node.stats.rejected["bad_channel"] == 1
        queue = await publisher.get_queue(section[0].rejected)
        await eventually(lambda: _is_copied(queue))


@pytest.mark.parametrize("kind", ["channels", "tags"])
async def test_as_much_as_the_api_lets_through_fits_beside_a_body(
    kind: str, new_worker: Callable[[], Worker], section: tuple[RabbitMQ, LogSection]
) -> None:
    """More than a frame would be the connection's end."""
    worker = new_worker()
    await worker.log.start()
    await worker.ready()
    wide = [f"{n}." + "x" * 235 for n in range(MAX_PROPERTIES_BYTES // 250)]
    request: dict[str, object] = {"channels": wide} if kind == "channels" else {"channels": ["a"]}
    if kind == "tags":
        request["tags"] = {f"t{n}": "" for n in range(MAX_PROPERTIES_BYTES // 26)}
    answer = await methods.call(worker.node, "broadcast", msgspec.json.encode({**request, "data": 1}))
    assert len(msgspec.json.decode(answer)["result"]["responses"]) == len(request["channels"])  # type: ignore[arg-type]
    assert worker.node.stats.reconnects.total() == 0


async def _is_copied(queue: AbstractQueue) -> bool:
    message = await queue.get(fail=False)
    return message is not None and message.headers["x-rejected-reason"] == "bad_channel"
