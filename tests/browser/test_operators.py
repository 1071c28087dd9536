"""The operators' view: what an operator sees and does on the page at `/admin`, with two nodes and real clients."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import aiohttp
import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from notifier.config import DEV_API_KEY, DEV_OPERATOR
from tests.browser.test_console import MAX_TABS, NOTE_VIOLATIONS, PHONE, brightness, wider_than
from tests.servers import ServerProcess, make_token, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ

PASSWORD = DEV_API_KEY
COOKIE = "notifier-operator"
LONG_MS = 20_000 * SECOND
VIEWS = ["overview", "connections", "channels", "channels?name=room.1", "live", "explain", "doctor"]
EVIL = "<img/src=x/onerror=document.title='broken-in'>"
CHANNELS: list[dict[str, Any]] = [
    {"match": "plain.#", "subscribe": ["anyone"]},
    {"match": "#", "history": {"size": 50, "ttl": "1h"}, "presence": True, "wildcard": True, "subscribe": ["anyone"]},
]


class Nodes(NamedTuple):
    """`north` has two workers."""

    north: ServerProcess
    south: ServerProcess


@pytest.fixture(scope="module")
def nodes(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("operators")
    sections: dict[str, Any] = {
        **on_rabbitmq(rabbitmq.url),
        "channels": CHANNELS,
        "admin": {"operators": [DEV_OPERATOR.replace("dev:", "olga:", 1)]},
    }
    found = Nodes(
        ServerProcess(folder, {**sections, "server": {"name": "north", "workers": 2}}),
        ServerProcess(folder, {**sections, "server": {"name": "south"}}),
    )
    try:
        asyncio.run(_start(found))
        yield found
    finally:
        for node in found:
            node.kill()


@pytest.fixture(scope="module")
def session(nodes: Nodes) -> str:
    """The cookie of a login, for those tests that are about something else: who logs in often has to wait."""
    return asyncio.run(_log_in(nodes.north))


async def _log_in(node: ServerProcess) -> str:
    login = {"name": "olga", "password": PASSWORD}
    url = f"{node.url}/admin/api/login"
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=login, headers={"X-Notifier-Console": "x"}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return answer.cookies[COOKIE].value


async def _start(nodes: Nodes) -> None:
    for node in nodes:
        await node.start()
    for node in nodes:
        await eventually(lambda node=node: _knows_all(node), 30 * SECOND)  # type: ignore[misc]


async def _knows_all(node: ServerProcess) -> bool:
    return len((await node.call("info"))["nodes"]) == 3


class Client:
    """A client of an application; `closed` is the code with which the server ended it, 0 while it goes on."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.heard: list[Any] = []
        self.closed = 0

    async def listen(self) -> None:
        async for message in self._socket:
            for told in map(json.loads, message.data.split("\n")):
                if not told:
                    await self._socket.send_str("{}")
                elif pub := told.get("push", {}).get("pub"):
                    self.heard.append(pub["data"])
        self.closed = self._socket.close_code or 1


