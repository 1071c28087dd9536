"""Bodies, channels, and the check that nothing is missing, doubled or changed."""

from __future__ import annotations

import json

import pytest

from loadtest.traffic import SMALLEST_BODY, Bodies, Reader, Traffic


@pytest.mark.parametrize("size", [SMALLEST_BODY, 200, 5000])
def test_bodies_are_json_of_exactly_the_size_asked_for(size: int) -> None:
    body = Bodies(size).make(7, 123_456_789)
    assert len(body) == size
    assert json.loads(body)["n"] == "0000000007"
    assert Bodies(size).read(body) == (7, 123_456_789)


def test_a_body_cannot_be_smaller_than_its_number_and_time() -> None:
    with pytest.raises(ValueError, match="at least"):
        Bodies(SMALLEST_BODY - 1)


def test_a_body_with_one_changed_byte_is_refused() -> None:
    bodies = Bodies(200)
    good = bodies.make(7, 1)
    for place in range(len(good)):
        if good[place : place + 1].isdigit():
            continue
        with pytest.raises(ValueError):
            bodies.read(good[:place] + b"?" + good[place + 1 :])


def read(numbers: list[int], first: int = 0, period: int = 1) -> list[str]:
    bodies = Bodies(200)
    reader = Reader(bodies, first, period)
    wrong = []
    for number in numbers:
        try:
            assert reader.take(bodies.make(number, number * 10)) == number * 10
        except ValueError as error:
            wrong.append(str(error))
    assert reader.received == len(numbers)
    return wrong


def test_a_reader_is_content_with_everything_in_order() -> None:
    assert read([0, 1, 2, 3]) == []
    assert read([4, 14, 24], first=4, period=10) == []


def test_a_reader_tells_once_of_each_gap_and_repeat() -> None:
    assert read([0, 1, 3, 4]) == ["publication 3 came where 2 was due"]
    assert read([0, 1, 1, 2]) == ["publication 1 came where 2 was due"]
    assert read([1, 2]) == ["publication 1 came where 0 was due"]


def test_a_fan_out_goes_to_all() -> None:
    traffic = Traffic("fanout", 1000, 50, 200)
    assert {name for index in range(1000) for name in traffic.channels_of(index)} == {"bench"} == {*traffic.order()}
    assert set(traffic.places()) == {(0, 1)}
    assert (traffic.deliveries(3), traffic.deliveries_per_s) == (3000, 50_000)


def test_unicast_goes_round_everybody_and_all_names_have_one_length() -> None:
    traffic = Traffic("unicast", 1000, 50, 200)
    assert sorted(traffic.order()) == sorted(name for index in range(1000) for name in traffic.channels_of(index))
    assert traffic.order() == traffic.order(), "publisher and generator must agree"
    assert len({*map(len, traffic.order())}) == 1
    assert (traffic.deliveries(3), traffic.deliveries_per_s) == (3, 50)


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic("fanout", 20, 50, 200),
        Traffic("unicast", 20, 50, 200),
        Traffic("unicast", 20, 50, 200, channels=100),
        Traffic("mixed", 40, 50, 200),
    ],
    ids=["fanout", "unicast", "many channels each", "mixed"],
)
@pytest.mark.parametrize("count", [1, 7, 40, 333])
def test_every_connection_gets_what_its_reader_waits_for(traffic: Traffic, count: int) -> None:
    order = traffic.order()
    published = [order[number % len(order)] for number in range(count)]
    total = 0
    for index, (first, period) in enumerate(traffic.places()):
        own = traffic.channels_of(index)
        got = [number for number, channel in enumerate(published) if channel in own]
        assert got == list(range(first, count, period))
        total += len(got)
    assert traffic.deliveries(count) == total
    assert total <= count * traffic.most_copies


def test_mixed_traffic_is_as_much_as_it_says() -> None:
    traffic = Traffic("mixed", 40, 50, 200)
    assert traffic.deliveries(len(traffic.order())) / len(traffic.order()) == traffic.deliveries_per_s / 50
    assert len({len(name) for name in traffic.order()}) == 1
