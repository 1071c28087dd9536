"""Tracing: spans of sampled messages, from the publisher's `traceparent` to the last write to a socket (W3C Trace
Context, https://www.w3.org/TR/trace-context/). OpenTelemetry is an optional dependency.

Only messages that their publisher has sampled are looked at, and of those the configured share, chosen by the trace's
id, so that all nodes choose the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from notifier import __version__
from notifier.config import Telemetry
from notifier.core.record import Record
from notifier.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_SAMPLED = 1
_CHOICE_DIGITS = 14  # the random part of a trace's id is its right end (W3C Trace Context Level 2, section 3.2.2.3)

Defer = Callable[[Callable[[], None]], object]


class Tracing:
    """`note` is a `core.feed.Tracer`. Spans are sent by a thread of OpenTelemetry's; what cannot be sent is dropped."""

    def __init__(self, section: Telemetry, defer: Defer, exporter: SpanExporter | None = None) -> None:
        """Raises ConfigError when the optional dependency is missing."""
        self._most = int(section.trace_share * 16**_CHOICE_DIGITS)
        self._defer = defer
        self._provider = _provider(section, exporter)
        self._tracer = self._provider.get_tracer("notifier", __version__)

    def note(self, record: Record, channel: str, reached: int, time_s: float) -> None:
        """A record was queued for so many connections; the span ends when this tick's frames have been written."""
        found = _PARENT.fullmatch(record.traceparent)
        if found is None or not int(found[3], 16) & _SAMPLED or int(found[1][-_CHOICE_DIGITS:], 16) >= self._most:
            return
        span = self._tracer.start_span(
            "deliver",
            _context(int(found[1], 16), int(found[2], 16)),
            attributes={
                "messaging.system": "rabbitmq",
                "messaging.operation.type": "deliver",
                "messaging.destination.name": channel,
                "messaging.message.id": record.message_id,
                "notifier.offset": record.offset,
                "notifier.connections": reached,
            },
            start_time=int(time_s * 1e9),
        )
        self._defer(span.end)

    def close(self) -> None:
        """Send what waits, within a second."""
        self._provider.force_flush(1000)
        self._provider.shutdown()


def _provider(section: Telemetry, exporter: SpanExporter | None) -> TracerProvider:
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an optional dependency
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

            exporter = OTLPSpanExporter(endpoint=section.otlp_endpoint, timeout=5)
    except ImportError as error:
        raise ConfigError(["telemetry.otlp_endpoint: needs OpenTelemetry: pip install 'notifier[otel]'"]) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "notifier", "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=2048))
    return provider


def _context(trace_id: int, span_id: int) -> Context:
    from opentelemetry import trace  # noqa: PLC0415

    parent = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(_SAMPLED))
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))
