"""A worker in a process of its own, to be killed. Says "filling" when it fills the archive."""

from __future__ import annotations

import asyncio
import sys

from tests.integration.archive.worker import Archivist, Place
from tests.services.deadline import SECOND, eventually


async def main() -> None:
    worker = await Archivist(Place(*sys.argv[1:]), "killed").start()
    await eventually(lambda: worker.is_filling, 60 * SECOND)
    print("filling", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
