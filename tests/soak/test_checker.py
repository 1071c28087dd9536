"""The checker accepts what keeps the promise, and rejects what does not, for the right reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.soak.checker import Verdict, check
from tests.soak.histories import EPOCHS, SETTINGS, World, deliveries
from tests.soak.journal import (
    Answered,
    AtRest,
    Closed,
    Complaint,
    Delivered,
    Event,
    FaultBegun,
    Gauges,
    Lag,
    Placed,
    Presence,
    Record,
    Refused,
    Sent,
    Subscribed,
    Unsubscribed,
)

WIDE, SMALL, TINY, SHORT = "wide.0", "small.2", "tiny.3", "short.1"


def judged(events: Sequence[Event]) -> Verdict:
    return check(SETTINGS, lambda: events)


def kinds(events: Sequence[Event]) -> set[str]:
    return set(judged(events).counts)


def day() -> World:
    """Two clients, one of which is away for a while; a publication on two channels; a repeat; a lost confirm."""
    world = World()
    world.come("steady-1", WIDE, TINY)
    world.come("flapping-2", WIDE, TINY)
    for _ in range(3):
        world.publish(WIDE)
    first = world.publish(WIDE, TINY)
    world.leave("flapping-2")
    world.publish(TINY, publisher="p2", outcome="unknown")
    world.publish(WIDE, outcome="no", lands=False)
    world.send(first, [WIDE, TINY])
    world.publish(WIDE)
    world.come("flapping-2")
    world.publish(WIDE)
    return world


# --- valid histories ------------------------------------------------------------------------------------------------


def test_an_ordinary_day_is_accepted_and_counted() -> None:
    verdict = judged(day().finish())
    assert verdict.counts == {}
    assert verdict.seen["pairs"] == verdict.seen["deliveries"] == 16
    assert verdict.seen["recoveries"] == 2
    assert verdict.seen["repeats"] == 2
    assert verdict.seen["unknown"] == 1


@pytest.mark.parametrize(
    ("channel", "missed", "away_s", "cause"),
    [
        (TINY, 5, 1, "more were missed than the history's size"),
        (SHORT, 1, 9, "what was missed is older than the history's ttl"),
    ],
)
def test_a_break_with_a_reason_is_accepted_and_the_reason_is_told(
    channel: str, missed: int, away_s: float, cause: str
) -> None:
    world = World()
    world.come("sleeping-1", channel)
    world.leave("sleeping-1")
    for _ in range(missed):
        world.publish(channel)
    world.wait(away_s)
    verdict = judged(world.finish())
    assert verdict.counts == {}
    assert verdict.causes == {cause: 1}


def test_a_deleted_stream_breaks_every_chain_rightly() -> None:
    world = day()
    world.delete_stream()
    world.publish(WIDE)
    world.come("steady-1")
    world.publish(WIDE)
    verdict = judged(world.finish())
    assert verdict.counts == {}
    assert verdict.causes == {"the stream was deleted": 4}


def test_what_was_confirmed_while_the_stream_was_deleted_may_be_lost() -> None:
    world = World()
    since = world.now
    world.delete_stream()
    world.events.insert(1, Sent(since - 0.1, "p9/wide.0/1", [WIDE], 1, "amqp"))
    world.events.insert(2, Answered(since + 0.001, "p9/wide.0/1", 1, "ok"))
    assert kinds(world.finish()) == set()


def test_a_node_that_has_started_since_may_know_too_little() -> None:
    world = World()
    world.come("sleeping-1", WIDE)
    world.leave("sleeping-1")
    world.publish(WIDE)
    world.wait(SETTINGS.size.known_for_s + 5)
    world.fault("node.kill")
    events = world.finish()
    place = next(place for place, event in enumerate(events) if isinstance(event, Subscribed) and event.recovered)
    events[place] = replace(events[place], recovered=False, count=0, offset=world.end)
    del events[place + 1]
    assert judged(events).causes == {"older than a node knew that had started since": 1}
    without = [event for event in events if not isinstance(event, FaultBegun)]
    without = [event for event in without if type(event).__name__ not in ("FaultSeen", "FaultEnded")]
    assert kinds(without) == {"unjustified break"}


def test_a_streams_position_moves_all_its_channels() -> None:
    world = World()
    world.come("sse-1", WIDE, TINY)
    world.publish(WIDE)
    world.place("sse-1")
    world.publish(TINY)
    assert kinds(world.finish()) == set()


# --- histories with a defect ----------------------------------------------------------------------------------------

Defect = Callable[[list[Event]], None]


def nth(events: list[Event], kind: type[Event], number: int = 0) -> int:
    return [place for place, event in enumerate(events) if type(event) is kind][number]


def change(kind: type[Event], number: int = 0, **fields: object) -> Defect:
    def defect(events: list[Event]) -> None:
        place = nth(events, kind, number)
        events[place] = replace(events[place], **fields)

    return defect


def drop(kind: type[Event], number: int = 0) -> Defect:
    def defect(events: list[Event]) -> None:
        del events[nth(events, kind, number)]

    return defect


def add(event: Event) -> Defect:
    def defect(events: list[Event]) -> None:
        events.append(event)

    return defect


DEFECTS: list[tuple[str, Defect]] = [
    ("gap", drop(Delivered, 4)),
    ("gap", drop(Delivered, -1)),
    ("gap", lambda events: events.insert(nth(events, Delivered, 2), Placed(100.5, "steady-1", EPOCHS[0], 30))),
    ("duplicate", lambda events: events.insert(nth(events, Delivered, 6), events[nth(events, Delivered, 4)])),
    ("two truths", change(Delivered, 3, offset=5)),
    ("two truths", change(Delivered, 3, id="p1/wide.0/1")),
    ("foreign epoch", change(Delivered, 3, epoch="another-epoch")),
    ("foreign epoch", change(Subscribed, -1, epoch="another-epoch")),
    ("damaged", change(Delivered, 0, intact=False)),
    ("phantom", change(Delivered, 0, id="p8/wide.0/1")),
    ("phantom", change(Delivered, -1, id="p1/wide.0/5")),
    ("delivery without a subscription", change(Delivered, 0, client="nobody")),
    ("position went back", lambda events: events.insert(nth(events, AtRest), Placed(900.0, "steady-1", EPOCHS[0], 1))),
    ("recovered without a position", change(Subscribed, 0, recovered=True)),
    ("unjustified break", change(Subscribed, -1, recovered=False, offset=10)),
    ("lost", drop(Record, 1)),
    ("absent", drop(AtRest)),
    ("false answer", change(Answered, 0, epoch=EPOCHS[0], offset=4)),
    ("false answer", change(Answered, 0, epoch="another-epoch", offset=2)),
    ("unexplained disconnect", change(Closed, 0, own=False)),
    ("unexplained disconnect", change(Closed, 0, own=False, code=3500)),
    ("unexplained unsubscribe", add(Unsubscribed(900.0, "steady-1", WIDE, 2500))),
    ("unexplained error", add(Refused(900.0, "steady-1", WIDE, 103, "permission denied"))),
    ("presence", add(Presence(900.0, 0, WIDE, 3, 2))),
    ("complaint", add(Complaint(900.0, 0, "Traceback (most recent call last)"))),
    ("residue", add(Gauges(900.0, 0, "left", {}))),
]


@pytest.mark.parametrize(("kind", "defect"), DEFECTS, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(DEFECTS)])
def test_a_defect_is_found_under_its_name(kind: str, defect: Defect) -> None:
    events = day().finish()
    defect(events)
    assert kind in kinds(events)


def test_a_generator_that_stood_still_explains_a_lost_connection_but_not_a_lost_publication() -> None:
    events = day().finish()
    place = nth(events, Closed, 0)
    at = events[place].at
    change(Closed, 0, own=False)(events)
    assert kinds(events) == {"unexplained disconnect"}
    events.append(Lag(at + 0.5, "clients-0", 1.5, 1.0))
    assert kinds(events) == set()
    del events[nth(events, Delivered, 4)]
    assert kinds(events) == {"gap"}


def test_two_publications_in_the_wrong_order_are_an_inversion() -> None:
    events = day().finish()
    one, two = nth(events, Delivered, 0), nth(events, Delivered, 2)
    assert isinstance(events[one], Delivered)
    assert events[one].client == events[two].client  # type: ignore[union-attr]
    events[one], events[two] = events[two], events[one]
    assert {"gap", "inversion"} <= kinds(events)


def test_a_repeat_that_is_shown_is_found_and_one_beyond_the_window_is_not() -> None:
    world = World()
    world.come("steady-1", WIDE)
    ident = world.publish(WIDE)
    world.send(ident, [WIDE])
    events = world.finish()
    shown = Delivered(world.now, "steady-1", WIDE, world.epoch, world.end, ident, 0.0, True, False)
    at_rest = nth(events, AtRest)
    assert kinds(events) == set()
    assert kinds([*events[:at_rest], shown, *events[at_rest:]]) == {"repeat shown"}
    near = replace(SETTINGS, size=replace(SETTINGS.size, repeat_window=1))
    assert check(near, lambda: [*events[:at_rest], shown, *events[at_rest:]]).counts == {}


def test_a_publisher_whose_order_is_not_kept_is_found() -> None:
    world = World()
    for _ in range(2):
        world.publish(WIDE)
    events = world.finish()
    one, two = nth(events, Record, 0), nth(events, Record, 1)
    first, second = events[one], events[two]
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    events[one] = replace(first, id=second.id, message_id=second.id)
    events[two] = replace(second, id=first.id, message_id=first.id)
    assert kinds(events) == {"order"}


def test_what_stays_behind_when_all_have_left_is_found() -> None:
    nothing = dict.fromkeys(("subscriptions", "connections", "clients", "history_bytes"), 0.0)
    before = {f"notifier_{name}": value for name, value in nothing.items()}
    before |= {"process_open_fds": 20.0, "process_resident_memory_bytes": 60e6}
    for name, value in (
        ("notifier_subscriptions", 1.0),
        ("process_open_fds", 90.0),
        ("process_resident_memory_bytes", 300e6),
    ):
        left = [Gauges(100.0, 0, "begun", before), Gauges(200.0, 0, "left", before | {name: value})]
        assert kinds([*day().finish(), *left]) == {"residue"}
    assert kinds([*day().finish(), Gauges(100.0, 0, "begun", before), Gauges(200.0, 0, "left", before)]) == set()


def test_a_run_that_saw_too_little_does_not_count_as_proof() -> None:
    verdict = judged(day().finish())
    assert verdict.clean
    assert not verdict.counts_as_proof
    assert any(line.startswith("pairs: 16 of") for line in verdict.thin)


def test_an_unfinished_run_is_judged_up_to_where_the_log_was_read() -> None:
    world = World()
    world.come("steady-1", WIDE)
    world.publish(WIDE)
    world.publish(WIDE)
    world.wait(1)
    world.read()
    world.wait(1)
    world.publish(WIDE)
    events = world.events
    assert check(SETTINGS, lambda: events, unfinished=True).counts == {}
    del events[nth(events, Delivered, -1)]
    assert check(SETTINGS, lambda: events, unfinished=True).counts == {}, "it may still come"
    del events[nth(events, Delivered, 0)]
    assert set(check(SETTINGS, lambda: events, unfinished=True).counts) == {"gap"}


# --- any history ----------------------------------------------------------------------------------------------------

CHANNELS = (WIDE, SMALL, TINY, SHORT)
CLIENTS = ("steady-1", "flapping-2", "sleeping-3")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(CHANNELS), st.sampled_from(("ok", "unknown"))),
        st.tuples(st.just("both"), st.sampled_from(CHANNELS), st.sampled_from(CHANNELS)),
        st.tuples(st.just("repeat"), st.integers(0, 5)),
        st.tuples(st.just("come"), st.sampled_from(CLIENTS)),
        st.tuples(st.just("leave"), st.sampled_from(CLIENTS)),
        st.tuples(st.just("wait"), st.sampled_from((0.5, 4.0, 9.0))),
        st.tuples(st.just("delete")),
    ),
    min_size=12,
    max_size=60,
)


def lived(steps: Sequence[tuple[object, ...]]) -> World:
    world = World()
    for client in CLIENTS:
        world.come(client, *CHANNELS)
    world.publish(WIDE)
    for step in steps:
        live(world, step)
    for client in CLIENTS:
        if client not in world._connected:
            world.come(client)
    world.publish(WIDE)  # an epoch is known by what was delivered in it
    return world


def live(world: World, step: tuple[object, ...]) -> None:
    if step[0] in ("publish", "both", "repeat"):
        match step:
            case ("publish", str(channel), outcome):
                world.publish(channel, outcome=str(outcome))
            case ("both", str(one), str(other)) if one != other:
                world.publish(one, other)
            case ("repeat", int(back)) if len(world.log) > back:
                _, channels, ident = world.log[-1 - back]
                world.send(ident, channels)
        return
    match step:
        case ("come", str(client)) if client not in world._connected:
            world.come(client)
        case ("leave", str(client)) if client in world._connected:
            world.leave(client)
        case ("wait", float(seconds)):
            world.wait(seconds)
        case ("delete",) if world.generation == 0:
            world.delete_stream()


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_history_of_a_server_that_keeps_its_promise_is_accepted(steps: list[tuple[object, ...]]) -> None:
    assert kinds(lived(steps).finish()) == set()


def breaks_next(events: Sequence[Event], place: int) -> bool:
    """Whether the chain ends with this delivery: then a client that did not get it was told so all the same."""
    this = events[place]
    assert isinstance(this, Delivered)
    for event in events[place + 1 :]:
        match event:
            case Delivered() if (event.client, event.channel) == (this.client, this.channel):
                return False
            case Subscribed() if (event.client, event.channel) == (this.client, this.channel):
                if not event.recovered:
                    return True
    return False


MUTATIONS = ("drop", "swap", "repeat", "renumber", "foreign epoch", "late", "break")


@settings(max_examples=300, deadline=None)
@given(STEPS, st.sampled_from(MUTATIONS), st.integers(0, 10**6))
def test_every_history_with_a_defect_is_rejected(steps: list[tuple[object, ...]], mutation: str, choice: int) -> None:
    events = lived(steps).finish()
    places = list(deliveries(events))
    assume(places)
    place = places[choice % len(places)]
    event = events[place]
    assert isinstance(event, Delivered)
    of_chain = [
        found
        for found in places
        if (events[found].client, events[found].channel, events[found].epoch)  # type: ignore[union-attr]
        == (event.client, event.channel, event.epoch)
    ]
    mutated = list(events)
    match mutation:
        case "drop":
            assume(not breaks_next(events, place))
            del mutated[place]
        case "swap":
            assume(len(of_chain) > 1 and place != of_chain[-1])
            other = of_chain[of_chain.index(place) + 1]
            mutated[place], mutated[other] = mutated[other], mutated[place]
        case "repeat":
            mutated.insert(place + 1, event)
        case "renumber":
            mutated[place] = replace(event, offset=event.offset + 1)
        case "foreign epoch":
            mutated[place] = replace(event, epoch="another-epoch")
        case "late":
            del mutated[place]
            mutated.append(event)
        case "break":
            asked = [
                number
                for number, found in enumerate(events)
                if isinstance(found, Subscribed) and found.recovered and not found.count
            ]
            assume(asked)
            number = asked[choice % len(asked)]
            mutated[number] = replace(events[number], recovered=False)
    assert kinds(mutated), mutation
