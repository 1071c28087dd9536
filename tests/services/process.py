"""One server process with all that it starts: signalled, waited for and cleaned up by process id."""

import atexit
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .deadline import SECOND, wait_until


class Process:
    """A child process, its output in a file, and its descendants.

    Signals go to the whole tree of descendants and not to a process group, because helpers leave the group: Erlang's
    ``erl_child_setup`` and its ports each make a session of their own.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], folder: Path, log: Path) -> None:
        self.name = Path(argv[0]).name
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                argv,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is for the tests, not for their servers
            )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.poll()

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def freeze(self) -> None:
        """Stop it where it stands. Its connections stay open, the kernel still accepts new ones into the backlog."""
        self._signal_tree(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_tree(signal.SIGCONT)

    def terminate(self, deadline_s: float = 30 * SECOND) -> None:
        """Ask it to end, and wait; what has not ended by the deadline is killed. Thaws it first."""
        if self.alive:
            self.thaw()
            tree = self._tree()
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(deadline_s)
            self._end(tree)
        atexit.unregister(self.kill)

    def kill(self) -> None:
        """End it and its helpers at once, as a power cut would; returns when they are gone."""
        if self.alive:
            self._child.send_signal(signal.SIGSTOP)  # so that it starts nothing more while we look
            self._end(self._tree())
        atexit.unregister(self.kill)

    def _end(self, tree: list["Pid"]) -> None:
        for pid in tree:
            _send(pid, signal.SIGKILL)
        self._child.wait()
        wait_until(lambda: not any(map(_running, tree)))

    def _signal_tree(self, number: signal.Signals) -> None:
        for pid in self._tree():
            _send(pid, number)

    def _tree(self) -> list["Pid"]:
        """The process and its descendants, parents first. Empty when it has ended."""
        if not self.alive:
            return []
        children: dict[int, list[Pid]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (stat := _stat(int(entry.name))):
                children.setdefault(stat.parent, []).append(stat.pid)
        own = _stat(self.pid)
        tree = [own.pid] if own else []
        for pid in tree:
            tree.extend(children.get(pid.number, ()))
        return tree


class Pid(NamedTuple):
    """A process id with the time of its start: the number alone may belong to somebody else a moment later."""

    number: int
    started: str


class _Stat(NamedTuple):
    pid: Pid
    state: str
    parent: int


def _stat(number: int) -> _Stat | None:
    try:
        text = (Path("/proc") / str(number) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the command's name stands in brackets and may itself contain spaces and brackets.
    fields = text.rpartition(")")[2].split()
    return _Stat(Pid(number, fields[19]), fields[0], int(fields[1]))


def _running(pid: Pid) -> bool:
    """A zombie has ended: once its parent has gone, collecting it is the business of the machine's init. But its first
    thread alone may have ended; until the others have, what it listens on is open (seen with Erlang's)."""
    stat = _stat(pid.number)
    return stat is not None and stat.pid == pid and (stat.state not in "ZX" or _threads(pid.number) > 1)


def _threads(number: int) -> int:
    try:
        return len(list((Path("/proc") / str(number) / "task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _send(pid: Pid, number: signal.Signals) -> None:
    if _running(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid.number, number)