@asynccontextmanager
async def client(server: ServerProcess, user: str, *channels: str) -> AsyncIterator[Client]:
    """A connected one, with these subscriptions."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        await socket.send_json({"id": 1, "connect": {"token": make_token(user)}})
        assert "connect" in await socket.receive_json(timeout=20 * SECOND)
        for number, channel in enumerate(channels, 2):
            await socket.send_json({"id": number, "subscribe": {"channel": channel}})
            assert "subscribe" in await socket.receive_json(timeout=20 * SECOND)
        found = Client(socket)
        listening = asyncio.create_task(found.listen())
        try:
            yield found
        finally:
            listening.cancel()


class Console:
    """The page, and what went wrong on it."""

    def __init__(self, page: Page, server: ServerProcess) -> None:
        self.page = page
        self.problems: list[str] = []
        self.strangers: list[str] = []
        self.server = server
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._note_request(request.url))

    async def open(self) -> None:
        await self.page.add_init_script(NOTE_VIOLATIONS)
        await self.page.goto(f"{self.server.url}/admin")

    async def enter(self, session: str) -> None:
        """With a session that was begun elsewhere."""
        await self.page.context.add_cookies([{"name": COOKIE, "value": session, "url": self.server.url}])
        await self.open()
        await self.is_in()

    async def log_in(self, name: str = "olga", password: str = PASSWORD) -> None:
        await self.page.locator("#login-name").fill(name)
        await self.page.locator("#login-password").fill(password)
        await self.page.locator("#login-button").click()

    async def is_in(self) -> None:
        await expect(self.page.locator("#who")).to_have_text("olga", timeout=LONG_MS)

    async def go(self, view: str) -> None:
        await self.page.evaluate("hash => { location.hash = hash; }", f"#{view}")

    async def shows(self, where: str, text: str | re.Pattern[str]) -> None:
        await expect(self.page.locator(where)).to_contain_text(text, timeout=LONG_MS)

    async def say_yes(self) -> None:
        await self.page.locator("#dialog-yes").click()
        await expect(self.page.locator("dialog")).to_have_count(0, timeout=LONG_MS)

    async def violations(self) -> list[str]:
        return [str(directive) for directive in await self.page.evaluate("window.violations")]

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    def _note_request(self, url: str) -> None:
        if not url.startswith((self.server.url, "data:")):
            self.strangers.append(url)


@pytest.fixture
async def console(context: BrowserContext, nodes: Nodes, session: str) -> AsyncIterator[Console]:
    """Logged in; it must end without errors."""
    console = Console(await context.new_page(), nodes.north)
    await console.enter(session)
    yield console
    assert console.problems == []
    assert await console.violations() == []
    assert console.strangers == [], "nothing may be loaded from elsewhere"


async def test_only_who_knows_the_password_gets_in(context: BrowserContext, nodes: Nodes) -> None:
    console = Console(await context.new_page(), nodes.north)
    await console.open()
    await expect(console.page.locator("#console")).to_be_hidden()
    await console.log_in(password="a wrong one")
    await console.shows("#login-hint", "wrong name or password")
    await console.log_in()
    await console.is_in()
    await expect(console.page.locator("#login")).to_be_hidden()
    assert await console.page.evaluate("document.cookie") == "", "no script can read the session"
    await console.page.reload()
    await console.is_in()


async def test_a_session_holds_on_every_worker_and_node(console: Console, nodes: Nodes) -> None:
    page = await console.page.context.new_page()
    elsewhere = Console(page, nodes.south)
    await elsewhere.open()  # cookies know no ports (RFC 6265 section 8.5), and all nodes are on this machine
    await elsewhere.is_in()
    for _ in range(20):
        answer = await page.request.post(f"{nodes.north.url}/admin/api/session", headers={"X-Notifier-Console": "x"})
        assert (await answer.json())["result"]["name"] == "olga"


async def test_all_workers_of_all_nodes_are_shown_with_their_figures(console: Console, nodes: Nodes) -> None:
    async with client(nodes.south, "ann", "room.1"):
        for name in ("north / 0", "north / 1", "south"):
            await console.shows("#nodes", name)
        row = console.page.locator("#nodes tr", has_text="south")
        await expect(row).to_contain_text("ready")
        await expect(row.locator("td").nth(4)).to_have_text("1", timeout=LONG_MS)
        await console.shows("#tiles", "3 workers, all ready")
        before = await nodes.north.publish("room.1", 1)
        await eventually(lambda: _all_have_read(console, before))
        await expect(console.page.locator("#charts figure").first.locator("path.line")).not_to_have_count(0)


async def _all_have_read(console: Console, offset: int) -> bool:
    texts = await console.page.locator("#nodes tbody td:nth-child(8)").all_inner_texts()
    return len(texts) == 3 and all(int(text.replace(",", "")) >= offset for text in texts)


async def test_a_connection_on_another_node_is_found_and_disconnected(console: Console, nodes: Nodes) -> None:
    async with client(nodes.south, "ben", "room.1") as ben, client(nodes.south, "bert", "room.1") as bert:
        await console.go("connections")
        await console.page.locator("#search").fill("BEN")
        await console.page.locator("#find").click()
        row = console.page.locator("#connections-table tbody tr")
        await expect(row).to_have_count(1, timeout=LONG_MS)
        await expect(row).to_contain_text("south")
        await expect(row).to_contain_text("room.1")
        await row.get_by_role("button", name="Disconnect").click()
        await console.say_yes()
        await eventually(lambda: ben.closed)
        assert ben.closed == 3503
        await console.shows("#connections", "No connections")
        assert bert.closed == 0


async def test_a_dialog_that_is_cancelled_does_nothing(console: Console, nodes: Nodes) -> None:
    async with client(nodes.south, "carl") as carl:
        await console.go("connections?search=carl")
        await console.page.get_by_role("button", name="Disconnect user…").click()
        await console.page.get_by_role("button", name="Cancel").click()
        await expect(console.page.locator("dialog")).to_have_count(0)
        await console.page.locator("#find").click()
        await console.shows("#connections", "carl")
        assert carl.closed == 0


async def test_revoked_tokens_end_their_connections_and_are_refused(console: Console, nodes: Nodes) -> None:
    async with client(nodes.south, "dora") as first, client(nodes.north, "dora") as second:
        await console.go("connections?search=dora")
        await expect(console.page.locator("#connections-table tbody tr")).to_have_count(2, timeout=LONG_MS)
        await asyncio.sleep(1.1)  # tokens say in whole seconds when they were issued
        await console.page.locator("#revoke").click()
        await expect(console.page.locator("#revoke-subject")).to_have_value("dora")
        await console.say_yes()
        await eventually(lambda: first.closed and second.closed)
        await console.shows("#connections", "No connections")


async def test_connections_come_in_pages(console: Console, nodes: Nodes) -> None:
    async with client(nodes.south, "page-1"), client(nodes.north, "page-2"), client(nodes.north, "page-3"):
        await console.go("connections?search=page-")
        await expect(console.page.locator("#connections-table tbody tr")).to_have_count(3, timeout=LONG_MS)
        await console.page.evaluate(
            """() => {
              const load = connections.load;
              connections.load = function (after) { this.page.most = 2; return load.call(this, after); };
            }"""
        )
        await console.page.locator("#find").click()
        await console.shows("#total", "2 connections of 3")
        first = await console.page.locator("#connections-table tbody td.name").all_inner_texts()
        await console.page.locator("#next").click()
        await console.shows("#total", "1 connection of 3")
        second = await console.page.locator("#connections-table tbody td.name").all_inner_texts()
        assert sorted(first + second) == ["page-1", "page-2", "page-3"]


async def test_a_channel_shows_its_rule_presence_and_history_and_publishing_reaches_clients(
    console: Console, nodes: Nodes
) -> None:
    async with client(nodes.south, "emma", "room.7") as emma, client(nodes.north, "finn", "room.7"):
        await console.go("channels")
        await console.page.locator("#search").fill("room.*")
        await console.page.locator("#find").click()
        await expect(console.page.locator("#channels-table tr", has_text="room.7")).to_contain_text("2")
        await console.page.get_by_role("link", name="room.7", exact=True).click()
        await console.shows("#rule", "50 publications, 1 h")
        await console.shows("#presence", "2 clients, 2 users")
        await console.shows("#presence", "emma")
        await console.shows("#history", "Nothing")
        await console.page.locator("#publish-data").fill('{"from": "an operator", "big": 12345678901234567890}')
        await console.page.locator("#publish").click()
        await console.shows("#publish-hint", "Published at offset")
        await console.shows("#history", "an operator")
        await eventually(lambda: emma.heard)
        assert emma.heard == [{"from": "an operator", "big": 12345678901234567890}]


async def test_mistakes_are_told_where_they_were_made(console: Console) -> None:
    await console.go("channels?name=room.8")
    await console.page.locator("#publish-data").fill("{not json")
    await console.page.locator("#publish").click()
    await console.shows("#publish-hint", "Not JSON")
    await console.go("channels?name=a b")
    await console.shows("#view", "without spaces")
    await console.go("explain")
    await console.page.locator("#message-id").fill("x" * 255)
    await console.page.locator("#explain-button").click()
    await console.shows("#explanation", "Has read no")
    await console.go("channels?name=plain.1")
    await console.shows("#history", "keeps none")
    await console.shows("#presence", "Off")


async def test_the_live_tail_shows_what_is_asked_for(console: Console, nodes: Nodes) -> None:
    await console.go("live")
    await console.page.locator("#live-channel").fill("orders.*")
    await console.page.locator("#follow").click()
    await console.shows("#live-status", "Reading the log at north: orders.*")
    await nodes.south.publish("news", {"text": "not wanted"})
    await nodes.south.publish("orders.eu", {"text": "an order"}, idempotency_key="order-1")
    await console.shows("#records", "an order")
    await console.shows("#records", "id order-1")
    await expect(console.page.locator("#records")).not_to_contain_text("not wanted")
    await console.page.locator("#live-text").fill("something else")
    await expect(console.page.locator("#records li")).to_be_hidden()
    await console.page.locator("#live-text").fill("")
    await console.page.locator("#pause").click()
    await nodes.south.publish("orders.eu", {"text": "while paused"})
    await console.shows("#dropped", "1 while paused")
    await expect(console.page.locator("#records")).not_to_contain_text("while paused")


async def test_the_live_tail_of_a_user_and_what_became_of_a_message(console: Console, nodes: Nodes) -> None:
    async with client(nodes.south, "gus", "room.9") as gus:
        await console.go("connections?search=gus")
        await console.page.get_by_role("link", name="What gus gets, live").click()
        await console.shows("#live-status", "Reading")
        await eventually(lambda: _published_until_shown(console, nodes), 30 * SECOND)
        await expect(console.page.locator("#records")).not_to_contain_text("not for gus")
        await eventually(lambda: gus.heard)
        await console.page.locator("#records a", has_text="Explain").first.click()
        south = console.page.locator("#explanation section", has=console.page.locator("h2", has_text="south"))
        await expect(south).to_contain_text("got it", timeout=LONG_MS)
        await expect(south).to_contain_text("gus")


async def _published_until_shown(console: Console, nodes: Nodes) -> bool:
    """What a user is subscribed to is learned a moment after the tail has begun."""
    await nodes.north.publish("room.10", "not for gus")
    await nodes.north.publish("room.9", "for gus")
    await asyncio.sleep(0.2)
    return await console.page.locator("#records li", has_text='"for gus"').count() > 0


async def test_a_filter_that_cannot_be_is_told(context: BrowserContext, nodes: Nodes, session: str) -> None:
    console = Console(await context.new_page(), nodes.north)
    await console.enter(session)
    await console.go("live?channel=a b")
    await console.shows("#live-status", "channel: a pattern is printable ASCII without spaces")


async def test_the_doctor_looks_at_the_broker(console: Console) -> None:
    await console.go("doctor")
    await console.shows("#findings", "Not examined yet")
    await console.page.locator("#examine").click()
    await console.shows("#findings", re.compile(r"RabbitMQ 3\.\d+"))
    await console.shows("#findings", "from north")


async def test_markup_in_names_and_data_stays_text(console: Console, nodes: Nodes) -> None:
    channel = f"room.{EVIL}"
    async with client(nodes.south, EVIL, channel):
        await console.go("connections")
        await console.shows("#connections", EVIL)
        await console.go("channels?search=onerror")
        await console.shows("#channels", channel)
        await console.page.get_by_role("link", name=channel, exact=True).click()
        await console.shows("#presence", EVIL)
        await console.go(f"live?channel={channel}")
        await console.shows("#live-status", "Reading")
        offset = await nodes.south.publish(channel, EVIL, idempotency_key=EVIL, tags={EVIL: EVIL})
        await console.shows("#records", EVIL)
        await console.go(f"explain?offset={offset}")
        await console.shows("#explanation", EVIL)
        await console.go(f"channels?name={channel}")
        await console.shows("#history", EVIL)
        assert "broken-in" not in await console.page.title()
        assert await console.page.locator("img").count() == 0


async def test_who_logs_out_leaves_nothing_behind(context: BrowserContext, nodes: Nodes) -> None:
    console = Console(await context.new_page(), nodes.north)
    await console.open()
    await console.log_in()
    await console.is_in()
    await console.go("connections")
    kept = await console.page.context.cookies()
    await console.page.locator("#logout").click()
    await expect(console.page.locator("#login")).to_be_visible()
    await expect(console.page.locator("#view")).to_be_empty()
    assert await console.page.context.cookies() == []
    await console.page.context.add_cookies([{**cookie} for cookie in kept])  # type: ignore[typeddict-item]
    await console.page.reload()
    await expect(console.page.locator("#login")).to_be_visible()
    await console.log_in()
    await console.is_in()


async def test_a_session_that_is_over_leads_to_the_login(context: BrowserContext, nodes: Nodes, session: str) -> None:
    console = Console(await context.new_page(), nodes.north)
    await console.enter(session)
    await context.clear_cookies()
    await console.shows("#login-hint", "The session is over")
    await expect(console.page.locator("#console")).to_be_hidden()


async def test_everything_can_be_reached_with_the_keyboard_and_has_a_name(console: Console) -> None:
    for view in VIEWS:
        await console.go(view)
        await console.page.wait_for_timeout(200 * SECOND)
        nameless = await console.page.evaluate(
            """() => [...document.querySelectorAll("#console :is(input, textarea, button, a)")]
              .filter((e) => !e.labels?.length && !e.ariaLabel && !e.innerText.trim()).map((e) => e.outerHTML)"""
        )
        assert nameless == []
    await console.go("doctor")
    await console.page.locator("#examine").wait_for()
    for _ in range(MAX_TABS):
        await console.page.keyboard.press("Tab")
        if await console.page.evaluate("document.activeElement.id") == "examine":
            break
    await console.page.keyboard.press("Enter")
    await console.shows("#findings", "from north")


async def test_at_a_phone_s_width_nothing_lies_beyond_the_edge(browser: Browser, nodes: Nodes, session: str) -> None:
    context = await browser.new_context(viewport=PHONE)
    console = Console(await context.new_page(), nodes.north)
    await console.open()
    assert await console.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    await console.enter(session)
    async with client(nodes.south, "u" * 200, f"room.{'x' * 200}"):
        for view in [*VIEWS, f"channels?name=room.{'x' * 200}"]:
            await console.go(view)
            await console.page.wait_for_timeout(300 * SECOND)
            width = await console.page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], (view, await wider_than(console.page, PHONE["width"]))
    await context.close()


@pytest.mark.parametrize(("scheme", "is_dark"), [("dark", True), ("light", False)])
async def test_the_page_follows_the_person_s_colour_scheme(
    browser: Browser, nodes: Nodes, session: str, scheme: Literal["dark", "light"], is_dark: bool
) -> None:
    context = await browser.new_context(color_scheme=scheme)
    console = Console(await context.new_page(), nodes.north)
    await console.enter(session)
    found = await brightness(await context.new_page(), await console.page.screenshot())
    assert (found < 0.35) if is_dark else (found > 0.65)
    await context.close()


async def test_a_node_that_dies_is_shown_as_gone(console: Console, nodes: Nodes) -> None:
    await console.shows("#nodes", "south")
    nodes.south.kill()
    row = console.page.locator("#nodes tr", has_text="south")
    await expect(row).to_contain_text("gone", timeout=LONG_MS)
    await expect(row).to_contain_text("no answer for")
    await nodes.south.start()
    await expect(console.page.locator("#nodes tr", has_text="ready").filter(has_text="south")).to_have_count(
        1, timeout=LONG_MS
    )


async def test_in_development_one_click_is_enough(browser: Browser, new_server: Any) -> None:
    server = await new_server(dev=True)
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(server.url)
    await page.get_by_role("link", name="Operators' view").click()
    await page.locator("#login-button").click()
    await expect(page.locator("#who")).to_have_text("dev", timeout=LONG_MS)
    await context.close()
