"""What this worker tells about itself."""

from __future__ import annotations

import os
import resource

from notifier.core.asked import Metrics, NodeInfo, Process
from notifier.core.node import Node


def describe(node: Node) -> NodeInfo:
    """Its numbers now; counters count since the start."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    stats = node.stats
    uptime = node.clock.monotonic() - node.started_at
    items = {
        "publications": stats.publications,
        "deliveries": stats.deliveries,
        "delivered_bytes": stats.delivered_bytes,
        "rejected": stats.rejected.total(),
        "repeats": stats.repeats,
        "disconnects": stats.disconnects.total(),
        "log_end": node.history.end,
        "log_known_from": node.history.known_from,
        "history_publications": node.history.publications,
        "history_bytes": node.history.size_bytes,
        "connections": stats.connections.total(),
    }
    return NodeInfo(
        uid=node.node_id,
        name=node.name,
        version=node.version,
        num_clients=len(node.sessions),
        num_users=node.users,
        num_channels=len(node.hub),
        num_subs=stats.subscriptions,
        uptime=int(uptime),
        metrics=Metrics(round(uptime, 3), {name: float(value) for name, value in items.items()}),
        process=Process(usage.ru_utime + usage.ru_stime, _resident_bytes()),
    )


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - one line, read each second by a console
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
