"""Connecting: who the client is, and the subscriptions that the server gives it (protocol.md sections 2.2, 4.2)."""

from __future__ import annotations

from notifier.core import subscribing, target
from notifier.core.identity import ANONYMOUS, Identity, SubscriptionGrant
from notifier.core.node import Node
from notifier.core.rates import What
from notifier.core.session import Session
from notifier.core.subscribing import Judged
from notifier.errors import TokenError, TokenExpired
from notifier.protocol import codes
from notifier.protocol.codes import CommandFailed, ConnectionEnded, bad_command
from notifier.protocol.messages import ConnectRequest, ConnectResult, SubscribeRequest

_NO_GRANT = SubscriptionGrant()


async def connect(session: Session, request: ConnectRequest, *, chosen: bool = False) -> ConnectResult:
    """`chosen`: the client names channels in `subs` that it wants to be subscribed to by the server, since it cannot
    subscribe itself; those that it may not have are left out.

    Raises CommandFailed or ConnectionEnded; then the client is not connected.
    """
    node = session.node
    if node.draining:
        raise ConnectionEnded(codes.SHUTDOWN)
    identity = await identify(node, request.token)
    if await node.exceeds(What.CONNECT, identity.user):
        raise ConnectionEnded(codes.TOO_MANY_COMMANDS)  # with an error the SDKs would not try again
    wanted: dict[str, SubscriptionGrant | None] = dict(server_side(node, identity))
    if chosen:
        wanted.update(_chosen(node, identity, request, wanted))
    if len(wanted) > node.limits.max_channels:
        raise ConnectionEnded(codes.CHANNEL_LIMIT)
    if wanted and not node.log.ready:
        raise CommandFailed(codes.INTERNAL)
    judged = [await _judged(session, name, grant, request) for name, grant in wanted.items()]
    if session.closed:
        raise ConnectionEnded(codes.CONNECTION_CLOSED)
    if not all(each.target.is_current for each in judged):
        raise CommandFailed(codes.INTERNAL)
    if node.is_revoked(identity):  # while something was waited for
        raise CommandFailed(codes.TOKEN_EXPIRED)
    # From here to the reply nothing waits.
    if node.is_full(identity.user):
        raise ConnectionEnded(codes.CONNECTION_LIMIT)
    judged = [subscribing.settled(session, each) for each in judged]
    session.connect(identity)
    expires, ttl = subscribing.time_left(session, identity.expires_at)
    return ConnectResult(
        client=session.client_id,
        version=node.version,
        expires=expires,
        ttl=ttl,
        subs={each.target.name: subscribing.begin(session, each) for each in judged},
        ping=int(session.ping_interval_s),
        pong=session.answers_pings,
        session=session.key,
        node=node.node_id if session.key in node.inboxes else "",
    )


async def identify(node: Node, token: str) -> Identity:
    """Who a connection token is about. Raises CommandFailed or ConnectionEnded."""
    if not token:
        if node.anonymous:
            return ANONYMOUS
        raise bad_command("a token is required")
    try:
        identity = await node.verifier.connection(token)
    except TokenExpired as error:
        raise CommandFailed(codes.TOKEN_EXPIRED) from error
    except TokenError as error:
        raise ConnectionEnded(codes.INVALID_TOKEN) from error
    if node.is_revoked(identity):
        raise CommandFailed(codes.TOKEN_EXPIRED)
    if node.is_over(identity):
        raise CommandFailed(codes.EXPIRED)
    return identity


def server_side(node: Node, identity: Identity) -> dict[str, SubscriptionGrant]:
    """The channels that the server subscribes this client to: those of its token, and those that everybody with a user
    gets."""
    wanted = dict(identity.subs)
    if identity.user:
        for pattern in node.own_channels:
            for name in pattern.filled_in(identity):
                wanted.setdefault(name, _NO_GRANT)
    return wanted


def _chosen(
    node: Node, identity: Identity, request: ConnectRequest, given: dict[str, SubscriptionGrant | None]
) -> dict[str, SubscriptionGrant | None]:
    found: dict[str, SubscriptionGrant | None] = {}
    for name in request.subs:
        try:
            wanted = target.find(node.rules, name, node.limits.max_channel_bytes)
        except ValueError as error:
            raise bad_command(str(error)) from error
        if wanted is None:
            raise bad_command("unknown channel")
        if name not in given and wanted.rule.subscribe.allow(identity, name):
            found[name] = None
    return found


async def _judged(session: Session, name: str, grant: SubscriptionGrant | None, request: ConnectRequest) -> Judged:
    try:
        wanted = target.find(session.node.rules, name, session.node.limits.max_channel_bytes)
    except ValueError as error:
        raise codes.bad_request(str(error)) from error
    if wanted is None:
        raise CommandFailed(codes.UNKNOWN_CHANNEL)
    known = request.subs.get(name) or SubscribeRequest()
    state = SubscribeRequest(name, recover=known.recover, epoch=known.epoch, offset=known.offset)
    return await subscribing.judged(session, wanted, state, grant, server_side=True)
