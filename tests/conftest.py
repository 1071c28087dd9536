"""Fixtures with real servers. A test that breaks its server takes a private one."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import lacking
from tests.services.network import Network, NoNetwork
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis
from tests.services.server import Server

# How long an example takes says something about the machine, nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def need(server: type[Server]) -> None:
    """Skip without the server's package, but never in CI: there a missing part is a failure."""
    package = server.missing()
    if package is not None:
        lacking(f"the Debian package {package} is not installed; `make test` installs it")


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


@pytest.fixture(scope="module")
def module_network() -> Iterator[Network]:
    """A network of its own for servers of this module. Skipped where none can be made, but never in CI."""
    network = Network()
    try:
        network.open()
    except NoNetwork as error:
        lacking(str(error))
    yield network
    network.close()
