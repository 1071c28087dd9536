"""What the doctor finds in real brokers, in Redis, in keys and certificates, and how it says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from notifier.config import Auth, ChannelRule, Config, Duration, HistoryRule, LogSection, Secret, Server
from notifier.config import RabbitMQ as RabbitMQSection
from notifier.config import Redis as RedisSection
from notifier.operator.doctor import Finding, Level, examine
from notifier.operator.doctor.certificate import expiry
from tests.conftest import need
from tests.services.certificates import Authority
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis

STREAM = "doctor.log"


@pytest.fixture(scope="module")
def _module_rabbitmq() -> Iterator[RabbitMQ]:
    """The private one of this module speaks the stream protocol too."""
    need(RabbitMQ)
    with RabbitMQ(plugins=["rabbitmq_stream"]) as broker:
        yield broker


def on(broker: RabbitMQ, url: str = "", **other: Any) -> Config:
    other = {"reader": "amqp", **other}
    section = RabbitMQSection(url=Secret(url or broker.url), stream=STREAM, connect_timeout=Duration(5), **other)
    return Config(log=LogSection(kind="rabbitmq"), rabbitmq=section)


async def found(config: Config, topic: str) -> list[Finding]:
    return [finding for finding in await examine(config) if finding.topic == topic]


def bad(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level is not Level.OK]


async def test_a_broker_that_is_well_gives_no_complaint(rabbitmq: RabbitMQ) -> None:
    findings = await found(on(rabbitmq), "rabbitmq")
    assert bad(findings) == []
    text = " ".join(finding.text for finding in findings)
    for word in ("RabbitMQ 3.", "permissions suffice", STREAM, "takes messages"):
        assert word in text


async def test_a_broker_that_is_away_is_said_with_what_to_do() -> None:
    [finding] = await found(Config(log=LogSection(kind="rabbitmq"), rabbitmq=_nowhere()), "rabbitmq")
    assert finding.level is Level.FAIL
    assert "refused the connection" in finding.text
    assert "rabbitmq.url" in finding.fix
    assert "canary" not in str(msgspec.to_builtins(finding))


def _nowhere() -> RabbitMQSection:
    return RabbitMQSection(url=Secret(f"amqp://guest:canary@127.0.0.1:{free_port()}/"))


async def test_wrong_credentials_are_said_without_showing_them(rabbitmq: RabbitMQ) -> None:
    [finding] = await found(on(rabbitmq, rabbitmq.url_at(rabbitmq.port, "guest", "canary")), "rabbitmq")
    assert "credentials" in finding.text
    assert "canary" not in finding.text


async def test_missing_rights_are_named_with_the_queue_or_exchange(rabbitmq: RabbitMQ) -> None:
    await examine(on(rabbitmq))  # all is declared
    await asyncio.to_thread(rabbitmq.ctl, "add_user", "reader", "secret")
    try:
        await asyncio.to_thread(rabbitmq.ctl, "set_permissions", "reader", "^amq", "^amq", ".*")
        url = rabbitmq.url_at(rabbitmq.port, "reader", "secret")
        texts = bad(await found(on(rabbitmq, url, declare=False), "rabbitmq"))
        assert "the user may not write notifications" in texts
        assert not [text for text in texts if "read" in text]
        await asyncio.to_thread(rabbitmq.ctl, "set_permissions", "reader", "^amq", ".*", "^amq|^$")
        texts = bad(await found(on(rabbitmq, url, declare=False), "rabbitmq"))
        assert f"the user may not read {STREAM}" in texts
        assert "the user may not write notifications" not in texts
    finally:
        await asyncio.to_thread(rabbitmq.ctl, "delete_user", "reader")


async def test_looking_leaves_nothing_in_the_log(rabbitmq: RabbitMQ) -> None:
    await examine(on(rabbitmq))
    before = await asyncio.to_thread(rabbitmq.ctl, "list_queues", "name", "messages")
    await examine(on(rabbitmq))
    assert await asyncio.to_thread(rabbitmq.ctl, "list_queues", "name", "messages") == before


async def test_a_stream_declared_differently_is_said_with_the_difference(rabbitmq: RabbitMQ) -> None:
    await examine(on(rabbitmq))
    texts = bad(await found(on(rabbitmq, max_age=Duration(3600)), "rabbitmq"))
    assert any("declared differently" in text and "max-age" in text for text in texts)


async def test_how_the_log_is_read_is_said(private_rabbitmq: RabbitMQ, rabbitmq: RabbitMQ) -> None:
    there = Secret(f"rabbitmq-stream://guest:guest@{LOCALHOST}:{private_rabbitmq.port_of('rabbitmq_stream')}")
    nowhere = Secret(f"rabbitmq-stream://guest:guest@{LOCALHOST}:{free_port()}")
    findings = await found(on(private_rabbitmq, reader="auto", stream_url=there), "rabbitmq")
    assert (findings[-1].level, findings[-1].text) == (Level.OK, "the log is read over the stream protocol")
    [other] = [f for f in await found(on(rabbitmq, reader="auto", stream_url=nowhere), "rabbitmq") if f.fix]
    assert other.level is Level.WARN
    assert "read over AMQP 0.9.1" in other.text
    assert "rabbitmq-plugins enable rabbitmq_stream" in other.fix
    [demanded] = [f for f in await found(on(rabbitmq, reader="stream", stream_url=nowhere), "rabbitmq") if f.fix]
    assert demanded.level is Level.FAIL
    assert "guest" not in demanded.text + demanded.fix


async def test_an_alarm_is_said(private_rabbitmq: RabbitMQ) -> None:
    await examine(on(private_rabbitmq))
    await asyncio.to_thread(private_rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1024")

    async def said() -> bool:
        return any("memory or disk alarm" in text for text in bad(await found(on(private_rabbitmq), "rabbitmq")))

    try:
        await eventually(said, 30 * SECOND)  # an alarm takes a moment to reach the listeners
    finally:
        await asyncio.to_thread(private_rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "2147483648")


async def test_redis_is_looked_at() -> None:
    with Redis(settings={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}) as server:
        findings = await found(Config(redis=RedisSection(url=Secret(server.url))), "redis")
        texts = bad(findings)
        assert any("allkeys-lru" in text for text in texts)
        assert any("appendonly" in text for text in texts)
        assert any("Redis 7" in finding.text for finding in findings)
        assert any("clock agrees" in finding.text for finding in findings)


async def test_a_redis_that_is_away_is_said() -> None:
    url = Secret(f"redis://:canary@127.0.0.1:{free_port()}/0")
    [finding] = await found(Config(redis=RedisSection(url=url, timeout=Duration(0.5))), "redis")
    assert finding.level is Level.FAIL
    assert "canary" not in finding.text


async def test_keys_that_cannot_be_had_are_said() -> None:
    [finding] = await found(Config(auth=Auth(jwks_url=f"http://127.0.0.1:{free_port()}/keys")), "keys")
    assert finding.level is Level.FAIL
    assert "127.0.0.1" in finding.text


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [(400, Level.OK, "good for"), (7, Level.WARN, "expires in 7 days"), (-1, Level.FAIL, "has expired")],
)
def test_certificates_that_end_soon_are_told_of(days: int, level: Level, words: str) -> None:
    finding = expiry("tls", "the certificate", _certificate(datetime.now(UTC) + timedelta(days=days, minutes=5)))
    assert (finding.level, words in finding.text) == (level, True), finding.text


def _certificate(until: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(until - timedelta(days=500)).not_valid_after(until)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


async def test_the_servers_own_certificate_is_looked_at(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    Authority(tmp_path).issue(chain, key, days=5)
    key.chmod(0o644)
    config = Config(server=Server(tls_certificate=str(chain), tls_key=str(key)))
    texts = bad(await found(config, "tls"))
    assert any("expires in" in text for text in texts)
    assert any("others may read" in text for text in texts)
    key.write_text("nonsense")
    assert any("do not fit" in text for text in bad(await found(config, "tls")))


async def test_what_the_configuration_will_make_somebody_regret() -> None:
    rule = ChannelRule(match="a", history=HistoryRule(size=1, ttl=Duration(30 * 86400)), subscribe=["anyone"])
    config = Config(
        log=LogSection(kind="rabbitmq"),
        rabbitmq=_nowhere(),
        auth=Auth(anonymous=True, query_token=True, require_exp=False),
        channels=[rule],
    )
    texts = " ".join(bad(await found(config, "configuration")))
    for words in ("channels[0].history.ttl", "tokens are accepted in URLs", "never expire", "server API is off"):
        assert words in texts
    assert "nobody can subscribe" not in texts
