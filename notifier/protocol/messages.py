"""Commands, replies and pushes (protocol.md section 2), and the publication that all encodings write.

Unknown keys of a command are ignored, as the protocol asks; zero values are left out of replies. Fields are named as on
the wire in JSON; the numbers that Protobuf gives them stand in `client.proto`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import Raw, Struct

from notifier.protocol import fossil
from notifier.protocol.codes import Disconnect, Error, Unsubscribe
from notifier.protocol.filters import FilterNode

EMPTY = Raw(b"")


class ClientInfo(Struct, frozen=True, omit_defaults=True):
    """Who a publication or a presence entry is from. `user` and `client` are always written."""

    user: str
    client: str
    conn_info: Raw = EMPTY
    chan_info: Raw = EMPTY


class Caller(ClientInfo, frozen=True, omit_defaults=True):
    """Who asks, as backends see it: with what the token says for them alone (protocol.md section 6, `meta`)."""

    meta: dict[str, Any] = {}


class Form(Enum):
    """How a publication's data is written (protocol.md section 5.4).

    PLAIN: as it is. WHOLE: all of it, in the way of subscriptions with deltas, which is a text in JSON. PATCH: the
    difference to the publication before it, where there is one that every receiver has, or else WHOLE.
    """

    PLAIN = "plain"
    WHOLE = "whole"
    PATCH = "patch"


class Publication:
    """One publication of one channel, checked and ready for every encoding.

    `data` and `info` are JSON without raw newlines. `offset` is the place in the log plus one, 0 for a publication that
    no history may hold; clients are told it where the channel keeps history (`positioned`). `index` is the channel's
    place among those of the same record, so (offset, index) is unique and rises in the log's order; `last` says that no
    other comes after it. `expires_at` is wall time in seconds, infinity for never. `base` is the data of the
    publication before it, when everybody who gets this one in a row has that one; None without deltas.
    """

    __slots__ = (
        "_patches",
        "base",
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
        self.base: bytes | None = None
        self._patches: dict[bool, bytes | None] | None = None

    def patch(self, *, as_text: bool) -> bytes | None:
        """The difference to `base`, made once however many ask; as text it is UTF-8. None where it would not be
        shorter than the data."""
        if self.base is None:
            return None
        if self._patches is None:
            self._patches = {}
        if as_text not in self._patches:
            self._patches[as_text] = fossil.shorter_patch(self.base, self.data, as_text=as_text)
        return self._patches[as_text]

    def __repr__(self) -> str:
        return f"Publication({self.channel!r}, {self.offset}, {len(self.data)} bytes)"


class Shown:
    """A publication in a reply whose subscription has a form of its own. `named`: it carries its channel, because it
    was found by a pattern."""

    __slots__ = ("form", "named", "publication")

    def __init__(self, publication: Publication, form: Form = Form.PLAIN, *, named: bool = False) -> None:
        self.publication = publication
        self.form = form
        self.named = named


class Position(Struct, frozen=True, omit_defaults=True):
    """A place in the log that a client has seen everything up to."""

    offset: int = 0
    epoch: str = ""


# --- commands ---------------------------------------------------------------------------------------------------


class ConnectRequest(Struct):
    """`subs` is what the client knows of its server-side subscriptions."""

    token: str = ""
    data: Raw = EMPTY
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}


class SubscribeRequest(Struct):
    """`recoverable`, `positioned` and `join_leave` are wishes. `tf` is a tag filter."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    data: Raw = EMPTY
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: FilterNode | None = None
    flag: int = 0
    type: int = 0


class UnsubscribeRequest(Struct):
    channel: str = ""


class PublishRequest(Struct):
    channel: str = ""
    data: Raw = EMPTY
    type: int = 0


class HistoryRequest(Struct):
    channel: str = ""
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


class ChannelRequest(Struct):
    channel: str = ""


class RpcRequest(Struct):
    data: Raw = EMPTY
    method: str = ""


class SendRequest(Struct):
    data: Raw = EMPTY


class RefreshRequest(Struct):
    token: str = ""


class SubRefreshRequest(Struct):
    channel: str = ""
    token: str = ""
    type: int = 0


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


class EmulationRequest(Struct):
    """Commands for a connection whose stream goes the other way only; `data` is what a frame would hold."""

    node: str = ""
    session: str = ""
    data: str = ""


# --- results ----------------------------------------------------------------------------------------------------


class ConnectResult(Struct, omit_defaults=True):
    """`session` and `node` are set where commands come over another connection than replies."""

    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    data: Raw = EMPTY
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""


class SubscribeResult(Struct, omit_defaults=True):
    """With `delta` the publications of this subscription come in a form of their own, here and in pushes."""

    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication | Shown] = []
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Raw = EMPTY
    was_recovering: bool = False
    delta: bool = False


class Empty(Struct):
    """The result of a command that has nothing to tell."""


class PresenceResult(Struct):
    """By client id; always written."""

    presence: dict[str, ClientInfo]


class PresenceStatsResult(Struct):
    """Both are always written."""

    num_clients: int
    num_users: int


class HistoryResult(Struct):
    """All three are always written."""

    publications: list[Publication]
    epoch: str
    offset: int


class RpcResult(Struct, omit_defaults=True):
    data: Raw = EMPTY


class RefreshResult(Struct, omit_defaults=True):
    """`client` and `version` of the wire's message are not used by anybody."""

    expires: bool = False
    ttl: int = 0


class Reply(Struct, omit_defaults=True):
    """The answer to the command with the same id; without an id it is a push, and empty it is a ping."""

    id: int = 0
    error: Error | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: Empty | None = None
    publish: Empty | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    rpc: RpcResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: RefreshResult | None = None


# --- pushes -----------------------------------------------------------------------------------------------------


class Presence(Struct):
    """What a join and a leave tell."""

    info: ClientInfo


class SubscribePush(Struct, omit_defaults=True):
    """A server-side subscription that begins."""

    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Raw = EMPTY


class Message(Struct):
    """Something for the client alone, outside of all channels."""

    data: Raw


class Push(Struct, omit_defaults=True):
    """What the server sends unasked, but for publications: those are encoded once for all subscribers.

    One-way transports get it bare; there `connect` begins a connection and `disconnect` ends it.
    """

    channel: str = ""
    join: Presence | None = None
    leave: Presence | None = None
    unsubscribe: Unsubscribe | None = None
    message: Message | None = None
    subscribe: SubscribePush | None = None
    connect: ConnectResult | None = None
    disconnect: Disconnect | None = None
    refresh: RefreshResult | None = None
