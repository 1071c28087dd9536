"""docs/migrating.md: what it shows as the code of afterwards works, what it shows of before can be read."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import cent
import pytest

from notifier.config import Config, load
from notifier.core.channel import problem_with
from notifier.core.identity import Identity
from tests.docs.pages import Block, Page, codes_in, fenced
from tests.docs.programs import ADMIN, environment
from tests.docs.test_rules import decided
from tests.sdk import javascript
from tests.servers import API_KEY, ROOT, NewServer, ServerProcess, lacking, make_token
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST
from tests.services.process import Process
from tests.services.rabbitmq import RabbitMQ

PAGE = Page(ROOT / "docs" / "migrating.md")
SYSTEMS = ["RabbitMQ Web STOMP", "Socket.IO", "Pusher Channels", "Centrifugo"]
SOCKET = re.compile(r"wss://[\w.]+/connection/websocket")
# What a page has, and Node has not: a backend that gives out a token, a place to show things.
BROWSER = """
import WebSocket from "ws";
globalThis.WebSocket = WebSocket;
globalThis.fetch = async (path) => new Response(path === "/token" ? process.env.TOKEN : "", {status: 200});
globalThis.show = (data) => console.log(JSON.stringify(data));
"""


def blocks_of(system: str, note: str, language: str) -> list[Block]:
    """Those of a system's section."""
    [text] = re.findall(rf"^## From {re.escape(system)}\n(.*?)(?=^## |\Z)", PAGE.text, re.MULTILINE | re.DOTALL)
    return [block for block in fenced(text) if (block.note, block.language) == (note, language)]


def clients_of(system: str, note: str) -> list[str]:
    return [block.body for block in blocks_of(system, note, "js") if "import" in block.body]


@asynccontextmanager
async def page_with(code: str, server: ServerProcess, folder: Path) -> AsyncIterator[Path]:
    """What a page with this script has shown so far."""
    if problem := javascript.missing():
        lacking(problem)
    (folder / "node_modules").symlink_to(javascript.FOLDER / "node_modules")
    (folder / "browser.mjs").write_text(BROWSER)
    code, replaced = SOCKET.subn(server.ws_url, code)
    assert replaced == 1
    (folder / "page.mjs").write_text(f'import "./browser.mjs";\n{code}')
    shown = folder / "shown"
    variables = environment({"TOKEN": make_token("42")})
    process = Process(["node", "page.mjs"], variables, folder, shown)
    try:
        yield shown
    finally:
        await asyncio.to_thread(process.kill)


async def _is_there(server: ServerProcess) -> bool:
    assert "user.42" in (await server.call("channels"))["channels"]
    return True


async def _shows(shown: Path, data: Any) -> bool:
    assert data in [json.loads(line) for line in shown.read_text().splitlines()]
    return True


class Published(list[tuple[str, str, Any]]):
    """Stands for a channel of pika, and for the class in publish_pika.py."""

    def basic_publish(self, exchange: str, key: str, body: bytes, *, mandatory: bool) -> None:
        assert mandatory
        self.append((exchange, key, json.loads(body)))

    def publish(self, channel: str, data: Any) -> None:
        self.append((Config().rabbitmq.exchange, channel, data))


@pytest.mark.parametrize("system", SYSTEMS)
async def test_the_client_of_afterwards_shows_what_the_backend_of_afterwards_publishes(
    system: str, new_server: NewServer, tmp_path: Path
) -> None:
    server = await new_server()
    [code] = clients_of(system, "after")
    async with page_with(code, server, tmp_path) as shown:
        await eventually(lambda: _is_there(server), 20 * SECOND)
        data = await _publish_as_the_page_does(system, server)
        await eventually(lambda: _shows(shown, data), 20 * SECOND)


