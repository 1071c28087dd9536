"""A made-up report for the tests of tables and pictures."""

from __future__ import annotations

from loadtest.environment import Environment
from loadtest.latency import Quantiles
from loadtest.report import Report, Settings
from loadtest.results import Point, Row
from loadtest.window import Window

POINT = Point("fanout", 1000, 50)


def row(server: str, number: int, cpu_us: float | None, *notes: str, point: Point = POINT, failed: str = "") -> Row:
    latency = Quantiles(10, 1.0, 2.0, 3.0, 4.0)
    return Row(
        server=server, point=point, round=number, cpu_us=cpu_us, notes=[*notes], latency=latency, failed=failed
    )  # fmt: skip


def report(rows: list[Row], skipped: dict[str, str] | None = None) -> Report:
    points = list(dict.fromkeys(row.point for row in rows))
    settings = Settings("fanout", ["uws", "notifier"], points, 3, 8.0, 2.0, "uws", "rabbitmq", 0, 1, 0.025)
    environment = Environment("2026-01-01T00:00:00+00:00", "Linux 6", "A <CPU> & more", 2, 8.0, 0.1, "3.11", {}, {})
    labels = {"uws": "µWebSockets", "notifier": "notifier", "nchan": "nchan"}
    return Report(settings, environment, labels, {"uws": {"node": "v20"}}, skipped or {}, rows)


def window(**changes: float) -> Window:
    values: dict[str, float] = {
        "seconds": 10.0, "deliveries": 500_000, "received_bytes": 5_000_000, "server_cpu_s": 3.0,
        "server_waited_s": 0.0, "generator_cpu_s": 4.0, "generator_waited_s": 0.0, "server_core_busy": 0.31,
        "client_core_busy": 0.6, "stolen": 0.0,
    }  # fmt: skip
    return Window(**{**values, **changes}, latency=None, generator_lag=None)  # type: ignore[arg-type]
