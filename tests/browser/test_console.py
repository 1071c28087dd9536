"""The console: what a person sees and does on the page at `/`."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.servers import API_KEY, KEY, NewServer, ServerProcess, make_token
from tests.services.deadline import SECOND, eventually

PHONE: Any = {"width": 360, "height": 740}
MAX_TABS = 60

NOTE_VIOLATIONS = """
  window.violations = [];
  addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture
async def server(new_server: NewServer) -> ServerProcess:
    return await new_server(dev=True)


class Console:
    """The page of a server, and what went wrong on it."""

    def __init__(self, page: Page, server: ServerProcess) -> None:
        self.page = page
        self.problems: list[str] = []
        self.strangers: list[str] = []
        self._server = server
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._note_request(request.url))

    async def open(self) -> None:
        await self.page.add_init_script(NOTE_VIOLATIONS)
        await self.page.goto(self._server.url)

    async def is_ready(self) -> None:
        """In development mode it connects by itself."""
        await expect(self.page.locator("#subscriptions")).to_contain_text("demo", timeout=10_000 * SECOND)

    async def publish(self, data: Any, channel: str = "") -> None:
        """By hand: fill in the form and click."""
        if channel:
            await self.page.locator("#publish-channel").fill(channel)
        await self.page.locator("#publish-data").fill(json.dumps(data))
        await self.page.locator("#publish").click()

    async def shows(self, text: str) -> None:
        await expect(self.page.locator("#publications")).to_contain_text(text, timeout=10_000 * SECOND)

    async def violations(self) -> list[str]:
        return [str(directive) for directive in await self.page.evaluate("window.violations")]

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    def _note_request(self, url: str) -> None:
        if not url.startswith((self._server.url, "data:")):
            self.strangers.append(url)


@pytest.fixture
async def console(context: BrowserContext, server: ServerProcess) -> AsyncIterator[Console]:
    """The console in development mode, ready; it must end without errors."""
    console = Console(await context.new_page(), server)
    await console.open()
    await console.is_ready()
    yield console
    assert console.problems == []
    assert await console.violations() == []
    assert console.strangers == [], "nothing may be loaded from elsewhere"


async def test_one_click_shows_a_publication_live(console: Console, server: ServerProcess) -> None:
    await console.page.locator("#publish").click()
    [publication] = await eventually(lambda: _history(server, "demo"))
    for text in _texts_in(publication["data"]):
        await console.shows(text)


async def test_a_typed_message_appears_live(console: Console) -> None:
    await console.publish({"text": "typed by hand"})
    await console.shows("typed by hand")


async def test_a_message_from_elsewhere_appears_live(console: Console, server: ServerProcess) -> None:
    await server.publish("demo", {"text": "from elsewhere"})
    await console.shows("from elsewhere")


async def test_markup_in_a_message_stays_text(console: Console, server: ServerProcess) -> None:
    await server.publish("demo", "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>")
    await console.shows("<b>bold</b>")
    assert await console.page.title() != "broken in"
    assert await console.page.locator("#publications b").count() == 0


async def test_another_channel_can_be_subscribed_to(console: Console, server: ServerProcess) -> None:
    await console.page.locator("#channel").fill("orders.eu.17")
    await console.page.locator("#subscribe").click()
    await expect(console.page.locator("#subscriptions")).to_contain_text("orders.eu.17")
    await server.publish("orders.eu.17", {"text": "an order"})
    await console.shows("an order")


async def test_a_typing_mistake_does_not_stop_the_page(console: Console) -> None:
    await console.page.locator("#publish-data").fill("{not json")
    await console.page.locator("#publish").click()
    await console.publish({"text": "a better one"})
    await console.shows("a better one")


async def test_everything_can_be_done_with_the_keyboard_alone(console: Console) -> None:
    await _tab_to(console.page, "publish-data")
    await console.page.keyboard.press("Control+A")
    await console.page.keyboard.type('{"text": "no mouse"}')
    await _tab_to(console.page, "publish")
    await console.page.keyboard.press("Enter")
    await console.shows("no mouse")
    await _tab_to(console.page, "channel")
    await console.page.keyboard.type("by.keyboard")
    await _tab_to(console.page, "subscribe")
    await console.page.keyboard.press("Enter")
    await expect(console.page.locator("#subscriptions")).to_contain_text("by.keyboard")


