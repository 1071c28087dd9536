"""The commands as a person types them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from notifier import __version__
from tests.services.deadline import SECOND, eventually
from tests.services.ports import free_port

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}


def run(*words: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "notifier", *words],
        input=stdin, capture_output=True, text=True, timeout=30 * SECOND, check=False, env={**CLEAN, **variables},
    )  # fmt: skip


async def run_async(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, *words, **variables)


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["publish", "--help"], ["tail", "--help"]])
def test_help_is_there(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 0
    assert "usage: notifier" in done.stdout


def test_the_version_is_told() -> None:
    assert run("version").stdout.strip() == __version__


@pytest.mark.parametrize("words", [[], ["nonsense"], ["publish"], ["serve", "--dev", "--config", "x"], ["token"]])
def test_wrong_words_are_exit_code_2_without_a_traceback(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert "usage: notifier" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_tells_every_mistake_and_nothing_of_secrets(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        '[server]\nport = "x"\n[auth]\nhmac_keys = ["canary"]\n[[channels]]\nmatch = "a b"\nsubscribe = 5\n'
    )
    done = run("check", "--config", str(path))
    assert done.returncode == 2
    assert "server.port" in done.stderr
    assert "channels[0].subscribe" in done.stderr
    assert "canary" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_check_tells_the_mistakes_of_rules_too(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[[channels]]\nmatch = "a b"\n[[channels]]\nmatch = "ok"\nsubscribe = ["user.{sub"]\n')
    done = run("check", "-c", str(path))
    assert done.returncode == 2
    assert "channels[0].match" in done.stderr
    assert "channels[1].subscribe" in done.stderr


def test_check_can_show_the_configuration_as_an_asyncapi_document(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('channels = [{ match = "news.*", subscribe = ["anyone"] }]')
    done = run("check", "--asyncapi", "--config", str(path))
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["asyncapi"] == "3.0.0"
    assert document["channels"]["rule0"]["title"] == "news.*"
    assert document["servers"]["plainSse"]["host"] == "127.0.0.1:8000"


def test_check_says_what_a_good_configuration_lacks(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    done = run("check", "-c", str(path))
    assert done.returncode == 0
    assert done.stdout.startswith("ok: ")
    assert done.stdout.count("note: ") == 3


async def test_a_server_that_is_open_to_nobody_says_so() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "notifier", "serve", stdout=asyncio.subprocess.PIPE,
        env={**CLEAN, "NOTIFIER_SERVER__PORT": str(free_port()), "NOTIFIER_SERVER__CONSOLE": "false"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20 * SECOND):
            lines = [(await process.stdout.readline()).decode() for _ in range(4)]
        assert [line.partition(":")[0] for line in lines[1:]] == ["note"] * 3
        assert "[[channels]]" in "".join(lines)
    finally:
        process.terminate()
        await process.wait()


def test_check_explains_what_a_client_may_do_with_a_channel(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f'[auth]\nhmac_keys = ["{"k" * 32}"]\n'
        '[[channels]]\nmatch = "user.*"\nsubscribe = ["user.{sub}"]\n'
        '[[channels]]\nmatch = "private.*"\nsubscribe = ["token"]\n'
    )

    def token(*words: str) -> str:
        return run("token", *words, "-c", str(path)).stdout.strip()

    mine = run("check", "-c", str(path), "--channel", "user.7", "--token", "-", stdin=token("7"))
    assert mine.returncode == 0, mine.stderr
    assert 'subscribe: allowed, by "user.{sub}" with sub = 7' in mine.stdout
    other = run("check", "-c", str(path), "--channel", "user.8", NOTIFIER_TOKEN=token("7"))
    assert other.returncode == 1
    assert "channels[0]" in other.stdout
    words = ["check", "-c", str(path), "--channel", "private.1", "--token", token("7"), "--subscription-token"]
    assert run(*words, token("7", "--channel", "private.1")).returncode == 0
    wrong = run(*words, token("7", "--channel", "private.2"))
    assert wrong.returncode == 1
    assert "the token is for another channel" in wrong.stdout
    spoiled = run("check", "-c", str(path), "--channel", "user.7", "--token", token("7")[:-4] + "AAAA")
    assert spoiled.returncode == 1
    assert "the token's signature is wrong" in spoiled.stderr
    assert run("check", "-c", str(path), "--channel", "a b").returncode == 2


def test_the_reference_configuration_is_a_good_one() -> None:
    assert run("check", "-c", str(Path(__file__).parents[2] / "config" / "notifier.toml")).returncode == 0


def test_development_mode_cannot_be_reached_from_elsewhere() -> None:
    done = run("serve", "--dev", NOTIFIER_SERVER__HOST="0.0.0.0")
    assert done.returncode == 2
    assert "development key" in done.stderr


def test_a_token_needs_a_key_and_sensible_words() -> None:
    assert run("token", "ann").returncode == 1
    assert run("token", "--dev", "ann", "--ttl", "soon").returncode == 2
    assert run("token", "--dev", "ann", "--claim", "x").returncode == 2
    assert run("token", "--dev", "ann", "--role", "admin").stdout.count(".") == 2


def test_a_password_becomes_an_entry_of_the_configuration() -> None:
    made = run("password", "ann", stdin="a long password\n")
    assert (made.returncode, made.stderr) == (0, "")
    assert run("check", NOTIFIER_ADMIN__OPERATORS=made.stdout.strip()).returncode == 0
    short = run("password", "ann", stdin="short\n")
    assert (short.returncode, short.stdout) == (2, "")
    assert "at least 12 characters" in short.stderr


def test_the_development_operator_cannot_be_reached_from_elsewhere() -> None:
    done = run("serve", "--dev", NOTIFIER_ADMIN__HOST="0.0.0.0", NOTIFIER_ADMIN__PORT="8999")
    assert done.returncode == 2
    assert "admin.operators: the development password is public" in done.stderr


def test_publish_says_what_is_wrong() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert run("publish", "a", "not json", "--url", url).returncode == 2
    refused = run("publish", "a", "1", "--url", url)
    assert refused.returncode == 1
    assert "refused" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run("publish", "a", "1", "--url", "ftp://x").returncode == 1


def test_a_text_without_quotes_is_told_how_json_writes_it() -> None:
    assert "in double quotes, as in '\"hello\"'" in run("publish", "news", "hello").stderr


class Serving:
    """`notifier serve --dev` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    async def output(self) -> tuple[str, str]:
        out, err = await self.process.communicate()
        return out.decode(), err.decode()


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with serve() as serving:
        yield serving


