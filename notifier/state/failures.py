"""Failures: what went wrong with a call to Redis, in words of our own.

Nothing of the error's own text is used: it may hold what was sent, the password among it (a server that does not know
AUTH answers with its arguments).
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    MasterDownError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
"""Everything that a call can fail with, and whose fault is not the caller's."""


class Failure(NamedTuple):
    """`reason` is one of a closed set of words, `text` a sentence's end for people. `away`: nothing else would work
    either, as opposed to a command that Redis did not want."""

    reason: str
    text: str
    away: bool = True


BUSY = Failure("busy", "more calls at once than it answers in time", away=False)
_KINDS: tuple[tuple[tuple[type[BaseException], ...], Failure], ...] = (
    (
        (AuthenticationError, AuthorizationError, AuthenticationWrongNumberOfArgsError),
        Failure("auth", "it refuses the user or the password"),
    ),
    ((BusyLoadingError,), Failure("loading", "it is still reading its data")),
    ((ReadOnlyError,), Failure("read_only", "it is a replica, which takes no writes")),
    ((MasterDownError,), Failure("master_down", "it is a replica that has lost its master")),
    ((MasterNotFoundError,), Failure("no_master", "no sentinel that can be reached knows a master of this name")),
    ((AskError,), Failure("moved", 'it is one node of a cluster: redis.mode = "cluster" is for that')),
    ((ClusterError, TryAgainError), Failure("cluster_down", "the cluster cannot serve all keys now")),
    ((MaxConnectionsError,), BUSY),
    ((OutOfMemoryError,), Failure("out_of_memory", "it has no memory left", away=False)),
    ((NoPermissionError,), Failure("no_permission", "its user may not do what is needed", away=False)),
    ((RedisTimeoutError, TimeoutError), Failure("timeout", "it does not answer in time")),
)
_BY_FIRST_WORD = {
    "MISCONF": Failure("cannot_persist", "it cannot write to its disk", away=False),
    "NOREPLICAS": Failure("no_replicas", "it has too few replicas for a write", away=False),
    "BUSY": Failure("blocked", "a script blocks it"),
}
_REFUSED = Failure("refused", "it refuses a command", away=False)
_CLUSTER = Failure("cluster_down", "no node of the cluster can be reached, or some keys have none")
REASONS = frozenset(
    failure.reason for _, failure in _KINDS
) | {failure.reason for failure in _BY_FIRST_WORD.values()} | {"refused", "tls", "connection"}  # fmt: skip


def failure_of(error: BaseException) -> Failure:
    """What an error of `FAILURES` means."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ssl.SSLError):
            return Failure("tls", _tls(link))
    for kinds, failure in _KINDS:
        if isinstance(error, kinds):
            return failure
    if isinstance(error, RedisClusterException):
        cause = next((link for link in chain[1:] if isinstance(link, (RedisError, OSError))), None)
        return failure_of(cause) if cause is not None else _CLUSTER
    if isinstance(error, ResponseError):
        return _BY_FIRST_WORD.get(str(error).partition(" ")[0], _REFUSED)
    return Failure("connection", _connection(chain))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from; the library wraps what the socket said."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    return f"no TLS with it: {(error.reason or 'handshake failed').lower().replace('_', ' ')}"


def _connection(chain: list[BaseException]) -> str:
    for link in chain:
        if isinstance(link, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(link, OSError) and link.errno:
            return f"no connection: {os.strerror(link.errno).lower()}"
    return "the connection was lost"
