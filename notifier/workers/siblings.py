"""Siblings: the workers of one parent. Each answers the others' questions on a Unix socket in their private folder, so
that whichever of them is asked for metrics or health can speak for all."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER, INDEX, COUNT, REPLACES = (
    "NOTIFIER_WORKERS_FOLDER",
    "NOTIFIER_WORKER",
    "NOTIFIER_WORKERS",
    "NOTIFIER_WORKER_REPLACES",
)
VARIABLES = frozenset({FOLDER, INDEX, COUNT, REPLACES})
ANSWER_WITHIN_S = 1.0

Answers = Mapping[str, Callable[[], bytes]]


class Siblings:
    """`index` is this worker's number, from 0 on. `replaces`: another worker had that number and has ended."""

    def __init__(self, folder: Path, index: int, count: int, *, replaces: bool = False) -> None:
        self.index = index
        self.count = count
        self.replaces = replaces
        self._folder = folder
        self._server: asyncio.Server | None = None
        self._answers: Answers = {}

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Siblings | None:
        """What the parent has told; None in a process without one."""
        if FOLDER not in environ:
            return None
        return cls(Path(environ[FOLDER]), int(environ[INDEX]), int(environ[COUNT]), replaces=REPLACES in environ)

    async def serve(self, answers: Answers) -> None:
        """Answer these questions from now on."""
        self._answers = answers
        path = self._socket(self.index)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, path)
        self._began(self.index).touch()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._socket(self.index).unlink(missing_ok=True)

    def has_begun(self, index: int) -> bool:
        """Whether there has been a worker of this number that took connections."""
        return self._began(index).exists()

    async def ask(self, question: str) -> dict[int, bytes | None]:
        """The others' answers by their number; None where one does not answer in time."""
        others = [index for index in range(self.count) if index != self.index]
        answers = await asyncio.gather(*(self._ask(index, question) for index in others))
        return dict(zip(others, answers, strict=True))

    async def _ask(self, index: int, question: str) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                reader, writer = await asyncio.open_unix_connection(self._socket(index))
                try:
                    writer.write(question.encode() + b"\n")
                    return await reader.read(-1) or None
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(ANSWER_WITHIN_S):
                question = (await reader.readline()).decode().strip()
                if question in self._answers:
                    writer.write(self._answers[question]())
                    await writer.drain()
        writer.close()

    def _began(self, index: int) -> Path:
        return self._folder / f"{index}.began"

    def _socket(self, index: int) -> Path:
        return self._folder / f"{index}.sock"
