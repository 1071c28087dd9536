"""What can be scraped is what is documented."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from notifier.telemetry.definitions import ALL, Kind
from notifier.telemetry.metrics import Metrics
from notifier.telemetry.reference import reference
from notifier.testing import Client, make_node

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_page_is_what_the_definitions_say() -> None:
    assert PAGE.read_text() == reference(), "run `make metrics`"


def test_what_is_scraped_is_documented_with_its_kind() -> None:
    node = make_node()
    node.stats.redis_up = 1
    node.stats.certificate_expires_at = 1e9
    documented = set(re.findall(r"`((?:notifier|process|python)_\w+)`", reference()))
    scraped = {
        family.name + "_total" * (family.type == "counter"): family.type
        for family in text_string_to_metric_families(Metrics(node).text().decode())
    }
    assert set(scraped) <= documented
    assert {each.full_name: str(each.kind) for each in ALL} == {
        name: kind for name, kind in scraped.items() if name.startswith("notifier_")
    }


def test_what_there_is_nothing_of_is_absent() -> None:
    text = Metrics(make_node()).text().decode()
    assert "notifier_redis_up" not in text
    assert "notifier_certificate_expiry" not in text


async def test_labels_are_the_documented_ones() -> None:
    node = make_node()
    await Client(node).send({"id": 1, "connect": {}})
    labels = {each.full_name: {each.label} for each in ALL if each.label}
    for family in text_string_to_metric_families(Metrics(node).text().decode()):
        for sample in family.samples:
            if family.name.startswith("notifier_") and family.type != Kind.HISTOGRAM:
                assert set(sample.labels) == labels.get(sample.name, set()), sample
