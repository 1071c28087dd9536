"""Every method of the server API: good input, bad input, and what clients notice of it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest

from notifier.api import methods
from notifier.api.methods import METHODS, BadBody, NoSuchMethod
from notifier.api.requests import MAX_ID_BYTES, MAX_TAG_BYTES
from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core.node import Node
from notifier.core.record import Draft, Record
from notifier.errors import Unavailable
from notifier.protocol.codes import CommandFailed
from notifier.testing import SECRET, Client, ManualClock, Ticks, make_node

KEPT = HistoryRule(size=10, ttl=Duration(3600))
RULES = [
    ChannelRule(match="room.*", history=KEPT, presence=True, subscribe=["anyone"]),
    ChannelRule(match="plain.#", subscribe=["anyone"]),
    ChannelRule(match="news.#", history=KEPT, wildcard=True, subscribe=["anyone"]),
    ChannelRule(match="secret.*", history=KEPT, subscribe=["token"]),
]
BAD_CHANNELS = ["", "a b", "a\n", "é", "x" * 256, "$notifier.order"]
PATTERNS = ["news.*", "#"]


class Place:
    """A node, its clock and the end of its ticks; `records` is what its log holds."""

    def __init__(self) -> None:
        self.clock = ManualClock(time.time() - 1000)  # tokens are judged by the machine's clock: none is of the future
        self.ticks = Ticks()
        self.node: Node = make_node(RULES, clock=self.clock, ticks=self.ticks)
        self.node.max_batch = 5
        self.records: list[Record] = []
        take = self.node.feed.take

        def note(record: Record, time_s: float) -> None:
            take(record, time_s)
            self.records.append(record)

        self.node.feed.take = note  # type: ignore[method-assign]

    async def answer(self, method: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await methods.call(self.node, method, json.dumps(request).encode()))
        return answer

    async def result(self, method: str, **request: Any) -> dict[str, Any]:
        answer = await self.answer(method, **request)
        assert list(answer) == ["result"]
        result: dict[str, Any] = answer["result"]
        return result

    async def error(self, method: str, **request: Any) -> tuple[int, str]:
        with pytest.raises(CommandFailed) as caught:
            await self.answer(method, **request)
        return caught.value.error.code, caught.value.error.message

    def token(self, user: str = "ann", **claims: Any) -> str:
        now = int(self.clock.time())
        return jwt.encode({"sub": user, "iat": now, "exp": now + 86_400, **claims}, SECRET, algorithm="HS256")

    async def client(self, user: str = "ann", **claims: Any) -> Client:
        client = Client(self.node)
        [reply] = await client.send({"id": 1, "connect": {"token": self.token(user, **claims) if user else ""}})
        assert "connect" in reply, reply
        return client

    async def subscribed(self, channel: str, user: str = "ann", **request: Any) -> Client:
        client = await self.client(user)
        [reply] = await client.send({"id": 2, "subscribe": {"channel": channel, **request}})
        assert "subscribe" in reply, reply
        return client

    def pushed(self, client: Client) -> list[dict[str, Any]]:
        self.ticks.end()
        return [message["push"] for message in client.connection.take_messages()]


@pytest.fixture
def place() -> Place:
    return Place()


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# --- all methods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b"null", b"\xff", b'{"x":' + b"[" * 100_000, b" "])
async def test_a_body_that_is_no_request_is_refused_with_what_is_wrong(place: Place, name: str, body: bytes) -> None:
    with pytest.raises(BadBody) as caught:
        await methods.call(place.node, name, body)
    assert str(caught.value)


@pytest.mark.parametrize("name", METHODS)
async def test_an_empty_body_is_an_empty_request_and_unknown_fields_are_ignored(place: Place, name: str) -> None:
    async def outcome(body: bytes) -> object:
        try:
            return list(json.loads(await methods.call(place.node, name, body)))
        except CommandFailed as error:
            return error.error

    assert await outcome(b"") == await outcome(b"{}") == await outcome(b'{"unknown":[1,2]}')


@pytest.mark.parametrize("name", ["", "Publish", "publish ", "__init__", "batches"])
async def test_other_names_are_no_methods(place: Place, name: str) -> None:
    with pytest.raises(NoSuchMethod):
        await methods.call(place.node, name, b"{}")


CHANNEL_METHODS = {
    "publish": {"data": 1},
    "subscribe": {},
    "unsubscribe": {},
    "presence": {},
    "presence_stats": {},
    "history": {},
    "history_remove": {},
}


@pytest.mark.parametrize(
    ("method", "channel"),
    [
        (method, channel)
        for method in CHANNEL_METHODS
        for channel in (BAD_CHANNELS if "subscribe" in method else [*BAD_CHANNELS, *PATTERNS])
    ],
)
async def test_a_name_that_is_no_channel_is_a_bad_request(place: Place, method: str, channel: str) -> None:
    code, message = await place.error(method, channel=channel, **CHANNEL_METHODS[method])
    assert code == 107
    assert len(message) > len("bad request: ")
    assert place.records == []


@pytest.mark.parametrize("method", [name for name in CHANNEL_METHODS if name != "unsubscribe"])
async def test_a_channel_without_a_rule_is_unknown(place: Place, method: str) -> None:
    assert await place.error(method, channel="nowhere", **CHANNEL_METHODS[method]) == (102, "unknown channel")


@pytest.mark.parametrize(
    ("method", "channel"),
    [
        ("presence", "news.a"),
        ("presence_stats", "news.a"),
        ("history", "plain.a"),
        ("history_remove", "plain.a"),
    ],
)
async def test_what_a_rule_does_not_switch_on_is_not_available(place: Place, method: str, channel: str) -> None:
    assert await place.error(method, channel=channel) == (108, "not available")


async def test_while_something_is_away_the_error_is_temporary_and_says_what(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_draft: Draft) -> int:
        raise Unavailable("the log is away")

    monkeypatch.setattr(place.node.log, "append", away)
    for method, request in (
        ("publish", {"channel": "news.a", "data": 1}),
        ("broadcast", {"channels": ["news.a"], "data": 1}),
        ("history_remove", {"channel": "news.a"}),
        ("revoke", {"user": "ann"}),
    ):
        code, message = await place.error(method, **request)
        assert code == 100
        assert "the log is away" in message


# --- publish and broadcast --------------------------------------------------------------------------------------------


async def test_a_publication_reaches_its_subscribers_with_its_tags(place: Place) -> None:
    client = await place.subscribed("news.a")
    result = await place.result("publish", channel="news.a", data={"x": [1, None]}, tags={"lang": "en"})
    assert result == {"offset": 1, "epoch": "epoch-1"}
    [push] = place.pushed(client)
    assert push == {"channel": "news.a", "pub": {"data": {"x": [1, None]}, "offset": 1, "tags": {"lang": "en"}}}


async def test_without_history_there_is_no_position(place: Place) -> None:
    assert await place.result("publish", channel="plain.a", data=None) == {}
    assert await place.result("publish", channel="news.a", data=1, skip_history=True) == {}
    assert (await place.result("history", channel="news.a", limit=-1))["publications"] == []


async def test_the_same_key_publishes_once_for_each_channel(place: Place) -> None:
    first = await place.result("publish", channel="news.a", data=1, idempotency_key="k")
    assert await place.result("publish", channel="news.a", data=2, idempotency_key="k") == first
    assert await place.result("publish", channel="news.b", data=3, idempotency_key="k") != first
    publications = (await place.result("history", channel="news.a", limit=-1))["publications"]
    assert [publication["data"] for publication in publications] == [1]


async def test_an_older_version_is_not_published(place: Place) -> None:
    client = await place.subscribed("news.a")
    for version, epoch in ((2, "e"), (1, "e"), (2, "e"), (1, "f"), (3, "")):
        await place.result("publish", channel="news.a", data=[version, epoch], version=version, version_epoch=epoch)
    assert [push["pub"]["data"] for push in place.pushed(client)] == [[2, "e"], [1, "f"], [3, ""]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "data is required"),
        ({"data": "x" * 65_535}, "data: "),
        ({"b64data": "%%%"}, "b64data: not base64"),
        ({"b64data": "MQ"}, "b64data: not base64"),
        ({"b64data": "é"}, "b64data: not base64"),
        ({"b64data": in_base64("no JSON")}, "data: "),
        ({"b64data": base64.b64encode(b"\xff").decode()}, "not UTF-8"),
        ({"data": 1, "b64data": in_base64("1")}, "not both"),
        ({"data": 1, "version": -1}, "version"),
        ({"data": 1, "version": 2**63}, "version"),
        ({"data": 1, "version_epoch": "e" * (MAX_ID_BYTES + 1)}, "version_epoch"),
        ({"data": 1, "idempotency_key": "é" * 128}, "idempotency_key: at most 255 bytes"),
        ({"data": 1, "tags": {"t" * (MAX_TAG_BYTES + 1): ""}}, "tags"),
        ({"data": 1, "tags": {"t": "x" * 100_000}}, "channels and tags"),
    ],
)
async def test_what_cannot_be_published_is_a_bad_request(place: Place, fields: dict[str, Any], words: str) -> None:
    for method, where in (("publish", {"channel": "news.a"}), ("broadcast", {"channels": ["nowhere"]})):
        code, message = await place.error(method, **where, **fields)
        assert code == 107
        assert words in message
    assert place.records == []


async def test_what_is_just_within_the_bounds_is_published(place: Place) -> None:
    fields = {"version": 2**63 - 1, "version_epoch": "e" * 255, "idempotency_key": "k" * 255, "tags": {"t" * 250: "x"}}
    assert (await place.result("publish", channel="news.a", data=1, **fields))["offset"] == 1


async def test_data_in_base64_is_published_as_it_is(place: Place) -> None:
    client = await place.subscribed("news.a")
    await place.result("publish", channel="news.a", b64data=in_base64('{"a":\n1}'))
    assert place.pushed(client)[0]["pub"]["data"] == {"a": 1}


async def test_a_broadcast_is_one_record_with_an_answer_for_each_channel(place: Place) -> None:
    clients = [await place.subscribed(channel) for channel in ("news.a", "plain.b")]
    channels = ["news.a", "a b", "nowhere", "plain.b", "news.a"]
    responses = (await place.result("broadcast", channels=channels, data=1))["responses"]
    there = {"result": {"offset": 1, "epoch": "epoch-1"}}
    assert [responses[0], responses[3], responses[4]] == [there, {"result": {}}, there]
    assert [responses[1]["error"]["code"], responses[2]["error"]["code"]] == [107, 102]
    assert [len(place.pushed(client)) for client in clients] == [1, 1]
    assert len(place.records) == 1


async def test_a_broadcast_to_nowhere_publishes_nothing(place: Place) -> None:
    responses = (await place.result("broadcast", channels=["nowhere"], data=1))["responses"]
    assert responses == [{"error": {"code": 102, "message": "unknown channel"}}]
    assert place.records == []


async def test_a_broadcast_has_at_least_one_channel_and_not_too_many(place: Place) -> None:
    assert await place.error("broadcast", channels=[], data=1) == (107, "bad request: channels are required")
    assert await place.error("broadcast", channels=["news.a"] * 6, data=1) == (107, "bad request: at most 5 channels")


async def test_channels_that_do_not_fit_into_one_message_are_too_many(place: Place) -> None:
    place.node.max_batch = 1000
    long = [f"news.{n}.{'x' * 240}" for n in range(500)]
    code, message = await place.error("broadcast", channels=long, data=1)
    assert (code, place.records) == (107, [])
    assert "together" in message


# --- subscribe, unsubscribe, disconnect, refresh ----------------------------------------------------------------------


async def test_a_user_is_subscribed_with_data_and_info(place: Place) -> None:
    client = await place.client()
    await place.result("subscribe", user="ann", channel="room.1", data={"a": 1}, b64info=in_base64('{"seat":3}'))
    [push] = place.pushed(client)
    assert push["subscribe"]["data"] == {"a": 1}
    present = (await place.result("presence", channel="room.1"))["presence"]
    assert present[client.session.client_id]["chan_info"] == {"seat": 3}


async def test_a_subscription_may_begin_at_a_position(place: Place) -> None:
    for n in range(3):
        await place.result("publish", channel="news.a", data=n)
    client = await place.client()
    since = {"offset": 1, "epoch": "epoch-1"}
    await place.result("subscribe", user="ann", channel="news.a", recover_since=since)
    _, *missed = place.pushed(client)
    assert [push["pub"]["data"] for push in missed] == [1, 2]


async def test_an_override_is_for_this_subscription_alone(place: Place) -> None:
    hidden, shown = await place.client(), await place.client("bob")
    await place.result("subscribe", user="ann", channel="room.1", override={"presence": {"value": False}})
    await place.result("subscribe", user="bob", channel="room.1")
    assert list((await place.result("presence", channel="room.1"))["presence"]) == [shown.session.client_id]
    assert "room.1" in hidden.session.subscriptions


@pytest.mark.parametrize("name", sorted(methods.OVERRIDES))
async def test_these_options_can_be_overridden(place: Place, name: str) -> None:
    await place.result("subscribe", user="ann", channel="room.1", override={name: {"value": True}})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"override": {"history": {"value": True}}}, "override.history"),
        ({"expire_at": -1}, "expire_at"),
        ({"expire_at": 10**400}, "expire_at"),
        ({"info": 1, "b64info": in_base64("1")}, "info"),
        ({"b64data": "%"}, "b64data"),
        ({"b64info": in_base64("{")}, "info: "),
        ({"recover_since": {"offset": -1}}, "recover_since"),
    ],
)
async def test_what_is_wrong_with_a_subscription_is_a_bad_request(
    place: Place, fields: dict[str, Any], words: str
) -> None:
    client = await place.client()
    code, message = await place.error("subscribe", user="ann", channel="room.1", **fields)
    assert code == 107
    assert words in message
    assert client.session.subscriptions == {}


async def test_who_is_subscribed_already_is_an_error(place: Place) -> None:
    await place.subscribed("news.a")
    assert (await place.error("subscribe", user="ann", channel="news.a"))[0] == 100
    assert await place.result("subscribe", user="nobody-here", channel="news.a") == {}


async def test_a_user_is_unsubscribed_from_a_channel_or_a_pattern(place: Place) -> None:
    for name in ("news.a", "news.*"):
        client = await place.subscribed(name, user=f"user-of-{name}")
        await place.result("unsubscribe", user=f"user-of-{name}", channel=name)
        assert place.pushed(client) == [
            {"channel": name, "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
        ]
        assert client.session.subscriptions == {}


async def test_a_user_is_disconnected_but_for_the_clients_on_the_whitelist(place: Place) -> None:
    stays, goes = await place.client(), await place.client()
    await place.result("disconnect", user="ann", whitelist=[stays.session.client_id])
    assert (stays.closed_with, goes.closed_with) == (0, 3503)
    await place.result("disconnect", user="ann", disconnect={"code": 4001, "reason": "later"})
    assert stays.closed_with == 4001
    assert stays.connection.disconnect is not None
    assert stays.connection.disconnect.reason == "later"


@pytest.mark.parametrize(
    "reason", [{"code": 2999}, {"code": 5000}, {"code": 4000, "reason": ""}, {"reason": "é" * 62}, {"code": -1}]
)
async def test_a_reason_that_cannot_be_told_is_a_bad_request(place: Place, reason: dict[str, Any]) -> None:
    client = await place.client()
    code, message = await place.error("disconnect", user="ann", disconnect=reason)
    assert code == 107
    assert "disconnect." in message
    assert client.closed_with == 0


async def test_a_connection_gets_another_end_or_ends_now(place: Place) -> None:
    client = await place.client()
    until = int(place.clock.time()) + 61
    await place.result("refresh", user="ann", expire_at=until, info={"n": 1})
    [push] = place.pushed(client)
    assert push["refresh"]["expires"] is True
    assert push["refresh"]["ttl"] in (60, 61)
    assert bytes(client.session.identity.info) == b'{"n":1}' or json.loads(client.session.identity.info) == {"n": 1}
    await place.result("refresh", user="ann", expired=True)
    assert client.closed_with == 3005


@pytest.mark.parametrize("fields", [{"expire_at": -1}, {"expire_at": 10**400}, {"expired": True, "expire_at": -5}])
async def test_a_time_that_is_none_changes_nothing(place: Place, fields: dict[str, Any]) -> None:
    client = await place.client()
    assert (await place.error("refresh", user="ann", **fields))[0] == 107
    assert client.closed_with == 0


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "disconnect", "refresh"])
async def test_one_connection_is_meant_by_its_client_or_session(place: Place, method: str) -> None:
    clients = [await place.subscribed("news.a") for _ in range(3)]
    clients[1].session.key = "secret"
    channel = "plain.a" if method == "subscribe" else "news.a"
    for client, only in ((clients[0], {"client": clients[0].session.client_id}), (clients[1], {"session": "secret"})):
        await place.result(method, user="ann", channel=channel, expire_at=2_000_000_000, **only)
        touched = [other for other in clients if place.pushed(other) or other.closed_with]
        assert client in touched
    assert clients[2].closed_with == 0
    assert list(clients[2].session.subscriptions) == ["news.a"]


# --- presence, history, channels, info, connections, rpc --------------------------------------------------------------


async def test_presence_is_by_client_and_its_numbers_count_users_once(place: Place) -> None:
    clients = [await place.subscribed("room.1", user) for user in ("ann", "ann", "bob")]
    present = (await place.result("presence", channel="room.1"))["presence"]
    assert {client: info["user"] for client, info in present.items()} == {
        client.session.client_id: client.session.identity.user for client in clients
    }
    assert await place.result("presence_stats", channel="room.1") == {"num_clients": 3, "num_users": 2}


async def test_history_is_read_in_pages_from_either_end(place: Place) -> None:
    for n in range(1, 6):
        await place.result("publish", channel="news.a", data=n)

    async def page(**request: Any) -> list[int]:
        result = await place.result("history", channel="news.a", **request)
        assert (result["offset"], result["epoch"]) == (5, "epoch-1")
        return [publication["data"] for publication in result["publications"]]

    assert await page() == []
    assert await page(limit=-1) == [1, 2, 3, 4, 5]
    assert await page(limit=2) == [1, 2]
    assert await page(limit=2, reverse=True) == [5, 4]
    assert await page(limit=2, since={"offset": 2, "epoch": "epoch-1"}) == [3, 4]
    assert await page(limit=-1, since={"offset": 3}, reverse=True) == [2, 1]
    assert await page(limit=10**30, since={"offset": -(10**30)}) == [1, 2, 3, 4, 5]


async def test_history_of_another_log_or_without_a_beginning_is_an_error(place: Place) -> None:
    other = {"offset": 1, "epoch": "other"}
    assert (await place.error("history", channel="news.a", since=other))[0] == 112
    assert (await place.error("history", channel="news.a", since={"offset": 0}, reverse=True))[0] == 107


async def test_history_that_is_still_being_read_is_not_passed_off_as_all(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.node.log, "ready", False)
    code, message = await place.error("history", channel="news.a", limit=-1)
    assert code == 100
    assert "being read" in message


async def test_removed_history_is_gone_and_who_has_seen_all_of_it_still_recovers(place: Place) -> None:
    for n in range(3):
        await place.result("publish", channel="news.a", data=n)
        await place.result("publish", channel="news.b", data=n)
    assert await place.result("history_remove", channel="news.a") == {}
    assert (await place.result("history", channel="news.a", limit=-1))["publications"] == []
    assert len((await place.result("history", channel="news.b", limit=-1))["publications"]) == 3
    last = place.records[-1].offset - 1
    assert await recovery(place, "news.a", last) == (True, [])
    assert await recovery(place, "news.a", 1) == (False, [])
    await place.result("publish", channel="news.a", data="new")
    assert await recovery(place, "news.a", last) == (True, ["new"])
    assert await recovery(place, "news.a", 1) == (False, [])


async def recovery(place: Place, channel: str, offset: int) -> tuple[bool, list[Any]]:
    """Whether a position is recovered, and with what."""
    client = await place.client()
    request = {"channel": channel, "recover": True, "offset": offset, "epoch": "epoch-1"}
    [reply] = await client.send({"id": 2, "subscribe": request})
    found = [publication["data"] for publication in reply["subscribe"].get("publications", [])]
    return reply["subscribe"].get("recovered", False), found


async def test_removed_history_is_gone_on_a_node_that_starts_later(place: Place) -> None:
    await place.result("publish", channel="news.a", data=1)
    await place.result("history_remove", channel="news.a")
    later = started_later(place)
    assert (await later.result("history", channel="news.a", limit=-1))["publications"] == []


async def test_channels_with_subscribers_are_found_by_a_glob(place: Place) -> None:
    for channel in ("news.a", "news.b", "plain.a"):
        await place.subscribed(channel)
    assert (await place.result("channels"))["channels"].keys() == {"news.a", "news.b", "plain.a"}
    assert (await place.result("channels", pattern="*.a"))["channels"] == {
        "news.a": {"num_clients": 1},
        "plain.a": {"num_clients": 1},
    }
    assert (await place.result("channels", pattern="[z-a]"))["channels"] == {}


async def test_info_and_connections_say_who_is_where(place: Place) -> None:
    client = await place.subscribed("news.a")
    [node] = (await place.result("info"))["nodes"]
    assert (node["num_clients"], node["num_users"], node["num_subs"]) == (1, 1, 1)
    connections = (await place.result("connections", user="ann"))["connections"]
    assert list(connections) == [client.session.client_id]
    assert connections[client.session.client_id]["transport"] == "websocket"
    assert not (await place.result("connections", user="bob"))["connections"]


async def test_there_are_no_methods_for_backends_to_call(place: Place) -> None:
    assert await place.error("rpc", params={"a": 1}) == (104, "method not found")


# --- batch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [False, True])
async def test_each_command_of_a_batch_has_its_own_answer_in_its_place(place: Place, parallel: bool) -> None:
    commands = [
        {"publish": {"channel": "news.a", "data": 1}},
        {"publish": {"channel": "nowhere", "data": 1}},
        {"publish": {"channel": 5}},
        {"nonsense": {}},
        {"history": {"channel": "news.a", "limit": -1}},
    ]
    replies = (await place.answer("batch", commands=commands, parallel=parallel))["replies"]
    assert replies[0] == {"publish": {"offset": 1, "epoch": "epoch-1"}}
    assert [replies[n]["error"]["code"] for n in (1, 2, 3)] == [102, 107, 104]
    assert "$.channel" in replies[2]["error"]["message"]
    assert replies[4]["history"]["offset"] == 1


async def test_a_command_has_exactly_one_method(place: Place) -> None:
    commands: list[dict[str, Any]] = [{}, {"info": {}, "channels": {}}, {"batch": {"commands": []}}]
    replies = (await place.answer("batch", commands=commands))["replies"]
    assert [reply["error"]["code"] for reply in replies] == [107, 107, 104]


async def test_a_batch_is_bounded_and_may_be_empty(place: Place) -> None:
    assert await place.answer("batch", commands=[]) == {"replies": []}
    assert await place.error("batch", commands=[{"info": {}}] * 6) == (107, "bad request: at most 5 commands")
    with pytest.raises(BadBody):
        await place.answer("batch", commands=[1])


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_ends_where_its_answer_is_full(
    place: Place, monkeypatch: pytest.MonkeyPatch, parallel: bool
) -> None:
    monkeypatch.setattr(methods, "MAX_BATCH_ANSWER_BYTES", 50_000)
    await place.result("publish", channel="news.a", data="x" * 30_000)
    commands: list[dict[str, Any]] = [{"history": {"channel": "news.a", "limit": -1}}] * 3
    commands += [{"publish": {"channel": "news.b", "data": 1}}]
    replies = (await place.answer("batch", commands=commands, parallel=parallel))["replies"]
    assert ["history" in reply for reply in replies] == [True, True, False, False]
    assert [reply["error"]["message"][:20] for reply in replies[2:]] == ["bad request: not run"] * 2
    assert len(place.records) == 1


@pytest.mark.parametrize(("parallel", "at_once"), [(False, 1), (True, 3)])
async def test_commands_run_one_after_the_other_unless_they_may_all_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, parallel: bool, at_once: int
) -> None:
    running = most = 0

    async def append(_draft: Draft) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return 1

    monkeypatch.setattr(place.node.log, "append", append)
    commands = [{"publish": {"channel": "news.a", "data": n}} for n in range(3)]
    await place.answer("batch", commands=commands, parallel=parallel)
    assert most == at_once


# --- revoke -----------------------------------------------------------------------------------------------------------


def started_later(place: Place) -> Place:
    """Another node that reads the same log from its beginning."""
    later = Place()
    later.clock = place.clock
    for record in place.records:
        later.node.feed.take(record, place.clock.time())
    return later


async def refused(place: Place, token: str) -> bool:
    """Whether a token is answered with 109, so that the SDK asks for a new one."""
    [reply] = await Client(place.node).send({"id": 1, "connect": {"token": token}})
    return bool(reply.get("error", {}).get("code") == 109)


REVOCATIONS: list[tuple[dict[str, Any], dict[str, bool]]] = [
    ({"token": "t1"}, {"ann-t1": True, "ann-t2": False, "bob-t3": False}),
    ({"user": "ann"}, {"ann-t1": True, "ann-t2": True, "bob-t3": False}),
    ({"all": True}, {"ann-t1": True, "ann-t2": True, "bob-t3": True}),
]


@pytest.mark.parametrize(("request_", "expected"), REVOCATIONS)
async def test_a_revocation_ends_live_connections_and_the_token_is_refused_also_by_nodes_that_start_later(
    place: Place, request_: dict[str, Any], expected: dict[str, bool]
) -> None:
    who = {"ann-t1": "ann", "ann-t2": "ann", "bob-t3": "bob"}
    clients = {name: await place.client(user, jti=name[-2:]) for name, user in who.items()}
    tokens = {name: place.token(user, jti=name[-2:]) for name, user in who.items()}
    anonymous = await place.client("")
    place.clock.advance(10)
    await place.result("revoke", **request_)
    assert {name: client.closed_with == 3005 for name, client in clients.items()} == expected
    assert anonymous.closed_with == 0
    for node in (place, started_later(place)):
        assert {name: await refused(node, token) for name, token in tokens.items()} == expected


@pytest.mark.parametrize("request_", [{"user": "ann"}, {"all": True}])
async def test_tokens_issued_since_then_count(place: Place, request_: dict[str, Any]) -> None:
    await place.result("revoke", **request_, before=place.clock.time() - 100)
    client = await place.client()
    assert await refused(place, place.token(iat=int(place.clock.time()) - 200))
    place.clock.advance(10)
    await place.result("revoke", **request_)
    assert client.closed_with == 3005
    place.clock.advance(1)  # times in tokens are whole seconds
    assert not await refused(place, place.token())


async def test_a_revoked_subscription_token_ends_its_subscription_alone(place: Place) -> None:
    client = await place.client()
    token = place.token(channel="secret.1", jti="s1")
    subscribe = {"id": 2, "subscribe": {"channel": "secret.1", "token": token}}
    assert "subscribe" in (await client.send(subscribe))[0]
    await place.result("revoke", token="s1")
    assert place.pushed(client) == [
        {"channel": "secret.1", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}
    ]
    assert client.closed_with == 0
    assert (await client.send(subscribe))[0]["error"]["code"] == 109


async def test_a_refresh_with_a_revoked_token_ends_the_connection(place: Place) -> None:
    client = await place.client()
    await place.result("revoke", token="old")
    await client.send({"id": 2, "refresh": {"token": place.token(jti="old")}})
    assert client.closed_with == 3005


async def test_a_later_revocation_does_not_touch_what_rests_on_no_token(place: Place) -> None:
    """After all tokens were revoked once, subscriptions that the server or the API made later are not older than
    that."""
    place.clock.advance(10)
    await place.result("revoke", all=True)
    place.clock.advance(10)
    client = await place.client()
    place.pushed(client)
    await place.result("subscribe", user="ann", channel="news.a")
    anonymous = await place.client("")
    await place.result("subscribe", channel="news.b")
    await place.result("revoke", token="somebody-elses")
    assert (client.closed_with, anonymous.closed_with) == (0, 0)
    assert "news.a" in client.session.subscriptions


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"token": "t", "user": "u"},
        {"user": "u", "all": True},
        {"before": 5},
        {"token": "t" * 256},
        {"user": "é" * 128},
        {"all": True, "before": -1},
        {"all": True, "before": 1e300},
        {"all": True, "before": time.time() * 1000},
    ],
)
async def test_a_revocation_is_of_one_kind_and_of_a_time(place: Place, request_: dict[str, Any]) -> None:
    client = await place.client()
    assert (await place.error("revoke", **request_))[0] == 107
    assert client.closed_with == 0
    assert place.records == []
