"""The public JavaScript library, `centrifuge` from npm, in a Node process: see `client.mjs`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.sdk.client import CallFailed, Client, Event, Page, Present, StateSource, TokenSource, Way
from tests.services.deadline import SECOND

FOLDER = Path(__file__).parent
PACKAGES = ("centrifuge", "ws", "eventsource")
WEBSOCKET = Way()
WAYS = [
    WEBSOCKET,
    Way(transport="http_stream"),
    Way(transport="sse"),
    Way(transport="websocket", protobuf=True),
    Way(transport="http_stream", protobuf=True),
]
MAX_LINE = 2**26


def missing() -> str:
    """What there must be for this to work; empty when everything is there."""
    if shutil.which("node") is None:
        return "Node is not installed"
    absent = [package for package in PACKAGES if not (FOLDER / "node_modules" / package).is_dir()]
    return f"{', '.join(absent)}: not installed; `make test` runs `npm ci` in tests/sdk" if absent else ""


class JavaScriptHost:
    """The Node process that all clients live in. Begins with the first one, and again when it has died."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clients"
        self._node: subprocess.Popen[bytes] | None = None

    def path(self) -> Path:
        """The socket to connect to."""
        if self._node is None or self._node.poll() is not None:
            self._path.unlink(missing_ok=True)
            argv = ["node", "client.mjs", str(self._path)]
            self._node = subprocess.Popen(argv, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._node.stdout is not None
            assert self._node.stdout.readline() == b"ready\n"
        return self._path

    def close(self) -> None:
        if self._node is None:
            return
        try:
            self._node.communicate(timeout=5 * SECOND)  # it ends with its standard input
        except subprocess.TimeoutExpired:
            self._node.kill()
            self._node.communicate()


class JavaScriptClient(Client):
    """`open` it first. `emulation` is where commands go when the transport goes one way only."""

    def __init__(
        self,
        host: JavaScriptHost,
        url: str,
        token: str = "",
        tokens: TokenSource | None = None,
        *,
        way: Way = WEBSOCKET,
        emulation: str = "",
    ) -> None:
        super().__init__(url, token, tokens)
        self.way = way
        self._emulation = emulation
        self._states: dict[str, StateSource] = {}
        self._host = host
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.Task[None] | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0

    async def open(self) -> Self:
        reader, self._writer = await asyncio.open_unix_connection(self._host.path(), limit=MAX_LINE)
        self._reader = asyncio.create_task(self._read(reader))
        way = {"transport": self.way.transport, "protobuf": self.way.protobuf, "emulation": self._emulation}
        await self._say("open", url=self.url, token=self.token, asks=self._tokens is not None, **way)
        return self

    async def connect(self) -> None:
        await self._say("connect")

    async def disconnect(self) -> None:
        await self._say("disconnect")

    async def subscribe(
        self,
        channel: str,
        token: str = "",
        *,
        asks: bool = False,
        join_leave: bool = False,
        delta: bool = False,
        tags: dict[str, Any] | None = None,
        state: StateSource | None = None,
    ) -> None:
        if state:
            self._states[channel] = state
        wishes = {"joinLeave": join_leave, "delta": delta, "tags": tags, "state": state is not None}
        await self._say("subscribe", channel=channel, token=token, asks=asks, **wishes)

    async def unsubscribe(self, channel: str) -> None:
        await self._say("unsubscribe", channel=channel)

    async def publish(self, channel: str, data: Any) -> None:
        await self._say("publish", channel=channel, data=data)

    async def history(
        self, channel: str, limit: int = 0, since: tuple[int, str] | None = None, *, reverse: bool = False
    ) -> Page:
        options: dict[str, Any] = {"limit": limit, "reverse": reverse}
        if since:
            options["since"] = {"offset": since[0], "epoch": since[1]}
        answer = await self._say("history", channel=channel, options=options)
        return Page([(offset, data) for offset, data in answer["items"]], answer["offset"], answer["epoch"])

    async def presence(self, channel: str) -> dict[str, Present]:
        answer = await self._say("presence", channel=channel)
        return {client: Present(**info) for client, info in answer.items()}

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        clients, users = await self._say("presenceStats", channel=channel)
        return clients, users

    async def rpc(self, method: str, data: Any) -> Any:
        return await self._say("rpc", method=method, data=data)

    async def send(self, data: Any) -> None:
        """Tell the server something that is not answered."""
        await self._say("send", data=data)

    async def patches(self, channel: str) -> int:
        return int(await self._say("patches", channel=channel))

    async def listen(self, url: str, token: str = "", names: Sequence[str] = ()) -> None:
        """Open an EventSource. Its events have their own names, the data, and the last event id as `reason`."""
        await self._say("listen", url=url, token=token, names=list(names))

    async def close(self) -> None:
        if self._writer is None or self._reader is None:
            return
        with contextlib.suppress(OSError):  # when the process has died
            self._writer.write_eof()
            async with asyncio.timeout(5 * SECOND):
                await self._reader
            self._writer.close()
            await self._writer.wait_closed()
        self._writer = None

    async def _say(self, word: str, **more: Any) -> Any:
        self._last_id += 1
        answer = self._calls[self._last_id] = asyncio.get_running_loop().create_future()
        self._write({"id": self._last_id, "do": word, **more})
        async with asyncio.timeout(10 * SECOND):
            return await answer

    def _write(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._take(json.loads(line))
        for call in self._calls.values():
            if not call.done():
                call.set_exception(ConnectionError("the client has ended"))
                call.exception()  # nobody may wait for it any more

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self.events.append(Event(name=message.pop("event"), **message))
        elif "ask" in message:
            self._write({"answer": self._asked(message["ask"], message["channel"])})
        else:
            self._answer(self._calls.pop(message["id"]), message)

    def _asked(self, what: str, channel: str) -> Any:
        if what == "token":
            return self.next_token()
        offset, epoch = self._states[channel]()
        return {"offset": offset, "epoch": epoch}

    def _answer(self, call: asyncio.Future[Any], message: dict[str, Any]) -> None:
        if call.done():
            return
        if "error" in message:
            call.set_exception(CallFailed(message["error"]["code"], message["error"]["message"]))
        else:
            call.set_result(message["result"])
