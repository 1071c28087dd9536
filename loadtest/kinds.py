"""What is done in scenarios that are more than connecting and publishing."""

from __future__ import annotations

from loadtest.churn import Churn
from loadtest.measurement import Measurement
from loadtest.recovery import Recovery
from loadtest.storm import Storm

KINDS: dict[str, type[Measurement]] = {
    "storm": Storm,
    "recovery": Recovery,
    "churn": Churn,
}


def kind_of(scenario: str) -> type[Measurement]:
    return KINDS.get(scenario, Measurement)
