"""docs/quickstart.md, typed in as it stands: every command in its order, and what the page says it prints.

The comments before its blocks say how: see `Reader.type`.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Block, Page
from tests.docs.programs import environment
from tests.servers import ROOT
from tests.services.deadline import SECOND, wait_until
from tests.services.ports import LOCALHOST, free_port
from tests.services.process import Process
from tests.services.rabbitmq import RabbitMQ

PAGE = Page(ROOT / "docs" / "quickstart.md")
SERVER = re.compile(r"^(make run|notifier serve)", re.MULTILINE)
# What stands for `make run` where the packages are installed already; the Makefile's recipe is looked at below.
MAKE = """#!/bin/sh
[ "$1" = run ] || exit 2
case "${2:-}" in RABBITMQ=*) export NOTIFIER_LOG__KIND=rabbitmq NOTIFIER_RABBITMQ__URL="${2#RABBITMQ=}" ;; esac
exec notifier serve --dev
"""
NOTIFIER = """#!/bin/sh
exec '{python}' -m notifier "$@"
"""
# What another client of the server needs to have come to it.
ATTACHED = ("notifier.subscribed", "subscribed:")


class Reader:
    """Somebody who follows the page in a folder of their own, with a server and a broker at other ports."""

    def __init__(self, folder: Path, broker: RabbitMQ) -> None:
        self._folder = folder
        self._log = folder / "screen.log"
        self._log.touch()
        self._port = free_port()
        self._broker = broker
        self._servers: list[Process] = []
        self._others: list[Process] = []
        self._exports: list[str] = []
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, text in {"make": MAKE, "notifier": NOTIFIER.format(python=sys.executable)}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (programs / "python").symlink_to(sys.executable)
        (folder / "docs").symlink_to(ROOT / "docs")
        self._environ = environment(
            {
                "PATH": f"{programs}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
                "NOTIFIER_SERVER__PORT": str(self._port),
                "NOTIFIER_URL": f"http://{LOCALHOST}:{self._port}",
                "AMQP_URL": broker.url,
                "CURL_HOME": str(self._folder),
            }
        )
        # Where it writes to no terminal it tells about its progress, in the middle of other programs' lines.
        (self._folder / ".curlrc").write_text("silent\n")

    def type(self, block: Block) -> None:
        """What the block's comment says:

        (none): run it, it ends well · keeps running · fails · input: TEXT · not run: WHY · the server ends, then run
        it · prints: the block is what stands on the screen now, … being anything · FILE: the block is that file.
        """
        text, note = self._at_our_ports(block.body), block.note
        if note.startswith("not run: "):
            return
        if note == "prints":
            wait_until(lambda: self._shows(text), 30 * SECOND)
        elif note.endswith(".toml"):
            (self._folder / note).write_text(text)
        elif note == "keeps running":
            self._begin(text)
        elif note == "the server ends":
            self._end_servers()
            self._run(text)
        else:
            self._run(text, fails=note == "fails", stdin=note.removeprefix("input: ") if "input: " in note else "")

    def end(self) -> None:
        for process in [*self._others, *self._servers]:
            process.kill()

    @property
    def screen(self) -> str:
        return self._log.read_text(errors="replace")

    def _at_our_ports(self, text: str) -> str:
        ours = {"127.0.0.1:8000": f"{LOCALHOST}:{self._port}", "amqp://guest:guest@localhost/": self._broker.url}
        for theirs, here in ours.items():
            text = text.replace(theirs, here)
        return text

    def _run(self, text: str, *, fails: bool = False, stdin: str = "") -> None:
        self._exports += re.findall(r"^export .*$", text, re.MULTILINE)
        done = subprocess.run(
            ["sh", "-euc", self._script(text)],
            cwd=self._folder,
            env=self._environ,
            input=stdin + "\n",
            capture_output=True,
            text=True,
            timeout=60 * SECOND,
            check=False,
        )
        with self._log.open("a") as log:
            log.write(done.stdout + done.stderr)
        assert (done.returncode != 0) == fails, f"{text}\n{done.stdout}{done.stderr}"

    def _begin(self, text: str) -> None:
        is_server = SERVER.search(text) is not None
        if is_server:
            self._end_servers()
        before = len(self.screen)
        process = Process(["sh", "-euc", self._script(text)], self._environ, self._folder, self._log)
        (self._servers if is_server else self._others).append(process)
        if is_server:
            wait_until(self._is_ready, 30 * SECOND)
        else:
            wait_until(lambda: any(word in self.screen[before:] for word in ATTACHED), 30 * SECOND)

    def _end_servers(self) -> None:
        for process in self._servers:
            process.terminate()
        self._servers.clear()

    def _script(self, text: str) -> str:
        return "\n".join([*self._exports, text])

    def _is_ready(self) -> bool:
        assert self._servers[-1].alive, self.screen
        argv = ["curl", "--silent", "--fail", f"http://{LOCALHOST}:{self._port}/readyz"]
        return subprocess.run(argv, env=self._environ, capture_output=True, check=False).returncode == 0

    def _shows(self, text: str) -> bool:
        for line in text.strip().splitlines():
            pattern = ".*".join(map(re.escape, line.split("…")))
            assert re.search(f"^{pattern}$", self.screen, re.MULTILINE), f"{line!r} is not in:\n{self.screen}"
        return True


@pytest.fixture
def reader(broker: RabbitMQ, tmp_path: Path) -> Iterator[Reader]:
    with contextlib.closing(_Closing(Reader(tmp_path, broker))) as held:
        yield held.reader


class _Closing:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def close(self) -> None:
        self.reader.end()


@pytest.mark.timeout(600 * SECOND)
def test_everything_works_as_it_stands_there(reader: Reader) -> None:
    blocks = [block for block in PAGE.blocks if block.language]
    assert len([block for block in blocks if block.language == "sh" and not block.note.startswith("not run")]) > 12
    for block in blocks:
        reader.type(block)
    assert "notifier_deliveries_total" in reader.screen
    assert re.search(r"^ann:scrypt:", reader.screen, re.MULTILINE)


def test_make_run_is_what_the_test_takes_it_for() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^run:\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    assert recipe[1].split() == ["exec", "$(BIN)/notifier", "serve", "--dev", "$(ARGS)"]
    assert "run: export NOTIFIER_LOG__KIND := rabbitmq\nrun: export NOTIFIER_RABBITMQ__URL := $(RABBITMQ)" in makefile


def test_the_page_takes_ten_minutes() -> None:
    """220 words a minute, and 18 seconds for each block to copy."""
    words = len(PAGE.prose.split())
    typed = [block for block in PAGE.blocks if block.language in ("sh", "toml")]
    assert words / 220 + len(typed) * 0.3 < 10
