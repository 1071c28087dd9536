"""How large a run is, and what its channels keep.

The channels of one run have unlike rules on purpose: tiny histories, so that clients miss exactly as many as are kept;
short ones, so that sleepers come too late; and wide ones, of which only a starting node can know too little.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

KINDS = ("steady", "flapping", "sleeping", "slow", "late", "sse", "sse-sleeping")
GROUPS = ("nodes", "rabbitmq", "redis", "deploys", "pairs")


class Rule(Struct, frozen=True):
    """What a channel keeps. `size` counts publications."""

    size: int
    ttl_s: float


RULES = {
    "wide": Rule(5000, 300.0),
    "short": Rule(5000, 8.0),
    "small": Rule(20, 300.0),
    "tiny": Rule(4, 300.0),
}


class Size(Struct, frozen=True):
    """`rate` is publications a second on all channels together, `shares` how many clients of a hundred are of each of
    `KINDS`. `known_for_s` is how far back a starting node reads, `repeat_window` how many records before that.
    `enough` is what a run must have seen to count; see `vacuity`."""

    name: str
    nodes: int
    clients: int
    channels: int
    each: int
    rate: float
    warm_up_s: float
    chaos_s: float
    drain_s: float
    client_processes: int
    publishers: int
    api_publishers: int
    known_for_s: float
    repeat_window: int
    enough: dict[str, int]
    shares: tuple[int, ...] = (30, 27, 13, 7, 7, 8, 8)

    def channel_names(self) -> list[str]:
        rules = list(RULES)
        return [f"{rules[number % len(rules)]}.{number}" for number in range(self.channels)]


def rule_of(channel: str) -> Rule:
    return RULES[channel.partition(".")[0]]


CI = Size(
    name="ci",
    nodes=2,
    clients=60,
    channels=12,
    each=6,
    rate=60,
    warm_up_s=6,
    chaos_s=90,
    drain_s=45,
    client_processes=1,
    publishers=5,
    api_publishers=2,
    known_for_s=6,
    repeat_window=250,
    enough={
        "pairs": 80_000,
        "faults": 8,
        "recoveries": 100,
        "repeats": 20,
        "unknown": 3,
        "refused": 10,
        "late": 3,
    },
)

LONG = Size(
    name="long",
    nodes=3,
    clients=200,
    channels=50,
    each=5,
    rate=100,
    warm_up_s=30,
    chaos_s=1800,
    drain_s=120,
    client_processes=2,
    publishers=8,
    api_publishers=2,
    known_for_s=20,
    repeat_window=1000,
    enough={
        "pairs": 1_000_000,
        "faults": 60,
        "recoveries": 2000,
        "repeats": 500,
        "unknown": 20,
        "refused": 100,
        "late": 10,
    },
)

SOAK = Size(
    name="soak",
    nodes=3,
    clients=1000,
    channels=250,
    each=5,
    rate=100,
    warm_up_s=60,
    chaos_s=4 * 3600,
    drain_s=120,
    client_processes=2,
    publishers=8,
    api_publishers=2,
    known_for_s=30,
    repeat_window=2000,
    enough={
        "pairs": 10_000_000,
        "faults": 400,
        "recoveries": 20_000,
        "repeats": 4000,
        "unknown": 100,
        "refused": 1000,
        "late": 50,
    },
)

SIZES = {size.name: size for size in (CI, LONG, SOAK)}


class Settings(Struct, frozen=True):
    """What a run was made with: beside the journals, all that the checker is given."""

    size: Size
    seed: int
    faults: str
    bug: str = ""
    marker_interval_s: float = 0.5
    append_timeout_s: float = 2.0
    commit: str = ""
    versions: dict[str, str] = {}
    machine: dict[str, Any] = {}


def node_sections(settings: Settings) -> dict[str, Any]:
    """The part of a node's configuration that a run's findings depend on."""
    size = settings.size
    return {
        "channels": [
            {
                "match": f"{name}.*",
                "history": {"size": rule.size, "ttl": f"{rule.ttl_s:g}s"},
                "presence": True,
                "subscribe": ["anyone"],
                "publish": ["anyone"],
            }
            for name, rule in RULES.items()
        ],
        "log": {
            "kind": "rabbitmq",
            "known_for": f"{size.known_for_s:g}s",
            "repeat_window": size.repeat_window,
            "append_timeout": f"{settings.append_timeout_s:g}s",
            "marker_interval": f"{settings.marker_interval_s * 1000:.0f}ms",
        },
        "clients": {
            "ping_interval": "4s",
            "pong_timeout": "3s",
            "close_timeout": "1s",
            "max_buffer": "64KiB",
            "sse_heartbeat": "2s",
        },
        "auth": {"anonymous": True},
        "logging": {"format": "json"},
    }
