"""Serves the console's two pages: one for developers at `/`, one for operators at `/admin`."""

from __future__ import annotations

from aiohttp import web

from notifier.config import DEV_API_KEY, DEV_OPERATOR, Config
from notifier.console.assembled import filled, headers, part

STYLES = ("base", "overview", "lists")
SCRIPTS = ("base", "charts", "dialogs", "overview", "connections", "channels", "live", "explain", "doctor", "main")


class Console:
    """A page that is the same for everybody, made once."""

    def __init__(self, page: str) -> None:
        self._body = page.encode()
        self._headers = headers(page)

    async def handle(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._body, headers=self._headers, content_type="text/html", charset="utf-8")


def for_developers(config: Config) -> Console:
    """A place to try a notification."""
    # The development key is public anyway; with it the page works without typing anything.
    key = DEV_API_KEY if DEV_API_KEY in config.api.keys else ""
    link = "" if config.admin.operators else "hidden"
    return Console(filled(part("index.html"), {"api_key": key, "operators": link}))


def for_operators(config: Config) -> Console:
    """The operators' view. Nothing in it is secret: who has not logged in gets no data."""
    dev = DEV_OPERATOR in config.admin.operators
    values = {
        "style": "".join(part(f"operators/{name}.css") for name in STYLES),
        "script": "".join(part(f"operators/{name}.js") for name in SCRIPTS),
        "name": "dev" if dev else "",
        "password": DEV_API_KEY if dev else "",
    }
    return Console(filled(part("operators/page.html"), values))
