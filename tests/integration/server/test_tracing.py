"""A trace from a publisher's `traceparent`, through the log of a real broker, to the socket and to a collector."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import aiohttp
import pytest
from aio_pika.abc import HeadersType
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.servers import ServerProcess, make_token, on_rabbitmq
from tests.services.deadline import SECOND
from tests.services.rabbitmq import RabbitMQ

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OTHER = TRACE[::-1]


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.Response:
        body = ExportTraceServiceRequest.FromString(await request.read())
        self.spans += [span for one in body.resource_spans for each in one.scope_spans for span in each.spans]
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    await made.server.start_server()
    yield made
    await made.server.close()


async def test_a_sampled_message_is_one_span_of_its_publisher_s_trace(
    collector: Collector, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    sections = on_rabbitmq(rabbitmq.url)
    telemetry = {"otlp_endpoint": str(collector.server.make_url("/v1/traces"))}
    server = ServerProcess(tmp_path, {**sections, "telemetry": telemetry})
    await server.start()
    try:
        async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
            commands = [
                {"id": 1, "connect": {"token": make_token("ann")}},
                {"id": 2, "subscribe": {"channel": "open.1"}},
            ]
            await socket.send_str("\n".join(map(json.dumps, commands)))
            await _publish(rabbitmq.url, sections["rabbitmq"]["exchange"])
            text = ""
            while '"last"' not in text:
                text = await asyncio.wait_for(socket.receive_str(), 10 * SECOND)
        await server.terminate()  # what waits is sent
    finally:
        server.kill()
    [span] = collector.spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("deliver", TRACE, PARENT)
    said = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
    assert said["messaging.destination.name"] == "open.1"
    assert said["messaging.message.id"] == "m1"
    assert said["notifier.connections"] == 1
    assert 0 < span.start_time_unix_nano < span.end_time_unix_nano


async def _publish(url: str, exchange: str) -> None:
    """One that is sampled, one that is not, one without a trace."""
    parents = [("m1", f"00-{TRACE}-{PARENT}-01"), ("m2", f"00-{OTHER}-{PARENT}-00"), ("m3", "")]
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        to = await channel.get_exchange(exchange)
        for message_id, parent in parents:
            body = b'"last"' if message_id == "m3" else b"1"
            headers: HeadersType = {"traceparent": parent} if parent else {}
            await to.publish(aio_pika.Message(body, message_id=message_id, headers=headers), "open.1")
