"""The whole protocol's part on what a client gets that was away."""

from __future__ import annotations

from tests.sdk.cluster import Line
from tests.sdk.conftest import NewClient
from tests.sdk.steps import back, got, lost, subscribed
from tests.servers import ServerProcess, make_token
from tests.services.deadline import eventually


class Positions:
    """Everything, or the word that it is not everything."""

    async def test_nothing_is_lost_while_the_line_is_cut_again_and_again(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel, quiet = f"open.{name}", f"open.{name}.quiet"
        async with Line(server) as line:
            client = await new_client(line, make_token("ann"))
            await subscribed(client, channel, quiet)
            for times in range(3):
                await server.publish(channel, [times, "live"])
                await lost(client, line)
                await server.publish(channel, [times, "missed"])
                again = await back(client, line, channel)
                assert (again.was_recovering, again.recovered) == (True, True)
            await got(client, channel, [[times, how] for times in range(3) for how in ("live", "missed")])
            await server.publish(quiet, "at last")
            await got(client, quiet, ["at last"])
            assert all(event.recovered for event in client.all("subscribed", quiet)[1:])

    async def test_who_missed_megabytes_gets_them(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel = f"open.{name}"
        async with Line(server) as line:
            client = await new_client(line, make_token("ann"))
            await subscribed(client, channel)
            await lost(client, line)
            missed = [f"{number} {'x' * 60_000}" for number in range(50)]
            for data in missed:
                await server.publish(channel, data)
            assert (await back(client, line, channel)).recovered
            await server.publish(channel, "after")
            await got(client, channel, [*missed, "after"])

    async def test_who_missed_more_than_is_kept_is_told_so_and_gets_no_part_of_it(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel = f"brief.{name}"
        async with Line(server) as line:
            client = await new_client(line, make_token("ann"))
            await subscribed(client, channel)
            await server.publish(channel, "live")
            await got(client, channel, ["live"])
            await lost(client, line)
            for number in range(3):
                await server.publish(channel, number)
            again = await back(client, line, channel)
            assert (again.was_recovering, again.recovered) == (True, False)
            await server.publish(channel, "after")
            await got(client, channel, ["live", "after"])

    async def test_who_missed_more_than_is_kept_reads_its_state_anew_and_goes_on_from_there(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel = f"brief.{name}"
        asked: list[tuple[int, str]] = []
        position = 0
        epoch = (await server.call("history", channel=channel))["epoch"]

        def state() -> tuple[int, str]:
            asked.append((position, epoch))
            return asked[-1]

        position = await server.publish(channel, "in the first state")
        await server.publish(channel, "after the first state")
        async with Line(server) as line:
            client = await new_client(line, make_token("ann"))
            await client.subscribe(channel, state=state)
            await got(client, channel, ["after the first state"])
            await lost(client, line)
            for number in range(4):
                position = await server.publish(channel, number)
            await server.publish(channel, "after the second state")
            line.mend()
            await got(client, channel, ["after the first state", "after the second state"])
            await lost(client, line)
            await server.publish(channel, "recovered without any state")
            assert (await back(client, line, channel)).recovered
            await eventually(lambda: len(client.data(channel)) == 3)
            assert len(asked) == 2
