"""Script: a Lua file of `scripts/`, run by its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError


class Script:
    """What must happen in Redis at once. All keys of one run must be in one slot of a cluster."""

    def __init__(self, name: str) -> None:
        self._text = resources.files("notifier.state").joinpath("scripts", f"{name}.lua").read_text("utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis, keys: Sequence[str], *args: str | float | bytes) -> Any:
        """The answer in bytes, numbers and lists. A server that does not know the script has not run it (NOSCRIPT): it
        gets the text, and keeps it."""
        try:
            return await redis.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self._text, len(keys), *keys, *args)
