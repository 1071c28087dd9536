"""`notifier serve`: the server, or the parent of several workers."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable

from notifier import __version__
from notifier.cli.common import DONE, configuration, notes
from notifier.config import DEV_API_KEY


def serve(options: argparse.Namespace) -> int:
    from notifier import systemd  # noqa: PLC0415 - the other commands start without the server's weight
    from notifier.doors import url  # noqa: PLC0415
    from notifier.running import run  # noqa: PLC0415
    from notifier.server import Server  # noqa: PLC0415
    from notifier.telemetry import logs, reports  # noqa: PLC0415
    from notifier.workers.parent import Parent, worker_argv  # noqa: PLC0415
    from notifier.workers.siblings import Siblings  # noqa: PLC0415

    config = configuration(options)
    logs.set_up(config.logging)
    reports.set_up(config.telemetry)
    siblings = Siblings.of_environment()

    def announce(address: str) -> None:
        log = "the embedded log (in memory)" if config.log.kind == "memory" else "RabbitMQ"
        workers = f", {config.server.workers} workers" if config.server.workers > 1 else ""
        print(f"notifier {__version__} on {address} with {log}{workers}", flush=True)
        if config.server.console:
            admin, tls = config.admin, bool(config.server.tls_certificate)
            console = url(admin.host, admin.port, tls=tls) if admin.port else address
            print(f"Console: {console}", flush=True)
            if config.admin.operators:
                print(f"Operators' view: {console}admin", flush=True)
        if options.dev:
            key = f" Key of the server API: {DEV_API_KEY}" if DEV_API_KEY in config.api.keys else ""
            print(f"Development mode: clients may do everything, and only this machine can connect.{key}", flush=True)
        for note in notes(config):
            print(note, flush=True)
        systemd.tell_ready()

    if config.server.workers > 1 and siblings is None:
        return asyncio.run(Parent(config, worker_argv(options.argv), announce).run())

    def started(server: Server) -> None:
        if siblings is None:  # of several, the parent says where
            announce(server.doors.address)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run(config, started, siblings, lambda: configuration(options)))
    return DONE


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop
