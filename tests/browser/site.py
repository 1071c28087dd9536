"""An application's site: one page that opens an EventSource and notes what its app would see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from playwright.async_api import Page

from tests.services.deadline import eventually
from tests.services.ports import LOCALHOST, free_port

OURS, FOREIGN = "app.test", "evil.test"
HOSTS = (OURS, FOREIGN)

PAGE = """<!doctype html>
<title>An application</title>
<link rel="icon" href="data:,">
<script>
  window.seen = [];
  window.opened = 0;
  window.failed = 0;
  function listen(url, names, withCredentials) {
    const source = window.source = new EventSource(url, { withCredentials });
    source.onopen = () => { window.opened += 1; };
    source.onerror = () => { window.failed += 1; };
    const heard = ({ type, data, lastEventId }) => window.seen.push({ type, data: JSON.parse(data), id: lastEventId });
    for (const name of names) source.addEventListener(name, heard);
  }
</script>
"""


@dataclass(frozen=True)
class Heard:
    """An event that the page's app was shown."""

    type: str
    data: Any
    id: str


class Site:
    """Serves `PAGE` under every name of this machine."""

    def __init__(self) -> None:
        self.port = free_port()
        application = web.Application()
        application.router.add_get("/", self._page)
        self._runner = web.AppRunner(application, access_log=None)

    def origin(self, host: str = LOCALHOST) -> str:
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, LOCALHOST, self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")


class Listener:
    """The EventSource of a page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def at(self, url: str) -> Self:
        await self.page.goto(url)
        return self

    async def open(self, url: str, *names: str, credentials: bool = False) -> Self:
        """Listen to `message` and to the events of these names."""
        await self.page.evaluate("([url, names, c]) => listen(url, names, c)", [url, ["message", *names], credentials])
        return self

    async def seen(self, *types: str) -> list[Heard]:
        """What the app was shown, of these types or of all."""
        found = [Heard(**event) for event in await self.page.evaluate("window.seen")]
        return [event for event in found if not types or event.type in types]

    async def data(self) -> list[Any]:
        return [event.data for event in await self.seen("message")]

    async def opened(self) -> int:
        return int(await self.page.evaluate("window.opened"))

    async def failed(self) -> int:
        return int(await self.page.evaluate("window.failed"))

    async def gave_up(self) -> bool:
        return bool(await self.page.evaluate("window.source.readyState === EventSource.CLOSED"))

    async def is_subscribed(self, times: int = 1) -> None:
        """Wait until the server has told that the stream stands; listen to `notifier.subscribed` for it."""
        await eventually(lambda: self._subscribed_times(times))

    async def _subscribed_times(self, times: int) -> bool:
        return len(await self.seen("notifier.subscribed")) >= times
