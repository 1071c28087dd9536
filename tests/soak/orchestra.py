"""One run: warm-up, chaos, heal, drain, final read, leave, residue. Everything that is judged later is in journals."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
from aiormq.exceptions import AMQPError

from tests.services.deadline import SECOND
from tests.soak import clients, publications, publishers, schedule
from tests.soak.journal import Answered, AtRest, Complaint, Gauges, Journal, Phase, Presence, Sent, now, read
from tests.soak.nemesis import Nemesis
from tests.soak.process import LAG_EVERY_S, Helper, note_lag
from tests.soak.sizes import KINDS, Settings
from tests.soak.stage import API_KEY, EXCHANGE, STREAM, Stage
from tests.soak.truth import Reader

SAMPLE_EVERY_S = 2.0
PRESENCE_DEADLINE_S = 45 * SECOND
RESIDUE_DEADLINE_S = 30 * SECOND
UNWANTED = (b"Traceback (most recent", b"never retrieved", b"was never awaited", b"Task was destroyed")

LOOK_EVERY_S = 15.0

Say = Callable[[str], None]
Suspect = Callable[[], bool]
"""Whether the journals so far have a finding already."""


class EnoughSeen(Exception):
    """The run need not go on."""


def journals(folder: Path) -> list[Path]:
    """All journals of a run: the nemesis' and the publishers' first."""
    return sorted(folder.glob("*.jsonl"), key=lambda path: (path.name.startswith("clients"), path.name))


async def play(
    settings: Settings, groups: Sequence[str], folder: Path, say: Say, suspect: Suspect | None = None
) -> None:
    """The whole run, or up to where `suspect`, asked now and then, has seen enough. Its journals and the nodes' output
    are in the folder afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    with Journal(folder / "nemesis.jsonl") as journal:
        say("starting RabbitMQ, Redis and the nodes")
        async with Stage(settings, folder) as stage:
            try:
                await Run(settings, groups, folder, stage, journal, say, suspect).play()
            except EnoughSeen:
                say("enough has been seen")
            note_complaints(stage, journal)


class Run:
    """The phases of a run on a stage that stands."""

    def __init__(
        self,
        settings: Settings,
        groups: Sequence[str],
        folder: Path,
        stage: Stage,
        journal: Journal,
        say: Say,
        suspect: Suspect | None,
    ) -> None:
        self._settings = settings
        self._groups = groups
        self._folder = folder
        self._stage = stage
        self._journal = journal
        self._say = say
        self._suspect = suspect
        self._reader = Reader(stage.broker.url, EXCHANGE, STREAM)

    async def play(self) -> None:
        settings, stage, journal = self._settings, self._stage, self._journal
        for node in stage.nodes:
            journal.write(Gauges(now(), node.number, "begun", await stage.gauges(node)))
        async with Helpers(settings, stage, self._folder) as helpers:
            watching = [asyncio.create_task(self._sample()), asyncio.create_task(note_lag(journal, "nemesis"))]
            try:
                self._phase("warm-up")
                await asyncio.sleep(settings.size.warm_up_s)
                self._phase("chaos")
                await self._chaos()
                self._phase("heal")
                await stage.all_ready(60 * SECOND)
                await helpers.everybody("rest")
                await asyncio.sleep(2)  # some time with all of them and without faults
                self._phase("drain")
                await helpers.publishers.ask("stop", 90 * SECOND)
                await self._drain(helpers)
                await self._check_presence()
                self._phase("leave")
                await helpers.everybody("leave")
            finally:
                for task in watching:
                    task.cancel()
        await self._check_residue()
        self._phase("end")

    async def _chaos(self) -> None:
        """At least as long as the size says, and until all faults are undone."""
        size = self._settings.size
        faults = schedule.plan(size, self._groups, self._settings.seed)
        nemesis = Nemesis(self._stage, self._journal, self._reader)
        looking = asyncio.create_task(self._look(nemesis))
        going = asyncio.gather(asyncio.sleep(size.chaos_s), nemesis.run(faults))
        awaited: set[asyncio.Future[Any]] = {looking, going} if self._suspect else {going}
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        looking.cancel()
        if not going.done():
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
            raise EnoughSeen
        await going

    async def _look(self, nemesis: Nemesis) -> None:
        """Ends when what has been journaled so far is suspect."""
        while self._suspect is not None:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await nemesis.look()
            except (TimeoutError, OSError, RuntimeError, AMQPError):
                continue  # the broker was just going
            await asyncio.sleep(2 * LAG_EVERY_S)  # for all to have written down what they got before
            if await asyncio.to_thread(self._suspect):
                return

    async def _drain(self, helpers: Helpers) -> None:
        """A last publication on every channel; then all that is in the log must have reached everybody."""
        await self._publish_last()
        self._phase("read")
        tops = await self._reader.read(self._journal)
        ends = time.monotonic() + self._settings.size.drain_s * SECOND
        while behind := await helpers.behind(tops):
            if time.monotonic() > ends:
                self._say(f"{len(behind)} subscriptions are behind: {', '.join(behind[:5])} …")
                break
            await asyncio.sleep(0.3)
        await helpers.everybody("settle")

    async def _publish_last(self) -> None:
        chance = random.Random(self._settings.seed)
        connection = await aio_pika.connect(self._stage.broker.url)
        async with connection:
            channel = await connection.channel(on_return_raises=True)
            exchange = await channel.get_exchange(EXCHANGE, ensure=False)
            for name in self._settings.size.channel_names():
                ident = f"last/{name}/1"
                body = publications.make(ident, [name], now(), chance)
                self._journal.write(Sent(now(), ident, [name], 1, "amqp"))
                await exchange.publish(aio_pika.Message(body, message_id=ident, delivery_mode=2), name)
                self._journal.write(Answered(now(), ident, 1, "ok"))

    async def _check_presence(self) -> None:
        """Who is on a channel, by each node, is who is subscribed; it may take a while after a node was killed."""
        expected = dict.fromkeys(self._settings.size.channel_names(), 0)
        for event in read(path for path in journals(self._folder) if path.name.startswith("clients")):
            if isinstance(event, AtRest):
                for channel in event.channels:
                    expected[channel] += 1
        ends = time.monotonic() + PRESENCE_DEADLINE_S
        while True:
            found = [
                Presence(now(), node.number, channel, await self._present(node, channel), number)
                for node in self._stage.nodes
                for channel, number in expected.items()
            ]
            if all(line.answered == line.expected for line in found) or time.monotonic() > ends:
                break
            await asyncio.sleep(1)
        for line in found:
            self._journal.write(line)

    async def _present(self, node: object, channel: str) -> int:
        try:
            answer = await self._stage.call(node, "presence", channel=channel)  # type: ignore[arg-type]
        except (OSError, TimeoutError):
            return -1
        return len(answer.get("presence", {}))

    async def _check_residue(self) -> None:
        """Nothing of those who have left stays."""
        ends = time.monotonic() + RESIDUE_DEADLINE_S
        for node in self._stage.nodes:
            while True:
                values = await self._stage.gauges(node)
                if not values or not (values["notifier_subscriptions"] or values["notifier_connections"]):
                    break
                if time.monotonic() > ends:
                    break
                await asyncio.sleep(0.5)
            self._journal.write(Gauges(now(), node.number, "left", values))

    async def _sample(self) -> None:
        while True:
            for node in self._stage.nodes:
                if values := await self._stage.gauges(node):
                    self._journal.write(Gauges(now(), node.number, "running", values))
            self._journal.flush()
            await asyncio.sleep(SAMPLE_EVERY_S)

    def _phase(self, name: str) -> None:
        self._say(name)
        self._journal.write(Phase(now(), name))
        self._journal.flush()