@pytest.fixture
async def keyed() -> AsyncIterator[Serving]:
    """One whose API key is not the development key."""
    async with serve(NOTIFIER_API__KEYS='["some-other-key"]') as serving:
        yield serving


@contextlib.asynccontextmanager
async def serve(**variables: str) -> AsyncIterator[Serving]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "notifier", "serve", "--dev",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**CLEAN, **variables, "NOTIFIER_SERVER__PORT": str(port)},
    )  # fmt: skip
    serving = Serving(process, port)
    async with aiohttp.ClientSession() as session:

        async def ready() -> bool:
            async with session.get(f"{serving.url}/readyz") as response:
                return response.status == 200

        await eventually(ready, 30 * SECOND, retry=(aiohttp.ClientError,))
        yield serving
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_message_published_by_hand_is_shown_by_tail(serving: Serving) -> None:
    tail = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "notifier", "tail", "news", "user.42", "--count", "2", "--url", serving.url,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN,
    )  # fmt: skip
    assert tail.stderr is not None
    assert (await tail.stderr.readline()).startswith(b"subscribed: ")
    done = await run_async("publish", "news", '{"text": "hello"}', "--url", serving.url, "--tag", "lang=en")
    assert json.loads(done.stdout)["offset"] == 1
    await run_async("publish", "user.42", "1", "--url", serving.url)
    out, _ = await asyncio.wait_for(tail.communicate(), 20 * SECOND)
    first, second = map(json.loads, out.splitlines())
    assert first == {"channel": "news", "data": {"text": "hello"}, "offset": 1, "tags": {"lang": "en"}}
    assert second["channel"] == "user.42"
    assert tail.returncode == 0


async def test_explain_says_where_a_message_has_gone(serving: Serving) -> None:
    await run_async("publish", "user.42", "1", "--id", "m1", "--url", serving.url)
    done = await run_async("explain", "m1", "--url", serving.url)
    assert done.returncode == 0, done.stderr
    assert "read at offset 1" in done.stdout
    assert "user.42, channels[0]" in done.stdout
    assert "delivered, written to 0 connections" in done.stdout
    unknown = await run_async("explain", "--offset", "77", "--url", serving.url)
    assert unknown.returncode == 1
    assert "has not read it" in unknown.stdout
    assert (await run_async("explain", "--url", serving.url)).returncode == 2


async def test_tail_says_why_it_may_not(serving: Serving) -> None:
    done = await run_async("tail", "user.43", "--url", serving.url, "--token", "x")
    assert done.returncode == 1
    assert "401" in done.stderr


async def test_a_wrong_key_is_said(serving: Serving) -> None:
    done = await run_async("publish", "a", "1", "--url", serving.url, "--api-key", "wrong")
    assert done.returncode == 1
    assert "401" in done.stderr


async def test_a_key_that_was_not_given_is_asked_for(serving: Serving, keyed: Serving) -> None:
    done = await run_async("publish", "a", "1", "--url", keyed.url)
    assert "--api-key or NOTIFIER_API_KEY" in done.stderr
    done = await run_async("publish", "a", "1", "--url", serving.url, "--api-key", "wrong")
    assert "--api-key" not in done.stderr


async def test_serve_says_where_the_console_is_and_that_only_this_machine_can_connect(serving: Serving) -> None:
    serving.process.send_signal(signal.SIGTERM)
    out, err = await serving.output()
    assert f"Console: {serving.url}/" in out
    assert "only this machine" in out
    assert "Traceback" not in err
    assert serving.process.returncode == 0


async def test_a_taken_address_is_said_without_a_traceback(serving: Serving) -> None:
    done = await run_async("serve", "--dev", NOTIFIER_SERVER__PORT=serving.url.rsplit(":", 1)[1])
    assert done.returncode == 2
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_moves_clients_off_and_ends_with_0(serving: Serving, number: signal.Signals) -> None:
    """F-N2."""
    async with connect(serving.url.replace("http", "ws") + "/connection/websocket") as socket:
        await socket.send('{"id":1,"connect":{}}')
        await socket.recv()
        serving.process.send_signal(number)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 3001
    assert await asyncio.wait_for(serving.process.wait(), 10 * SECOND) == 0
