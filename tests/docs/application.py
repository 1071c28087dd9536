"""A user's application: it knows who is logged in, has the state of before, and serves the page with the examples."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from tests.sdk import javascript
from tests.servers import lacking, make_token
from tests.services.deadline import SECOND
from tests.services.ports import LOCALHOST, free_port

PAGE = """<!doctype html>
<title>An application</title>
<link rel="icon" href="data:,">
<div id="root"></div>
<script src="/app.js"></script>
"""


def bundle(folder: Path) -> Path:
    """app.jsx with all that it imports."""
    packages = javascript.FOLDER / "node_modules"
    esbuild = packages / ".bin" / "esbuild"
    if shutil.which("node") is None or not esbuild.exists():
        lacking("Node or esbuild is missing; `make test` installs both")
    made = folder / "app.js"
    argv = [str(esbuild), str(Path(__file__).with_name("app.jsx")), "--bundle", "--jsx=automatic", f"--outfile={made}"]
    environ = {**os.environ, "NODE_PATH": str(packages)}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60 * SECOND, check=False)
    assert done.returncode == 0, done.stderr
    return made


class Application:
    """Use ``async with``. `user` is logged in (empty: nobody), `items` are what it knows of before; `broken` answers
    of `/items` fail first."""

    def __init__(self, script: Path | None = None, user: str = "42") -> None:
        self.port = free_port()
        self.user = user
        self.items: list[Any] = []
        self.broken = 0
        self._script = script
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/", self._page)
        application.router.add_get("/app.js", self._app)
        application.router.add_get("/token", self._token)
        application.router.add_get("/items", self._items)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOCALHOST, self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _app(self, _request: web.Request) -> web.FileResponse:
        assert self._script is not None
        return web.FileResponse(self._script)

    async def _token(self, _request: web.Request) -> web.Response:
        if not self.user:
            return web.Response(status=401)
        return web.Response(text=make_token(self.user))

    async def _items(self, _request: web.Request) -> web.Response:
        if self.broken:
            self.broken -= 1
            return web.Response(status=503)
        return web.json_response(self.items)
