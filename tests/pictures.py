"""Pictures: makes those of docs/pictures from real servers with demo traffic, in Chromium. `python -m tests.pictures`.

Two nodes with two workers each on a broker of their own; some hundred clients; backends that publish.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import aiohttp
from playwright.async_api import Browser, Page, async_playwright, expect

from notifier.auth.passwords import entry_for
from tests.servers import ROOT, Backend, ServerProcess, make_token, on_rabbitmq
from tests.services.rabbitmq import RabbitMQ

FOLDER = ROOT / "docs" / "pictures"
NAME, PASSWORD = "ann", "a-password-for-the-pictures"
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WARM_UP_S = 62
WIDTH = 1280
TOWNS = ["berlin", "lyon", "porto", "riga", "turin", "gent"]

CHANNELS: list[dict[str, Any]] = [
    {"match": "user.*", "history": {"size": 100, "ttl": "24h"}, "subscribe": ["user.{sub}"]},
    {
        "match": "orders.#",
        "history": {"size": 200, "ttl": "1h"},
        "presence": True,
        "tag_filter": True,
        "wildcard": True,
        "subscribe": ["authenticated"],
        "publish": ["role:service"],
    },
    {"match": "news.#", "history": {"size": 20, "ttl": "1h"}, "recovery": "cache", "subscribe": ["anyone"]},
]


class Picture(NamedTuple):
    """One file of docs/pictures: a view, and what must be on it before it is taken."""

    name: str
    hash: str
    shows: str
    scheme: Literal["light", "dark"]
    height: int


PICTURES = [
    Picture("overview-light.png", "#overview", "north / 1", "light", 980),
    Picture("overview-dark.png", "#overview", "north / 1", "dark", 980),
    Picture("channel.png", "#channels?name=orders.berlin", "authenticated", "light", 720),
]


@contextlib.asynccontextmanager
async def nodes(folder: Path) -> AsyncIterator[list[ServerProcess]]:
    """Two nodes that are ready."""
    with RabbitMQ() as broker:
        sections: dict[str, Any] = {
            **on_rabbitmq(broker.url),
            "channels": CHANNELS,
            "connect": {"subscribe": ["user.{sub}"]},
            "admin": {"operators": [entry_for(NAME, PASSWORD)]},
        }
        servers = [
            ServerProcess(folder, {**sections, "server": {"name": name, "workers": 2}}) for name in ("north", "south")
        ]
        try:
            for server in servers:
                await server.start()
            yield servers
        finally:
            for server in servers:
                server.kill()


async def client(server: ServerProcess, number: int) -> None:
    """A person who looks at the news and at the orders of a town."""
    chance = random.Random(number)
    await asyncio.sleep(chance.uniform(0, 20))
    commands = [
        {"id": 1, "connect": {"token": make_token(f"user-{number}"), "name": "demo"}},
        {"id": 2, "subscribe": {"channel": "news.today"}},
        {"id": 3, "subscribe": {"channel": f"orders.{chance.choice(TOWNS)}"}},
    ]
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        for command in commands:
            await socket.send_json(command)
        async for message in socket:
            if message.data == "{}":
                await socket.send_str("{}")


async def backend(server: ServerProcess) -> None:
    """Publishes orders, now more and now fewer of them."""
    chance = random.Random(7)
    async with Backend(server) as publisher:
        for number in range(10_000_000):
            town = chance.choice(TOWNS)
            order = {"order": 40_000 + number, "state": chance.choice(["paid", "packed", "sent"]), "town": town}
            message_id = f"order-{number}"
            await publisher.publish(f"orders.{town}", order, message_id=message_id, headers={"tag-town": town})
            if number % 40 == 0:
                await publisher.publish("news.today", {"headline": f"{number} orders today"})
            busy = 1 if (number // 400) % 2 else 3
            await asyncio.sleep(chance.expovariate(12 * busy))


async def take(browser: Browser, server: ServerProcess) -> None:
    """All pictures, once the charts have something to show."""
    pages = {scheme: await _logged_in(browser, server, scheme) for scheme in ("light", "dark")}
    for page in pages.values():
        await page.get_by_role("button", name="1 min", exact=True).click()
    await asyncio.sleep(WARM_UP_S)
    for picture in PICTURES:
        page = pages[picture.scheme]
        await page.set_viewport_size({"width": WIDTH, "height": picture.height})
        await page.evaluate("hash => { location.hash = hash; }", picture.hash)
        await expect(page.locator("#view")).to_contain_text(picture.shows, timeout=20_000)
        await page.mouse.move(0, 0)
        file = FOLDER / picture.name
        await page.screenshot(path=file)
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1024} KiB")


async def _logged_in(browser: Browser, server: ServerProcess, scheme: Any) -> Page:
    context = await browser.new_context(viewport={"width": WIDTH, "height": 980}, color_scheme=scheme)
    page = await context.new_page()
    await page.goto(f"{server.url}/admin")
    await page.locator("#login-name").fill(NAME)
    await page.locator("#login-password").fill(PASSWORD)
    await page.locator("#login-button").click()
    await expect(page.locator("#nodes")).to_contain_text("south", timeout=20_000)
    return page


async def main() -> int:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("the Debian package chromium is not installed", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        async with nodes(Path(folder)) as (north, south), async_playwright() as playwright:
            traffic = [asyncio.create_task(client((north, south)[number % 2], number)) for number in range(240)]
            traffic.append(asyncio.create_task(backend(north)))
            browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
            try:
                await take(browser, north)
            finally:
                await browser.close()
                for task in traffic:
                    task.cancel()
                await asyncio.gather(*traffic, return_exceptions=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
