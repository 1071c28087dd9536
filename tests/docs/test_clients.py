"""The examples of docs/clients.md: in a browser, in Python and with curl, through a loss and a gap."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page

from tests.browser.conftest import browser, context
from tests.docs.application import Application, bundle
from tests.docs.programs import FOLLOW_CURL, FOLLOW_PYTHON, Program, environment
from tests.servers import Backend, NewServer, ServerProcess, make_token
from tests.services.deadline import SECOND, eventually
from tests.services.process import Process

__all__ = ["browser", "context"]  # fixtures

LONG = 40 * SECOND
COOKIE = {"auth": {"cookie": "token"}, "clients": {"sse_retry": "100ms"}}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def user() -> str:
    """One of its own for each test."""
    return secrets.token_hex(4)


@pytest.fixture
async def application(script: Path, user: str) -> AsyncIterator[Application]:
    async with Application(script, user) as application:
        application.items = [{"id": 1, "text": "of before"}]
        yield application


@pytest.fixture
async def page(context: BrowserContext, application: Application) -> Page:
    page = await context.new_page()
    await page.goto(application.url)
    return page


async def with_sdk(page: Page, server: ServerProcess, user: str) -> None:
    await page.evaluate("url => connectTo(url)", server.ws_url)
    await page.evaluate("channel => follow(channel)", f"user.{user}")


async def with_eventsource(page: Page, server: ServerProcess, user: str) -> None:
    await page.context.add_cookies([{"name": "token", "value": make_token(user), "url": server.url}])
    await page.evaluate("url => listen(url)", f"{server.url}/sse?channels=user.{user}")


WAYS = pytest.mark.parametrize("begin", [with_sdk, with_eventsource])


@WAYS
async def test_a_page_gets_the_state_of_before_then_what_arrives_and_what_it_missed(
    begin: Any, new_server: NewServer, on_broker: dict[str, Any], page: Page, application: Application, user: str
) -> None:
    server = await new_server({**on_broker, **COOKIE})
    application.broken = 1  # the first attempt to load fails
    await begin(page, server, user)
    await eventually(lambda: _put(page, [1]), LONG)
    assert await page.evaluate("loads") == 2
    await server.publish(f"user.{user}", {"id": 2})
    await eventually(lambda: _put(page, [1, 2]), LONG)
    server.kill()
    async with Backend(server) as backend:
        await backend.publish(f"user.{user}", {"id": 3})
    await server.start()
    await server.publish(f"user.{user}", {"id": 4})
    await eventually(lambda: _put(page, [1, 2, 3, 4]), LONG)
    assert await page.evaluate("loads") == 2, "nothing was missing"
    await page.evaluate("stop()")
    await eventually(lambda: _has_no_channel(server, f"user.{user}"), LONG)
    assert await page.evaluate("ended") == []


@WAYS
async def test_a_page_that_cannot_have_everything_back_loads_the_state_again(
    begin: Any, new_server: NewServer, page: Page, application: Application, user: str
) -> None:
    server = await new_server(COOKIE)
    await begin(page, server, user)
    await eventually(lambda: _put(page, [1]), LONG)
    application.items.append({"id": 2, "text": "published while nobody listened"})
    server.kill()
    await server.start()  # its log was in memory
    await eventually(lambda: _put(page, [1, 1, 2]), LONG)


@WAYS
async def test_a_page_is_told_when_it_may_not(
    begin: Any, new_server: NewServer, page: Page, application: Application
) -> None:
    server = await new_server(COOKIE)
    if begin is with_eventsource:
        await page.context.add_cookies([{"name": "token", "value": make_token("someone"), "url": server.url}])
        await page.evaluate("url => listen(url)", f"{server.url}/sse?channels=user.else")
    else:
        await begin(page, server, "else")
    await eventually(lambda: page.evaluate("ended.length"), LONG)
    assert await page.evaluate("[put.length, loads]") == [0, 0]


async def test_the_sdk_stays_away_when_nobody_is_logged_in(
    new_server: NewServer, page: Page, application: Application, user: str
) -> None:
    server = await new_server()
    application.user = ""
    await with_sdk(page, server, user)
    await eventually(lambda: page.evaluate("client.state === 'disconnected'"), LONG)


# --- React ------------------------------------------------------------------------------------------------------------


async def test_two_components_of_one_channel_show_everything_once(
    new_server: NewServer, on_broker: dict[str, Any], page: Page, application: Application, user: str
) -> None:
    server = await new_server(on_broker)
    await page.evaluate("url => connectTo(url)", server.ws_url)
    await page.evaluate("user => render(user)", user)
    await eventually(lambda: _shown(page, ["of before"] * 2), LONG)
    assert await page.locator("[aria-busy=false]").count() == 2
    server.kill()
    async with Backend(server) as backend:
        await backend.publish(f"user.{user}", {"id": 2, "text": "missed"})
    await server.start()
    await eventually(lambda: _shown(page, ["of before", "missed"] * 2), LONG)
    loads = await page.evaluate("loads")
    await page.evaluate("show(1)")
    await server.publish(f"user.{user}", {"id": 3, "text": "later"})
    await eventually(lambda: _shown(page, ["of before", "missed", "later"]), LONG)
    assert await page.evaluate("loads") == loads
    await page.evaluate("show(0)")
    await eventually(lambda: page.evaluate("Object.keys(client.subscriptions()).length === 0"), LONG)
    await page.evaluate("show(1)")
    await eventually(lambda: _shown(page, ["of before"]), LONG)


async def test_a_component_shows_that_it_may_not(new_server: NewServer, page: Page, application: Application) -> None:
    server = await new_server()
    await page.evaluate("url => connectTo(url)", server.ws_url)
    await page.evaluate("user => render(user)", "else")
    await eventually(lambda: _alerts(page, 2), LONG)


# --- programs ---------------------------------------------------------------------------------------------------------


class Follower:
    """An example that prints each publication as a line of JSON, and what else it has to say as other lines."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @property
    def data(self) -> list[Any]:
        return [found for line in self._lines if (found := _parsed(line)) is not None]

    @property
    def told(self) -> list[str]:
        return [line for line in self._lines if _parsed(line) is None]

    @property
    def _lines(self) -> list[str]:
        *whole, _begun = self.process.log.read_text().split("\n")
        return whole


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


