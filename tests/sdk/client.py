"""What the tests want of a client library, whichever it is: words to say to it, and the events it gives its app."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.services.deadline import eventually

TokenSource = Callable[[], str]
StateSource = Callable[[], tuple[int, str]]
"""The position up to which an app knows the state of a channel from elsewhere: offset and epoch."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a library talks to the server: a transport, and Protobuf or else JSON."""

    transport: str = "websocket"
    protobuf: bool = False

    def __str__(self) -> str:
        return f"{self.transport}-{'protobuf' if self.protobuf else 'json'}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that the library told its app. `name` is the JavaScript library's: `connected`, `publication`, …

    What it tells of a subscription has the channel's name, whichever side has subscribed.
    """

    name: str
    channel: str = ""
    code: int = 0
    reason: str = ""
    data: Any = None
    offset: int = 0
    client: str = ""
    user: str | None = None
    conn_info: Any = None
    chan_info: Any = None
    tags: dict[str, str] = field(default_factory=dict)
    was_recovering: bool = False
    recovered: bool = False


@dataclass(frozen=True, kw_only=True)
class Present:
    """Who is on a channel, as an answer to `presence` tells it."""

    user: str
    client: str
    conn_info: Any = None
    chan_info: Any = None


@dataclass(frozen=True)
class Page:
    """An answer to `history`. `items` are pairs of offset and data."""

    items: list[tuple[int, Any]]
    offset: int
    epoch: str

    @property
    def data(self) -> list[Any]:
        return [data for _, data in self.items]


class CallFailed(Exception):
    """The server answered a call with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


class Client(ABC):
    """A client of the server at an address, with a token or with a source of tokens that it asks when it needs one.

    `connect` and `subscribe` begin something and do not wait for it: what comes of it is in the events.
    """

    def __init__(self, url: str, token: str = "", tokens: TokenSource | None = None) -> None:
        self.url = url
        self.token = token
        self.tokens_asked = 0
        self.events: list[Event] = []
        self._tokens = tokens

    @abstractmethod
    async def connect(self) -> None: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
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
        """With `asks`, another token for the channel comes from the client's source of tokens. `tags` is a filter."""

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None: ...

    @abstractmethod
    async def publish(self, channel: str, data: Any) -> None:
        """Raises CallFailed."""

    @abstractmethod
    async def history(
        self, channel: str, limit: int = 0, since: tuple[int, str] | None = None, *, reverse: bool = False
    ) -> Page:
        """Raises CallFailed."""

    @abstractmethod
    async def presence(self, channel: str) -> dict[str, Present]:
        """By client id. Raises CallFailed."""

    @abstractmethod
    async def presence_stats(self, channel: str) -> tuple[int, int]:
        """How many clients and how many users. Raises CallFailed."""

    @abstractmethod
    async def rpc(self, method: str, data: Any) -> Any:
        """Raises CallFailed."""

    @abstractmethod
    async def patches(self, channel: str) -> int:
        """How many publications of a subscription came as a difference to the one before."""

    @abstractmethod
    async def close(self) -> None:
        """End everything; may be called at any time."""

    def next_token(self) -> str:
        self.tokens_asked += 1
        return self._tokens() if self._tokens else ""

    # --- what has happened ----------------------------------------------------------------------------------------

    def all(self, name: str, channel: str = "") -> list[Event]:
        return [event for event in self.events if event.name == name and event.channel == channel]

    async def told(self, name: str, channel: str = "") -> Event:
        """The first such event, once there is one."""
        await eventually(lambda: self.all(name, channel))
        return self.all(name, channel)[0]

    def data(self, channel: str) -> list[Any]:
        """The data of all publications on the channel, in the order in which the app got them."""
        return [event.data for event in self.all("publication", channel)]

    @property
    def told_id(self) -> str:
        """The id that the server gave the client when it last connected."""
        return self.all("connected")[-1].client

    @property
    def state(self) -> str:
        """`connecting`, `connected` or `disconnected`."""
        states = [event.name for event in self.events if event.name in {"connecting", "connected", "disconnected"}]
        return states[-1] if states else "disconnected"

    def state_of(self, channel: str) -> str:
        """`subscribing`, `subscribed` or `unsubscribed`."""
        known = {"subscribing", "subscribed", "unsubscribed"}
        states = [event.name for event in self.events if event.channel == channel and event.name in known]
        return states[-1] if states else "unsubscribed"
