"""Client: how Redis is reached: one server, the master that sentinels name, or a cluster.

The library repeats nothing (its default is ten times): a command whose reply was lost may have been executed. What
leads a command to another node of a cluster is no repeat; it was refused, not done.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection as SentinelTLS
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError

from notifier.config import Redis as RedisSection
from notifier.config import RedisAddress, redis_address
from notifier.state.failures import FAILURES

_CLOSE_WITHIN_S = 1.0


class Client:
    """Connections of one shape. `redis` has the commands, whichever shape it is; it is thrown away whole when Redis was
    away, so that the next one asks anew who is the master, who serves which keys, and what the names mean."""

    def __init__(
        self,
        redis: Redis,
        ping: Callable[[], Awaitable[object]],
        info: Callable[[], Awaitable[list[dict[str, Any]]]],
        closers: list[Callable[[], Any]],
    ) -> None:
        self.redis = redis
        self.ping = ping
        self._info = info
        self._closers = closers
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def servers(self) -> frozenset[str]:
        """Which processes these are; others after a restart or a failover. Empty for a user who may not know that."""
        try:
            return frozenset(str(info.get("run_id", "")) for info in await self._info())
        except NoPermissionError:
            return frozenset()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Redis]:
        """For the time of one call."""
        self._calls += 1
        self._idle.clear()
        try:
            yield self.redis
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def retire(self) -> None:
        """Close when the last call is over: each has its deadline."""
        await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        """Never raises and never waits for long."""
        for closer in self._closers:
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(_CLOSE_WITHIN_S):
                    await closer()


def connect(section: RedisSection) -> Client:
    """Does no I/O but reading the files for TLS; the first command connects. Raises OSError."""
    address = redis_address(section.url)
    if section.mode == "sentinel":
        return _by_sentinels(section, address)
    if section.mode == "cluster":
        return _cluster(section, address)
    return _single(section, address)


def _single(section: RedisSection, address: RedisAddress) -> Client:
    [(host, port)] = address.hosts
    pool = BlockingConnectionPool(
        host=host,
        port=port or 6379,
        timeout=section.timeout,
        max_connections=section.connections + 1,  # one for the probe
        connection_class=_class_for(section, address, Connection, SSLConnection),
        **_options(section, address),
    )
    return _around(pool)


def _by_sentinels(section: RedisSection, address: RedisAddress) -> Client:
    hosts = [(host, port or 26379) for host, port in address.hosts]
    random.shuffle(hosts)  # a silent one must not be the first each time
    tls = {"ssl": True, **_tls_options(section)} if address.tls else {}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        hosts,
        sentinel_kwargs={
            **_every(section.timeout / 2),
            **_silence(section.timeout / 2),  # nor must a sentinel
            "max_connections": section.connections + 1,
            "username": section.sentinel_user or None,
            "password": str.__str__(section.sentinel_password) or None,
            **tls,
        },
    )
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        section.master,
        sentinel,
        max_connections=section.connections + 1,
        connection_class=_class_for(section, address, SentinelManagedConnection, SentinelTLS),
        **_options(section, address),
    )
    return _around(pool, sentinel.aclose)


def _around(pool: ConnectionPool, *closers: Callable[[], Any]) -> Client:
    redis: Redis = Redis(connection_pool=pool)

    async def info() -> list[dict[str, Any]]:
        return [await redis.info("server")]

    return Client(redis, redis.ping, info, [pool.disconnect, *closers])


def _cluster(section: RedisSection, address: RedisAddress) -> Client:
    # A node that is silent must not keep the others from being asked which keys they serve.
    options = {**_options(section, address), **_silence(section.timeout), "max_connections": section.connections + 1}
    del options["db"]
    tls = {"ssl": True, **_tls_options(section)} if address.tls else {}
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port or 6379) for host, port in address.hosts], **options, **tls
    )
    if address.tls:
        # It takes no connection class; every node makes its own from these.
        sharing = _class_for(section, address, Connection, SSLConnection)
        cluster.connection_kwargs["connection_class"] = sharing
        for node in cluster.nodes_manager.startup_nodes.values():
            node.connection_class = sharing

    async def ping() -> None:
        await cluster.ping(target_nodes=RedisCluster.PRIMARIES)

    async def info() -> list[dict[str, Any]]:
        found = await cluster.info("server", target_nodes=RedisCluster.PRIMARIES)
        return [found] if "run_id" in found else list(found.values())

    async def close() -> None:
        await cluster.aclose()
        # Which closes nothing after an error, because it means to ask for the nodes again.
        await cluster.nodes_manager.aclose()
        await cluster.nodes_manager.aclose("startup_nodes")

    # It has the commands of a Redis, though it is none by its type.
    return Client(cast("Redis", cluster), ping, info, [close])


def _silence(timeout_s: float) -> dict[str, Any]:
    return {"socket_timeout": timeout_s}


def _every(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": None,  # a call has a deadline as a whole
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,  # or each connection would begin with two commands that older servers do not know
    }


def _options(section: RedisSection, address: RedisAddress) -> dict[str, Any]:
    return {
        **_every(section.timeout),
        "db": address.database,
        "username": address.user or None,
        "password": address.password or None,
    }


def _tls_options(section: RedisSection) -> dict[str, Any]:
    return {
        "ssl_ca_certs": section.ca_file or None,
        "ssl_certfile": section.cert_file or None,
        "ssl_keyfile": section.key_file or None,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def _class_for(
    section: RedisSection, address: RedisAddress, plain: type[Connection], tls: type[SSLConnection]
) -> type[Connection]:
    if not address.tls:
        return plain
    files = (section.ca_file, section.cert_file, section.key_file)
    context = _context(*files, tuple(Path(name).stat().st_mtime_ns for name in files if name))

    class Sharing(tls):  # type: ignore[misc, valid-type]
        """With one context for all: the library would read all certificates again for each connection (25 ms)."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.ssl_context.context = context

    return cast("type[Connection]", Sharing)


@lru_cache(maxsize=2)
def _context(ca_file: str, cert_file: str, key_file: str, _changed: tuple[int, ...]) -> ssl.SSLContext:
    """Made anew when a file has changed. Certificate and name of the server are checked (the default)."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file:
        context.load_cert_chain(cert_file, key_file)
    return context
