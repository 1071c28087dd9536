"""What one method of the server API says follows from what the others did: publish, history, recovery, removal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.integration.api.test_openapi import API_KEY, RunningServer, schema
from tests.services.deadline import SECOND

CHANNELS = st.sampled_from(["a", "b"])
KEYS = st.sampled_from(["", "k1", "k2"])
KEPT = 100


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with RunningServer() as server:
        yield server.url


def test_history_is_what_was_published_since_the_position_that_publishing_told(url: str) -> None:
    with requests.Session() as http:
        http.headers["X-API-Key"] = API_KEY
        machine = type("Run", (Api,), {"url": url, "http": http})
        run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=25, deadline=None))


class Api(RuleBasedStateMachine):
    """One server for all examples: each begins with empty channels, and offsets go on."""

    url: str
    http: requests.Session
    turn = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        response = self.http.post(f"{self.url}api/{method}", json=params, timeout=10 * SECOND)
        schema[f"/api/{method}"]["POST"].validate_response(response)
        assert response.status_code == 200
        answer: dict[str, Any] = response.json()
        return answer

    @initialize()
    def begin(self) -> None:
        type(self).turn += 1
        self.published: dict[str, list[tuple[int, Any]]] = {"a": [], "b": []}
        self.keys: dict[tuple[str, str], int] = {}
        for channel in self.published:
            assert "result" in self.call("history_remove", channel=channel)
        self.epoch = self.call("history", channel="a", limit=0)["result"]["epoch"]

    @rule(channel=CHANNELS, data=st.integers(), key=KEYS)
    def publish(self, channel: str, data: int, key: str) -> None:
        named = f"{self.turn}-{key}" if key else ""
        self._note(
            channel, key, data, self.call("publish", channel=channel, data=data, idempotency_key=named)["result"]
        )

    @rule(data=st.integers(), key=KEYS)
    def broadcast(self, data: int, key: str) -> None:
        named = f"{self.turn}-{key}" if key else ""
        answer = self.call("broadcast", channels=["a", "b"], data=data, idempotency_key=named)
        for channel, response in zip("ab", answer["result"]["responses"], strict=True):
            self._note(channel, key, data, response["result"])

    def _note(self, channel: str, key: str, data: int, result: dict[str, Any]) -> None:
        offset = result["offset"]
        assert result["epoch"] == self.epoch
        if key and (channel, key) in self.keys:
            assert offset == self.keys[channel, key], "the same key is the same publication"
            return
        assert offset > max((at for at, _ in self.published[channel]), default=0)
        self.keys[channel, key] = offset
        self.published[channel].append((offset, data))

    @rule(channel=CHANNELS, back=st.integers(0, 5))
    def read_since(self, channel: str, back: int) -> None:
        """From a position that publishing told, as a client does that comes back."""
        found = self.published[channel]
        if not found:
            return
        since = found[-1 - min(back, len(found) - 1)][0]
        answer = self.call("history", channel=channel, limit=KEPT, since={"offset": since, "epoch": self.epoch})
        assert _pairs(answer["result"]) == [pair for pair in found if pair[0] > since]

    @rule(channel=CHANNELS)
    def read_of_another_log(self, channel: str) -> None:
        answer = self.call("history", channel=channel, limit=1, since={"offset": 1, "epoch": "another"})
        assert answer["error"]["code"] == 112

    @rule(channel=CHANNELS)
    def remove(self, channel: str) -> None:
        self.call("history_remove", channel=channel)
        self.published[channel] = []

    @invariant()
    def all_that_is_kept_is_what_was_published(self) -> None:
        for channel, wanted in getattr(self, "published", {}).items():
            result = self.call("history", channel=channel, limit=KEPT)["result"]
            assert _pairs(result) == wanted
            assert _pairs(self.call("history", channel=channel, limit=KEPT, reverse=True)["result"]) == wanted[::-1]


def _pairs(result: dict[str, Any]) -> list[tuple[int, Any]]:
    return [(each["offset"], each["data"]) for each in result["publications"]]
