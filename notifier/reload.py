"""Reload: the configuration is read again while the server runs, and what can change changes; the rest is named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import msgspec
from msgspec import Struct

from notifier.config import Config
from notifier.errors import ConfigError

_logger = logging.getLogger(__name__)

RELOADED = (
    "channels",
    "rpc",
    "clients.",
    "connect.",
    "limits.",
    "auth.",
    "api.keys",
    "api.audit",
    "admin.operators",
    "logging.level",
)
NOT_RELOADED = ("auth.cookie", "auth.query_token")


class Outcome(Struct):
    """Paths of keys: those that are in use now, and those that wait for a restart."""

    changed: list[str] = []
    needs_restart: list[str] = []


class Reloader:
    """`load` reads the configuration from where it was read at the start; `apply` puts what can change to use, all of
    it or, raising ConfigError, nothing."""

    def __init__(self, config: Config, load: Callable[[], Config], apply: Callable[[Config], Awaitable[None]]) -> None:
        self._config = config
        self._load = load
        self._apply = apply
        self._one_by_one = asyncio.Lock()

    async def run(self) -> Outcome:
        """Raises ConfigError with every mistake; then nothing has changed."""
        async with self._one_by_one:
            config = self._load()
            outcome = Outcome()
            for path in differences(self._config, config):
                (outcome.changed if is_reloaded(path) else outcome.needs_restart).append(path)
            await self._apply(config)
            self._config = _merged(self._config, config)
        _logger.info("read the configuration again", extra=msgspec.to_builtins(outcome))
        return outcome

    async def run_and_tell(self) -> None:
        """The same for who only reads the log."""
        try:
            await self.run()
        except ConfigError as error:
            for problem in error.problems:
                _logger.error("the configuration cannot be used, the old one stays: %s", problem)  # noqa: TRY400


def differences(old: Config, new: Config) -> Iterator[str]:
    """The paths of keys with another value; a list counts as one."""
    for section in old.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
        if isinstance(before, Struct):
            for key in before.__struct_fields__:
                if getattr(before, key) != getattr(after, key):
                    yield f"{section}.{key}"
        elif before != after:
            yield section


def is_reloaded(path: str) -> bool:
    """Whether a key changes while the server runs."""
    return path.startswith(RELOADED) and path not in NOT_RELOADED


def _merged(old: Config, new: Config) -> Config:
    """What is in use now, so that the next comparison is with that."""
    values = {}
    for section in old.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
        if isinstance(before, Struct):
            kept = {
                key: getattr(before, key) for key in before.__struct_fields__ if not is_reloaded(f"{section}.{key}")
            }
            values[section] = msgspec.structs.replace(after, **kept)
        else:
            values[section] = after if is_reloaded(section) else before
    return msgspec.structs.replace(old, **values)
