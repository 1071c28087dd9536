"""A browser, a site and servers of one test, ended with it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.browser.site import HOSTS, Site
from tests.servers import NewServer, lacking, servers

# Nothing of the browser leaves the machine; the hosts of the tests are this machine.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=" + ", ".join([*(f"MAP {host} 127.0.0.1" for host in HOSTS), "EXCLUDE localhost"]),
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        lacking("the Debian package chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context()
    yield context
    await context.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Pages of an application, on a port of their own."""
    async with Site() as site:
        yield site


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as start:
        yield start
