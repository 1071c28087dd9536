"""The log on a real RabbitMQ, in good times and in bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from notifier.config import ChannelRule, Duration, HistoryRule, LogSection, RabbitMQ, Secret
from notifier.core.history import Verdict
from notifier.core.target import Target
from notifier.errors import Unavailable
from notifier.log.rejects import LINES_AT_ONCE
from notifier.log.tail import Tail
from notifier.protocol.messages import Position
from tests.integration.log.worker import Worker, sections
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.proxy import TcpProxy, Way
from tests.services.rabbitmq import RabbitMQ as Broker

Sections = tuple[RabbitMQ, LogSection]
NewWorker = Callable[[], Worker]


async def send(channel: AbstractChannel, section: RabbitMQ, key: str, body: bytes, **properties: Any) -> None:
    """What a backend does: one persistent message to the exchange."""
    exchange = await channel.get_exchange(section.exchange, ensure=False)
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)
    await exchange.publish(message, key)


async def next_of(queue: AbstractQueue) -> AbstractIncomingMessage:
    found: list[AbstractIncomingMessage] = []

    async def get() -> bool:
        message = await queue.get(fail=False, no_ack=True)
        found.extend([message] if message else [])
        return bool(found)

    await eventually(get)
    return found[0]


async def test_what_is_appended_is_read_back_by_every_worker_at_the_same_offset(new_worker: NewWorker) -> None:
    async with new_worker() as one, new_worker() as two:
        await one.ready()
        await two.ready()
        offsets = [await one.publish("a", b"%d" % n) for n in range(20)]
        assert offsets == sorted(set(offsets))
        await eventually(lambda: two.bodies("a") == [b"%d" % n for n in range(20)])
        assert one.taken == two.taken
        assert [offset for offset, _, _ in one.taken] == offsets
        assert one.node.history.epoch == two.node.history.epoch != ""


async def test_a_message_of_a_backend_arrives_with_its_properties(
    new_worker: NewWorker, section: Sections, publisher: AbstractChannel
) -> None:
    async with new_worker() as worker:
        await worker.ready()
        headers = {"channels": "b c", "tag-lang": "en", "traceparent": "00-1-2-03"}
        await send(
            publisher, section[0], "a", b'{"x":1}', headers=headers, type="made", expiration=60, message_id="id-1"
        )
        await eventually(lambda: worker.taken)
        for channel in "abc":
            [publication] = worker.node.history.page(channel, None, 10, 0, reverse=False)
            assert publication.data == b'{"x":1}'
            assert publication.tags == {"lang": "en"}
            assert publication.event == "made"
            assert publication.traceparent == "00-1-2-03"
            assert publication.expires_at < float("inf")


async def test_a_new_worker_knows_what_was_before_it(new_worker: NewWorker) -> None:
    async with new_worker() as first:
        await first.ready()
        offsets = [await first.publish("a", b"%d" % n) for n in range(10)]
        epoch = first.node.history.epoch
    async with new_worker() as second:
        await second.ready()
        assert second.node.history.epoch == epoch
        rule = second.node.rules.find("a")
        assert rule is not None
        assert second.node.history.verdict("a", rule, Position(offsets[4], epoch)) is Verdict.RECOVERED
        assert [p.data for p in second.node.history.after("a", offsets[4], 0)] == [b"5", b"6", b"7", b"8", b"9"]


async def test_a_channel_quiet_for_longer_than_payloads_are_kept_recovers_on_a_new_worker(section: Sections) -> None:
    rule = ChannelRule(match="#", history=HistoryRule(size=10, ttl=Duration(1)), subscribe=["anyone"])
    async with Worker(*section, name="first", rules=[rule]) as first:
        await first.ready()
        missed = await first.publish("a", b"1")
        last = await first.publish("a", b"2")
        epoch = first.node.history.epoch
        history = first.node.history

        def let_go() -> bool:
            history.trim(first.node.clock.time())
            return history.publications == 0

        await eventually(let_go)
        await first.log.catch_up()  # a marker: it tells the second worker how old the publications are
    async with Worker(*section, name="second", rules=[rule]) as second:
        await second.ready()
        found = second.node.rules.find("a")
        assert found is not None
        assert second.node.history.publications == 0, "no payload is kept"
        assert second.node.history.verdict("a", found, Position(last, epoch)) is Verdict.RECOVERED
        assert second.node.history.verdict("a", found, Position(missed, epoch)) is Verdict.TRIMMED


async def test_all_workers_drop_the_same_repeats_also_one_that_starts_later(new_worker: NewWorker) -> None:
    """F-B18."""
    async with new_worker() as first:
        await first.ready()
        offsets = [await first.publish("a", b"%d" % n, message_id=f"id-{n % 3}") for n in range(9)]
        assert len(set(offsets)) == 3, "a repeat is answered with the first one's offset"
        async with new_worker() as late:
            await late.ready()
            for worker in (first, late):
                assert [p.offset for p in worker.node.history.after("a", 0, 0)] == offsets[:3]


async def test_bad_records_are_never_taken_and_copied_once_with_their_reason(
    new_worker: NewWorker, section: Sections, publisher: AbstractChannel
) -> None:
    """F-B15, F-B16, F-B17."""
    async with new_worker() as one, new_worker() as two:
        await one.ready()
        await two.ready()
        await send(publisher, section[0], "a", b"not json", message_id="bad-1")
        await send(publisher, section[0], "a", b'"\xff"', message_id="bad-2")
        await send(publisher, section[0], "bad channel", b"1", message_id="bad-3")
        await send(publisher, section[0], "a", b'"' + b"x" * 70_000 + b'"', message_id="bad-4")
        await send(publisher, section[0], "$notifier.marker", b"forged", message_id="bad-5")
        await send(publisher, section[0], "a", b"1", expiration=5, headers={"channels": 7}, message_id="bad-6")
        await send(publisher, section[0], "a", b'"good"')
        for worker in (one, two):
            await eventually(lambda worker=worker: worker.bodies("a") == [b'"good"'])  # type: ignore[misc]
            assert worker.node.stats.rejected == {
                "not_json": 1, "not_utf8": 1, "bad_channel": 1, "too_large": 1, "bad_marker": 1, "bad_header": 1
            }  # fmt: skip
        queue = await publisher.get_queue(section[0].rejected, ensure=False)
        copies = []
        for _ in range(6):
            message = await next_of(queue)
            copies.append((message.message_id, message.headers["x-rejected-reason"], message.body[:8]))
        assert [copy[0] for copy in copies] == [f"bad-{n}" for n in range(1, 7)]
        assert copies[0] == ("bad-1", "not_json", b"not json")
        await eventually(lambda: one.log._rejects.copied == two.log._rejects.copied > 0)
    async with new_worker() as later:
        await later.ready()
        await send(publisher, section[0], "a", b"bad again", message_id="bad-7")
        message = await next_of(queue)
        assert message.message_id == "bad-7", "nothing is copied a second time by a worker that starts later"


async def test_a_publisher_that_errs_again_and_again_does_not_fill_the_log(
    new_worker: NewWorker, section: Sections, publisher: AbstractChannel, caplog: pytest.LogCaptureFixture
) -> None:
    """S41. Each has its copy and is counted; a line has the message's id."""
    async with new_worker() as worker:
        await worker.ready()
        for number in range(3 * LINES_AT_ONCE):
            await send(publisher, section[0], "a", b"not json", message_id=f"bad-{number}")
        await send(publisher, section[0], "a", b'"\xff"', message_id="other-1")
        await eventually(lambda: worker.log._rejects.copied > 3 * LINES_AT_ONCE)
        queue = await publisher.get_queue(section[0].rejected, ensure=False)
        for _ in range(3 * LINES_AT_ONCE + 1):
            await next_of(queue)
    lines = [vars(record) for record in caplog.records if "was rejected" in record.getMessage()]
    assert [line["message_id"] for line in lines[:2]] == ["bad-0", "bad-1"]
    assert LINES_AT_ONCE < len(lines) < 2 * LINES_AT_ONCE
    assert lines[-1]["message_id"] == "other-1"