async def _publish_as_the_page_does(system: str, server: ServerProcess) -> Any:
    """Runs Python's; of what is JavaScript the data is taken as it stands."""
    if system == "Centrifugo":
        [block] = blocks_of(system, "after", "python")
        await asyncio.to_thread(_run_with_cent, block.body, server)
        return {"id": 1, "text": "hello"}
    if system == "Socket.IO":
        [block] = [each for each in blocks_of(system, "after", "js") if "publisher" in each.body]
        found = re.fullmatch(r'await publisher\.publish\("(?P<channel>[\w.]+)", (?P<data>.*)\);\n', block.body)
        assert found is not None
        channel, data = found["channel"], json.loads(re.sub(r"(\w+):", r'"\1":', found["data"]))
    else:
        published = Published()
        [block] = blocks_of(system, "after", "python")
        exec(block.body, {"channel": published, "publisher": published})
        [(exchange, channel, data)] = published
        assert exchange == Config().rabbitmq.exchange
    assert problem_with(channel) == ""
    await server.publish(channel, data)
    return data


def _run_with_cent(code: str, server: ServerProcess) -> None:
    code, replaced = re.subn(r"https://[\w.]+/api", f"{server.url}/api", code)
    assert replaced == 1
    exec(code, {"cent": cent, "api_key": API_KEY})


async def test_what_spoke_with_centrifugo_speaks_with_this_server_unchanged_but_for_the_address(
    new_server: NewServer, tmp_path: Path
) -> None:
    server = await new_server()
    [code] = clients_of("Centrifugo", "before")
    [backend] = blocks_of("Centrifugo", "before", "python")
    async with page_with(code, server, tmp_path) as shown:
        await eventually(lambda: _is_there(server), 20 * SECOND)
        await asyncio.to_thread(_run_with_cent, backend.body, server)
        await eventually(lambda: _shows(shown, {"id": 1, "text": "hello"}), 20 * SECOND)


async def test_a_binding_brings_what_is_published_to_amq_topic(
    broker: RabbitMQ, server: ServerProcess, tmp_path: Path
) -> None:
    ADMIN.argv(tmp_path)  # is it there?
    [block] = [block for block in PAGE.blocks if block.note == "binding"]
    options = f"--host {LOCALHOST} --port {broker.port_of('rabbitmq_management')}"
    command = block.body.replace("rabbitmqadmin", f"rabbitmqadmin {options}", 1)
    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-euc", command], env=environment({}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    channel = f"user.{secrets.token_hex(4)}"
    async with await aio_pika.connect(broker.url) as connection:
        exchange = await (await connection.channel()).get_exchange("amq.topic")
        await exchange.publish(aio_pika.Message(b'"from an old publisher"'), channel)

    async def arrived() -> bool:
        [publication] = (await server.call("history", channel=channel, limit=-1))["publications"]
        assert publication["data"] == "from an old publisher"
        return True

    await eventually(arrived, 20 * SECOND, retry=(AssertionError, ValueError))


@pytest.mark.parametrize("row", PAGE.table("user", "channel", "rule", "subscribe", "publish").rows, ids=str)
def test_the_configuration_for_those_from_centrifugo_decides_as_the_page_says(
    row: tuple[str, ...], tmp_path: Path
) -> None:
    [block] = [block for block in PAGE.blocks if block.note == "rules: centrifugo"]
    (tmp_path / "config.toml").write_text(block.body)
    config = load(tmp_path / "config.toml", {})
    user, channel, *expected = row
    [user], [channel] = codes_in(user), codes_in(channel)
    assert list(decided(config, Identity(user, claims={"sub": user}), channel, None)) == expected


def test_every_system_has_a_table_and_both_sides_before_and_after() -> None:
    assert re.findall(r"^## From (.+)$", PAGE.text, re.MULTILINE) == SYSTEMS
    assert len([table for table in PAGE.tables if table.header == ("there", "here")]) == len(SYSTEMS)
    for system in SYSTEMS:
        for note in ("before", "after"):
            assert len(clients_of(system, note)) == 1, (system, note)
            shown = [*blocks_of(system, note, "js"), *blocks_of(system, note, "python")]
            assert len(shown) == 2, (system, note)


def test_all_code_can_be_read(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        lacking("Node is not installed")
    for number, block in enumerate(PAGE.blocks):
        if block.language == "python":
            compile(block.body, f"block {number}", "exec")
        if block.language == "js":
            file = tmp_path / f"{number}.mjs"
            file.write_text(block.body)
            done = subprocess.run(["node", "--check", file], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
