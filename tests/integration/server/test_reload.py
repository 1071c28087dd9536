"""A configuration that changes while the server runs: by a signal, by the API, and what a broken file does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from notifier.config import DEV_API_KEY, DEV_OPERATOR
from tests.servers import CHANNELS, NewServer, ServerProcess, make_token, on_rabbitmq, servers
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis

NEW_KEY = "another-key-of-the-tests-that-is-long-enough"
CLOSED = [{"match": "open.#", "subscribe": ["role:boss"]}]


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as new:
        yield new


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def answer_to(http: aiohttp.ClientSession, server: ServerProcess, key: str = "") -> dict[str, Any]:
    """What a new client is told when it subscribes to `open.1`; or when it connects, if it may not."""
    token = make_token("ann", key=key) if key else make_token("ann")
    async with http.ws_connect(server.ws_url) as socket:
        commands = [{"id": 1, "connect": {"token": token}}, {"id": 2, "subscribe": {"channel": "open.1"}}]
        await socket.send_str("\n".join(map(json.dumps, commands)))
        answers: list[dict[str, Any]] = []
        async for message in socket:
            answers += [json.loads(line) for line in str(message.data).split("\n")]
            if len(answers) == 2:
                return answers[1]
        return {"closed": socket.close_code}


def log_of(server: ServerProcess) -> str:
    return server.log.read_text(errors="replace")


async def test_a_signal_makes_it_read_its_file_again(new_server: NewServer, http: aiohttp.ClientSession) -> None:
    server = await new_server()
    assert "subscribe" in await answer_to(http, server)
    server.config["channels"] = CLOSED
    server.config["auth"] = {**server.config["auth"], "hmac_keys": [NEW_KEY, *server.config["auth"]["hmac_keys"]]}
    server.write()
    os.kill(server.pid, signal.SIGHUP)

    async def refused() -> bool:
        return "error" in await answer_to(http, server, NEW_KEY)

    await eventually(refused, 10 * SECOND)
    assert (await answer_to(http, server))["error"]["code"] == 103
    assert NEW_KEY not in log_of(server)


async def test_limits_change_while_it_runs(new_server: NewServer, http: aiohttp.ClientSession) -> None:
    server = await new_server()
    assert "subscribe" in await answer_to(http, server)
    server.config["limits"] = {"connects_per_user": 0.001, "connects_per_user_burst": 1}
    server.write()
    assert (await server.call("reload"))["changed"] == ["limits.connects_per_user", "limits.connects_per_user_burst"]
    assert "subscribe" in await answer_to(http, server)
    assert "subscribe" not in await answer_to(http, server)
    del server.config["limits"]
    server.write()
    await server.call("reload")
    assert "subscribe" in await answer_to(http, server)


async def test_a_broken_file_changes_nothing_and_says_why(new_server: NewServer, http: aiohttp.ClientSession) -> None:
    server = await new_server()
    server.file.write_text("[[channels]]\nmatch = 'a b'\n[server]\nport = 'x'\n")
    os.kill(server.pid, signal.SIGHUP)
    await eventually(lambda: "the old one stays: server.port" in log_of(server), 10 * SECOND)
    assert "subscribe" in await answer_to(http, server)
    told = await server.post("reload")
    assert told["error"]["code"] == 107
    assert "server.port" in told["error"]["message"]
    assert "subscribe" in await answer_to(http, server)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"connect": {"subscribe": ["user.{"]}}, "connect.subscribe"),
        ({"rpc": [{"method": "#.#.", "queue": "q", "allow": ["nobody in particular"]}]}, "rpc[0]"),
        ({"channels": [*CLOSED, {"match": "a", "subscribe": ["user.{"]}]}, "channels[1]"),
        ({"auth": {"public_keys": ["@/nowhere.pem"]}}, "auth.public_keys"),
        ({"auth": {"hmac_keys": ["short"]}}, "auth.hmac_keys"),
    ],
)
async def test_of_a_file_with_one_mistake_nothing_is_taken_at_all(
    new_server: NewServer, http: aiohttp.ClientSession, broken: dict[str, Any], named: str
) -> None:
    """Be it found last of all: what else is in the file does not hold either."""
    server = await new_server()
    auth = server.config["auth"]
    keys = {"hmac_keys": [NEW_KEY, *auth["hmac_keys"]]}
    server.config |= {"channels": CLOSED, "auth": {**auth, **keys}, "logging": {"level": "debug"}, **broken}
    if "auth" in broken:
        server.config["auth"] = {**auth, **keys, **broken["auth"]}
    server.write()
    told = await server.post("reload")
    assert named in told["error"]["message"]
    assert "subscribe" in await answer_to(http, server)
    assert await answer_to(http, server, NEW_KEY) == {"closed": 3500}
    assert '"level": "debug"' not in log_of(server)


async def test_the_log_level_changes_while_it_runs(new_server: NewServer, http: aiohttp.ClientSession) -> None:
    server = await new_server()
    await answer_to(http, server)
    assert "a client has connected" not in log_of(server)
    server.config["logging"] = {"level": "debug"}
    server.write()
    assert (await server.call("reload"))["changed"] == ["logging.level"]
    await answer_to(http, server)
    await eventually(lambda: "a client has gone" in log_of(server))
    server.config["logging"] = {"level": "warning"}
    server.write()
    os.kill(server.pid, signal.SIGHUP)

    async def quiet() -> bool:
        before = log_of(server)
        await answer_to(http, server)
        return log_of(server) == before

    await eventually(quiet)


async def test_the_api_says_what_has_changed_and_what_waits(new_server: NewServer, http: aiohttp.ClientSession) -> None:
    server = await new_server()
    assert await server.call("reload") == {"changed": [], "needs_restart": []}
    server.config["channels"] = CLOSED
    server.config["clients"] = {"max_channels": 7}
    server.config["server"] = {**server.config["server"], "shutdown_grace": "7s"}
    server.write()
    told = await server.call("reload")
    assert told == {"changed": ["clients.max_channels", "channels"], "needs_restart": ["server.shutdown_grace"]}
    assert await server.call("reload") == {"changed": [], "needs_restart": ["server.shutdown_grace"]}
    assert (await answer_to(http, server))["error"]["code"] == 103
    async with http.post(f"{server.url}/api/reload", headers={"X-API-Key": "wrong"}) as response:
        assert response.status == 401
    assert '"method": "reload"' in log_of(server)


async def test_all_workers_read_it(new_server: NewServer, rabbitmq: RabbitMQ, http: aiohttp.ClientSession) -> None:
    server = await new_server({**on_rabbitmq(rabbitmq.url), "server": {"workers": 2}})

    async def answers(kind: str) -> bool:
        return all([kind in await answer_to(http, server) for _ in range(8)])

    server.config["channels"] = CLOSED
    server.write()
    await server.call("reload")
    await eventually(lambda: answers("error"), 10 * SECOND)
    server.config["channels"] = CHANNELS
    server.write()
    os.kill(server.pid, signal.SIGHUP)
    await eventually(lambda: answers("subscribe"), 10 * SECOND)


async def test_with_an_archive_it_is_not_changed_what_it_holds(
    new_server: NewServer, rabbitmq: RabbitMQ, redis_server: Redis
) -> None:
    archived = {"match": "kept.#", "history": {"size": 5, "ttl": "1h"}, "archive": {"size": 50, "ttl": "2h"}}
    sections = {**on_rabbitmq(rabbitmq.url), "redis": {"url": redis_server.url, "prefix": "reload"}}
    server = await new_server({**sections, "channels": [archived]})
    server.config["channels"] = [{**archived, "subscribe": ["anyone"], "history": {"size": 9, "ttl": "1h"}}]
    server.write()
    assert (await server.call("reload"))["changed"] == ["channels"]
    server.config["channels"] = [archived, {"match": "more.#", "history": {"size": 5, "ttl": "1h"}}]
    server.write()
    assert "needs a restart" in (await server.post("reload"))["error"]["message"]


async def test_an_operator_who_is_added_may_log_in_at_once(new_server: NewServer, http: aiohttp.ClientSession) -> None:
    server = await new_server()

    async def status() -> int:
        login = {"name": "ann", "password": DEV_API_KEY}
        headers = {"X-Notifier-Console": "active"}
        async with http.post(f"{server.url}/admin/api/login", json=login, headers=headers) as response:
            return response.status

    assert await status() == 404
    server.config["admin"] = {"operators": [DEV_OPERATOR.replace("dev:", "ann:", 1)]}
    server.write()
    os.kill(server.pid, signal.SIGHUP)
    await eventually(lambda: "admin.operators" in log_of(server))
    assert await status() == 200
