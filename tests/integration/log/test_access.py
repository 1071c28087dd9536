"""The way to the broker: its name, its certificate and the right to come in change while workers run."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from notifier.broker import link
from tests.integration.log.worker import Worker, sections
from tests.services.certificates import Authority
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.rabbitmq import RabbitMQ as Broker

PASSWORD = "s3cret-pass"


@pytest.fixture
def user(broker: Broker) -> Iterator[str]:
    """Somebody whose rights are taken."""
    broker.ctl("add_user", "app", PASSWORD)
    broker.ctl("set_permissions", "app", ".*", ".*", ".*")
    yield "app"
    broker.ctl("delete_user", "app")


async def test_credentials_that_are_revoked_cost_few_attempts_until_they_are_good_again(
    broker: Broker, user: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F-B12."""
    caplog.set_level(logging.DEBUG)
    async with Worker(*sections(broker.url_at(broker.port, user, PASSWORD), name)) as worker:
        await worker.ready()
        await asyncio.to_thread(broker.ctl, "change_password", user, "another")
        await asyncio.to_thread(broker.ctl, "close_all_connections", "revoked")
        began = time.monotonic()
        await eventually(lambda: "credentials" in worker.log.problem, 30 * SECOND)
        before = worker.node.stats.reconnects.total()
        await eventually(lambda: worker.node.stats.reconnects.total() >= before + 2, 60 * SECOND)
        took_s = time.monotonic() - began
        attempts = worker.node.stats.reconnects["reading"]
        assert attempts <= took_s / link.REFUSED_DELAY_S + 2
        assert worker.bodies("a") == []
        await asyncio.to_thread(broker.ctl, "change_password", user, PASSWORD)
        await worker.ready()
        await worker.publish("a", b"1")
    assert PASSWORD not in caplog.text


async def test_a_name_is_resolved_again_at_each_attempt_and_the_loop_does_not_wait_for_it(
    broker: Broker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-N10: the name is unknown at first, then slow and of an address where nobody is, then the broker's."""
    resolve = socket.getaddrinfo
    asked: list[str] = []

    def resolve_late(host: Any, *more: Any, **named: Any) -> Any:
        if host != "broker.test":
            return resolve(host, *more, **named)
        asked.append(host)
        if len(asked) == 1:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if len(asked) == 2:
            time.sleep(1)
        return resolve("127.0.0.3" if len(asked) <= 3 else LOCALHOST, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_late)
    longest_s = 0.0
    async with Worker(*sections(broker.url.replace(LOCALHOST, "broker.test"), name)) as worker:
        watching = asyncio.create_task(worker.ready())
        while not watching.done():
            before = time.monotonic()
            await asyncio.sleep(0.005)
            if asked and len(asked) <= 3:
                longest_s = max(longest_s, time.monotonic() - before)
        await watching
        await worker.publish("a", b"1")
    assert len(asked) >= 4
    assert longest_s < 0.8, "the loop waited for the answer, which took a second"


@pytest.fixture
async def tls_broker(tmp_path: Path) -> AsyncIterator[tuple[Broker, Authority, int]]:
    """With a certificate that was good until yesterday."""
    authority, port = Authority(tmp_path), free_port()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    authority.issue(chain, key, days=0)
    settings = {
        "listeners.ssl.1": f"{LOCALHOST}:{port}",
        "ssl_options.cacertfile": str(authority.file),
        "ssl_options.certfile": str(chain),
        "ssl_options.keyfile": str(key),
    }
    broker = Broker(settings=settings)
    await asyncio.to_thread(broker.start)
    yield broker, authority, port
    await asyncio.to_thread(broker.close)


async def test_a_certificate_that_ran_out_is_said_and_a_new_one_is_enough(
    tls_broker: tuple[Broker, Authority, int], name: str, tmp_path: Path
) -> None:
    """F-N11, of the broker; the server's own certificate is in integration/server/test_tls.py."""
    broker, authority, port = tls_broker
    url = f"amqps://guest:guest@{LOCALHOST}:{port}/?cafile={authority.file}"
    async with Worker(*sections(url, name)) as worker:
        await eventually(lambda: "certificate has expired" in worker.log.problem, 30 * SECOND)
        assert not worker.log.ready
        authority.issue(tmp_path / "chain.pem", tmp_path / "key.pem")
        await asyncio.to_thread(broker.ctl, "eval", "ssl:clear_pem_cache().")
        await worker.ready()
        await worker.publish("a", b"1")


async def test_a_certificate_of_somebody_else_or_for_another_host_is_refused(
    tls_broker: tuple[Broker, Authority, int], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S37: no bytes of the password leave before the broker has shown who it is."""
    _, authority, port = tls_broker
    authority.issue(tmp_path / "chain.pem", tmp_path / "key.pem")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stranger = Authority(elsewhere)
    for host, file, problem in (
        (LOCALHOST, f"?cafile={stranger.file}", "certificate"),
        (LOCALHOST, "", "certificate"),
        ("broker.example", f"?cafile={authority.file}", "Hostname mismatch"),
    ):
        _lead_everything_to(LOCALHOST, monkeypatch)
        async with Worker(*sections(f"amqps://guest:guest@{host}:{port}/{file}", f"{name}-{host}")) as worker:
            await eventually(lambda: problem in worker.log.problem, 30 * SECOND)  # noqa: B023 - waited for here
            assert not worker.log.ready


def _lead_everything_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, port, *rest, **more: ask(address, port, *rest, **more))
