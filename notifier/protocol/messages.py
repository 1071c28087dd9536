"""Commands, replies and pushes (protocol.md section 2), and the publication that all encodings write.

Unknown keys of a command are ignored, as the protocol asks; zero values are left out of replies.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from notifier.protocol.codes import Error, Unsubscribe

EMPTY = Raw(b"")


class ClientInfo(Struct, frozen=True, omit_defaults=True):
    """Who a publication or a presence entry is from. `user` and `client` are always written."""

    user: str
    client: str
    conn_info: Raw = EMPTY
    chan_info: Raw = EMPTY


class Publication:
    """One publication of one channel, checked and ready for every encoding.

    `data` and `info` are JSON without raw newlines. `offset` is the place in the log plus one, 0 for a publication that
    no history may hold; clients are told it where the channel keeps history (`positioned`). `index` is the channel's
    place among those of the same record, so (offset, index) is unique and rises in the log's order; `last` says that no
    other comes after it. `expires_at` is wall time in seconds, infinity for never.
    """

    __slots__ = (
        "channel",
        "data",
        "event",
        "expires_at",
        "index",
        "info",
        "last",
        "offset",
        "positioned",
        "tags",
        "traceparent",
    )

    def __init__(
        self,
        channel: str,
        offset: int,
        data: bytes,
        *,
        index: int = 0,
        last: bool = True,
        positioned: bool = True,
        event: str = "",
        info: bytes = b"",
        tags: dict[str, str] | None = None,
        traceparent: str = "",
        expires_at: float = float("inf"),
    ) -> None:
        self.channel = channel
        self.offset = offset
        self.data = data
        self.index = index
        self.last = last
        self.positioned = positioned
        self.event = event
        self.info = info
        self.tags = tags
        self.traceparent = traceparent
        self.expires_at = expires_at

    def __repr__(self) -> str:
        return f"Publication({self.channel!r}, {self.offset}, {len(self.data)} bytes)"


class Position(Struct, frozen=True, omit_defaults=True):
    """A place in the log that a client has seen everything up to."""

    offset: int = 0
    epoch: str = ""


# --- commands ---------------------------------------------------------------------------------------------------


class ConnectRequest(Struct):
    token: str = ""
    data: Raw = EMPTY
    name: str = ""
    version: str = ""


class SubscribeRequest(Struct):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    flag: int = 0
    type: int = 0
    delta: str = ""


class UnsubscribeRequest(Struct):
    channel: str = ""


class PublishRequest(Struct):
    channel: str = ""
    data: Raw = EMPTY


class HistoryRequest(Struct):
    channel: str = ""
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


class ChannelRequest(Struct):
    channel: str = ""


class RpcRequest(Struct):
    method: str = ""
    data: Raw = EMPTY


class SendRequest(Struct):
    data: Raw = EMPTY


class RefreshRequest(Struct):
    token: str = ""


class SubRefreshRequest(Struct):
    channel: str = ""
    token: str = ""


class Command(Struct, omit_defaults=True):
    """One command: an id and exactly one method. Without any it is the answer to a ping."""

    id: int = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: ChannelRequest | None = None
    presence_stats: ChannelRequest | None = None
    history: HistoryRequest | None = None
    ping: dict[str, Any] | None = None
    send: SendRequest | None = None
    rpc: RpcRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None


# --- results ----------------------------------------------------------------------------------------------------


class ConnectResult(Struct, omit_defaults=True):
    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    ping: int = 0
    pong: bool = False


class SubscribeResult(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication] = []
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    was_recovering: bool = False


class Empty(Struct):
    """The result of a command that has nothing to tell."""


class HistoryResult(Struct):
    """All three are always written."""

    publications: list[Publication]
    epoch: str
    offset: int


class RefreshResult(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class Reply(Struct, omit_defaults=True):
    """The answer to the command with the same id; without an id it is a push, and empty it is a ping."""

    id: int = 0
    error: Error | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: Empty | None = None
    publish: Empty | None = None
    history: HistoryResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: RefreshResult | None = None
    push: Push | None = None


class Push(Struct, omit_defaults=True):
    """What the server sends unasked, but for publications: those are encoded once for all subscribers."""

    channel: str = ""
    unsubscribe: Unsubscribe | None = None
