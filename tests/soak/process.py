"""Helper processes: orders in a file at the start, then one command a line on standard input, one answer a line back.
When the input ends they end too, so none outlives the run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Self, TypeVar

import msgspec
from msgspec import Struct

from tests.soak.journal import Journal, Lag, now

LAG_EVERY_S = 1.0
ROOT = Path(__file__).parent.parent.parent

T = TypeVar("T", bound=Struct)


class Helper:
    """The parent's end. Use ``async with``."""

    def __init__(self, module: str, orders: Struct, folder: Path, name: str) -> None:
        self._module = module
        self._orders = folder / f"{name}.json"
        self._orders.write_bytes(msgspec.json.encode(orders))
        self._log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                str(self._orders),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=_environment(),
                cwd=ROOT,
                limit=1 << 24,
                start_new_session=True,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def ask(self, command: str, deadline_s: float = 60) -> str:
        """Raises RuntimeError when the helper has ended."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        async with self._asking, asyncio.timeout(deadline_s):
            process.stdin.write(command.encode() + b"\n")
            answer = await process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._module} has ended:\n{self._log.read_text(errors='replace')[-3000:]}")
        return answer.decode().strip()


def _environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


# --- the helper's end -----------------------------------------------------------------------------------------------


def run(kind: type[T], work: Callable[[T], Awaitable[None]]) -> None:
    """The helper's whole life."""
    orders = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=kind)

    async def main() -> None:
        await work(orders)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())


async def listen(obey: Callable[[str], Awaitable[str]]) -> None:
    """Obey commands until the input ends."""
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            answer = await obey(line.decode().strip())
            print(answer, flush=True)
    finally:
        transport.close()


async def note_lag(journal: Journal, process: str) -> None:
    """The generator's check of itself: a slow client must not be reported as a slow server."""
    while True:
        due = now() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        journal.write(Lag(now(), process, round(max(0.0, now() - due), 6), round(time.process_time(), 3)))
        journal.flush()
