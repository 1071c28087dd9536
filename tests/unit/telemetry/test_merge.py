"""Metrics of several workers as those of one."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from notifier.telemetry.merge import merged
from notifier.telemetry.metrics import Metrics
from notifier.testing import Client, make_node


async def exposition(clients: int, log_end: int) -> bytes:
    node = make_node()
    for _ in range(clients):
        await Client(node).send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "a"}})
    node.history.end = log_end
    node.stats.flush_frames.observe(clients)
    return Metrics(node).text()


def samples(text: bytes) -> dict[str, float]:
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_what_counts_is_added_up_and_what_says_where_one_stands_is_not() -> None:
    one, other = await exposition(2, 100), await exposition(3, 90)
    both = samples(merged([one, other]))
    assert both["notifier_clients{transport=websocket}"] == 5
    assert both["notifier_subscriptions"] == 5
    assert both["notifier_commands_total{method=connect}"] == 5
    assert both["notifier_flush_frames_count"] == 2
    assert both["notifier_flush_frames_sum"] == 5
    assert both["notifier_flush_frames_bucket{le=2}"] == 1
    assert both["notifier_flush_frames_bucket{le=+Inf}"] == 2
    assert both["notifier_log_end"] == 90, "of the one that is behind"
    assert both["process_max_fds"] == 2 * samples(one)["process_max_fds"], "as what is open, which it is held against"
    assert both["notifier_log_up"] == 1
    assert both["notifier_log_ready"] == 1
    assert set(both) == set(samples(one)) | set(samples(other))


async def test_one_alone_is_what_it_was() -> None:
    text = await exposition(2, 100)
    assert samples(merged([text])) == samples(text)
