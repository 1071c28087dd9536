"""Spans of messages that their publisher has sampled, and of no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from notifier.config import Config, Telemetry, check
from notifier.core.record import Record
from notifier.telemetry.tracing import Tracing
from notifier.testing import Client, Ticks, make_node
from tests.services.deadline import eventually

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


class Place:
    """A node with a subscriber, traced into memory."""

    def __init__(self, share: float = 1.0) -> None:
        self.ticks = Ticks()
        self.exporter = InMemorySpanExporter()
        self.node = make_node(ticks=self.ticks)
        self.tracing = Tracing(Telemetry(trace_share=share), self.ticks, self.exporter)
        self.node.feed.tracer = self.tracing

    def spans(self, *traceparents: str) -> list[Any]:
        for offset, traceparent in enumerate(traceparents, 1):
            self.node.feed.take(Record(offset, "news.1", b"1", message_id=f"m{offset}", traceparent=traceparent), 5.0)
        self.ticks.end()
        self.tracing.close()
        return list(self.exporter.get_finished_spans())


async def test_a_span_continues_the_publishers_trace() -> None:
    place = Place()
    await Client(place.node).send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "news.1"}})
    [span] = place.spans(SAMPLED)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.attributes["messaging.destination.name"] == "news.1"
    assert span.attributes["messaging.message.id"] == "m1"
    assert (span.attributes["notifier.offset"], span.attributes["notifier.connections"]) == (1, 1)
    assert span.start_time == 5_000_000_000
    assert span.end_time > span.start_time


@pytest.mark.parametrize(
    "traceparent",
    ["", "nonsense", f"00-{TRACE}-{PARENT}-00", f"01-{TRACE}-{PARENT}-01x", f"00-{TRACE[:-1]}-{PARENT}-01"],
)
def test_what_was_not_sampled_is_not_traced(traceparent: str) -> None:
    assert Place().spans(traceparent) == []


def test_of_the_sampled_ones_a_share_is_traced_the_same_on_all_nodes() -> None:
    traceparents = [
        f"00-{index * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128:032x}-{PARENT}-01" for index in range(1, 401)
    ]
    first, second = Place(0.25).spans(*traceparents), Place(0.25).spans(*traceparents)
    assert [span.context.trace_id for span in first] == [span.context.trace_id for span in second]
    assert 50 < len(first) < 150
    assert Place(0.0).spans(*traceparents) == []


@pytest.fixture
async def collector() -> AsyncIterator[tuple[str, list[bytes]]]:
    taken: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    server = TestServer(app)
    await server.start_server()
    yield str(server.make_url("/v1/traces")), taken
    await server.close()


async def test_spans_are_sent_to_a_collector(collector: tuple[str, list[bytes]]) -> None:
    url, taken = collector
    ticks = Ticks()
    tracing = Tracing(Telemetry(otlp_endpoint=url), ticks)
    tracing.note(Record(1, "news.1", b"1", message_id="m1", traceparent=SAMPLED), "news.1", 0, 5.0)
    ticks.end()
    await asyncio.to_thread(tracing.close)
    await eventually(lambda: bool(taken))
    assert b"notifier" in taken[0]
    assert b"news.1" in taken[0]


def test_an_address_that_is_none_is_said() -> None:
    [problem] = check(Config(telemetry=Telemetry(otlp_endpoint="localhost:4318")))
    assert "telemetry.otlp_endpoint" in problem
