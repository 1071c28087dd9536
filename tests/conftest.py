"""Fixtures with real servers. A test that breaks its server takes a private one."""

import os
from collections.abc import Iterator

import pytest

from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis
from tests.services.server import Server


def need(server: type[Server]) -> None:
    """Skip without the server's package, but never in CI: there a missing part is a failure."""
    package = server.missing()
    if package is None:
        return
    reason = f"the Debian package {package} is not installed; `make test` installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """The broker of the whole session. Leave it running, and what others declared alone."""
    need(RabbitMQ)
    with RabbitMQ() as broker:
        yield broker


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """The Redis of the whole session."""
    need(Redis)
    with Redis() as server:
        yield server


@pytest.fixture(scope="module")
def _module_rabbitmq() -> Iterator[RabbitMQ]:
    need(RabbitMQ)
    with RabbitMQ() as broker:
        yield broker


@pytest.fixture
def private_rabbitmq(_module_rabbitmq: RabbitMQ) -> RabbitMQ:
    """A broker for this module only, to be killed and frozen; up again when the next test begins."""
    _module_rabbitmq.thaw()
    return _module_rabbitmq.start()


@pytest.fixture(scope="module")
def _module_redis() -> Iterator[Redis]:
    need(Redis)
    with Redis() as server:
        yield server


@pytest.fixture
def private_redis(_module_redis: Redis) -> Redis:
    """The same with Redis. Keeps no data over a kill."""
    _module_redis.thaw()
    return _module_redis.start()
