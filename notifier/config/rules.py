"""The sections about clients: what they may cost, and what they may do where."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from notifier.config.values import Count, Duration, PerSecond, Rights, Section, Size


class Clients(Section, frozen=True):
    """What one connection may do and how long it may stay silent."""

    ping_interval: Annotated[Duration, Meta(description="How often a client is pinged; whole seconds.")] = Duration(25)
    pong_timeout: Annotated[Duration, Meta(description="How long an answer may take.")] = Duration(8)
    connect_timeout: Annotated[Duration, Meta(description="How long a connection may wait with `connect`.")] = Duration(
        10
    )
    close_timeout: Annotated[Duration, Meta(description="How long a closing handshake may take.")] = Duration(5)
    expired_grace: Annotated[Duration, Meta(description="How long after its token's expiry a client may refresh.")] = (
        Duration(25)
    )
    max_message: Annotated[Size, Meta(description="Largest frame from a client.")] = Size(64 * 2**10)
    max_per_user: Annotated[
        int, Meta(ge=0, description="Most connections of one user, at each worker; 0: any number.")
    ] = 0
    max_channels: Annotated[Count, Meta(description="Most channels of one connection.")] = 128
    max_patterns: Annotated[
        int,
        Meta(ge=0, description="Most different patterns that are subscribed to at each worker; 0: any number."),
    ] = 10_000
    max_channel_bytes: Annotated[Count, Meta(le=255, description="Longest name of a channel.")] = 255
    command_rate: Annotated[
        int,
        Meta(
            ge=0,
            description=(
                "Commands a second that one connection may send for long; 0: any number. More are refused, and whoever "
                "goes on all the same is disconnected; so is who sends as many frames that are no commands."
            ),
        ),
    ] = 100
    command_burst: Annotated[Count, Meta(description="Commands that it may send at once.")] = 1000
    max_buffer: Annotated[Size, Meta(description="Unsent bytes after which a client counts as slow.")] = Size(2**20)
    write_delay: Annotated[
        Duration,
        Meta(
            description="How long after a write what is published next may wait: all that comes meanwhile is written "
            "together, which saves CPU where much is published to many. What follows a longer silence does not wait. "
            "0: as soon as the worker can."
        ),
    ] = Duration(0)
    history_limit: Annotated[Count, Meta(description="Most publications in one history reply to a client.")] = 300
    presence_limit: Annotated[
        Count,
        Meta(description="Most clients that `presence` lists; of larger channels `presence_stats` tells how many."),
    ] = 10_000
    sse_heartbeat: Annotated[Duration, Meta(description="How often an idle SSE stream gets its cursor.")] = Duration(15)
    sse_retry: Annotated[Duration, Meta(description="Reconnect delay that EventSource is told.")] = Duration(1)
    compression: Annotated[
        bool, Meta(description="Offer permessage-deflate: fewer bytes, more CPU for each publication.")
    ] = False
    send_queue: Annotated[
        str, Meta(description="Queue of the broker that gets what clients `send`; empty: they may not.")
    ] = ""


class Limits(Section, frozen=True):
    """How often somebody may connect and publish. A rate is so many a second for long, 0: any number."""

    connects_per_address: Annotated[
        PerSecond,
        Meta(
            description="Connects from one address (of IPv6: one /64), at each worker. Loopback has no limit. "
            "Clients behind a proxy have one address together unless server.trusted_proxies names it."
        ),
    ] = 100.0
    connects_per_address_burst: Annotated[Count, Meta(description="How many of them at once.")] = 2000
    connections_per_address: Annotated[
        int,
        Meta(
            ge=0,
            description="Most clients of one address at a time, at each worker; addresses are meant as above. 0: any "
            "number.",
        ),
    ] = 10_000
    connects_per_user: Annotated[
        PerSecond,
        Meta(description="Connects of one user, at all nodes together with Redis, else at each worker."),
    ] = 0.0
    connects_per_user_burst: Annotated[Count, Meta(description="How many of them at once.")] = 20
    publishes_per_user: Annotated[
        PerSecond, Meta(description="The same with publications that clients of one user publish.")
    ] = 0.0
    publishes_per_user_burst: Annotated[Count, Meta(description="How many of them at once.")] = 100


class Publications(Section, frozen=True):
    """What a publication may be."""

    max_bytes: Annotated[Size, Meta(description="Largest data of one publication.")] = Size(64 * 2**10)


class HistoryRule(Section, frozen=True):
    """What a channel keeps in memory: at most `size` publications, none older than `ttl`. For an archive: at least so
    much, and not much more."""

    size: Count
    ttl: Duration


class ChannelRule(Section, frozen=True):
    """What channels keep, and who may use them. The first rule that matches wins; without a rule nobody may do
    anything."""

    match: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="RabbitMQ's topic patterns: * is one word, # any number of words.",
        ),
    ]
    history: Annotated[
        HistoryRule | None,
        Meta(
            description="At most `size` publications, none older than `ttl`; without it nothing is kept or recovered."
        ),
    ] = None
    archive: Annotated[
        HistoryRule | None,
        Meta(
            description='The same in Redis, for those who were away for long: archive = { size = 1000, ttl = "7d" }; '
            "see docs/archive.md."
        ),
    ] = None
    recovery: Annotated[
        Literal["stream", "cache"],
        Meta(description='"stream": everything that was missed; "cache": only the last publication.'),
    ] = "stream"
    presence: Annotated[bool, Meta(description="Who is there can be asked.")] = False
    join_leave: Annotated[
        Literal["off", "on_request", "always"],
        Meta(description='"on_request": clients that ask for it are told who comes and goes; "always": all are.'),
    ] = "off"
    delta: Annotated[
        bool, Meta(description="Clients that can get the difference to the publication before, instead of all of it.")
    ] = False
    tag_filter: Annotated[bool, Meta(description="Clients may ask for publications with certain tags only.")] = False
    wildcard: Annotated[bool, Meta(description="Clients may subscribe to a pattern within `match`.")] = False
    subscribe: Annotated[
        Rights,
        Meta(
            description='Who may: any of "anyone", "authenticated", "token" (a token for this channel), "role:NAME", '
            'or a pattern with a claim of the connection\'s token, such as "user.{sub}".'
        ),
    ] = field(default_factory=list)
    publish: Annotated[Rights, Meta(description='The same, and "subscriber": those who are subscribed.')] = field(
        default_factory=list
    )


class Connect(Section, frozen=True):
    """What happens when a client connects."""

    subscribe: Annotated[
        list[str],
        Meta(
            description="Channels that every client with a user is subscribed to by the server, "
            'with claims of its token filled in, such as "user.{sub}".'
        ),
    ] = field(default_factory=list)


class RpcRule(Section, frozen=True):
    """Where calls of clients go: to whoever consumes a queue of the broker, and back. See docs/backends.md."""

    method: Annotated[
        str, Meta(min_length=1, max_length=255, description="Which methods: a name, or a pattern as in `match`.")
    ]
    queue: Annotated[str, Meta(min_length=1, max_length=255, description="The queue that gets them.")]
    timeout: Annotated[Duration, Meta(description="How long an answer may take.")] = Duration(5)
    allow: Annotated[Rights, Meta(description="Who may call them: rights as in `subscribe`.")] = field(
        default_factory=list
    )