class Helpers:
    """The processes of publishers and clients. Use ``async with``."""

    def __init__(self, settings: Settings, stage: Stage, folder: Path) -> None:
        size, nodes = settings.size, stage.nodes
        self.publishers = Helper(
            "tests.soak.publishers",
            publishers.Orders(
                journal=str(folder / "publishers.jsonl"),
                seed=settings.seed,
                broker=stage.broker.url,
                exchange=EXCHANGE,
                nodes=[node.url for node in nodes],
                api_key=API_KEY,
                channels=size.channel_names(),
                publishers=size.publishers,
                api_publishers=size.api_publishers,
                rate=size.rate,
            ),
            folder,
            "publishers",
        )
        specs = cast(settings)
        self.clients = [
            Helper(
                "tests.soak.clients",
                clients.Orders(
                    journal=str(folder / f"clients-{number}.jsonl"),
                    seed=settings.seed,
                    name=f"clients-{number}",
                    nodes=[node.address for node in nodes],
                    clients=specs[number :: size.client_processes],
                ),
                folder,
                f"clients-{number}",
            )
            for number in range(size.client_processes)
        ]

    async def __aenter__(self) -> Helpers:
        for helper in (*self.clients, self.publishers):
            await helper.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(helper.__aexit__() for helper in (*self.clients, self.publishers)))

    async def everybody(self, command: str) -> None:
        await asyncio.gather(*(helper.ask(command) for helper in self.clients))

    async def behind(self, tops: dict[str, int]) -> list[str]:
        command = f"behind {msgspec.json.encode(tops).decode()}"
        found = await asyncio.gather(*(helper.ask(command) for helper in self.clients))
        return [line for text in found for line in msgspec.json.decode(text)]


def cast(settings: Settings) -> list[clients.Spec]:
    """The clients of a run: who is of which kind and on which channels."""
    size = settings.size
    chance = random.Random(f"{settings.seed} cast")
    kinds = [kind for kind, share in zip(KINDS, size.shares, strict=True) for _ in range(share)]
    # In time: what a starting node reads back, so that a sleeper's position is older than that as often as not.
    reach_s = size.known_for_s + size.repeat_window / size.rate
    specs = []
    for number in range(size.clients):
        kind = kinds[number * len(kinds) // size.clients]
        late_s = chance.uniform(size.warm_up_s, size.warm_up_s + size.chaos_s * 0.8) if kind == "late" else 0.0
        channels = chance.sample(size.channel_names(), size.each)
        direct = kind == "slow" or number % 2 == 0  # proxies would buffer what a slow client does not read
        specs.append(clients.Spec(f"{kind}-{number}", kind, channels, direct, 2.4 * reach_s, late_s))
    return specs


def note_complaints(stage: Stage, journal: Journal) -> None:
    """What nodes have printed that should not be there."""
    for node in stage.nodes:
        with node.log.open("rb") as log:
            for line in log:
                if any(text in line for text in UNWANTED):
                    journal.write(Complaint(now(), node.number, line.decode(errors="replace").strip()[:2000]))