async def test_when_the_broker_is_killed_under_load_nothing_that_was_confirmed_is_lost_or_doubled(
    new_worker: NewWorker, section: Sections, broker: Broker
) -> None:
    """F-B1."""
    async with new_worker() as one, new_worker() as two:
        await one.ready()
        await two.ready()
        epoch = one.node.history.epoch
        confirmed: list[bytes] = []
        stop = asyncio.Event()

        async def publish() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                body = b"%d" % number
                with contextlib.suppress(Unavailable):
                    await one.publish("a", body)
                    confirmed.append(body)
                await asyncio.sleep(0)

        task = asyncio.create_task(publish())
        await eventually(lambda: len(confirmed) > 100)
        await asyncio.to_thread(broker.kill)
        await eventually(lambda: one.log.problem and two.log.problem)
        assert one.log.ready, "an outage makes no worker forget what it knows"
        await asyncio.to_thread(broker.start)
        before = len(confirmed)
        await eventually(lambda: len(confirmed) > before + 100, 30 * SECOND)
        stop.set()
        await task
        for worker in (one, two):
            await eventually(lambda worker=worker: set(confirmed) <= set(worker.bodies("a")))  # type: ignore[misc, arg-type]
            assert worker.begun == 1, "reading went on where it had stopped"
            assert worker.node.history.epoch == epoch
            numbers = [int(body) for body in worker.bodies("a")]
            assert numbers == sorted(set(numbers))
        assert one.node.stats.reconnects.total() > 0
        await eventually(lambda: not one.log.problem and not two.log.problem)


