"""The whole protocol's part on subscriptions that get something else than every publication as it is."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.sdk.cluster import Line
from tests.sdk.conftest import NewClient
from tests.sdk.steps import back, got, lost, subscribed
from tests.servers import ServerProcess, make_token
from tests.services.deadline import eventually

# Characters that begin with the same bytes, so that a difference falls within one.
TEXTS = ["é", "è", "世", "丗", "丘", "🎉", "🎊", "🎋\u2028", "plain", "", '"quoted"\n']
ENGLISH_AND_DEAR = {
    "op": "and",
    "nodes": [{"key": "lang", "cmp": "eq", "val": "en"}, {"key": "price", "cmp": "gte", "val": "10.5"}],
}


class Forms:
    """Differences, filters, the last value only, and patterns."""

    async def test_differences_make_what_was_published_whatever_characters_change(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel = f"document.{name}"
        client = await new_client(server, make_token("ann"))
        plain = await new_client(server, make_token("bob"))
        await client.subscribe(channel, delta=True)
        await subscribed(client, channel)
        await subscribed(plain, channel)
        versions = [_document(text) for text in TEXTS]
        for version in versions:
            await _publish_in_utf8(server, channel, version)
        await got(client, channel, versions)
        await got(plain, channel, versions)
        assert await client.patches(channel) == len(versions) - 1
        assert await plain.patches(channel) == 0

    async def test_differences_go_on_after_the_line_was_cut(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel = f"document.{name}"
        versions = [_document(text) for text in TEXTS]
        async with Line(server) as line:
            client = await new_client(line, make_token("ann"))
            await client.subscribe(channel, delta=True)
            await subscribed(client, channel)
            for version in versions[:3]:
                await _publish_in_utf8(server, channel, version)
            await got(client, channel, versions[:3])
            await lost(client, line)
            for version in versions[3:6]:
                await _publish_in_utf8(server, channel, version)
            assert (await back(client, line, channel)).recovered
            for version in versions[6:]:
                await _publish_in_utf8(server, channel, version)
            await got(client, channel, versions)
            assert await client.patches(channel) == len(versions) - 2, "all but the first one of each connection"

    async def test_a_filter_lets_through_what_its_tags_say_live_and_recovered(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel = f"ticker.{name}"
        async with Line(server) as line:
            client = await new_client(line, make_token("ann"))
            await client.subscribe(channel, tags=ENGLISH_AND_DEAR)
            await subscribed(client, channel)
            await _publish_with_all_tags(server, channel, "live")
            await got(client, channel, ["live en 10.50", "live en 200"])
            await lost(client, line)
            await _publish_with_all_tags(server, channel, "missed")
            assert (await back(client, line, channel)).recovered
            await _publish_with_all_tags(server, channel, "after")
            wanted = [f"{when} en {price}" for when in ("live", "missed", "after") for price in ("10.50", "200")]
            await got(client, channel, wanted)

    async def test_where_only_the_last_value_counts_it_comes_at_once_and_after_every_cut(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel = f"latest.{name}"
        for number in (1, 2):
            await server.publish(channel, number)
        async with Line(server) as line:
            client = await new_client(line, make_token("ann"))
            await subscribed(client, channel)
            await got(client, channel, [2])
            await lost(client, line)
            for number in (3, 4):
                await server.publish(channel, number)
            assert (await back(client, line, channel)).recovered
            await got(client, channel, [2, 4])
            await lost(client, line)
            assert (await back(client, line, channel)).recovered
            await server.publish(channel, 5)
            await got(client, channel, [2, 4, 5])

    async def test_a_pattern_brings_all_its_channels_in_their_order_live_and_recovered(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        pattern = f"orders.*.{name}"
        async with Line(server) as line:
            client = await new_client(line, make_token("ann"))
            await subscribed(client, pattern, f"orders.1.{name}")
            await _publish_orders(server, name, "live")
            await got(client, pattern, ["live 1", "live 2"])
            await lost(client, line)
            await _publish_orders(server, name, "missed")
            assert (await back(client, line, pattern)).recovered
            await _publish_orders(server, name, "after")
            await got(client, pattern, ["live 1", "live 2", "missed 1", "missed 2", "after 1", "after 2"])
            channels = [event.tags["channel"] for event in client.all("publication", pattern)]
            assert channels == [f"orders.1.{name}", f"orders.2.{name}"] * 3
            await got(client, f"orders.1.{name}", ["live 1", "missed 1", "after 1"])
            await client.unsubscribe(pattern)
            await eventually(lambda: client.state_of(pattern) == "unsubscribed")
            await server.publish(f"orders.1.{name}", "only by name")
            await got(client, f"orders.1.{name}", ["live 1", "missed 1", "after 1", "only by name"])
            assert len(client.data(pattern)) == 6


def _document(text: str) -> dict[str, Any]:
    return {"before": "Größe 世界 " * 20, "text": text, "after": "🎉 nothing new here " * 20}


async def _publish_in_utf8(server: ServerProcess, channel: str, data: Any) -> None:
    """Without the escapes that Python's JSON has for what is not ASCII."""
    body = json.dumps(data, ensure_ascii=False).encode()
    await server.call("publish", channel=channel, b64data=base64.b64encode(body).decode())


async def _publish_with_all_tags(server: ServerProcess, channel: str, when: str) -> None:
    for lang in ("en", "de"):
        for price in ("9", "10.50", "200"):
            await server.publish(channel, f"{when} {lang} {price}", tags={"lang": lang, "price": price})
    await server.publish(channel, f"{when} without any")


async def _publish_orders(server: ServerProcess, name: str, when: str) -> None:
    for channel, number in ((f"orders.1.{name}", 1), (f"orders.0.not-{name}", 0), (f"orders.2.{name}", 2)):
        await server.publish(channel, f"{when} {number}")