@contextlib.contextmanager
def following(
    program: Program, folder: Path, server: ServerProcess, application: Application, channel: str, *words: str
) -> Iterator[Follower]:
    variables = {
        "NOTIFIER_URL": server.url,
        "NOTIFIER_WS_URL": server.ws_url,
        "NOTIFIER_TOKEN": make_token(application.user),
        "TOKEN_URL": f"{application.url}/token",
    }
    log = folder / f"{secrets.token_hex(4)}.log"
    process = Process([*program.argv(folder), channel, *words], environment(variables), folder, log)
    try:
        yield Follower(process)
    finally:
        process.kill()


@pytest.fixture
async def anyone() -> AsyncIterator[Application]:
    """An application without a page."""
    async with Application() as application:
        application.user = secrets.token_hex(4)
        yield application


PROGRAMS = pytest.mark.parametrize("program", [FOLLOW_PYTHON, FOLLOW_CURL], ids=lambda each: each.file)


@PROGRAMS
async def test_a_program_misses_nothing_and_is_told_of_a_gap(
    program: Program, new_server: NewServer, on_broker: dict[str, Any], anyone: Application, tmp_path: Path
) -> None:
    server = await new_server(on_broker)
    channel = f"user.{anyone.user}"
    with following(program, tmp_path, server, anyone, channel) as follower:
        await eventually(lambda: _gaps(follower) == 1, LONG)
        await server.publish(channel, {"id": 1})
        await eventually(lambda: follower.data == [{"id": 1}], LONG)
        server.kill()
        async with Backend(server) as backend:
            await backend.publish(channel, {"id": 2})
        await server.start()
        await server.publish(channel, {"id": 3})
        await eventually(lambda: follower.data == [{"id": 1}, {"id": 2}, {"id": 3}], LONG)
        assert _gaps(follower) == 1


@PROGRAMS
async def test_a_program_is_told_of_a_gap(
    program: Program, new_server: NewServer, anyone: Application, tmp_path: Path
) -> None:
    server = await new_server()
    with following(program, tmp_path, server, anyone, f"user.{anyone.user}") as follower:
        await eventually(lambda: _gaps(follower) == 1, LONG)
        server.kill()
        await server.start()  # its log was in memory
        await eventually(lambda: _gaps(follower) == 2, LONG)


@PROGRAMS
async def test_a_program_ends_when_it_is_refused(
    program: Program, new_server: NewServer, anyone: Application, tmp_path: Path
) -> None:
    server = await new_server()
    with following(program, tmp_path, server, anyone, "user.somebody-else") as follower:
        await eventually(lambda: not follower.process.alive, LONG)
        assert any("103" in text or "403" in text for text in follower.told), follower.told


async def test_curl_goes_on_where_it_was_also_after_its_own_restart(
    new_server: NewServer, anyone: Application, tmp_path: Path
) -> None:
    server = await new_server()
    channel, place = f"user.{anyone.user}", tmp_path / "place"
    with following(FOLLOW_CURL, tmp_path, server, anyone, channel, str(place)) as first:
        await eventually(lambda: _gaps(first) == 1, LONG)
        before = place.read_text()
        await server.publish(channel, 1)
        await eventually(lambda: first.data == [1] and place.read_text() not in ("", before), LONG)
    await server.publish(channel, 2)
    with following(FOLLOW_CURL, tmp_path, server, anyone, channel, str(place)) as second:
        await eventually(lambda: second.data == [2], LONG)
        assert _gaps(second) == 0


def _gaps(follower: Follower) -> int:
    """How often it was told that something may be missing; the first time it always is."""
    return sum('"recovered":false' in text or "may be missing" in text for text in follower.told)


async def _put(page: Page, ids: list[int]) -> bool:
    assert [item["id"] for items in await page.evaluate("put") for item in items] == ids
    return True


async def _has_no_channel(server: ServerProcess, channel: str) -> bool:
    return channel not in (await server.call("channels"))["channels"]


async def _shown(page: Page, texts: list[str]) -> bool:
    assert await page.locator("li").all_inner_texts() == texts
    return True


async def _alerts(page: Page, count: int) -> bool:
    return await page.locator("[role=alert]").count() == count
