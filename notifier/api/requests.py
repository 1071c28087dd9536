"""Requests and results of the server API (protocol.md section 7), as they are in JSON.

What stands at a field is for the document that describes the API (`openapi.py`): it is not checked by the decoder, but
by the method, which answers with an error of the protocol.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from notifier.core.asked import NodeInfo
from notifier.core.channel import MAX_BYTES as MAX_CHANNEL_BYTES
from notifier.core.seen import Explanation
from notifier.protocol.codes import FORCE_DISCONNECT, Error
from notifier.protocol.messages import EMPTY, ClientInfo, Position
from notifier.protocol.messages import HistoryRequest as ClientHistoryRequest

MAX_REASON_BYTES = 123  # of a WebSocket's close frame (RFC 6455, section 5.5)
MAX_ID_BYTES = 255  # of a short string in AMQP 0.9.1
MAX_TAG_BYTES = 250
MAX_NUMBER = 2**63 - 1
MAX_WALL_TIME = 2**53

Channel = Annotated[
    str,
    Meta(
        description="Words separated by dots.",
        extra_json_schema={"minLength": 1, "maxLength": MAX_CHANNEL_BYTES, "pattern": "^[!-~]+$"},
    ),
]
User = Annotated[str, Meta(description="Whose connections; empty: those of nobody in particular.")]
OnlyClient = Annotated[str, Meta(description="Only the connection with this client id; empty: all of them.")]
OnlySession = Annotated[str, Meta(description="Only the connection with this session id; empty: all of them.")]
WallTime = Annotated[
    int,
    Meta(description="Wall time in seconds; 0: never.", extra_json_schema={"minimum": 0, "maximum": MAX_WALL_TIME}),
]
Base64 = Annotated[
    str,
    Meta(
        description="The JSON value of the field beside it, in base64 (RFC 4648); one of the two.",
        extra_json_schema={"contentEncoding": "base64"},
    ),
]
Id = Annotated[str, Meta(extra_json_schema={"maxLength": MAX_ID_BYTES})]
Number = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": MAX_NUMBER})]


class Content(Struct):
    """The fields that publish and broadcast share."""

    data: Annotated[Raw, Meta(description="What is published: any JSON value.")] = EMPTY
    b64data: Base64 = ""
    skip_history: Annotated[bool, Meta(description="For those who are connected now; not kept.")] = False
    tags: Annotated[
        dict[str, str] | None,
        Meta(description=f"For filters. A name has at most {MAX_TAG_BYTES} bytes."),
    ] = None
    idempotency_key: Annotated[
        Id, Meta(description="The same one again on the same channel is not delivered twice.")
    ] = ""
    delta: Annotated[bool, Meta(description="Taken and without effect: the channel's rule decides.")] = False
    version: Annotated[Number, Meta(description="Dropped when a higher one was published before; 0: none.")] = 0
    version_epoch: Annotated[Id, Meta(description="Versions of different epochs are not compared.")] = ""


class PublishRequest(Content):
    """Publish to one channel."""

    channel: Channel = ""


class BroadcastRequest(Content):
    """Publish the same to several channels, as one record of the log."""

    channels: Annotated[
        list[str], Meta(description="Each has an answer of its own.", extra_json_schema={"minItems": 1})
    ] = []


class Flag(Struct):
    """How `override` switches something on or off."""

    value: bool = False


class SubscribeRequest(Struct):
    """Subscribe a user's connections to a channel, or to a pattern, from the server's side."""

    user: User = ""
    channel: Channel = ""
    client: OnlyClient = ""
    session: OnlySession = ""
    info: Annotated[Raw, Meta(description="What others see beside the client on this channel.")] = EMPTY
    b64info: Base64 = ""
    data: Annotated[Raw, Meta(description="What the client is told with the subscription.")] = EMPTY
    b64data: Base64 = ""
    expire_at: WallTime = 0
    recover_since: Annotated[
        Position | None, Meta(description="The client gets what was published since this position.")
    ] = None
    override: Annotated[
        dict[str, Flag] | None,
        Meta(
            description="Options of the channel's rule that are otherwise for this subscription: presence, join_leave, "
            "force_push_join_leave, force_recovery, force_positioning."
        ),
    ] = None


class UnsubscribeRequest(Struct):
    """End the subscription of a user's connections to a channel, or to a pattern."""

    user: User = ""
    channel: Channel = ""
    client: OnlyClient = ""
    session: OnlySession = ""


class DisconnectReason(Struct):
    """What the client is told; codes of applications are 4000-4999, and those of the protocol can be used too."""

    code: Annotated[int, Meta(extra_json_schema={"minimum": 3000, "maximum": 4999})] = FORCE_DISCONNECT.code
    reason: Annotated[
        str,
        Meta(
            description=f"At most {MAX_REASON_BYTES} bytes.",
            extra_json_schema={"minLength": 1, "maxLength": MAX_REASON_BYTES},
        ),
    ] = FORCE_DISCONNECT.reason


