"""All numbers that a client can be told, each with its text (protocol.md section 3).

The ranges tell an SDK what to do: a disconnect code of 3500-3999 or 4500-4999 is terminal, any other one reconnects;
an unsubscribe code below 2500 is terminal, any other one subscribes again.
"""

from __future__ import annotations

import msgspec


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error reply's content."""

    code: int
    message: str
    temporary: bool = False


class Disconnect(msgspec.Struct, frozen=True):
    """Why the server ends a connection. The reason is never empty: with an empty one an SDK reconnects for ever."""

    code: int
    reason: str

    @property
    def terminal(self) -> bool:
        return 3500 <= self.code < 4000 or 4500 <= self.code < 5000


class Unsubscribe(msgspec.Struct, frozen=True):
    """Why the server ends a subscription."""

    code: int
    reason: str


class CommandFailed(Exception):
    """A command that is answered with an error; the connection goes on."""

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(f"{error.code} {error.message}")


class ConnectionEnded(Exception):
    """A command that ends its connection."""

    def __init__(self, disconnect: Disconnect) -> None:
        self.disconnect = disconnect
        super().__init__(f"{disconnect.code} {disconnect.reason}")


INTERNAL = Error(100, "internal server error", temporary=True)
UNAUTHORIZED = Error(101, "unauthorized")
UNKNOWN_CHANNEL = Error(102, "unknown channel")
PERMISSION_DENIED = Error(103, "permission denied")
METHOD_NOT_FOUND = Error(104, "method not found")
ALREADY_SUBSCRIBED = Error(105, "already subscribed")
LIMIT_EXCEEDED = Error(106, "limit exceeded")
BAD_REQUEST = Error(107, "bad request")
NOT_AVAILABLE = Error(108, "not available")
TOKEN_EXPIRED = Error(109, "token expired")
EXPIRED = Error(110, "expired")
TOO_MANY_REQUESTS = Error(111, "too many requests", temporary=True)
UNRECOVERABLE_POSITION = Error(112, "unrecoverable position")

CONNECTION_CLOSED = Disconnect(3000, "connection closed")
SHUTDOWN = Disconnect(3001, "shutdown")
INTERNAL_ERROR = Disconnect(3004, "internal server error")
CONNECTION_EXPIRED = Disconnect(3005, "connection expired")
SUBSCRIPTION_EXPIRED = Disconnect(3006, "subscription expired")
SLOW = Disconnect(3008, "slow")
WRITE_ERROR = Disconnect(3009, "write error")
INSUFFICIENT_STATE = Disconnect(3010, "insufficient state")
FORCE_RECONNECT = Disconnect(3011, "force reconnect")
NO_PONG = Disconnect(3012, "no pong")
TOO_MANY_COMMANDS = Disconnect(3013, "too many requests")
STATE_INVALIDATED = Disconnect(3014, "state invalidated")
INVALID_TOKEN = Disconnect(3500, "invalid token")
BAD_COMMAND = Disconnect(3501, "bad request")
STALE = Disconnect(3502, "stale")
FORCE_DISCONNECT = Disconnect(3503, "force disconnect")
CONNECTION_LIMIT = Disconnect(3504, "connection limit")
CHANNEL_LIMIT = Disconnect(3505, "channel limit")
INAPPROPRIATE_PROTOCOL = Disconnect(3506, "inappropriate protocol")
NO_PERMISSION = Disconnect(3507, "permission denied")
NO_FEATURE = Disconnect(3508, "not available")

UNSUBSCRIBED_BY_SERVER = Unsubscribe(2000, "server unsubscribe")
UNSUBSCRIBED_INSUFFICIENT_STATE = Unsubscribe(2500, "insufficient state")
UNSUBSCRIBED_EXPIRED = Unsubscribe(2501, "subscription expired")
UNSUBSCRIBED_INVALIDATED = Unsubscribe(2502, "state invalidated")

OTHERS = "other"
_OURS = frozenset(each.code for each in list(globals().values()) if isinstance(each, (Error, Disconnect)))


def counted_as(code: int) -> int | str:
    """What a code is called where codes are counted. Backends have thousands of their own."""
    return code if code in _OURS else OTHERS


def bad_command(detail: str) -> ConnectionEnded:
    """3501 with what was wrong; the SDKs show the reason to the app."""
    return ConnectionEnded(Disconnect(BAD_COMMAND.code, f"{BAD_COMMAND.reason}: {detail}"[:120]))


def bad_request(detail: str) -> CommandFailed:
    """107 with what was wrong."""
    return CommandFailed(Error(BAD_REQUEST.code, f"{BAD_REQUEST.message}: {detail}"))
