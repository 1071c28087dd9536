"""Workers that speak with each other over a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial

import aio_pika
import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel

from notifier.cluster import bus
from notifier.config import Duration, RabbitMQ, Secret
from notifier.core.control import Control
from notifier.errors import Rejected, Unavailable
from notifier.telemetry.describe import describe
from notifier.testing import make_node
from tests.integration.cluster.conftest import NewMember
from tests.integration.cluster.member import Member, gather
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ as Broker


@pytest.fixture
async def three(new_member: NewMember) -> list[Member]:
    """They know each other."""
    members = [new_member() for _ in range(3)]
    await gather(members)
    return members


# --- telling and asking -----------------------------------------------------------------------------------------------


async def test_what_is_told_reaches_all_others_in_its_order(three: list[Member]) -> None:
    first, second, third = three
    for n in range(20):
        await first.bus.tell(b"%d" % n)
    await second.bus.tell(b"x")
    expected = [b"%d" % n for n in range(20)]
    await eventually(lambda: sorted(third.heard) == sorted([*expected, b"x"]))
    await eventually(lambda: second.heard == expected)
    assert first.heard == [b"x"]
    assert [message for message in third.heard if message != b"x"] == expected


async def test_all_others_answer_what_is_asked_and_each_asker_gets_its_own_answers(three: list[Member]) -> None:
    first, second, third = three
    answers = await asyncio.gather(first.bus.ask(b"1"), first.bus.ask(b"2"), third.bus.ask(b"3"))
    assert [sorted(each) for each in answers] == [
        [b"member-1: 1", b"member-2: 1"],
        [b"member-1: 2", b"member-2: 2"],
        [b"member-0: 3", b"member-1: 3"],
    ]
    assert sorted(second.heard) == [b"1", b"2", b"3"]


async def test_who_is_alone_has_nobody_to_wait_for(new_member: NewMember) -> None:
    member = await new_member().start().ready()
    started = time.monotonic()
    await member.bus.tell(b"1")
    assert await member.bus.ask(b"2") == []
    assert time.monotonic() - started < bus.ANSWER_WITHIN_S
    assert member.heard == []


async def test_a_large_message_arrives_whole(three: list[Member]) -> None:
    """Larger than a frame of the broker's."""
    first, second, _ = three
    await first.bus.tell(b"x" * 500_000)
    await eventually(lambda: second.heard == [b"x" * 500_000])


async def test_what_is_said_reaches_those_who_are_there_without_waiting(three: list[Member]) -> None:
    first, second, third = three
    for n in range(5):
        first.bus.say(b"%d" % n)
    assert second.heard == []
    await eventually(lambda: second.heard == third.heard == [b"0", b"1", b"2", b"3", b"4"])


