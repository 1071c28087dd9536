"""Fates: what the API's `explain` answers, in lines for people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any


def told(nodes: list[dict[str, Any]]) -> Iterator[str]:
    """`nodes` is the result's field of that name."""
    for node in nodes:
        records = node.get("records", [])
        name = f"node {node['name']} ({node['node'][:8]})"
        if not records:
            yield f"{name}: has not read it; it remembers what it read from offset {node['remembers_from']} on"
        for record in records:
            at = time.strftime("%H:%M:%S", time.gmtime(record["read_at"]))
            yield f"{name}: read at offset {record['offset']}, at {at} UTC"
            if record.get("rejected"):
                yield f"  rejected: {record['rejected']}"
            for channel in record["channels"]:
                yield from _channel(channel)


def _channel(channel: dict[str, Any]) -> Iterator[str]:
    rule = f", channels[{channel['rule']}] {channel['match']}" if channel["rule"] >= 0 else ""
    written = channel.get("written", 0)
    delivered = channel["outcome"] == "delivered"
    reached = f", written to {written} connection{'s' * (written != 1)} when it was read" if delivered else ""
    yield f"  {channel['channel']}{rule}: {channel['outcome']}{reached}"
    for connection in channel.get("connections", []):
        whose = f"client {connection['client']}, user {connection['user'] or '-'}"
        yield f"    {whose}: {_got(connection)}"
    if channel.get("more"):
        yield f"    and {channel['more']} more that are subscribed now"


def _got(connection: dict[str, Any]) -> str:
    if not connection["got"]:
        return f"did not get it: {connection['why']}"
    return "got it when it came back" if connection.get("recovered") else "got it"
