"""The schedule: which fault comes when, for how long and where. A pure function of size, groups and seed.

The ci size has a fixed set of faults in an order and at times that the seed decides; the longer ones take turns through
their groups, with exponential gaps.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from tests.soak.sizes import Size

ALL = -1
"""Instead of a node's number."""

GROUPS: dict[str, tuple[str, ...]] = {
    "nodes": ("node.kill", "node.freeze", "node.kill", "link.reset", "link.freeze", "node.terminate"),
    "rabbitmq": (
        "broker.kill",
        "broker.restart",
        "broker.freeze",
        "link.reset.all",
        "link.refuse.all",
        "link.freeze.all",
        "link.deaf.all",
        "broker.alarm",
        "broker.close_connections",
        "stream.delete",
    ),
    "redis": ("redis.kill", "redis.freeze", "redis.flush", "redis.failover"),
    "deploys": ("deploy",),
}

PAIRS = (
    ("node.freeze", "broker.close_connections"),
    ("node.kill", "broker.freeze"),
    ("link.freeze", "node.terminate"),
    ("node.kill", "redis.freeze"),
    ("broker.alarm", "node.kill"),
    ("link.reset.all", "deploy"),
    ("broker.kill", "redis.kill"),
    ("node.freeze", "broker.kill"),
)

HOLDS = {
    "node.kill": (0.2, 2.0),
    "node.freeze": (2.0, 6.0),
    "node.terminate": (0.2, 1.0),
    "deploy": (0.2, 1.0),
    "link.reset": (0.0, 0.1),
    "link.refuse": (1.0, 4.0),
    "link.freeze": (3.0, 7.0),
    "link.deaf": (3.0, 7.0),
    "broker.kill": (0.3, 2.0),
    "broker.restart": (0.2, 1.0),
    "broker.freeze": (3.0, 6.0),
    "broker.alarm": (3.0, 6.0),
    "broker.close_connections": (0.0, 0.1),
    "stream.delete": (0.0, 0.1),
    "redis.kill": (0.5, 3.0),
    "redis.freeze": (2.0, 6.0),
    "redis.flush": (0.0, 0.1),
    "redis.failover": (0.5, 2.0),
    "client.reset": (0.0, 0.1),
    "client.freeze": (2.0, 9.0),
    "client.close_after": (1.0, 3.0),
}

CI_FAULTS = (
    "node.kill", "link.freeze", "link.reset.all", "node.freeze", "broker.kill", "link.reset", "deploy", "node.kill",
    "broker.close_connections",
)  # fmt: skip
CI_BESIDE = ("redis.kill", "redis.flush", "redis.freeze", "redis.failover")
CI_END = "stream.delete"


class Fault(NamedTuple):
    """`at_s` is counted from the beginning of chaos; faults of one track follow each other, tracks overlap."""

    track: str
    at_s: float
    kind: str
    hold_s: float
    node: int


def plan(size: Size, groups: Sequence[str], seed: int) -> list[Fault]:
    """All faults, in order of time. None without groups, apart from what clients do to themselves."""
    chance = random.Random(f"{seed} schedule")
    if not groups:
        return []
    faults = _ci(size, groups, chance) if size.name == "ci" else _long(size, groups, chance)
    faults += _clients(size, chance)
    return sorted(faults, key=lambda fault: fault.at_s)


def _ci(size: Size, groups: Sequence[str], chance: random.Random) -> list[Fault]:
    """Every kind once or twice; the stream is deleted near the end, when there is something to take for something
    else."""
    wanted = [kind for kind in CI_FAULTS if _group(kind) in groups]
    chance.shuffle(wanted)
    span_s = size.chaos_s * 0.76
    faults = [
        _fault("main", span_s * (place + chance.uniform(0.1, 0.4)) / len(wanted), kind, size, chance)
        for place, kind in enumerate(wanted)
    ]
    if "rabbitmq" in groups:
        faults.append(_fault("main", span_s + chance.uniform(0, 2), CI_END, size, chance))
    if "redis" in groups:
        beside = chance.sample(CI_BESIDE, 2)
        faults += [
            _fault("redis", size.chaos_s * (0.2 + 0.4 * place) + chance.uniform(0, 8), kind, size, chance)
            for place, kind in enumerate(beside)
        ]
    return faults


def _long(size: Size, groups: Sequence[str], chance: random.Random) -> list[Fault]:
    """Each group has its share of the time, and goes through its kinds in turn."""
    faults: list[Fault] = []
    share_s = size.chaos_s / len(groups)
    for place, group in enumerate(groups):
        at_s, ends_s = place * share_s, (place + 1) * share_s - 15
        turn = 0
        bag: list[tuple[str, ...]] = []
        while True:
            at_s += min(chance.expovariate(1 / 8), 20) + (9 if group in ("rabbitmq", "pairs", "deploys") else 5)
            if at_s > ends_s:
                break
            if not bag:
                bag = [(kind,) for kind in GROUPS.get(group, ())] or list(PAIRS)
                chance.shuffle(bag)
            for track, kind in enumerate(bag.pop()):
                faults.append(_fault(f"main-{track}" if track else "main", at_s, kind, size, chance))
            turn += 1
    return faults


def _clients(size: Size, chance: random.Random) -> list[Fault]:
    """What happens to clients goes on all the time, whatever else does."""
    faults: list[Fault] = []
    at_s = 2.0
    while at_s < size.chaos_s - 10:
        kind = chance.choice(("client.reset", "client.freeze", "client.close_after"))
        faults.append(_fault("clients", at_s, kind, size, chance))
        at_s += chance.uniform(3, 12)
    return faults


def _fault(track: str, at_s: float, kind: str, size: Size, chance: random.Random) -> Fault:
    hold_s = chance.uniform(*HOLDS[kind.removesuffix(".all")])
    everywhere = kind.endswith(".all") or kind.split(".")[0] in ("broker", "stream", "redis", "deploy")
    node = ALL if everywhere else chance.randrange(size.nodes)
    return Fault(track, round(at_s, 2), kind, round(hold_s, 2), node)


def _group(kind: str) -> str:
    for group, kinds in GROUPS.items():
        if kind in kinds:
            return group
    raise ValueError(kind)