async def test_every_field_and_button_has_a_name(console: Console) -> None:
    nameless = await console.page.evaluate(
        """() => [...document.querySelectorAll("input, textarea, select, button")]
          .filter((e) => !e.labels?.length && !e.ariaLabel && !e.getAttribute("aria-labelledby") && !e.innerText.trim())
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []


async def test_a_server_that_goes_away_is_told_and_its_return_too(
    context: BrowserContext, server: ServerProcess
) -> None:
    console = Console(await context.new_page(), server)
    await console.open()
    await console.is_ready()
    status = console.page.locator("#status")
    connected = await status.inner_text()
    server.kill()
    await expect(status).not_to_have_text(connected)
    await server.start()
    await expect(status).to_have_text(connected, timeout=30_000 * SECOND)
    await server.publish("demo", {"text": "back again"})
    await console.shows("back again")
    assert await console.violations() == []


async def test_a_wrong_token_is_told(context: BrowserContext, server: ServerProcess) -> None:
    console = Console(await context.new_page(), server)
    await console.open()
    await console.is_ready()
    await console.page.locator("#token").fill("not.a.token")
    await console.page.locator("#connect").click()
    await expect(console.page.locator("#status")).to_contain_text("invalid token")


async def test_in_production_a_person_brings_a_token_and_a_key_and_the_page_holds_neither(
    new_server: NewServer, context: BrowserContext
) -> None:
    server = await new_server()
    console = Console(await context.new_page(), server)
    await console.open()
    page = console.page
    source = await page.content()
    assert KEY not in source
    assert API_KEY not in source
    await expect(page.locator("#api-key")).to_have_value("")
    await page.locator("#token").fill(make_token("ann"))
    await page.locator("#connect").click()
    await page.locator("#channel").fill("open.news")
    await page.locator("#subscribe").click()
    await expect(page.locator("#subscriptions")).to_contain_text("open.news")
    await server.publish("open.news", {"text": "for everybody"})
    await console.shows("for everybody")
    assert await console.violations() == []


async def test_the_checks_name_the_log(console: Console) -> None:
    await expect(console.page.locator("#checks")).to_contain_text("log")


async def test_at_a_phone_s_width_nothing_lies_beyond_the_edge(browser: Browser, server: ServerProcess) -> None:
    context = await browser.new_context(viewport=PHONE)
    console = Console(await context.new_page(), server)
    await console.open()
    await console.is_ready()
    long = "x" * 500
    await console.page.locator("#channel").fill("a.very.long.name." + "y" * 200)
    await console.page.locator("#subscribe").click()
    await expect(console.page.locator("#subscriptions")).to_contain_text("a.very.long.name")
    await console.publish({"text": long})
    await console.shows(long)
    width = await console.page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], await wider_than(console.page, PHONE["width"])
    await context.close()


@pytest.mark.parametrize(("scheme", "is_dark"), [("dark", True), ("light", False)])
async def test_the_page_follows_the_person_s_colour_scheme(
    browser: Browser, server: ServerProcess, scheme: Literal["dark", "light"], is_dark: bool
) -> None:
    context = await browser.new_context(color_scheme=scheme)
    console = Console(await context.new_page(), server)
    await console.open()
    await console.is_ready()
    found = await brightness(await context.new_page(), await console.page.screenshot())
    assert (found < 0.35) if is_dark else (found > 0.65)
    await context.close()


async def _history(server: ServerProcess, channel: str) -> list[Any]:
    return list((await server.call("history", channel=channel, limit=-1))["publications"])


def _texts_in(data: Any) -> list[str]:
    """All texts in a JSON value but its keys."""
    match data:
        case str():
            return [data]
        case list():
            return [text for item in data for text in _texts_in(item)]
        case dict():
            return [text for item in data.values() for text in _texts_in(item)]
        case _:
            return []


async def _tab_to(page: Page, name: str) -> None:
    for _ in range(MAX_TABS):
        if await page.evaluate("document.activeElement.id") == name:
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"#{name} cannot be reached with the Tab key")


async def wider_than(page: Page, width: int) -> list[str]:
    found = await page.evaluate(
        """width => [...document.querySelectorAll("body *")]
          .filter((e) => e.getBoundingClientRect().right > width).map((e) => e.outerHTML.slice(0, 120))""",
        width,
    )
    return [str(text) for text in found]


async def brightness(page: Page, png: bytes) -> float:
    """The mean of a picture, 0 for black and 1 for white."""
    mean = await page.evaluate(
        """async (url) => {
          const image = await createImageBitmap(await (await fetch(url)).blob());
          const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
          canvas.drawImage(image, 0, 0);
          const { data } = canvas.getImageData(0, 0, image.width, image.height);
          let sum = 0;
          for (let at = 0; at < data.length; at += 4) sum += data[at] + data[at + 1] + data[at + 2];
          return sum / (data.length / 4) / 3 / 255;
        }""",
        "data:image/png;base64," + base64.b64encode(png).decode(),
    )
    return float(mean)
