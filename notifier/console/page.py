"""Serves the console's one page. It loads nothing from elsewhere, and its policy lets it load nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from aiohttp import web

from notifier.config import DEV_API_KEY, Config


class Console:
    """The page, and the policy that allows just its own script and style."""

    def __init__(self, config: Config) -> None:
        page = resources.files(__package__).joinpath("index.html").read_text(encoding="utf-8")
        # The development key is public anyway; with it the page works without typing anything.
        key = DEV_API_KEY if DEV_API_KEY in config.api.keys else ""
        self._body = page.replace("{{api_key}}", key).encode()
        text = self._body.decode()
        script = _hash_of(re.search(r"<script>(.*?)</script>", text, re.DOTALL))
        style = _hash_of(re.search(r"<style>(.*?)</style>", text, re.DOTALL))
        self._headers = {
            "Content-Security-Policy": f"default-src 'none'; script-src {script}; style-src {style}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }

    async def handle(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._body, headers=self._headers, content_type="text/html", charset="utf-8")


def _hash_of(match: re.Match[str] | None) -> str:
    if match is None:
        return "'none'"
    digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
    return f"'sha256-{digest}'"
