"""The servers the command line knows, and what they share."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import ClassVar

import pytest

from loadtest import cli
from loadtest.peers import broker
from loadtest.peers.broker import SharedBroker
from loadtest.peers.catalogue import PEERS
from loadtest.peers.peer import NotStarted
from loadtest.peers.product import Product
from loadtest.scenarios import DEFAULT_SERVERS


def configuration(key: str, folder: Path) -> dict[str, object]:
    """What the server is started with."""
    peer = cli.made(key, cli.parse(["fanout", "--servers", key, "--log", "memory", "--cache", str(folder)]))
    assert isinstance(peer, Product)
    peer.command(folder)
    return tomllib.loads((folder / "notifier.toml").read_text())


def test_each_kind_of_notifier_has_one_setting_more_than_the_plain_one(tmp_path: Path) -> None:
    plain = configuration("notifier", tmp_path)
    [rule] = plain["channels"]  # type: ignore[misc]
    assert configuration("notifier-delta", tmp_path) == {**plain, "channels": [{**rule, "delta": True}]}  # type: ignore[has-type]
    assert configuration("notifier-deflate", tmp_path) == {**plain, "clients": {"compression": True}}
    rabbitmq = plain["rabbitmq"]
    assert configuration("notifier-amqp", tmp_path) == {**plain, "rabbitmq": {**rabbitmq, "reader": "amqp"}}  # type: ignore[dict-item]


def test_they_are_measured_only_when_asked_for() -> None:
    assert set(DEFAULT_SERVERS).isdisjoint({"notifier-amqp", "notifier-delta", "notifier-deflate", "notifier-sse"})
    assert set(DEFAULT_SERVERS) <= PEERS.keys()


class Recorded:
    """Stands in for RabbitMQ and writes down what is done with it."""

    done: ClassVar[list[str]] = []
    broken = False

    def __init__(self, plugins: list[str]) -> None:
        assert plugins == [broker.STREAMS]

    def start(self) -> None:
        self.done.append("start")
        if self.broken:
            raise RuntimeError("no room")

    def close(self) -> None:
        self.done.append("close")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(broker, "RabbitMQ", Recorded)
    monkeypatch.setattr(Recorded, "done", [])
    return Recorded


def test_one_broker_is_enough_for_all(recorded: type[Recorded]) -> None:
    shared = SharedBroker()
    assert shared.acquire() is shared.acquire()
    shared.release()
    assert recorded.done == ["start"]
    shared.release()
    assert recorded.done == ["start", "close"]


def test_a_broker_that_does_not_start_is_told_and_tidied_up(
    recorded: type[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "broken", True)
    with pytest.raises(NotStarted, match="no room"):
        SharedBroker().acquire()
    assert recorded.done == ["start", "close"]
