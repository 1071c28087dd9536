"""The public JavaScript library in a page, as its users load it: with a script tag."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext, Page

from tests.browser.site import FOREIGN, OURS, Site
from tests.sdk import javascript
from tests.sdk.load import Load, is_complete
from tests.servers import NewServer, ServerProcess, lacking, make_token, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ

LIBRARY = javascript.FOLDER / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"

START = """([url, token]) => {
  window.states = [];
  window.data = [];
  const client = new Centrifuge(url, { token, minReconnectDelay: 50, maxReconnectDelay: 500 });
  for (const state of ["connecting", "connected", "disconnected"]) {
    client.on(state, ({ code }) => window.states.push([state, code ?? 0]));
  }
  const subscription = client.newSubscription("open.news");
  subscription.on("publication", ({ data }) => window.data.push(data));
  subscription.on("subscribed", ({ recovered }) => window.states.push(["subscribed", recovered]));
  subscription.subscribe();
  client.connect();
}"""


@pytest.fixture(autouse=True)
def _library() -> None:
    if problem := javascript.missing():
        lacking(problem)


async def test_the_library_in_a_page_misses_nothing_when_the_server_is_killed(
    rabbitmq: RabbitMQ, new_server: NewServer, context: BrowserContext, site: Site
) -> None:
    server = await new_server({**on_rabbitmq(rabbitmq.url), "server": {"allowed_origins": [site.origin(OURS)]}})
    page = await _started(context, site.origin(OURS), server)
    await eventually(lambda: _has(page, ["subscribed", False]))
    async with Load(server, ["open.news"], []) as load:
        await load.go_on_for(50)
        server.kill()
        await load.go_on_for(50)
        await server.start()
        await eventually(lambda: _has(page, ["subscribed", True]), 20 * SECOND)
        await load.stop()
    await eventually(lambda: _last(page, load.last_of("open.news")), 20 * SECOND)
    assert is_complete(await page.evaluate("window.data"), load.confirmed["open.news"], set())


async def test_the_library_in_a_page_of_a_foreign_origin_does_not_connect(
    new_server: NewServer, context: BrowserContext, site: Site
) -> None:
    server = await new_server({"server": {"allowed_origins": [site.origin(OURS)]}})
    page = await context.new_page()
    answers: list[str] = []
    page.on("console", lambda message: answers.append(message.text))
    await _start(page, site.origin(FOREIGN), server)
    await eventually(lambda: any("403" in answer for answer in answers))
    assert not await _has(page, ["connected", 0])


async def _started(context: BrowserContext, origin: str, server: ServerProcess) -> Page:
    page = await context.new_page()
    await _start(page, origin, server)
    return page


async def _start(page: Page, origin: str, server: ServerProcess) -> None:
    await page.goto(origin)
    await page.add_script_tag(path=LIBRARY)
    await page.evaluate(START, [server.ws_url, make_token("ann")])


async def _has(page: Page, state: list[object]) -> bool:
    return state in await page.evaluate("window.states")


async def _last(page: Page, number: int) -> bool:
    data = await page.evaluate("window.data")
    return bool(data) and data[-1] == number
