"""The nemesis: does what the schedule says, and writes down what it did and whether it verifiably took effect."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from tests.services.deadline import SECOND
from tests.services.proxy import Way
from tests.soak.journal import Complaint, FaultBegun, FaultEnded, FaultSeen, Journal, StreamDeleted, now
from tests.soak.schedule import ALL, Fault
from tests.soak.stage import STREAM, SoakNode, Stage, within
from tests.soak.truth import Reader

READY_DEADLINE_S = 60 * SECOND
EFFECT_DEADLINE_S = 8.0


class Nemesis:
    """Runs the tracks of a schedule side by side."""

    def __init__(self, stage: Stage, journal: Journal, reader: Reader) -> None:
        self._stage = stage
        self._journal = journal
        self._reader = reader
        self._numbers = itertools.count(1)
        self._primary = 0
        # One at a time may take nodes, broker or Redis up and down: a pair overlaps where that makes sense.
        self._of_node = [asyncio.Lock() for _ in stage.nodes]
        self._of_broker = asyncio.Lock()
        self._of_redis = asyncio.Lock()

    async def run(self, faults: list[Fault]) -> None:
        """Until all have been done and undone. Raises what makes a run worthless: a broker that does not come back."""
        begun = now()
        tracks: dict[str, list[Fault]] = {}
        for fault in faults:
            tracks.setdefault(fault.track, []).append(fault)
        async with asyncio.TaskGroup() as group:
            for track in tracks.values():
                group.create_task(self._follow(track, begun))

    async def look(self) -> None:
        """Read the log as it is now. Waits for a fault of the broker to end."""
        async with self._of_broker:
            await self._reader.read(self._journal)

    async def _follow(self, track: list[Fault], begun: float) -> None:
        for fault in track:
            await asyncio.sleep(max(0, begun + fault.at_s - now()))
            await self._do(fault)

    async def _do(self, fault: Fault) -> None:
        number = next(self._numbers)
        stage = self._stage
        nodes = stage.nodes if fault.node == ALL else [stage.nodes[fault.node]]
        target = "all" if fault.node == ALL else f"node {fault.node}"
        self._journal.write(FaultBegun(now(), number, fault.kind, target, [node.number for node in nodes]))
        seen, how = await ACTIONS[fault.kind.removesuffix(".all")](self, nodes, fault.hold_s)
        self._journal.write(FaultSeen(now(), number, seen, how))
        healed_at = now()
        recovered_s = -1.0
        if not fault.kind.startswith("client."):
            try:
                await stage.all_ready(READY_DEADLINE_S)
                recovered_s = round(now() - healed_at, 3)
            except AssertionError as error:
                self._journal.write(Complaint(now(), -1, f"not ready again after {fault.kind}: {error}"))
        self._journal.write(FaultEnded(now(), number, recovered_s))
        self._journal.flush()

    # --- nodes ------------------------------------------------------------------------------------------------------

    async def kill_node(self, nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-N1, F-N13, and F-C4: its clients come back together."""
        [node] = nodes
        async with self._of_node[node.number]:
            node.away = True
            await asyncio.to_thread(node.process.kill)
            seen = not await self._stage.is_alive(node)
            await asyncio.sleep(hold_s)
            node.start()
        return seen, "its port did not answer"

    async def freeze_node(self, nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-N6."""
        [node] = nodes
        async with self._of_node[node.number]:
            node.process.freeze()
            try:
                seen = not await self._stage.is_alive(node, 0.5)
                await asyncio.sleep(hold_s)
            finally:
                node.process.thaw()
        return seen, "/livez did not answer for half a second"

    async def deploy(self, nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-N2, F-N3: SIGTERM, and a new process when the old one has gone; the next node when this one is ready."""
        codes = []
        for node in nodes:
            async with self._of_node[node.number]:
                node.away = True
                await asyncio.to_thread(node.process.terminate, 15 * SECOND)
                codes.append(node.process.exit_code)
                if node.process.exit_code != 0:
                    why = f"ended with {node.process.exit_code} after SIGTERM"
                    self._journal.write(Complaint(now(), node.number, why))
                await asyncio.sleep(hold_s)
                node.start()
            if len(nodes) > 1:
                await within(partial(self._stage.is_ready, node), READY_DEADLINE_S)
        return codes == [0] * len(nodes), f"exit codes {codes}"

    # --- the way to the broker --------------------------------------------------------------------------------------

    async def reset_links(self, nodes: list[SoakNode], _hold_s: float) -> tuple[bool, str]:
        """F-B3."""
        before = [node.link.accepted for node in nodes]
        for node in nodes:
            await node.link.reset()
        seen = await within(
            lambda: _all(node.link.accepted > had for node, had in zip(nodes, before, strict=True)), EFFECT_DEADLINE_S
        )
        return seen, "all connected again"

    async def refuse_links(self, nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-B3, F-N12."""
        for node in nodes:
            node.link.refuse()
            await node.link.reset()
        try:
            seen = await within(lambda: self._none_ready(nodes), EFFECT_DEADLINE_S)
            await asyncio.sleep(hold_s)
        finally:
            for node in nodes:
                node.link.heal()
        return seen, "/readyz did not say ready"

    async def freeze_links(self, nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-B4, F-N12."""
        return await self._freeze(nodes, Way.BOTH, hold_s)

    async def deafen_links(self, nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-B5."""
        return await self._freeze(nodes, Way.S2C, hold_s)

    async def _freeze(self, nodes: list[SoakNode], way: Way, hold_s: float) -> tuple[bool, str]:
        before = [node.link.carried[Way.S2C] for node in nodes]
        for node in nodes:
            node.link.freeze(way)
        try:
            await asyncio.sleep(0.2)
            here = [node.link.carried[Way.S2C] for node in nodes]
            await asyncio.sleep(hold_s)
            seen = here == [node.link.carried[Way.S2C] for node in nodes] and min(before) > 0
        finally:
            for node in nodes:
                node.link.heal()
        return seen, "no byte came from the broker"

    # --- the broker -------------------------------------------------------------------------------------------------

    async def kill_broker(self, _nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-B1."""
        broker = self._stage.broker
        async with self._of_broker:
            await asyncio.to_thread(broker.kill)
            seen = await self._none_ready(self._stage.nodes) or not broker.running
            await asyncio.sleep(hold_s)
            await asyncio.to_thread(broker.start)
        return seen, "its process was gone"

    async def restart_broker(self, _nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-B2."""
        broker = self._stage.broker
        async with self._of_broker:
            await asyncio.to_thread(broker.ctl, "stop_app")
            seen = await within(lambda: self._none_ready(self._stage.nodes), EFFECT_DEADLINE_S)
            await asyncio.sleep(hold_s)
            await asyncio.to_thread(broker.ctl, "start_app")
            await asyncio.to_thread(broker.wait_ready)
        return seen, "/readyz of no node said ready"

    async def freeze_broker(self, _nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-B6."""
        broker = self._stage.broker
        before = [node.link.carried[Way.S2C] for node in self._stage.nodes]
        async with self._of_broker:
            broker.freeze()
            try:
                await asyncio.sleep(0.2)
                here = [node.link.carried[Way.S2C] for node in self._stage.nodes]
                await asyncio.sleep(hold_s)
                seen = here == [node.link.carried[Way.S2C] for node in self._stage.nodes] and min(before) > 0
            finally:
                broker.thaw()
        return seen, "no byte came from it"

    async def alarm(self, _nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-B7, F-B9."""
        broker, stage = self._stage.broker, self._stage

        async def blocked() -> bool:
            found = [await stage.gauges(node) for node in stage.nodes]
            return any(values.get("notifier_log_publishing_blocked") for values in found)

        async with self._of_broker:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
            try:
                seen = await within(blocked, EFFECT_DEADLINE_S)
                await asyncio.sleep(hold_s)
            finally:
                await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "absolute", "2GiB")
        return seen, "a node's metrics said that publishing was blocked"

    async def close_connections(self, _nodes: list[SoakNode], _hold_s: float) -> tuple[bool, str]:
        """F-B13."""
        before = [node.link.accepted for node in self._stage.nodes]
        async with self._of_broker:
            await asyncio.to_thread(self._stage.broker.ctl, "close_all_connections", "by the nemesis")
        seen = await within(
            lambda: _all(node.link.accepted > had for node, had in zip(self._stage.nodes, before, strict=True)),
            EFFECT_DEADLINE_S,
        )
        return seen, "all connected again"

    async def delete_stream(self, _nodes: list[SoakNode], _hold_s: float) -> tuple[bool, str]:
        """F-B10: reads it to its end first: what was confirmed by then was to be delivered by then, or a break told."""
        broker, stage = self._stage.broker, self._stage
        resets = await self._resets()
        async with self._of_broker:
            since = now()
            await self._reader.read(self._journal)
            await asyncio.to_thread(broker.ctl, "delete_queue", STREAM)
            self._journal.write(StreamDeleted(now(), since, self._reader.generation))
            self._reader.generation += 1

            async def noticed() -> bool:
                found = await self._resets()
                return len(found) == len(stage.nodes) and all(found[node] > resets.get(node, 0) for node in found)

            seen = await within(noticed, 30 * SECOND)
        return seen, "every node counted a log made anew"

    async def _resets(self) -> dict[int, float]:
        found = {node.number: await self._stage.gauges(node) for node in self._stage.nodes}
        return {number: values["notifier_log_resets_total"] for number, values in found.items() if values}

    # --- Redis ------------------------------------------------------------------------------------------------------

    async def kill_redis(self, _nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-R1, F-R2."""
        async with self._of_redis:
            server = self._stage.redis[self._primary]
            await asyncio.to_thread(server.kill)
            seen = await self._stage.redis_says(server, "PING") == ""
            await asyncio.sleep(hold_s)
            await asyncio.to_thread(server.start)
        return seen, "PING was not answered"

    async def freeze_redis(self, _nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-R6."""
        async with self._of_redis:
            server = self._stage.redis[self._primary]
            server.freeze()
            try:
                seen = await self._stage.redis_says(server, "PING", within_s=0.5) == ""
                await asyncio.sleep(hold_s)
            finally:
                server.thaw()
        return seen, "PING was not answered"

    async def flush_redis(self, _nodes: list[SoakNode], _hold_s: float) -> tuple[bool, str]:
        """F-R14."""
        async with self._of_redis:
            said = await self._stage.redis_says(self._stage.redis[self._primary], "FLUSHALL")
        return said == "+OK", "FLUSHALL was answered"

    async def fail_over_redis(self, _nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-R4, F-R10: the replica becomes the primary, behind the same address; the old one comes back as replica."""
        stage = self._stage
        async with self._of_redis:
            old, new = stage.redis[self._primary], stage.redis[1 - self._primary]
            await asyncio.to_thread(old.kill)
            await stage.redis_says(new, "REPLICAOF", "NO", "ONE")
            self._primary = 1 - self._primary
            stage.redis_door.target = ("127.0.0.1", new.port)
            await stage.redis_door.reset()
            await asyncio.sleep(hold_s)
            await asyncio.to_thread(old.start)
            await stage.follow(old, new)
            role = await stage.redis_says(new, "ROLE")
            said = await stage.redis_says(new, "SET", "soak:role", "primary")
        return said == "+OK", f"the replica takes writes ({role})"

    # --- clients' connections ---------------------------------------------------------------------------------------

    async def reset_clients(self, nodes: list[SoakNode], _hold_s: float) -> tuple[bool, str]:
        """F-C4."""
        [node] = nodes
        had = node.door.connections
        await node.door.reset()
        return had > 0, f"{had} connections reset"

    async def freeze_clients(self, nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-C2."""
        [node] = nodes
        had = node.door.connections
        node.door.freeze()
        await asyncio.sleep(hold_s)
        node.door.heal()
        return had > 0, f"{had} connections frozen"

    async def cut_clients(self, nodes: list[SoakNode], hold_s: float) -> tuple[bool, str]:
        """F-C3: close each in the middle of a frame."""
        [node] = nodes
        had = node.door.connections
        node.door.close_after(1000 + int(hold_s * 137), Way.S2C)
        await asyncio.sleep(hold_s)
        left = node.door.connections
        node.door.heal()
        return had > 0, f"{had} connections to be cut, {left} open after it"

    async def _none_ready(self, nodes: list[SoakNode]) -> bool:
        found = [await self._stage.is_ready(node) for node in nodes]
        return not any(found)


ACTIONS: dict[str, Callable[[Nemesis, list[SoakNode], float], Awaitable[tuple[bool, str]]]] = {
    "node.kill": Nemesis.kill_node,
    "node.freeze": Nemesis.freeze_node,
    "node.terminate": Nemesis.deploy,
    "deploy": Nemesis.deploy,
    "link.reset": Nemesis.reset_links,
    "link.refuse": Nemesis.refuse_links,
    "link.freeze": Nemesis.freeze_links,
    "link.deaf": Nemesis.deafen_links,
    "broker.kill": Nemesis.kill_broker,
    "broker.restart": Nemesis.restart_broker,
    "broker.freeze": Nemesis.freeze_broker,
    "broker.alarm": Nemesis.alarm,
    "broker.close_connections": Nemesis.close_connections,
    "stream.delete": Nemesis.delete_stream,
    "redis.kill": Nemesis.kill_redis,
    "redis.freeze": Nemesis.freeze_redis,
    "redis.flush": Nemesis.flush_redis,
    "redis.failover": Nemesis.fail_over_redis,
    "client.reset": Nemesis.reset_clients,
    "client.freeze": Nemesis.freeze_clients,
    "client.close_after": Nemesis.cut_clients,
}


async def _all(found: Iterable[bool]) -> bool:
    return all(found)
