"""The archive is filled by one worker at a time, from the log, whatever happens to Redis, broker and workers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import pytest
from aio_pika.abc import AbstractChannel
from redis.asyncio import Redis

from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core.history import Verdict
from notifier.core.orders import Order
from notifier.errors import Unavailable
from notifier.log import filling
from notifier.log.tail import Tail
from tests.integration.archive import holder
from tests.integration.archive.conftest import NewArchivist
from tests.integration.archive.worker import RULE, Archivist, Place
from tests.services.deadline import SECOND, eventually
from tests.services.redis import Redis as Server


async def send(channel: AbstractChannel, worker: Archivist, key: str, numbers: range) -> None:
    """Publish as a backend does, confirmed."""
    exchange = await channel.get_exchange(worker.broker.exchange, ensure=False)
    for number in numbers:
        message = aio_pika.Message(b"%d" % number, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await exchange.publish(message, key)


@contextlib.asynccontextmanager
async def redis_of(place: Place) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(place.redis_url)
    try:
        yield client
    finally:
        await client.aclose()


async def filling_one(*workers: Archivist) -> Archivist:
    """The one that fills."""
    await eventually(lambda: sum(worker.is_filling for worker in workers) == 1, 30 * SECOND)
    return next(worker for worker in workers if worker.is_filling)


async def test_whoever_was_away_for_longer_than_memory_reaches_gets_everything(new_archivist: NewArchivist) -> None:
    one, other = await new_archivist().start(), await new_archivist().start()
    offsets = []
    for number in range(50):
        offsets.append(await one.publish("a", number))
        await one.publish("b", number, message_id="always the same")
    await filling_one(one, other)
    await other.log.catch_up()
    for worker in (one, other):
        assert await worker.recovered("a", offsets[0]) == list(range(1, 50))
        assert await worker.recovered("a", offsets[30]) == list(range(31, 50))
        assert await worker.archived("b") == [0]


async def test_a_node_that_has_read_little_knows_from_the_archive_what_was_before(new_archivist: NewArchivist) -> None:
    one = await new_archivist().start()
    first = await one.publish("a", 0)
    quiet = await one.publish("quiet", 0)
    for number in range(1, 10):
        await one.publish("a", number)
    await one.filled()
    young = await new_archivist().start()
    young.node.history.begin(young.node.history.end)  # as after `known_for`, which a test cannot wait for
    assert await young.recovered("a", first) == list(range(1, 10))
    assert await young.recovered("quiet", quiet) == []
    assert await young.recovered("never", first) == []


async def test_a_removed_history_is_removed_from_the_archive_too(new_archivist: NewArchivist) -> None:
    one = await new_archivist().start()
    offsets = [await one.publish("a", number) for number in range(5)]
    await one.filled()
    await one.node.order(Order(remove_history="a"))
    await eventually(lambda: _is(one, "a", offsets[0], Verdict.TRIMMED), retry=(AssertionError, Unavailable))
    assert await one.recovered("a", offsets[-1]) == []
    await one.publish("a", 5)
    assert await one.recovered("a", offsets[-1]) == [5]
    await one.filled()
    assert await one.archived("a") == [5]


async def _is(worker: Archivist, channel: str, offset: int, verdict: Verdict) -> bool:
    return await worker.recovered(channel, offset) is verdict


async def test_when_the_holder_ends_another_one_goes_on_where_it_was(new_archivist: NewArchivist) -> None:
    one, other = await new_archivist().start(), await new_archivist().start()
    holder_, heir = (one, other) if await filling_one(one, other) is one else (other, one)
    first = await heir.publish("a", 0)
    await heir.publish("a", 1)
    await holder_.stop()
    await heir.publish("a", 2)
    await filling_one(heir)
    await heir.publish("a", 3)
    await heir.filled()
    assert await heir.archived("a") == [0, 1, 2, 3]
    assert await heir.recovered("a", first) == [1, 2, 3]


async def test_a_holder_that_is_killed_is_replaced_within_seconds(
    place: Place, new_archivist: NewArchivist, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", holder.__name__, *place, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60 * SECOND):
            assert await process.stdout.readline() == b"filling\n"
        heir = await new_archivist().start()
        for number in range(100):
            await heir.publish("a", number)
            if number == 50:
                assert not heir.is_filling
                process.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        await filling_one(heir)
        assert time.monotonic() - killed_at < 10 * SECOND
        await heir.filled()
        assert await heir.archived("a") == list(range(100))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_holder_that_does_not_know_that_it_is_none_any_more_does_no_harm(
    new_archivist: NewArchivist,
) -> None:
    """The broker has given the queue to somebody else; both read the same log, and both write."""
    one, other = new_archivist(), new_archivist()
    other.filler._queue = "of-another-name-" + other.filler._queue
    await one.start()
    await other.start()
    await eventually(lambda: one.is_filling and other.is_filling, 30 * SECOND)
    first = await one.publish("a", 0)
    for number in range(1, 300):
        await one.publish(f"a{number % 7}", number)
        await one.publish("a", number)
    await one.filled()
    await other.stop()
    await one.filled()
    assert await one.archived("a") == list(range(300))
    assert await one.recovered("a", first) == list(range(1, 300))
    for channel in range(7):
        assert await one.archived(f"a{channel}") == [number for number in range(1, 300) if number % 7 == channel]


async def test_what_comes_while_redis_is_away_is_filled_in_later_and_meanwhile_nobody_is_told_wrong(
    new_archivist: NewArchivist, private_redis: Server, place: Place
) -> None:
    one = await new_archivist().start()
    first = await one.publish("a", 0)
    for number in range(1, 20):
        await one.publish("a", number)
    await one.filled()
    await asyncio.to_thread(private_redis.kill)
    started = time.monotonic()
    last = 0
    for number in range(20, 60):
        last = await one.publish("a", number)
    assert time.monotonic() - started < 10 * SECOND, "publishing does not wait for Redis"
    with pytest.raises(Unavailable):
        await one.recovered("a", first)
    assert await one.recovered("a", last) == []
    await asyncio.to_thread(private_redis.start)  # it kept nothing
    await one.filled()
    assert await one.archived("a") == list(range(60))
    assert await one.recovered("a", first) == list(range(1, 60))


async def test_a_redis_that_refuses_writes_is_filled_later(new_archivist: NewArchivist, place: Place) -> None:
    one = await new_archivist().start()
    await one.publish("a", 0)
    await one.filled()
    async with redis_of(place) as client:
        await client.config_set("maxmemory", 1)
        try:
            for number in range(1, 30):
                await one.publish("a", number)
            await eventually(lambda: one.node.stats.archive_failures["write"], 30 * SECOND)
        finally:
            await client.config_set("maxmemory", 0)
        await one.filled()
        assert await one.archived("a") == list(range(30))
        # a master that has become a replica
        await client.replicaof("127.0.0.1", "1")
        try:
            for number in range(30, 40):
                await one.publish("a", number)
            await asyncio.sleep(0.5)
        finally:
            await client.replicaof("NO", "ONE")
        await one.filled()
        assert await one.archived("a") == list(range(40))


async def test_after_everything_in_redis_was_flushed_it_is_filled_again_from_the_log(
    new_archivist: NewArchivist, place: Place
) -> None:
    """F-R14."""
    one = await new_archivist().start()
    first = await one.publish("a", 0)
    for number in range(1, 20):
        await one.publish("a", number)
    await one.filled()
    async with redis_of(place) as client:
        await client.flushall()
    await one.publish("a", 20)

    async def again() -> bool:
        return await one.recovered("a", first) == list(range(1, 21))

    await eventually(again, 60 * SECOND, retry=(AssertionError, Unavailable))
    await one.publish("a", 21)
    await one.filled()
    assert await one.archived("a") == list(range(22))


async def test_a_redis_that_has_gone_back_in_time_is_brought_forward_again(
    new_archivist: NewArchivist, place: Place
) -> None:
    """F-R4."""
    one = await new_archivist().start()
    first = await one.publish("a", 0)
    await one.filled()
    async with redis_of(place) as client:
        before = {key: await client.dump(key) for key in await client.keys(f"{place.name}:archive:*")}
        for number in range(1, 20):
            await one.publish("a", number)
        await one.filled()
        pipeline = client.pipeline()
        for key in await client.keys(f"{place.name}:archive:*"):
            pipeline.delete(key)
        for key, value in before.items():
            pipeline.restore(key, 0, value or b"")
        await pipeline.execute()
    await one.filled()
    assert await one.recovered("a", first) == list(range(1, 20))


async def test_a_stream_made_anew_has_an_archive_of_its_own(
    new_archivist: NewArchivist, publisher: AbstractChannel
) -> None:
    one = await new_archivist().start()
    for number in range(20):
        await one.publish("a", number)
    await one.filled()
    epoch = one.node.history.epoch
    await publisher.queue_delete(one.broker.stream)
    await eventually(lambda: one.log.ready and one.node.history.epoch not in ("", epoch), 90 * SECOND)
    await eventually(lambda: not one.log.problem, 60 * SECOND)
    first = await one.publish("a", 100)
    for number in range(101, 110):
        await one.publish("a", number)
    await one.filled()
    assert await one.archived("a") == list(range(100, 110))
    assert await one.recovered("a", first) == list(range(101, 110))
    assert await one.recovered("a", first - 1) == list(range(100, 110))


async def test_a_stream_that_no_longer_reaches_back_leaves_a_hole_that_is_told(
    new_archivist: NewArchivist, publisher: AbstractChannel
) -> None:
    """While nobody filled the archive the log has let go of a part of what came."""
    one = new_archivist(repeat_window=3, declare=False)
    broker = one.broker
    await publisher.declare_exchange(broker.exchange, aio_pika.ExchangeType.TOPIC, durable=True)
    stream = await publisher.declare_queue(
        broker.stream, durable=True,
        arguments={"x-queue-type": "stream", "x-max-length-bytes": 200_000, "x-stream-max-segment-size-bytes": 100_000},
    )  # fmt: skip
    await stream.bind(broker.exchange, "#")
    await publisher.declare_queue(broker.rejected, durable=True)
    await one.start()
    first = await one.publish("a", 0)
    last = await one.publish("a", 1)
    await one.filled()
    epoch = one.node.history.epoch
    await one.control.stop()
    text = b'"' + b"x" * 20_000 + b'"'
    exchange = await publisher.get_exchange(broker.exchange, ensure=False)
    for number in range(100):
        await exchange.publish(aio_pika.Message(text), "filler")
        if number % 3 == 0:
            await one.log.catch_up()  # a marker, so that the log keeps its name
    late = await new_archivist(repeat_window=3, declare=False).start()
    assert late.node.history.epoch == epoch
    await late.publish("a", 2)
    await late.filled()
    begins = late.node.history.known_from
    assert begins > last
    for channel, offset in (("a", first), ("a", last), ("never", last)):
        assert await late.recovered(channel, offset) is Verdict.NOT_KNOWN
    assert await late.recovered("a", begins) == [2]


async def test_an_archive_that_was_filled_long_ago_is_gone_on_with_without_reading_everything(
    new_archivist: NewArchivist,
) -> None:
    one = await new_archivist(repeat_window=5).start()
    for number in range(50):
        await one.publish("a", number)
    await one.filled()
    await one.stop()
    other = new_archivist(repeat_window=5)
    begun: list[int | None] = []

    def noted(*args: Any, **options: Any) -> Tail:
        begun.append(options["resume_at"])
        return Tail(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "Tail", noted)
        await other.start()
        await other.publish("a", 50)
        await other.filled()
    assert begun
    assert begun[0] is not None
    assert begun[0] >= 50
    assert await other.archived("a") == list(range(51))
    assert other.node.stats.archive_entries == 1


async def test_a_channel_that_gets_an_archive_later_has_one_from_the_log(new_archivist: NewArchivist) -> None:
    without = msgspec.structs.replace(RULE, match="b.#", archive=None)
    one = await new_archivist(rules=[without, RULE]).start()
    first = await one.publish("b.1", 0)
    await one.publish("b.1", 1)
    await one.publish("b.1", 2)
    await one.filled()
    assert await one.recovered("b.1", first) is Verdict.TRIMMED
    other = await new_archivist(rules=[RULE]).start()
    await other.filled()
    assert await other.recovered("b.1", first) == [1, 2]
    assert one.is_filling, "as in a rolling deploy: those with the old rules go on with theirs"


async def test_what_belongs_to_no_rule_with_an_archive_is_not_in_redis(
    new_archivist: NewArchivist, place: Place
) -> None:
    without = ChannelRule(match="b.#", history=HistoryRule(size=5, ttl=Duration(60)), subscribe=["anyone"])
    one = await new_archivist(rules=[without, RULE]).start()
    await one.publish("b.1", 0)
    await one.publish("a", 0)
    await one.filled()
    async with redis_of(place) as client:
        names = [str(key) for key in await client.keys(f"{place.name}:archive:*")]
    assert [name.rpartition(":")[2] for name in names if name.endswith((":a'", ":b.1'"))] == ["a'"]


async def test_under_load_with_redis_stopped_in_between_nothing_is_missing(
    new_archivist: NewArchivist, publisher: AbstractChannel, private_redis: Server
) -> None:
    one, other = await new_archivist().start(), await new_archivist().start()
    first = await one.publish("a", 0)
    sending = asyncio.create_task(send(publisher, one, "a", range(1, 3000)))
    for _ in range(3):
        await asyncio.sleep(0.2)
        private_redis.freeze()
        await asyncio.sleep(0.2)
        private_redis.thaw()
    await sending
    for worker in (one, other):
        await worker.log.catch_up()

        async def complete(worker: Archivist = worker) -> bool:
            return await worker.recovered("a", first) == list(range(1, 3000))

        await eventually(complete, 60 * SECOND, retry=(AssertionError, Unavailable))
