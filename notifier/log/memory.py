"""The embedded log: inside one process, nothing to install, lost when it ends."""

from __future__ import annotations

from notifier.core.ports import Clock, Reader
from notifier.core.record import Draft, Record


class MemoryLog:
    """Appends are read back at once; nothing waits. The epoch must be new with each start."""

    problem = ""
    lag_s = 0.0
    blocked = False

    def __init__(self, reader: Reader, clock: Clock, epoch: str) -> None:
        self.ready = False
        self._reader = reader
        self._clock = clock
        self._end = 0
        reader.begin(0)
        reader.named(epoch)
        reader.caught_up()

    async def start(self) -> None:
        """There is nothing to connect to, but from here on clients may come."""
        self.ready = True

    async def stop(self) -> None:
        """Nothing to let go of."""

    async def append(self, draft: Draft) -> int:
        self._end += 1
        since = self._clock.monotonic()
        first, *others = draft.channels
        self._reader.take(
            Record(
                self._end,
                first,
                draft.body,
                channels=" ".join(others),
                message_id=draft.message_id,
                tags=draft.tags,
                info=draft.info,
                skip_history=draft.skip_history,
                version=draft.version,
                version_epoch=draft.version_epoch,
            ),
            self._clock.time(),
        )
        self._reader.sent(since)
        return self._end

    async def catch_up(self) -> None:
        """There is nothing that has not been read."""