async def test_connections_that_are_closed_again_and_again_change_nothing(
    new_worker: NewWorker, broker: Broker
) -> None:
    """F-B13."""
    async with new_worker() as worker:
        await worker.ready()
        for round_ in range(3):
            await worker.publish("a", b"%d" % round_)
            await asyncio.to_thread(broker.ctl, "close_all_connections", "again")
            await eventually(lambda: worker.log.problem)
            await worker.ready()
        assert worker.bodies("a") == [b"0", b"1", b"2"]
        assert worker.begun == 1


async def test_a_broker_that_is_too_slow_to_show_what_was_read_last_has_not_lost_it(
    new_worker: NewWorker, publisher: AbstractChannel, section: Sections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients would be told that they cannot recover."""
    look_up, asked = Tail._first_at, []

    async def look_up_late(tail: Tail, *args: Any) -> Any:
        asked.append(args)
        if len(asked) == 1:
            await asyncio.sleep(600)
        return await look_up(tail, *args)

    async with new_worker() as worker:
        await worker.ready()
        await worker.publish("a", b"1")
        monkeypatch.setattr(Tail, "_first_at", look_up_late)
        worker.log._tail.give_up("test")
        await eventually(lambda: len(asked) >= 2, 30 * SECOND)
        await worker.ready()
        await worker.publish("a", b"2")
        assert (worker.bodies("a"), worker.begun, worker.node.stats.log_reset) == ([b"1", b"2"], 1, 0)


async def test_a_connection_that_has_fallen_silent_is_made_again_and_ends_nobody_who_waits_on_it(
    broker: Broker, name: str, how: dict[str, Any]
) -> None:
    """F-B4."""
    async with TcpProxy(LOCALHOST, broker.port) as way:
        changes = {"heartbeat": Duration(1), "append_timeout": Duration(20 * SECOND)}
        async with Worker(*sections(broker.url_at(way.port), name, **how, **changes)) as worker:
            await worker.ready()
            way.freeze()
            publishing = asyncio.create_task(worker.publish("a", b"1"))
            await asyncio.wait({publishing}, timeout=15 * SECOND)
            assert publishing.done()
            assert not publishing.cancelled(), "nobody cancelled it"
            assert isinstance(publishing.exception(), Unavailable)
            await eventually(lambda: worker.log._publishing.problem)
            way.heal()
            await worker.ready()
            await worker.publish("a", b"2")


async def test_a_consumer_that_gets_nothing_any_more_is_replaced(new_worker: NewWorker) -> None:
    async with new_worker() as worker:
        await worker.ready()
        await worker.publish("a", b"1")
        worker.log._tail._held = []  # whatever comes now stays there
        await eventually(lambda: "confirmed markers do not come back" in worker.log.problem)
        await worker.ready()
        await worker.publish("a", b"2")
        assert (worker.bodies("a"), worker.begun) == ([b"1", b"2"], 1)
        assert worker.node.stats.reconnects == {"reading": 1}


async def test_a_stream_that_was_deleted_is_made_anew_with_another_epoch(
    new_worker: NewWorker, section: Sections, publisher: AbstractChannel
) -> None:
    """F-B10."""
    async with new_worker() as one, new_worker() as two:
        await one.ready()
        await two.ready()
        epoch = one.node.history.epoch
        for n in range(600):  # markers alone would need longer than this test to get there again
            await one.publish("a", b"%d" % n)
        await publisher.queue_delete(section[0].stream)
        for worker in (one, two):
            await eventually(lambda worker=worker: worker.begun == 2 and worker.log.ready, 60 * SECOND)  # type: ignore[misc]
            assert worker.node.history.epoch not in ("", epoch)
            assert worker.node.stats.log_reset == 1
            rule = worker.node.rules.find("a")
            assert rule is not None
            assert worker.node.history.verdict("a", rule, Position(3, epoch)) is Verdict.OTHER_EPOCH
        assert one.node.history.epoch == two.node.history.epoch
        await one.ready()
        offset = await one.publish("a", b'"after"')
        await eventually(lambda: (offset, "a", b'"after"') in two.taken)


async def test_a_stream_made_anew_while_a_worker_was_cut_off_is_never_taken_for_the_old_one(
    new_worker: NewWorker, section: Sections, broker: Broker
) -> None:
    """Even when it has grown past the place where the worker had stopped."""
    async with new_worker() as worker:
        await worker.ready()
        for n in range(5):
            await worker.publish("a", b"%d" % n)
        epoch, end = worker.node.history.epoch, worker.node.history.end
        worker.log._reading._section = sections(f"amqp://127.0.0.1:{free_port()}", "nowhere")[0]
        await asyncio.to_thread(broker.ctl, "close_all_connections", "cut")
        await eventually(lambda: "reading" in worker.log.problem)
        connection = await aio_pika.connect(broker.url)
        channel = await connection.channel()
        await channel.queue_delete(section[0].stream)
        await eventually(lambda: worker.log._publishing.problem == "")
        await asyncio.to_thread(broker.ctl, "close_all_connections", "declare it again")
        await eventually(lambda: worker.log._publishing.problem != "")
        await eventually(lambda: worker.log._publishing.problem == "", 30 * SECOND)
        connection = await aio_pika.connect(broker.url)
        channel = await connection.channel()
        for n in range(2 * end):
            await send(channel, section[0], "a", b'"new %d"' % n)
        await connection.close()
        worker.log._reading._section = section[0]
        await eventually(lambda: len(worker.bodies("a")) == 2 * end and worker.log.ready, 60 * SECOND)
        assert worker.begun == 2
        assert worker.node.history.epoch != epoch


async def test_records_that_retention_took_before_they_were_read_make_a_hole_that_is_told(
    section: Sections, broker: Broker, name: str, how: dict[str, Any], publisher: AbstractChannel
) -> None:
    rabbitmq, log = sections(broker.url, name, **how, declare=False)
    exchange = await publisher.declare_exchange(rabbitmq.exchange, "topic", durable=True)
    stream = await publisher.declare_queue(
        rabbitmq.stream,
        durable=True,
        arguments={
            "x-queue-type": "stream", "x-max-length-bytes": 200_000, "x-stream-max-segment-size-bytes": 100_000
        },
    )  # fmt: skip
    await stream.bind(exchange, "#")
    await publisher.declare_queue(rabbitmq.rejected, durable=True)
    async with Worker(rabbitmq, log) as worker:
        await worker.ready()
        await worker.publish("a", b"1")
        position = worker.node.history.end
        worker.log._reading._section = sections(f"amqp://127.0.0.1:{free_port()}", "nowhere")[0]
        await asyncio.to_thread(broker.ctl, "close_all_connections", "cut")
        await eventually(lambda: "reading" in worker.log.problem)
        connection = await aio_pika.connect(broker.url)
        channel = await connection.channel()
        for n in range(60):
            await send(channel, rabbitmq, "b", b'"%d %s"' % (n, b"x" * 30_000))
        await connection.close()
        worker.log._reading._section = rabbitmq
        await eventually(lambda: worker.begun == 2 and worker.log.ready, 60 * SECOND)
        assert worker.node.stats.log_holes == 1
        rule = worker.node.rules.find("a")
        assert rule is not None
        verdict = worker.node.history.verdict("a", rule, Position(position, worker.node.history.epoch))
        assert verdict is Verdict.NOT_KNOWN


async def test_places_that_the_broker_keeps_for_itself_are_no_holes(
    broker: Broker, name: str, how: dict[str, Any], publisher: AbstractChannel
) -> None:
    """RabbitMQ writes notes of its own at the beginning of each segment; they take a place."""
    rabbitmq, log = sections(broker.url, name, **how, declare=False)
    exchange = await publisher.declare_exchange(rabbitmq.exchange, "topic", durable=True)
    stream = await publisher.declare_queue(
        rabbitmq.stream,
        durable=True,
        arguments={"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 100_000},
    )
    await stream.bind(exchange, "#")
    await publisher.declare_queue(rabbitmq.rejected, durable=True)
    async with Worker(rabbitmq, log) as worker:
        await worker.ready()
        offsets = [await worker.publish("a", b'"%d %s"' % (n, b"x" * 30_000)) for n in range(30)]
        assert [offset for offset, channel, _ in worker.taken if channel == "a"] == offsets
        assert worker.begun == 1
        assert worker.node.stats.log_holes == 0
        assert worker.node.stats.reconnects.total() == 0


async def test_a_missing_broker_at_the_start_is_said_and_waited_for(new_worker: NewWorker, broker: Broker) -> None:
    await asyncio.to_thread(broker.kill)
    async with new_worker() as worker:
        await eventually(lambda: "refused the connection" in worker.log.problem)
        assert not worker.log.ready
        with pytest.raises(Unavailable):
            await worker.publish("a", b"1")
        await asyncio.to_thread(broker.start)
        await worker.ready()
        await worker.publish("a", b"1")


async def test_wrong_credentials_are_said_without_showing_them(
    broker: Broker, name: str, how: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """F-B12."""
    caplog.set_level(logging.DEBUG)
    rabbitmq, log = sections(broker.url_at(broker.port, "guest", "s3cret-pass"), name, **how)
    async with Worker(rabbitmq, log) as worker:
        await eventually(lambda: "credentials" in worker.log.problem)
    assert "s3cret-pass" not in caplog.text
    assert "s3cret-pass" not in repr(rabbitmq)


async def test_a_broker_that_declared_things_differently_is_said(
    section: Sections, publisher: AbstractChannel, new_worker: NewWorker
) -> None:
    await publisher.declare_exchange(section[0].exchange, "fanout", durable=True)
    async with new_worker() as worker:
        await eventually(lambda: "declared differently" in worker.log.problem)


async def test_what_is_missing_is_said_where_nothing_may_be_declared(
    broker: Broker, name: str, how: dict[str, Any]
) -> None:
    async with Worker(*sections(broker.url, name, **how, declare=False)) as worker:
        await eventually(lambda: "missing on the broker" in worker.log.problem)


async def test_a_binding_that_is_gone_is_noticed_and_made_again(
    new_worker: NewWorker, section: Sections, publisher: AbstractChannel
) -> None:
    """F-B11."""
    async with new_worker() as worker:
        await worker.ready()
        queue = await publisher.get_queue(section[0].stream, ensure=False)
        await queue.unbind(section[0].exchange, "#")
        await eventually(lambda: "no binding" in worker.log.problem)
        await worker.ready()
        await worker.publish("a", b"1")


MEMORY, DISK = "set_vm_memory_high_watermark absolute", "set_disk_free_limit"


async def test_an_exchange_that_is_gone_is_made_again_and_reading_does_not_notice(
    new_worker: NewWorker, section: Sections, publisher: AbstractChannel
) -> None:
    """F-B11, F-B23: publishing to it is an error of its channel."""
    async with new_worker() as worker:
        await worker.ready()
        await worker.publish("a", b"1")
        await publisher.exchange_delete(section[0].exchange)
        with pytest.raises(Unavailable):
            await worker.publish("a", b"2")

        async def published() -> bool:
            return await worker.publish("a", b"3") > 0

        await eventually(published, 30 * SECOND, retry=(Unavailable,))
        assert (worker.bodies("a"), worker.begun) == ([b"1", b"3"], 1)


@pytest.mark.parametrize(
    ("limit", "alarming", "usual"),
    [pytest.param(MEMORY, "1024", "2147483648", id="F-B7"), pytest.param(DISK, "999GB", "1MB", id="F-B8")],
)
async def test_while_the_broker_holds_publishers_back_reading_goes_on_and_it_is_said(
    new_worker: NewWorker, broker: Broker, limit: str, alarming: str, usual: str
) -> None:
    """F-B7, F-B8 and F-B9: alarms of memory and disk, and the gauge."""
    async with new_worker() as worker:
        await worker.ready()
        await asyncio.to_thread(broker.ctl, *limit.split(), alarming)
        try:
            await eventually(lambda: worker.log.blocked, 30 * SECOND)
            assert "holds publishers back" in worker.log.problem
            with pytest.raises(Unavailable):
                await worker.publish("a", b"1")
            assert worker.log._reading.problem == ""
        finally:
            await asyncio.to_thread(broker.ctl, *limit.split(), usual)
        await worker.ready()
        assert not worker.log.blocked
        await worker.publish("a", b"2")


async def test_a_frozen_broker_makes_an_unknown_outcome_and_never_a_success(
    new_worker: NewWorker, broker: Broker
) -> None:
    """F-B6."""
    async with new_worker() as worker:
        await worker.ready()
        broker.freeze()
        try:
            with pytest.raises(Unavailable, match="may still appear"):
                await worker.publish("a", b"1")
        finally:
            broker.thaw()
        await worker.ready()
        await worker.publish("a", b"2")
        assert worker.bodies("a")[-1] == b"2"
        assert worker.log._appends == {} or len(worker.log._appends) < 5


async def test_what_is_sent_again_because_its_confirm_was_lost_comes_once(
    new_worker: NewWorker, section: Sections, broker: Broker, publisher: AbstractChannel
) -> None:
    """F-B22."""
    async with new_worker() as worker, TcpProxy(LOCALHOST, broker.port) as way:
        await worker.ready()
        connection = await aio_pika.connect(broker.url_at(way.port))
        channel = await connection.channel()
        await channel.get_exchange(section[0].exchange)
        way.freeze(Way.S2C)
        sending = asyncio.create_task(send(channel, section[0], "a", b"1", message_id="id-1"))
        await eventually(lambda: worker.bodies("a") == [b"1"])
        assert not sending.done(), "it cannot know"
        sending.cancel()
        await send(publisher, section[0], "a", b"1", message_id="id-1")
        await send(publisher, section[0], "a", b"2")
        await eventually(lambda: b"2" in worker.bodies("a"))
        assert [one.data for one in worker.node.history.page("a", None, 10, 0, reverse=False)] == [b"1", b"2"]
        await way.reset()
        await asyncio.gather(sending, return_exceptions=True)
        with contextlib.suppress(Exception):
            await connection.close()


async def test_a_worker_ahead_of_another_is_caught_up_with(new_worker: NewWorker) -> None:
    async with new_worker() as one, new_worker() as two:
        await one.ready()
        await two.ready()
        offset = await one.publish("a", b"1")
        rule = two.node.rules.find("a")
        assert rule is not None
        position = Position(offset, one.node.history.epoch)
        assert await two.node.judge(Target("a", rule, two.node.rules), position) is Verdict.RECOVERED
        far = Position(offset + 1000, one.node.history.epoch)
        assert await two.node.judge(Target("a", rule, two.node.rules), far) is Verdict.AHEAD


async def test_many_who_wait_at_once_share_their_markers(new_worker: NewWorker) -> None:
    async with new_worker() as worker:
        await worker.ready()
        before = worker.node.history.end
        await asyncio.gather(*(worker.log.catch_up() for _ in range(200)))
        assert worker.node.history.end - before < 10


async def test_the_epoch_stays_when_no_marker_is_as_young_as_the_window(
    broker: Broker, name: str, how: dict[str, Any], publisher: AbstractChannel
) -> None:
    """All workers were down for longer than a starting one reads back, and backends went on publishing."""
    rabbitmq, log = sections(broker.url, name, **how, known_for=Duration(1), repeat_window=5)
    async with Worker(rabbitmq, log) as first:
        await first.ready()
        await first.publish("a", b"1")
        epoch = first.node.history.epoch
    await asyncio.sleep(1.5)  # the window's length itself, in real time: the broker's chunks carry its own clock
    for n in range(50):
        await send(publisher, rabbitmq, "a", b"%d" % n)
    async with Worker(rabbitmq, log) as second:
        await second.ready()
        assert second.node.history.epoch == epoch


async def test_what_is_in_the_log_before_any_worker_came_is_history_too(
    broker: Broker, name: str, section: Sections, publisher: AbstractChannel, new_worker: NewWorker
) -> None:
    exchange = await publisher.declare_exchange(section[0].exchange, "topic", durable=True)
    arguments: dict[str, Any] = {
        "x-queue-type": "stream",
        "x-max-age": f"{int(section[0].max_age)}s",
        "x-max-length-bytes": int(section[0].max_bytes),
    }
    stream = await publisher.declare_queue(section[0].stream, durable=True, arguments=arguments)
    await stream.bind(exchange, "#")
    await send(publisher, section[0], "a", b'"early"')
    async with new_worker() as worker:
        await worker.ready()
        assert worker.bodies("a") == [b'"early"']
        assert worker.node.history.known_from == 0


async def test_the_url_is_a_secret_everywhere(section: Sections) -> None:
    assert isinstance(section[0].url, Secret)
    assert "guest" not in repr(section[0])
