"""Stores on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from notifier.config import Duration, Redis, Secret
from notifier.state.store import Store
from tests.conftest import need
from tests.services.deadline import SECOND, eventually
from tests.services.redis import Cluster, Watched
from tests.services.redis import Redis as Server

TIMEOUT_S = 0.5 * SECOND

NewStore = Callable[..., Awaitable[Store]]


def section(url: str, **settings: object) -> Redis:
    """With a short deadline, so that tests of silence are short as well."""
    return Redis(url=Secret(url), **{"timeout": Duration(TIMEOUT_S), **settings})  # type: ignore[arg-type]


@pytest.fixture
async def new_store() -> AsyncIterator[NewStore]:
    """Makes stores, connected unless `connected=False`; stops them all at the end."""
    made: list[Store] = []

    async def make(url: str, *, connected: bool = True, **settings: object) -> Store:
        made.append(store := Store(section(url, **settings)))
        store.start()
        if connected:
            await well(store)
        return store

    yield make
    for store in made:
        await store.stop()


async def well(store: Store) -> None:
    """Redis is reached."""
    await eventually(lambda: not store.problem, 60 * SECOND)


@pytest.fixture
def own_redis() -> Iterator[Server]:
    """A server whose settings the test may change."""
    need(Server)
    with Server() as server:
        yield server


@pytest.fixture
def watched() -> Iterator[Watched]:
    need(Server)
    with Watched() as servers:
        yield servers


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Leave its nodes running."""
    need(Server)
    with Cluster() as servers:
        yield servers


@pytest.fixture
def replicated_cluster() -> Iterator[Cluster]:
    need(Server)
    with Cluster(replicas=True) as servers:
        yield servers
