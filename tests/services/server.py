"""What every test server has in common: a life (start, stop, kill, freeze), one port and a folder of its own."""

import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from .deadline import SECOND, wait_until
from .ports import LOCALHOST, free_port
from .process import Process


class Server(ABC):
    """start → (freeze · thaw · kill · stop · restart)* → close. Blocking: in a test use ``asyncio.to_thread``.

    Port and data stay the same from the constructor to `close`, whatever happens in between.
    """

    programs: ClassVar[tuple[str, ...]]
    package: ClassVar[str]

    def __init__(self) -> None:
        self.host = LOCALHOST
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.package}-"))
        self._process: Process | None = None

    @classmethod
    def missing(cls) -> str | None:
        """The Debian package to install, or None when everything is there."""
        return None if all(map(shutil.which, cls.programs)) else cls.package

    @abstractmethod
    def _spawn(self) -> Process: ...

    @abstractmethod
    def _greets(self, connection: socket.socket) -> bool:
        """Whether the server answers on a new connection as it should."""

    @property
    def running(self) -> bool:
        """The process exists, frozen or not."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        """Of the process that was started last; 0 if none was."""
        return self._process.pid if self._process else 0

    @property
    def log(self) -> Path:
        return self.folder / "output.log"

    def start(self, deadline_s: float = 60 * SECOND) -> Self:
        """Start it, if it does not run, and wait until it answers."""
        if not self.running:
            self._process = self._spawn()
        self.wait_ready(deadline_s)
        return self

    def wait_ready(self, deadline_s: float = 60 * SECOND) -> None:
        """Wait until it answers a client's first words. A process that ends instead is an error at once."""
        try:
            wait_until(self._ready, deadline_s, retry=(OSError,))
        except (AssertionError, RuntimeError) as error:
            tail = self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""
            raise RuntimeError(f"{self.package} did not get ready: {error}\n{tail}") from None

    def stop(self) -> None:
        """The orderly end: it may flush and say goodbye to its clients."""
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        """The end without warning (SIGKILL), for its helper processes too."""
        if self._process:
            self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Silence with all connections open: the best imitation of a lost network or a hanging disk."""
        if self._process:
            self._process.freeze()

    def thaw(self) -> None:
        if self._process:
            self._process.thaw()

    def close(self) -> None:
        """End everything and remove the data. Needs no goodbye, so it kills."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ready(self) -> bool:
        if not self.running:
            raise RuntimeError("its process has ended")
        with socket.create_connection((self.host, self.port), timeout=SECOND) as connection:
            return self._greets(connection)
