"""docs/tokens.md: the examples make tokens that a real server takes, the tables say what it does with them."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from notifier import cli
from notifier.api.requests import RevokeRequest
from notifier.auth import signatures
from notifier.auth.claims import Claims
from tests.docs.pages import Page, codes_in
from tests.docs.programs import TOKEN_NODE, TOKEN_PHP, TOKEN_PYTHON, Program, run
from tests.servers import KEY, ROOT, NewServer, ServerProcess, make_token
from tests.services.deadline import SECOND
from tests.services.ports import LOCALHOST, free_port

PAGE = Page(ROOT / "docs" / "tokens.md")
OF_CONNECTIONS = PAGE.table("connection token", "SDK", "`/sse`").rows
OF_SUBSCRIPTIONS = PAGE.table("subscription token", "SDK").rows
CHANNEL = "private.17"
LONG = 20 * SECOND


class Client:
    """One WebSocket, and what an SDK would be told on it."""

    def __init__(self, http: aiohttp.ClientSession, server: ServerProcess) -> None:
        self._http, self._server = http, server
        self._id = 0
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def __aenter__(self) -> Self:
        self._socket = await self._http.ws_connect(self._server.ws_url)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._socket is not None
        await self._socket.close()

    async def ask(self, method: str, **request: Any) -> str:
        assert self._socket is not None
        self._id += 1
        await self._socket.send_json({"id": self._id, method: request})
        return await self.told()

    async def told(self) -> str:
        """The next thing that is not a ping, as the page calls it; `ok` for a result."""
        assert self._socket is not None
        while True:
            message = await self._socket.receive(LONG)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return f"disconnect {self._socket.close_code}"
            for said in map(json.loads, message.data.splitlines()):
                if "error" in said:
                    return f"error {said['error']['code']}"
                if "push" in said and "unsubscribe" in said["push"]:
                    return f"unsubscribe {said['push']['unsubscribe']['code']}"
                if said.get("id") == self._id:
                    return "ok"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


AUTH = {"auth": {"issuer": "us", "leeway": "0s"}, "clients": {"expired_grace": "1s"}}


@pytest.fixture
async def strict(new_server: NewServer) -> ServerProcess:
    return await new_server(AUTH)


def token(user: str = "42", ttl_s: float = 600, key: str = KEY, **claims: Any) -> str:
    return make_token(user, ttl_s, key, **{"iss": "us", **claims})


def signed(claims: dict[str, Any], key: Any = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode({"sub": "42", "iss": "us", "exp": time.time() + 600, **claims}, key, algorithm=algorithm)


OTHER_KEY = "another-key-of-more-than-thirty-two-bytes"

# --- connection tokens ------------------------------------------------------------------------------------------------

REFUSED: dict[str, list[Callable[[], str]]] = {
    "none, and no `auth.anonymous`": [lambda: ""],
    "cannot be read, or a wrong signature": [lambda: "rubbish", lambda: token(key=OTHER_KEY)],
    "an algorithm that none of the keys verifies": [
        lambda: signed({}, KEY.ljust(64, "x"), "HS512"),
        lambda: signed({}, None, "none"),
    ],
    "for another audience, from another issuer": [lambda: token(aud="somebody"), lambda: token(iss="them")],
    "without `exp`, or a claim of a wrong type": [
        lambda: jwt.encode({"sub": "42", "iss": "us"}, KEY, algorithm="HS256"),
        lambda: token(channels="news"),
    ],
    "a subscription token": [lambda: token(channel=CHANNEL)],
    "expired, or not good yet": [lambda: token(ttl_s=-5), lambda: token(nbf=time.time() + 60)],
    "`expire_at` is over": [lambda: token(expire_at=time.time() - 60)],
}
REFRESHED: dict[str, list[Callable[[], str]]] = {
    "refreshed with a wrong one, or another user's": [lambda: token(key=OTHER_KEY), lambda: token("43")],
    "refreshed with one that is expired or revoked": [lambda: token(ttl_s=-5), lambda: token(jti="lost")],
}


async def _status(http: aiohttp.ClientSession, server: ServerProcess, given: str, channel: str = "user.42") -> int:
    headers = {"Authorization": f"Bearer {given}"} if given else {}
    async with http.get(f"{server.url}/sse?channels={channel}", headers=headers) as response:
        return response.status


async def test_connection_tokens_are_refused_as_the_page_says(
    strict: ServerProcess, http: aiohttp.ClientSession
) -> None:
    for what, sdk, sse in OF_CONNECTIONS:
        for make in REFUSED.get(what, []):
            async with Client(http, strict) as client:
                assert await client.ask("connect", token=make()) == sdk, what
            if sse:
                assert str(await _status(http, strict, make())) == sse, what


async def test_refreshes_are_refused_as_the_page_says(strict: ServerProcess, http: aiohttp.ClientSession) -> None:
    await strict.call("revoke", token="lost")
    for what, sdk, _ in OF_CONNECTIONS:
        for make in REFRESHED.get(what, []):
            async with Client(http, strict) as client:
                assert await client.ask("connect", token=token()) == "ok"
                assert await client.ask("refresh", token=make()) == sdk, what


async def test_a_revoked_token_and_one_that_ran_out(strict: ServerProcess, http: aiohttp.ClientSession) -> None:
    rows = {what: (sdk, sse) for what, sdk, sse in OF_CONNECTIONS}
    async with Client(http, strict) as client:
        assert await client.ask("connect", token=token(ttl_s=2)) == "ok"
        assert (await client.told(), "") == rows["not refreshed in time"]
    async with Client(http, strict) as client:
        assert await client.ask("connect", token=token(jti="stolen")) == "ok"
        await strict.call("revoke", token="stolen")
        assert await client.told() == "disconnect 3005"
        assert "ends (3005, 2501)" in PAGE.text
    async with Client(http, strict) as client:
        told = await client.ask("connect", token=token(jti="stolen"))
    assert (told, str(await _status(http, strict, token(jti="stolen")))) == rows["revoked"]


async def test_while_the_key_set_cannot_be_had(new_server: NewServer, http: aiohttp.ClientSession) -> None:
    server = await new_server({"auth": {"jwks_url": f"http://{LOCALHOST}:{free_port()}/keys"}})
    key = rsa.generate_private_key(65537, 2048)
    given = jwt.encode({"sub": "42", "exp": time.time() + 60}, key, algorithm="RS256", headers={"kid": "a"})
    [(sdk, sse)] = [(sdk, sse) for what, sdk, sse in OF_CONNECTIONS if what == "the key set cannot be had"]
    async with Client(http, server) as client:
        assert (await client.ask("connect", token=given), "") == (sdk, sse)
    async with http.get(f"{server.url}/sse?channels=user.42", headers={"Authorization": f"Bearer {given}"}) as response:
        assert "notifier.disconnect" in await response.text()  # it ends


def test_every_row_about_connections_is_tried() -> None:
    tried = {*REFUSED, *REFRESHED, "revoked", "not refreshed in time", "the key set cannot be had"}
    assert {what for what, *_ in OF_CONNECTIONS} == tried


# --- subscription tokens ----------------------------------------------------------------------------------------------

Try = Callable[[Client, ServerProcess], Awaitable[str]]


def subscribing(make: Callable[[], str]) -> Try:
    async def tried(client: Client, _server: ServerProcess) -> str:
        return await client.ask("subscribe", channel=CHANNEL, token=make())

    return tried


def refreshing(make: Callable[[], str]) -> Try:
    async def tried(client: Client, _server: ServerProcess) -> str:
        assert await client.ask("subscribe", channel=CHANNEL, token=token(channel=CHANNEL)) == "ok"
        return await client.ask("sub_refresh", channel=CHANNEL, token=make())

    return tried


async def running_out(client: Client, _server: ServerProcess) -> str:
    assert await client.ask("subscribe", channel=CHANNEL, token=token(channel=CHANNEL, ttl_s=2)) == "ok"
    return await client.told()


async def revoked(client: Client, server: ServerProcess) -> str:
    given = token(channel=CHANNEL, jti="ticket")
    assert await client.ask("subscribe", channel=CHANNEL, token=given) == "ok"
    await server.call("revoke", token="ticket")
    assert await client.told() == "unsubscribe 2501"
    return await client.ask("subscribe", channel=CHANNEL, token=given)


SUBSCRIPTIONS: dict[str, list[Try]] = {
    "none, and no other term lets the client in": [subscribing(lambda: "")],
    "a wrong signature": [subscribing(lambda: token(channel=CHANNEL, key=OTHER_KEY))],
    "for another channel, user or client": [
        subscribing(lambda: token(channel="private.18")),
        subscribing(lambda: token("43", channel=CHANNEL)),
        subscribing(lambda: token(channel=CHANNEL, client="another")),
    ],
    "expired, or not good yet": [
        subscribing(lambda: token(channel=CHANNEL, ttl_s=-5)),
        subscribing(lambda: token(channel=CHANNEL, nbf=time.time() + 60)),
    ],
    "revoked": [revoked],
    "refreshed with one for another channel": [refreshing(lambda: token(channel="private.18"))],
    "refreshed with one that is expired": [refreshing(lambda: token(channel=CHANNEL, ttl_s=-5))],
    "not refreshed in time": [running_out],
}


async def test_subscription_tokens_are_refused_as_the_page_says(
    strict: ServerProcess, http: aiohttp.ClientSession
) -> None:
    assert {what for what, _ in OF_SUBSCRIPTIONS} == SUBSCRIPTIONS.keys()
    for what, sdk in OF_SUBSCRIPTIONS:
        for tried in SUBSCRIPTIONS[what]:
            async with Client(http, strict) as client:
                assert await client.ask("connect", token=token()) == "ok"
                assert await tried(client, strict) == sdk, what


# --- how to make them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [TOKEN_PYTHON, TOKEN_NODE, TOKEN_PHP], ids=lambda each: each.file)
async def test_tokens_of_the_examples_are_taken(
    program: Program, new_server: NewServer, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = await new_server()
    given = [await run(program, tmp_path, {"TOKEN_KEY": KEY}, *words) for words in (["42"], ["42", CHANNEL])]
    assert [code for code, _ in given] == [0, 0], given
    connection, subscription = (output.strip() for _, output in given)
    async with Client(http, server) as client:
        assert await client.ask("connect", token=connection) == "ok"
        assert await client.ask("subscribe", channel="user.42") == "ok"
        assert await client.ask("subscribe", channel="user.43") == "error 103"
        assert await client.ask("subscribe", channel=CHANNEL) == "error 103"
        assert await client.ask("subscribe", channel=CHANNEL, token=subscription) == "ok"
    said = jwt.decode(connection, KEY, ["HS256"])
    assert said["exp"] - said["iat"] == 600
    assert said["roles"] == []


async def test_a_cookie_and_the_address_carry_it_where_that_is_wanted(
    new_server: NewServer, http: aiohttp.ClientSession
) -> None:
    plain, wanted = await new_server(), await new_server({"auth": {"cookie": "token", "query_token": True}})
    for server, status in ((plain, 401), (wanted, 200)):
        url, given = f"{server.url}/sse?channels=user.42", make_token("42")
        async with http.get(url, headers={"Cookie": f"token={given}"}) as response:
            assert response.status == status
        async with http.get(f"{url}&token={given}") as response:
            assert response.status == status
    other = {"Cookie": f"token={make_token('43')}"}
    async with http.get(url, headers={**other, "Authorization": f"Bearer {given}"}) as response:
        assert response.status == 200
    async with http.get(f"{url}&token={given}", headers=other) as response:
        assert response.status == 403


# --- the tables -------------------------------------------------------------------------------------------------------


def test_claims_are_those_that_are_read() -> None:
    rows = PAGE.table("claim", "in", "what it does").rows
    named = [name for claim, *_ in rows for name in codes_in(claim)]
    assert sorted(named) == sorted([*Claims.__struct_fields__, "roles"])
    assert {where for _, where, _ in rows} == {"both", "connection", "subscription"}


def test_algorithms_are_those_that_keys_verify() -> None:
    rows = PAGE.table("key", "where", "algorithms").rows
    named = [name for *_, text in rows for name in text.replace("also ", "").split(", ")]
    assert sorted(named) == sorted([*signatures.ASYMMETRIC, *signatures.shared_key("x" * 64)])
    assert list(signatures.shared_key("x" * 32)) == ["HS256"]
    assert list(signatures.shared_key("x" * 48)) == ["HS256", "HS384"]


def _typed(program: str) -> list[str]:
    lines = [line.strip() for block in PAGE.blocks for line in block.body.splitlines()]
    return [line for line in lines if line.startswith(program)]


async def test_tokens_of_the_command_line_say_what_was_typed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(f'[auth]\nhmac_keys = ["{KEY}"]\n')
    said = []
    for line in _typed("notifier token"):
        words = [str(tmp_path / word) if word == "config.toml" else word for word in shlex.split(line)[1:]]
        assert await asyncio.to_thread(cli.main, words) == 0
        said.append(jwt.decode(capsys.readouterr().out.strip(), KEY, ["HS256"]))
    one, two, three = said
    assert one["sub"] == two["sub"] == three["sub"] == "42"
    assert (two["roles"], two["teams"], two["exp"] - two["iat"]) == (["support"], ["red"], 15 * 60)
    assert three["channel"] == "ticket.17"


def test_requests_to_revoke_are_such() -> None:
    lines = _typed("curl")
    assert len(lines) == 2
    for line in lines:
        msgspec.json.decode(line.split("'")[3], type=RevokeRequest, strict=True)
