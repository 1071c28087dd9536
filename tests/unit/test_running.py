"""How a worker starts."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from notifier.config import Config, LogSection
from notifier.errors import ConfigError
from notifier.running import run
from notifier.server import Server


@pytest.fixture
def _garbage_as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("_garbage_as_before")
async def test_a_worker_reads_the_log_without_python_looking_for_garbage_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[tuple[bool, bool]] = []

    async def start(server: Server) -> None:
        looks.append((gc.isenabled(), server.collector is not None))
        raise ConfigError(["no more is wanted"])

    monkeypatch.setattr(Server, "start", start)
    with pytest.raises(ConfigError):
        await run(Config(log=LogSection(kind="memory")), lambda _server: None)
    assert looks == [(False, True)], "Python's own are off, the worker's are on"
