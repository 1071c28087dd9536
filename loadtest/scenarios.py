"""The questions: what is measured, at which points by default, and how the answer is shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from loadtest.results import Cell, Point, Row

DEFAULT_SERVERS = ("floor", "uws", "notifier", "nchan", "nchan-nodelay", "ws", "socketio", "naive")
MOST_SHARING = 1000


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
    servers: Sequence[str] = DEFAULT_SERVERS


def parse_point(scenario: str, text: str, size: int) -> Point:
    """`1000x50` (connections, or channels where the scenario is about those, and publications a second) or `10000`.
    Raises ValueError."""
    first, _, rate = text.lower().partition("x")
    number = int(first)
    if SCENARIOS[scenario].points[0].channels:
        point = on_channels(number, float(rate or 0), size)
    else:
        point = Point(scenario, number, float(rate or 0), size)
    if point.connections < 1 or point.rate < 0:
        raise ValueError("not above zero")
    if bool(SCENARIOS[scenario].points[0].rate) != bool(point.rate):
        raise ValueError("this scenario needs points as 1000x50" if not point.rate else "nothing is published here")
    return point


def on_channels(channels: int, rate: float, size: int = 200) -> Point:
    """As many connections as channels, but no more than 1,000 that share the channels evenly. Raises ValueError."""
    connections = min(channels, MOST_SHARING)
    if channels % max(connections, 1):
        raise ValueError(f"more than {MOST_SHARING:,} channels must be a multiple of that")
    return Point("channels", connections, rate, size, channels)


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
MIXED = Scenario(
    key="mixed",
    about="Half of the clients share a channel, the others have one each; a tenth of the publications is for all.",
    points=[Point("mixed", 2000, 500)],
    measure=cpu_us,
    headline=cpu_us,
    headline_title="CPU µs a delivery",
    headline_form=".2f",
    columns=FANOUT.columns,
    servers=("uws", "notifier", "nchan", "nchan-nodelay", "ws", "socketio", "naive"),
)
STORM = Scenario(
    key="storm",
    about="Many clients come at once, each with a token and two subscriptions, while 1,000 others get 20 publications a"
    " second: how many are ready a second, and how late are deliveries to those already there.",
    points=[Point("storm", 5000)],
    measure=lambda row: row.connections_per_s,
    headline=lambda cell: cell.connections_per_s,
    headline_title="ready connections/s",
    headline_form=",.0f",
    columns=[
        Column("CPU µs a connection", lambda cell: cell.connection_cpu_us, ".0f"),
        Column("p99 ms to ready", lambda cell: cell.connection_p99, ".1f"),
        *LATENCY,
        GENERATOR,
    ],
    lower_is_better=False,
    servers=("uws", "notifier", "ws", "socketio", "naive"),
)
RECOVERY = Scenario(
    key="recovery",
    about="All clients lose their connections, miss 50 publications, come back at once: how long until all have them.",
    points=[Point("recovery", 10_000)],
    measure=lambda row: row.recovered_s,
    headline=lambda cell: cell.recovered_s,
    headline_title="seconds until all have recovered",
    headline_form=".2f",
    columns=[
        CONNECTIONS,
        Column("CPU µs a client", lambda cell: cell.connection_cpu_us, ".0f"),
        Column("p99 ms to recovered", lambda cell: cell.connection_p99, ".1f"),
        Column("memory after ÷ before", lambda cell: cell.memory_ratio, ".2f"),
        GENERATOR,
    ],
    servers=("notifier", "centrifugo"),
)
CHURN = Scenario(
    key="churn",
    about="Clients that leave one channel for another all the time: the server's CPU for one such switch.",
    points=[Point("churn", 1000)],
    measure=cpu_us,
    headline=cpu_us,
    headline_title="CPU µs a switch",
    headline_form=".1f",
    columns=[Column("switches/s", lambda cell: cell.switches_per_s, ",.0f"), GENERATOR],
    servers=("notifier", "centrifugo", "socketio"),
)
SUBSCRIBERS = Scenario(
    key="subscribers",
    about="How the cost of one delivery grows with the subscribers of a channel, at 50,000 deliveries a second.",
    points=[Point("subscribers", count, 50_000 / count) for count in (100, 500, 1000, 2500, 5000, 10_000)],
    measure=cpu_us,
    headline=cpu_us,
    headline_title="CPU µs a delivery",
    headline_form=".2f",
    columns=FANOUT.columns,
    servers=("floor", "uws", "notifier"),
)
CHANNELS = Scenario(
    key="channels",
    about="How the cost of one delivery grows with the number of channels, each with one subscriber.",
    points=[on_channels(count, 2000) for count in (1, 10, 100, 1000, 10_000, 100_000)],
    measure=cpu_us,
    headline=cpu_us,
    headline_title="CPU µs a delivery",
    headline_form=".2f",
    columns=UNICAST.columns,
    servers=("uws", "notifier"),
)
MANY = Scenario(
    key="many",
    about="As many connections as a large node has, one publication a second for all of them.",
    points=[Point("many", 50_000, 1)],
    measure=cpu_us,
    headline=cpu_us,
    headline_title="CPU µs a delivery",
    headline_form=".2f",
    columns=FANOUT.columns,
    rounds=1,
    servers=("uws", "notifier"),
)
SCENARIOS = {
    scenario.key: scenario
    for scenario in (
        FANOUT, UNICAST, MIXED, CONNECT, STORM, RECOVERY, CHURN, IDLE, SUBSCRIBERS, CHANNELS, MANY,
    )
}  # fmt: skip
