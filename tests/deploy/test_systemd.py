"""The unit file by systemd's own checker, and what the server tells systemd."""

from __future__ import annotations

import asyncio
import configparser
import re
import socket
import sys
from pathlib import Path

import pytest

from notifier.config import Duration
from notifier.config import Server as ServerSection
from notifier.workers.parent import AFTER_GRACE_S, MISCONFIGURED
from tests.deploy.conftest import DEPLOY, run
from tests.servers import ROOT, ServerProcess
from tests.services.deadline import SECOND

UNIT = DEPLOY / "systemd" / "notifier.service"
MOST_EXPOSED = 1.5  # of 10; what is left is the network, which a server needs


class Settings(configparser.RawConfigParser):
    """Of a unit file, in which a key may stand more than once."""

    def __init__(self) -> None:
        super().__init__(strict=False)
        self.read(UNIT)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/notifier/bin/notifier", "/bin/true"))
    assert run("systemd-analyze", "verify", "--man=no", copy) == ""


def test_the_service_may_do_little() -> None:
    text = run("systemd-analyze", "security", "--offline=yes", "--no-pager", UNIT)
    found = re.search(r"exposure level for notifier.service: ([0-9.]+)", text)
    assert found, text
    assert float(found[1]) <= MOST_EXPOSED, text


def test_it_is_given_the_time_that_draining_takes() -> None:
    service = Settings()["Service"]
    assert Duration.parse(service["TimeoutStopSec"]) >= ServerSection().shutdown_grace + AFTER_GRACE_S
    assert service["RestartPreventExitStatus"] == str(MISCONFIGURED)
    assert int(service["LimitNOFILE"]) >= 100_000


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    """Where systemd would listen."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(20 * SECOND)
    return listening


async def test_it_says_that_it_is_there_and_then_that_it_lives(tmp_path: Path, manager: socket.socket) -> None:
    server = ServerProcess(tmp_path)
    server.environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    with manager:
        try:
            starting = asyncio.create_task(server.start())
            said = [await asyncio.to_thread(manager.recv, 100) for _ in range(4)]
            assert said == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            await starting
            await server.terminate()
            assert server.exit_code == 0, "a stop is no failure"
        finally:
            server.kill()


def test_a_process_that_is_not_meant_gives_no_sign_of_life(tmp_path: Path, manager: socket.socket) -> None:
    program = (
        "import asyncio; from notifier import systemd\nasync def main(): systemd.tell_ready()\nasyncio.run(main())"
    )
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    with manager:
        run(sys.executable, "-c", program, env={**environ, "PYTHONPATH": str(ROOT)})
        assert manager.recv(100) == b"READY=1"
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