async def test_what_is_said_faster_than_it_can_be_sent_is_bounded_and_counted(
    three: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = three
    monkeypatch.setattr(first.bus, "_unsaid", asyncio.Queue(2))
    for n in range(5):
        first.bus.say(b"%d" % n)
    assert first.stats.rejected["too_many_control"] == 3
    assert second.heard == []


# --- who is there -----------------------------------------------------------------------------------------------------


async def test_a_silent_worker_is_left_out_after_a_second_and_comes_back_when_it_speaks(three: list[Member]) -> None:
    first, second, third = three
    stuck = asyncio.Event()

    async def wait(_message: bytes) -> bytes:
        await stuck.wait()
        return b"late"

    third.bus.on_message = wait
    started = time.monotonic()
    assert await first.bus.ask(b"1") == [b"member-1: 1"]
    assert bus.ANSWER_WITHIN_S * 0.9 < time.monotonic() - started < bus.ANSWER_WITHIN_S + 2 * SECOND
    assert first.bus.others == ["member-1"]
    assert second.bus.knows("member-2")
    third.bus.on_message = third._answer
    await first.knows(second, third)
    assert sorted(await first.bus.ask(b"2")) == [b"member-1: 2", b"member-2: 2"]
    stuck.set()


async def test_who_says_good_bye_is_not_waited_for(three: list[Member]) -> None:
    first, second, third = three
    await third.bus.leave()
    await first.knows(second)
    started = time.monotonic()
    assert await first.bus.ask(b"1") == [b"member-1: 1"]
    assert time.monotonic() - started < bus.ANSWER_WITHIN_S


async def test_who_is_gone_without_a_word_is_forgotten(new_member: NewMember, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "HELLO_EVERY_S", 0.1)
    monkeypatch.setattr(bus, "FORGOTTEN_AFTER_S", 1.0)
    first, second = members = [new_member(), new_member()]
    await gather(members)
    await second.stop()
    await first.knows()
    await eventually(lambda: not first.bus._seen)
    assert await first.bus.ask(b"1") == []


async def test_a_newcomer_is_known_at_once_and_knows_the_others(three: list[Member], new_member: NewMember) -> None:
    newcomer = new_member().start()
    await newcomer.knows(*three)
    for member in three:
        assert member.bus.knows(newcomer.name)
    assert len(await newcomer.bus.ask(b"1")) == 3


# --- the broker away --------------------------------------------------------------------------------------------------


async def lost(member: Member) -> None:
    await eventually(lambda: bool(member.connection.problem), 60 * SECOND)


async def test_a_broker_that_was_killed_is_found_again(private_rabbitmq: Broker, new_member: NewMember) -> None:
    section = RabbitMQ(url=Secret(private_rabbitmq.url), control="killed", connect_timeout=Duration(3 * SECOND))
    first, second = members = [new_member(section), new_member(section)]
    await gather(members)
    private_rabbitmq.kill()
    await lost(first)
    await lost(second)
    with pytest.raises(Unavailable):
        await first.bus.tell(b"never")
    with pytest.raises(Unavailable):
        await first.bus.ask(b"never")
    first.bus.say(b"never")
    assert first.bus.others == []
    private_rabbitmq.start()
    await gather_again(members)
    assert await first.bus.ask(b"1") == [b"member-1: 1"]
    assert second.heard == [b"1"]


async def gather_again(members: list[Member]) -> None:
    first, second = members
    await first.knows(second)
    await second.knows(first)


async def test_a_broker_that_hangs_is_an_error_within_a_second_and_nothing_stays_broken(
    private_rabbitmq: Broker, new_member: NewMember
) -> None:
    section = RabbitMQ(url=Secret(private_rabbitmq.url), control="frozen", connect_timeout=Duration(3 * SECOND))
    first, second = members = [new_member(section), new_member(section)]
    await gather(members)
    private_rabbitmq.freeze()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await first.bus.tell(b"never")
    assert time.monotonic() - started < bus.ANSWER_WITHIN_S + 10 * SECOND  # the broker's own deadline is longer
    await lost(first)
    await lost(second)
    private_rabbitmq.thaw()
    await gather_again(members)

    async def answered() -> bool:
        return await second.bus.ask(b"1") == [b"member-0: 1"]

    await eventually(answered, 30 * SECOND, retry=(Unavailable,))


# --- the exchange -----------------------------------------------------------------------------------------------------


async def test_clusters_with_exchanges_of_their_own_do_not_hear_each_other(
    section: RabbitMQ, new_member: NewMember, three: list[Member]
) -> None:
    elsewhere = RabbitMQ(url=section.url, control=section.control + "-other")
    stranger = await new_member(elsewhere).start().ready()
    await three[0].bus.tell(b"1")
    await eventually(lambda: three[1].heard == [b"1"])
    assert stranger.heard == []
    assert stranger.bus.others == []
    assert not three[0].bus.knows(stranger.name)


async def test_an_exchange_of_another_kind_is_told_and_the_other_parts_work(
    section: RabbitMQ, outsider: AbstractChannel, new_member: NewMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.cluster.connection.REFUSED_DELAY_S", 0.2)
    await outsider.declare_exchange(section.control, ExchangeType.TOPIC, durable=True)
    member = new_member().start()
    await eventually(lambda: "type" in member.connection.problem)
    await eventually(lambda: member.backends.ready)
    with pytest.raises(Unavailable):
        await member.bus.tell(b"1")
    await outsider.exchange_delete(section.control)
    await member.ready()
    await member.bus.tell(b"1")


async def test_an_exchange_may_be_declared_by_somebody_else(
    section: RabbitMQ, outsider: AbstractChannel, broker: Broker
) -> None:
    member = Member(section, "careful")
    member.bus._declare = False
    member.start()
    try:
        await eventually(lambda: section.control in member.connection.problem)
        await outsider.declare_exchange(section.control, ExchangeType.FANOUT, durable=True)
        await member.ready()
    finally:
        await member.stop()


# --- messages of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        Message(b"{}"),
        Message(b"{}", type="tell"),
        Message(b"{}", app_id="x"),
        Message(b"{}", app_id="x", type="shout"),
        Message(b"\xff\x00", app_id="x", type="tell"),
        Message(b"", app_id="x", type="ask"),
        Message(b'{"type":"end","whom":5}', app_id="x", type="tell", reply_to="nowhere"),
        Message(b'{"type":"join","whom":{},"channel":"a b"}', app_id="x", type="tell"),
        Message(b"[" * 100_000, app_id="x", type="ask", correlation_id="1", reply_to="nowhere"),
    ],
)
async def test_garbage_is_counted_and_harms_nobody(
    message: Message, section: RabbitMQ, outsider: AbstractChannel, new_member: NewMember
) -> None:
    first, second = members = [new_member(), new_member()]
    for member in members:
        node = make_node()
        node.control = Control(node, member.bus, partial(describe, node))
    await gather(members)
    exchange = await outsider.get_exchange(section.control)
    await exchange.publish(message, "")
    await eventually(lambda: first.stats.rejected["bad_control"] == second.stats.rejected["bad_control"] == 1)
    assert len(await first.bus.ask(json.dumps({"type": "describe"}).encode())) == 1
    assert not first.connection.problem


async def test_answers_that_nobody_asked_for_are_ignored(
    section: RabbitMQ, outsider: AbstractChannel, three: list[Member]
) -> None:
    first, *_ = three
    exchange = await outsider.get_exchange(section.control)
    await exchange.publish(Message(b"lie", app_id="member-1", type="answer", correlation_id="1"), "")
    assert sorted(await first.bus.ask(b"1")) == [b"member-1: 1", b"member-2: 1"]


async def test_made_up_workers_are_bounded_and_forgotten(
    section: RabbitMQ, outsider: AbstractChannel, new_member: NewMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "MAX_OTHERS", 5)
    monkeypatch.setattr(bus, "HELLO_EVERY_S", 0.1)
    member = await new_member().start().ready()
    exchange = await outsider.get_exchange(section.control)
    for n in range(20):
        await exchange.publish(Message(b"", app_id=f"ghost-{n}", type="hello"), "")
    await eventually(lambda: member.stats.rejected["bad_control"] >= 15)
    assert len(member.bus._seen) == 5
    monkeypatch.setattr(bus, "FORGOTTEN_AFTER_S", 0.5)
    await eventually(lambda: not member.bus._seen)


async def test_what_comes_faster_than_it_is_handled_is_counted(
    three: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "MAX_AT_ONCE", 2)
    first, second, _ = three
    go = asyncio.Event()

    async def wait(message: bytes) -> bytes:
        second.heard.append(message)
        await go.wait()
        return b""

    second.bus.on_message = wait
    for n in range(5):
        await first.bus.tell(b"%d" % n)
    await eventually(lambda: second.stats.rejected["too_many_control"] == 3)
    go.set()
    assert second.heard == [b"0", b"1"]


async def test_what_goes_wrong_with_one_message_does_not_end_the_others(
    three: list[Member], caplog: pytest.LogCaptureFixture
) -> None:
    first, second, _ = three

    async def fail(message: bytes) -> bytes:
        second.heard.append(message)
        raise Rejected("bad_control", "no") if message == b"1" else RuntimeError("a fault")

    second.bus.on_message = fail
    for message in (b"1", b"2", b"3"):
        await first.bus.tell(message)
    await eventually(lambda: second.heard == [b"1", b"2", b"3"])
    assert second.stats.rejected["bad_control"] == 1
    assert caplog.text.count("could not be handled") == 2


async def test_workers_leave_nothing_on_the_broker_but_the_exchange(section: RabbitMQ, three: list[Member]) -> None:
    queues = [member.bus._queue for member in three]
    assert all(queue.startswith("amq.gen-") for queue in queues)
    for member in three:
        await member.stop()
    connection = await aio_pika.connect(str.__str__(section.url))
    for queue in queues:
        channel = await connection.channel()
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.get_queue(queue)
    await connection.close()