class DisconnectRequest(Struct):
    """Disconnect a user's connections."""

    user: User = ""
    client: OnlyClient = ""
    session: OnlySession = ""
    whitelist: Annotated[list[str], Meta(description="Ids of clients that stay.")] = []
    disconnect: DisconnectReason | None = None


class RefreshRequest(Struct):
    """Let a user's connections end at another time."""

    user: User = ""
    client: OnlyClient = ""
    session: OnlySession = ""
    expired: Annotated[bool, Meta(description="End them now.")] = False
    expire_at: WallTime = 0
    info: Annotated[Raw, Meta(description="What others see beside the client from now on; none: as before.")] = EMPTY


class ChannelRequest(Struct):
    """About one channel."""

    channel: Channel = ""


class HistoryRequest(ClientHistoryRequest):
    """A page of what a channel keeps."""

    channel: Channel = ""
    limit: Annotated[int, Meta(description="Most publications in the answer; 0: none, -1: all.")] = 0
    since: Annotated[
        Position | None, Meta(description="Only what came after this position; with `reverse`, before it.")
    ] = None
    reverse: Annotated[bool, Meta(description="The newest first.")] = False


class ChannelsRequest(Struct):
    """Channels with subscribers."""

    pattern: Annotated[str, Meta(description="A glob that their names match; empty: all of them.")] = ""


class InfoRequest(Struct):
    """About all workers."""


class ConnectionsRequest(Struct):
    """The connections of one user."""

    user: User = ""


class RevokeRequest(Struct):
    """Let tokens count no more, and end what rests on them: exactly one of `token`, `user` and `all`."""

    token: Annotated[Id, Meta(description="The token with this id (`jti`).")] = ""
    user: Annotated[str, Meta(description="The tokens of this user that were issued before `before`.")] = ""
    all: Annotated[bool, Meta(description="All tokens that were issued before `before`.")] = False
    before: Annotated[
        float,
        Meta(description="Wall time in seconds; 0: now.", extra_json_schema={"minimum": 0, "maximum": MAX_WALL_TIME}),
    ] = 0.0


class ExplainRequest(Struct):
    """What became of a recent message on every node: by its message id, or by its offset."""

    id: Annotated[Id, Meta(description="The AMQP property message_id, or the idempotency key.")] = ""
    offset: Annotated[
        int, Meta(description="Its offset, instead of `id`.", extra_json_schema={"minimum": 0, "maximum": MAX_NUMBER})
    ] = 0


class ExplainResult(Struct):
    """One for each worker."""

    nodes: list[Explanation]


class RpcRequest(Struct):
    """Call a method of this server. There is none for backends: always answered with error 104."""

    method: str = ""
    params: Annotated[Raw, Meta(description="Any JSON value.")] = EMPTY


class BatchRequest(Struct):
    """Several commands in one request, each with an answer of its own."""

    commands: Annotated[
        list[dict[str, Raw]], Meta(description="Objects with one key: a method's name, and its request.")
    ] = []
    parallel: Annotated[bool, Meta(description="All at once instead of one after the other.")] = False


class EmptyResult(Struct):
    """Nothing to tell."""


class PublishResult(Struct, omit_defaults=True):
    """Absent where the channel keeps no history."""

    offset: int = 0
    epoch: str = ""


class BroadcastResponse(Struct, omit_defaults=True):
    """One of the two."""

    result: PublishResult | None = None
    error: Error | None = None


class BroadcastResult(Struct):
    """One for each channel, in order."""

    responses: list[BroadcastResponse]


class PresenceResult(Struct):
    """By client id."""

    presence: dict[str, ClientInfo]


class PresenceStatsResult(Struct):
    """Connections, and different users among them."""

    num_clients: int
    num_users: int


class ChannelInfo(Struct):
    """Subscribers of a channel."""

    num_clients: int


class ChannelsResult(Struct):
    """By name."""

    channels: dict[str, ChannelInfo]


class InfoResult(Struct):
    """One for each worker."""

    nodes: list[NodeInfo]


class ConnectionState(Struct):
    """What a connection is subscribed to, by channel; nothing more is told of a subscription."""

    channels: dict[str, EmptyResult]


class Connection(Struct, omit_defaults=True):
    """One connection. `expires_at` is wall time in seconds; absent for never."""

    user: str
    node: str
    transport: str
    protocol: str
    state: ConnectionState
    expires_at: float = 0.0


class ConnectionsResult(Struct):
    """By client id."""

    connections: dict[str, Connection]


class RpcResult(Struct):
    """What the method answered."""

    data: Any = None
