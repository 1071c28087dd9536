"""Says on the terminal what is being done."""

from __future__ import annotations

from typing import TextIO


class Progress:
    """A line that changes while something runs, where the output is a terminal; elsewhere only what is done."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._live = output.isatty()

    def say(self, name: str, doing: str) -> None:
        if self._live:
            self._output.write(f"\r\x1b[K{name}: {doing} …")
            self._output.flush()

    def done(self, text: str) -> None:
        self._output.write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")
        self._output.flush()
