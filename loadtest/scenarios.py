"""The four questions: what is measured, at which points by default, and how the answer is shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from loadtest.results import Cell, Point, Row

DEFAULT_SERVERS = ("floor", "uws", "notifier", "nchan", "nchan-nodelay", "ws", "socketio", "naive")


class Column(msgspec.Struct, frozen=True):
    """`form` is a format specification for the value."""

    title: str
    pick: Callable[[Cell], float | None]
    form: str


class Scenario(msgspec.Struct, frozen=True):
    """`measure` is what servers are compared by; `lower_is_better` says which way."""

    key: str
    about: str
    points: Sequence[Point]
    measure: Callable[[Row], float | None]
    headline: Callable[[Cell], float | None]
    headline_title: str
    headline_form: str
    columns: Sequence[Column]
    rounds: int = 3
    lower_is_better: bool = True


def parse_point(scenario: str, text: str, size: int) -> Point:
    """`1000x50` (connections and publications a second) or `10000`. Raises ValueError."""
    connections, _, rate = text.lower().partition("x")
    point = Point(scenario, int(connections), float(rate or 0), size)
    if point.connections < 1 or point.rate < 0:
        raise ValueError("not above zero")
    if (scenario in ("fanout", "unicast")) != bool(point.rate):
        raise ValueError("this scenario needs points as 1000x50" if not point.rate else "nothing is published here")
    return point


def cpu_us(of: Row | Cell) -> float | None:
    return of.cpu_us


LATENCY = (
    Column("p50 ms", lambda cell: cell.p50, ".2f"),
    Column("p90 ms", lambda cell: cell.p90, ".2f"),
    Column("p99 ms", lambda cell: cell.p99, ".2f"),
    Column("max ms", lambda cell: cell.max, ".1f"),
)
DELIVERIES = Column("deliveries/s", lambda cell: cell.deliveries_per_s, ",.0f")
BYTES = Column("bytes a delivery", lambda cell: cell.bytes_a_delivery, ",.0f")
MEMORY = Column("KB/connection", lambda cell: cell.kb_per_connection, ".1f")
CONNECTIONS = Column("connections/s", lambda cell: cell.connections_per_s, ",.0f")
GENERATOR = Column("generator CPU", lambda cell: cell.generator_cpu, ".0%")

FANOUT = Scenario(
    key="fanout",
    about="One channel, many subscribers: the server's CPU for one delivery, and how late it is.",
    points=[
        Point("fanout", 1000, 50),
        Point("fanout", 1000, 300),
        Point("fanout", 1000, 1200),
        Point("fanout", 10_000, 5),
    ],
    measure=cpu_us,
    headline=cpu_us,
    headline_title="CPU µs a delivery",
    headline_form=".2f",
    columns=[*LATENCY, DELIVERIES, BYTES, MEMORY, CONNECTIONS, GENERATOR],
)
UNICAST = Scenario(
    key="unicast",
    about="Everybody has a channel of their own: the server's CPU for one message from publisher to client.",
    points=[Point("unicast", 10_000, 10_000)],
    measure=cpu_us,
    headline=cpu_us,
    headline_title="CPU µs a message",
    headline_form=".1f",
    columns=[*LATENCY, DELIVERIES, BYTES, MEMORY, GENERATOR],
)
CONNECT = Scenario(
    key="connect",
    about="From nothing to subscribed (TCP, WebSocket, token, subscription), 128 at a time: how many a second.",
    points=[Point("connect", 5000)],
    measure=lambda row: row.connections_per_s,
    headline=lambda cell: cell.connections_per_s,
    headline_title="connections/s",
    headline_form=",.0f",
    columns=[
        Column("CPU µs a connection", lambda cell: cell.connection_cpu_us, ".0f"),
        Column("p99 ms to ready", lambda cell: cell.connection_p99, ".1f"),
        MEMORY,
        GENERATOR,
    ],
    lower_is_better=False,
)
IDLE = Scenario(
    key="idle",
    about="Subscribed and silent: the server's own memory for one connection, without the kernel's buffers.",
    points=[Point("idle", 10_000)],
    measure=lambda row: row.kb_per_connection,
    headline=lambda cell: cell.kb_per_connection,
    headline_title="KB a connection",
    headline_form=".1f",
    columns=[CONNECTIONS, Column("CPU while idle", lambda cell: cell.idle_cpu, ".1%")],
    rounds=1,
)
SCENARIOS = {scenario.key: scenario for scenario in (FANOUT, UNICAST, CONNECT, IDLE)}
