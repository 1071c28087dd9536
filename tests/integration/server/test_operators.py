"""The operators' view over HTTP: who gets in, what a session is good for, and what ends it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from notifier.admin.endpoints import METHODS
from notifier.admin.guard import TRIES_AT_ONCE
from notifier.admin.views import VIEWS
from notifier.config import DEV_API_KEY, DEV_OPERATOR, Admin, Duration, Secret
from notifier.config import Server as ServerSection
from notifier.core.identity import Identity
from notifier.core.rates import Limiter, Rate
from tests.integration.server.conftest import RunningServer, StartServer
from tests.services.deadline import SECOND, eventually
from tests.services.ports import free_port

ANN = Secret(DEV_OPERATOR.replace("dev:", "ann:", 1))
BOB = Secret(DEV_OPERATOR.replace("dev:", "bob:", 1))
PASSWORD = DEV_API_KEY
OURS = {"X-Notifier-Console": "active"}
COOKIE = "notifier-operator"


class Operator:
    """An operator's browser, without the browser."""

    def __init__(self, server: RunningServer, cookie: str = "") -> None:
        self.server = server
        self.cookie = cookie

    async def post(
        self, method: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Status, body and the answer itself."""
        fields = {**(OURS if headers is None else headers), **({"Cookie": self.cookie} if self.cookie else {})}
        url = f"{self.server.url}/admin/api/{method}"
        async with self.server.http.post(url, json=body or {}, headers=fields) as response:
            return response.status, await response.json(), response

    async def log_in(self, name: str = "ann", password: str = PASSWORD, **headers: str) -> str:
        """The `Set-Cookie` of a login that was let in."""
        fields = {**OURS, **{key.replace("_", "-"): value for key, value in headers.items()}}
        status, body, response = await self.post("login", {"name": name, "password": password}, fields)
        assert (status, body["result"]["name"]) == (200, name), body
        told = response.headers["Set-Cookie"]
        self.cookie = told.partition(";")[0]
        return str(told)

    async def result(self, method: str, **body: Any) -> Any:
        status, answer, _ = await self.post(method, body)
        assert status == 200, answer
        return answer["result"]

    @asynccontextmanager
    async def tail(self, query: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"{self.server.url}/admin/tail?{query}"
        async with self.server.http.get(url, headers={"Cookie": self.cookie}) as response:
            yield response


async def next_event(response: aiohttp.ClientResponse) -> tuple[str, Any]:
    """The next one that is no heartbeat; empty at the end."""
    name = ""
    async with asyncio.timeout(20 * SECOND):
        while line := (await response.content.readline()).decode():
            field, _, value = line.rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                return name, json.loads(value)
    return "", None


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    running: RunningServer = await start_server(admin=Admin(operators=[ANN, BOB]))
    return running


@pytest.fixture
async def operator(server: RunningServer) -> Operator:
    found = Operator(server)
    await found.log_in()
    return found


# --- getting in -------------------------------------------------------------------------------------------------------


async def test_a_session_s_cookie_is_for_our_own_page_alone(server: RunningServer) -> None:
    told = await Operator(server).log_in()
    parts = {part.strip().lower() for part in told.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} == parts


async def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(server: RunningServer) -> None:
    host = server.url.removeprefix("http://")
    told = await Operator(server).log_in(Origin=f"https://{host}")
    parts = {part.strip().lower() for part in told.split(";")[1:]}
    assert told.startswith("__Host-")
    assert {"httponly", "samesite=strict", "path=/", "secure"} == parts
    browser = Operator(server, told.partition(";")[0])
    assert (await browser.result("session"))["name"] == "ann"


@pytest.mark.parametrize(
    ("name", "password"), [("ann", "wrong"), ("nobody", PASSWORD), ("", ""), ("ann", "x" * 5000), ("ann", "")]
)
async def test_who_is_wrong_is_told_the_same_whatever_is_wrong(server: RunningServer, name: str, password: str) -> None:
    status, body, response = await Operator(server).post("login", {"name": name, "password": password})
    assert (status, body) == (401, {"code": 401, "message": "wrong name or password"})
    assert "Set-Cookie" not in response.headers


async def test_without_a_session_there_is_nothing(server: RunningServer) -> None:
    for cookie in ("", f"{COOKIE}=rubbish"):
        stranger = Operator(server, cookie)
        for method in (*VIEWS, *METHODS, "doctor", "logout", "nowhere"):
            status, body, _ = await stranger.post(method)
            assert (status, body["message"]) == (401, "log in first"), method
        assert await stranger.result("session") is None
        async with stranger.tail() as response:
            assert response.status == 401


async def test_a_key_of_the_server_api_is_no_session_and_a_session_is_no_key(operator: Operator) -> None:
    server = operator.server
    status, _, _ = await Operator(server).post("nodes", headers={**OURS, "X-API-Key": "key-of-the-tests"})
    assert status == 401
    headers = {"Cookie": operator.cookie, **OURS}
    async with server.http.post(f"{server.url}/api/info", json={}, headers=headers) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"X-Notifier-Console": "active", "Origin": "https://evil.example"},
        {"X-Notifier-Console": "active", "Origin": "null"},
        {"X-Notifier-Console": "active", "Origin": "http://[broken"},
        {"X-Notifier-Console": "active", "Sec-Fetch-Site": "cross-site"},
        {"X-Notifier-Console": "active", "Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_of_somebody_else_can_neither_act_nor_log_in(operator: Operator, headers: dict[str, str]) -> None:
    for method, body in (("disconnect", {"user": "ann"}), ("login", {"name": "ann", "password": PASSWORD})):
        status, answer, _ = await operator.post(method, body, headers)
        assert status == 403, answer


async def test_two_origins_are_one_too_many(operator: Operator) -> None:
    server = operator.server
    fields = [("Origin", server.url), ("Origin", server.url), ("Cookie", operator.cookie), *OURS.items()]
    async with server.http.post(f"{server.url}/admin/api/nodes", json={}, headers=fields) as response:
        assert response.status == 403


async def test_a_page_of_somebody_else_cannot_read_the_tail(operator: Operator) -> None:
    server = operator.server
    headers = {"Cookie": operator.cookie, "Origin": "https://evil.example"}
    async with server.http.get(f"{server.url}/admin/tail", headers=headers) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_our_own_page_may(operator: Operator) -> None:
    own = {**OURS, "Origin": operator.server.url}
    assert (await operator.post("nodes", headers=own))[0] == 200
    behind_a_proxy = {**OURS, "Origin": "https://elsewhere.example", "Sec-Fetch-Site": "same-origin"}
    assert (await operator.post("nodes", headers=behind_a_proxy))[0] == 200


async def test_who_guesses_has_to_wait_and_others_do_not(start_server: StartServer) -> None:
    section = ServerSection(port=0, trusted_proxies=["127.0.0.0/8"])
    server = await start_server(server=section, admin=Admin(operators=[ANN]))
    guesser = Operator(server)
    wrong = {"name": "ann", "password": "wrong"}
    headers = {**OURS, "X-Forwarded-For": "198.51.100.7"}
    statuses = [(await guesser.post("login", wrong, headers))[0] for _ in range(TRIES_AT_ONCE)]
    assert set(statuses) == {401}
    right = {"name": "ann", "password": PASSWORD}
    status, body, response = await guesser.post("login", right, headers)
    assert (status, "too many attempts" in body["message"]) == (429, True)
    assert int(response.headers["Retry-After"]) > 0
    assert (await guesser.post("login", right, {**OURS, "X-Forwarded-For": "198.51.100.8"}))[0] == 200
    assert server.node.stats.refused["operator"] == TRIES_AT_ONCE + 1


async def test_who_guesses_from_many_addresses_is_held_back_too(start_server: StartServer) -> None:
    section = ServerSection(port=0, trusted_proxies=["127.0.0.0/8"])
    server = await start_server(server=section, admin=Admin(operators=[ANN]))
    server.server.doors._admin._guard._all_tries = Limiter(Rate(0.001, 2))
    found = []
    for number in range(3):
        headers = {**OURS, "X-Forwarded-For": f"198.51.100.{number}"}
        found.append((await Operator(server).post("login", {"name": "ann", "password": "wrong"}, headers))[0])
    assert found == [401, 401, 429]


# --- what ends a session ----------------------------------------------------------------------------------------------


async def test_a_session_that_was_ended_is_over_also_for_who_kept_its_cookie(operator: Operator) -> None:
    _, _, response = await operator.post("logout")
    assert "max-age=0" in response.headers["Set-Cookie"].lower()
    assert (await operator.post("nodes"))[0] == 401


async def test_a_session_ends_when_nothing_is_done_and_goes_on_when_something_is(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(admin=Admin(operators=[ANN], session=Duration(100), session_max=Duration(1000)))
    now = time.time()
    monkeypatch.setattr(server.server.operators, "_time", lambda: now)
    operator = Operator(server)
    await operator.log_in()
    now += 60
    _, _, response = await operator.post("nodes", headers={"X-Notifier-Console": "watching"})
    assert "Set-Cookie" not in response.headers, "a page that only looks keeps no session alive"
    old = operator.cookie
    _, _, response = await operator.post("nodes")
    operator.cookie = response.headers["Set-Cookie"].partition(";")[0]
    now += 60
    assert (await operator.post("nodes"))[0] == 200
    assert (await Operator(server, old).post("nodes"))[0] == 401


async def test_an_operator_who_is_taken_out_of_the_configuration_is_out_at_once(operator: Operator) -> None:
    server = operator.server.server
    server.operators.replace([BOB])
    assert (await operator.post("nodes"))[0] == 401
    server.operators.replace([])
    assert (await operator.post("nodes"))[0] == 404


async def test_without_operators_there_is_no_such_view(start_server: StartServer) -> None:
    server = await start_server()
    for method, path in (("GET", "/admin"), ("POST", "/admin/api/login"), ("GET", "/admin/tail")):
        async with server.http.request(method, server.url + path, headers=OURS) as response:
            assert response.status == 404, path


async def test_on_a_listener_of_its_own_it_is_only_there(start_server: StartServer) -> None:
    server = await start_server(admin=Admin(port=free_port(), operators=[ANN]))
    admin = server.server.doors.admin_address.rstrip("/")
    for address, status in ((server.url, 404), (admin, 200)):
        async with server.http.get(f"{address}/admin") as response:
            assert response.status == status


# --- what it is good for ----------------------------------------------------------------------------------------------


async def test_the_page_holds_no_secret_and_may_load_and_frame_nothing(server: RunningServer) -> None:
    async with server.http.get(f"{server.url}/admin") as response:
        text, policy = await response.text(), response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert PASSWORD not in text
    assert "{{" not in text
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_answers_are_kept_by_nobody(operator: Operator) -> None:
    _, _, response = await operator.post("nodes")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_an_operator_sees_nodes_connections_and_channels(operator: Operator) -> None:
    server = operator.server
    async with server.client() as client:
        await client.subscribe("room.1")
        await server.publish("room.1", 1)
        [node] = (await operator.result("nodes"))["nodes"]
        assert (node["state"], node["clients"], node["publications"]) == ("ready", 1, 1)
        page = await operator.result("connections", channel="room.1")
        assert (page["total"], page["after"]) == (1, None)
        assert page["connections"][0]["connection"]["channels"] == ["room.1"]
        found = await operator.result("channels", search="room.*")
        assert found == {"channels": [{"channel": "room.1", "subscribers": 1, "match": "#"}], "more": False}
        channel = await operator.result("channel", channel="room.1")
        assert (channel["subscribers"], channel["top"], channel["index"]) == (1, 1, 3)
        assert channel["rule"]["history"] == {"size": 100, "ttl": 60}


async def test_pages_of_connections_are_bounded_and_hold_each_once(operator: Operator) -> None:
    server = operator.server
    async with server.client(), server.client(), server.client():
        first = await operator.result("connections", most=2)
        second = await operator.result("connections", most=2, after=first["after"])
        clients = [each["connection"]["client"] for page in (first, second) for each in page["connections"]]
        assert (len(clients), len(set(clients)), first["total"], second["after"]) == (3, 3, 3, None)


@pytest.mark.parametrize(
    ("method", "body", "status", "words"),
    [
        ("nowhere", {}, 404, "no such method"),
        ("batch", {}, 404, "no such method"),
        ("history_remove", {"channel": "room.1"}, 404, "no such method"),
        ("connections", {"most": 100_000}, 400, "most"),
        ("connections", {"after": {"x": -1}}, 400, "after"),
        ("connections", {"search": "x" * 256}, 400, "search"),
        ("channels", {"serach": "x"}, 400, "serach"),
        ("publish", {"channel": 5}, 400, "channel"),
        ("login", {"name": 5}, 400, "name"),
    ],
)
async def test_bad_requests_say_what_is_wrong(
    operator: Operator, method: str, body: dict[str, Any], status: int, words: str
) -> None:
    found, answer, _ = await operator.post(method, body)
    assert found == status
    assert words in answer["message"]


@pytest.mark.parametrize(
    ("method", "body", "words"),
    [("channel", {"channel": "a b"}, "without spaces"), ("channels", {"search": "*.é"}, "printable ASCII")],
)
async def test_bad_names_are_errors_of_the_protocol(
    operator: Operator, method: str, body: dict[str, str], words: str
) -> None:
    _, answer, _ = await operator.post(method, body)
    assert (answer["error"]["code"], words in answer["error"]["message"]) == (107, True)


async def test_only_post_and_not_more_than_a_body_may_have(operator: Operator) -> None:
    server = operator.server
    headers = {**OURS, "Cookie": operator.cookie}
    async with server.http.get(f"{server.url}/admin/api/nodes", headers=headers) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
    status, answer, _ = await operator.post("publish", {"channel": "room.1", "data": "x" * 200_000})
    assert (status, "api.max_body" in answer["message"]) == (413, True)


async def test_what_an_operator_does_is_written_down_with_the_name(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "notifier.audit")
    await operator.result("publish", channel="room.1", data={"secret": "canary"})
    await operator.result("disconnect", user="cleo")
    await operator.result("nodes")
    await operator.post("logout")
    await operator.post("login", {"name": "canary-1", "password": "canary-2"})
    told = [(vars(record).get("method", ""), vars(record).get("by", "")) for record in caplog.records]
    by = "operator ann at 127.0.0.1"
    assert told == [("publish", by), ("disconnect", by), ("logout", by), ("", "")]
    assert "canary" not in str([vars(record) for record in caplog.records])


async def test_the_doctor_is_asked_one_at_a_time(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start_server(admin=Admin(operators=[ANN]))
    operator = Operator(server)
    await operator.log_in()
    answer = await operator.result("doctor")
    assert {"configuration", "machine"} <= {finding["topic"] for finding in answer["findings"]}
    begun, going_on = asyncio.Event(), asyncio.Event()

    async def examine(_config: object) -> list[Any]:
        begun.set()
        await going_on.wait()
        return []

    monkeypatch.setattr("notifier.operator.doctor.examine", examine)
    first = asyncio.ensure_future(operator.result("doctor"))
    async with asyncio.timeout(10 * SECOND):
        await begun.wait()
    status, answer, _ = await operator.post("doctor")
    assert (status, answer["message"]) == (409, "an examination is under way already")
    going_on.set()
    assert (await first)["findings"] == []


# --- the live tail ----------------------------------------------------------------------------------------------------


async def test_the_tail_shows_what_its_filter_wants(operator: Operator) -> None:
    server = operator.server
    async with operator.tail("channel=orders.*") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert (await next_event(response))[0] == "begin"
        await server.publish("news", "not wanted")
        await server.publish("orders.eu", {"order": 17}, idempotency_key="m-1")
        name, told = await next_event(response)
    [record] = told["records"]
    assert (name, told["dropped"], record["offset"], record["message_id"]) == ("records", 0, 2, "m-1")
    assert (record["channels"], record["data"]) == (["orders.eu"], '{"order": 17}')
    await eventually(lambda: server.node.feed.watcher is None)


async def test_the_tail_of_a_user_shows_what_that_user_gets(operator: Operator) -> None:
    server = operator.server
    async with server.client() as client:
        await client.subscribe("room.1")
        [session] = server.node.of_user("")
        session.identity, by_user = Identity("cleo"), server.node._by_user
        by_user["cleo"] = by_user.pop("")
        async with operator.tail("user=cleo") as response:
            await next_event(response)
            [tail] = operator.server.server.doors._admin._tails._tails
            await eventually(lambda: tail.filter.accepts(["room.1"], ""))
            await server.publish("room.2", "not hers")
            await server.publish("room.1", "hers")
            _, told = await next_event(response)
        assert [record["data"] for record in told["records"]] == ['"hers"']


async def test_what_is_dropped_is_told(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.admin.tail.MOST_HELD", 2)
    monkeypatch.setattr("notifier.admin.endpoints.BUNDLED_FOR_S", 0.05)
    server = operator.server
    async with operator.tail() as response:
        await next_event(response)
        [tail] = server.server.doors._admin._tails._tails
        take = tail.take
        tail.take = list  # type: ignore[method-assign] # nobody takes anything for now
        for number in range(5):
            await server.publish("room.1", number)
        tail.take = take  # type: ignore[method-assign]
        await server.publish("room.1", "last")
        shown: list[str] = []
        while '"last"' not in shown:
            _, told = await next_event(response)
            shown += [record["data"] for record in told["records"]]
    assert told["dropped"] >= 3
    assert len(shown) + told["dropped"] == 6, "what is not shown is counted"


@pytest.mark.parametrize("query", ["channel=a%20b", "channel=$notifier.order", f"user={'x' * 256}"])
async def test_a_filter_that_cannot_be_is_refused(operator: Operator, query: str) -> None:
    async with operator.tail(query) as response:
        assert response.status == 400
        assert query.partition("=")[0] in (await response.json())["message"]


async def test_there_are_so_many_tails_on_a_worker(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.admin.tail.MOST_TAILS", 1)
    async with operator.tail() as first:
        await next_event(first)
        async with operator.tail() as second:
            assert (second.status, "Retry-After" in second.headers) == (503, True)


async def test_the_tail_ends_with_the_session(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.admin.endpoints.LOOK_EVERY_S", 0.05)
    async with operator.tail() as response:
        await next_event(response)
        await operator.post("logout")
        assert await next_event(response) == ("end", {})
        assert await next_event(response) == ("", None)
