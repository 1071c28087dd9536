"""Parent: starts the workers, starts one anew when it ends, passes signals on, and ends when they have.

It serves nothing itself. The workers share the port (`SO_REUSEPORT`): the kernel gives each new connection to one of
them. The parent holds the port too, without listening, so that nobody else takes it while a worker is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from notifier.config import Config
from notifier.errors import ConfigError
from notifier.workers import siblings

_logger = logging.getLogger(__name__)

FAILED, MISCONFIGURED = 1, 2
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 10.0
STEADY_S = 30.0
AFTER_GRACE_S = 5.0


class Parent:
    """`argv` starts one worker. `announce` is told the address once all of them listen. `run` returns the exit code."""

    def __init__(self, config: Config, argv: Sequence[str], announce: Callable[[str], None]) -> None:
        self._config = config
        self._announce = announce
        self._argv = list(argv)
        self._count = int(config.server.workers)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._leaving = asyncio.Event()
        self._at_once = asyncio.Event()
        self._failed = 0

    async def run(self) -> int:
        """Raises ConfigError when the address cannot be used."""
        held = _hold(self._config.server.host, self._config.server.port)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        with tempfile.TemporaryDirectory(prefix="notifier-") as folder, contextlib.closing(held):
            environ = {
                **os.environ,
                siblings.FOLDER: folder,
                siblings.COUNT: str(self._count),
                "NOTIFIER_SERVER__PORT": str(held.getsockname()[1]),
            }
            lives = [asyncio.create_task(self._look_after(index, environ)) for index in range(self._count)]
            announcing = asyncio.create_task(self._tell(Path(folder), held.getsockname()[1]))
            try:
                await self._leaving.wait()
                await self._until_ended(lives)
            finally:
                announcing.cancel()
                await asyncio.gather(*lives, announcing, return_exceptions=True)
        return self._failed

    def _leave(self) -> None:
        """The first signal drains every worker, a second one ends them at once."""
        if self._leaving.is_set():
            self._at_once.set()
        self._leaving.set()
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _look_after(self, index: int, environ: dict[str, str]) -> None:
        delay_s = FIRST_DELAY_S
        environ = {**environ, siblings.INDEX: str(index)}
        while not self._leaving.is_set():
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(*self._argv, env=environ)
            self._processes[index] = process
            if self._leaving.is_set():  # since it was begun
                process.terminate()
            code = await process.wait()
            del self._processes[index]
            if self._leaving.is_set():
                return
            if code == MISCONFIGURED:
                self._failed = code
                self._leave()
                return
            _logger.error("a worker has ended", extra={"worker": index, "code": code})
            delay_s = FIRST_DELAY_S if time.monotonic() - began > STEADY_S else min(delay_s * 2, LONGEST_DELAY_S)
            environ[siblings.REPLACES] = "1"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._leaving.wait()

    async def _until_ended(self, lives: Sequence[asyncio.Task[None]]) -> None:
        """The workers keep to their own deadline. One that does not is killed, and so are all when asked again."""
        ended = asyncio.create_task(_all_of(lives))
        asked_again = asyncio.create_task(self._asked_again())
        deadline_s = self._config.server.shutdown_grace + AFTER_GRACE_S
        await asyncio.wait({ended, asked_again}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        for process in self._processes.values():
            if not asked_again.done():
                _logger.error("a worker did not end in time", extra={"pid": process.pid})
                self._failed = FAILED
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for waiting in (ended, asked_again):
            waiting.cancel()

    async def _asked_again(self) -> None:
        await self._at_once.wait()

    async def _tell(self, folder: Path, port: int) -> None:
        while not all((folder / f"{index}.sock").exists() for index in range(self._count)):  # noqa: ASYNC110 - files
            await asyncio.sleep(0.05)
        server = self._config.server
        host = f"[{server.host}]" if ":" in server.host else server.host
        self._announce(f"http{'s' * bool(server.tls_certificate)}://{host}:{port}/")


async def _all_of(lives: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(lives)


def worker_argv(arguments: Sequence[str]) -> list[str]:
    """The command line of one worker: this program again, as it was started."""
    return [sys.executable, "-m", "notifier", *arguments]


def _hold(host: str, port: int) -> socket.socket:
    """A socket that keeps the port for the workers. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise ConfigError([f"server.host, server.port: cannot use {host}:{port}: {error.strerror}"]) from error
    return held
