"""Running: a worker from its start to its end, which a signal asks for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from notifier.collector import Collector
from notifier.config import Config
from notifier.doors import AT_ONCE_S
from notifier.errors import NotifierError
from notifier.server import Server
from notifier.tasks import end
from notifier.workers.siblings import Siblings


async def run(
    config: Config,
    announce: Callable[[Server], None],
    siblings: Siblings | None = None,
    load: Callable[[], Config] | None = None,
) -> None:
    """Run a worker until it is asked to end: the first signal drains it, a second one ends it at once. One of several
    workers takes all signals for one, since a service manager signals both it and its parent, who passes it on. SIGHUP
    makes it read its configuration again.

    Raises NotifierError when it cannot start.
    """
    server = Server(config, siblings, load)
    asked, asked_again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if asked.is_set() and siblings is None:
            asked_again.set()
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, server.begin_reload)
    ends = loop.time()
    try:
        # Before the log is read: Python's own looks for garbage walk all that it has brought, again and again.
        server.collector = Collector(server.node.stats)
        if await _unless(asked, server.start()):
            announce(server)
            await asked.wait()
            ends = loop.time() + config.server.shutdown_grace
            await _unless(asked_again, server.drain())
    finally:
        with contextlib.suppress(NotifierError, TimeoutError):
            async with asyncio.timeout(max(AT_ONCE_S, 0 if asked_again.is_set() else ends - loop.time())):
                await (server.stop() if asked_again.is_set() else _unless(asked_again, server.stop()))


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, but no longer than until the event; answers whether it was done. Raises what it raises."""
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        done = task.done()
        await end(task, waiting)
    if done:
        task.result()
    return done
