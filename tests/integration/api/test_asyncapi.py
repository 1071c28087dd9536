"""The AsyncAPI document: valid by the official schema, true to the configuration, and without its secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import pytest

from notifier.api import asyncapi
from notifier.config import (
    Api,
    ChannelRule,
    Config,
    Duration,
    HistoryRule,
    LogSection,
    RabbitMQ,
    RpcRule,
    Secret,
)
from notifier.config import Server as ServerSection
from notifier.server import Server
from tests.servers import ROOT, lacking

SCHEMA = ROOT / "tests/sdk/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"
RULES = [
    ChannelRule(
        match="user.*",
        history=HistoryRule(size=100, ttl=Duration(3600)),
        presence=True,
        subscribe=["user.{sub}", "role:support"],
    ),
    ChannelRule(match="odd.{x}", subscribe=["anyone"]),
    ChannelRule(match="#", history=HistoryRule(size=1, ttl=Duration(60)), recovery="cache", publish=["subscriber"]),
]
BROKER = RabbitMQ(url=Secret("amqps://somebody:very-secret@mq.example.com/some%2Fhost"))
WITH_BROKER = Config(
    log=LogSection(kind="rabbitmq"),
    rabbitmq=BROKER,
    api=Api(keys=[Secret("the-api-key")]),
    channels=RULES,
    rpc=[RpcRule(method="math.*", queue="math", allow=["authenticated"])],
)
EMBEDDED = Config(channels=RULES)


def problems_with(document: dict[str, Any]) -> list[str]:
    if not Path(SCHEMA).is_file():
        lacking("@asyncapi/specs: not installed; `make test` runs `npm ci` in tests/sdk")
    schema = json.loads(Path(SCHEMA).read_text())
    return [str(error)[:500] for error in jsonschema_rs.Draft7Validator(schema).iter_errors(document)]


def resolve(document: dict[str, Any], reference: str) -> Any:
    place: Any = document
    for word in reference.removeprefix("#/").split("/"):
        place = place[word]
    return place


def references(value: Any) -> list[str]:
    """All that are in a part of the document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for part in value.values() for found in references(part)]
    return [found for part in value for found in references(part)] if isinstance(value, list) else []


@pytest.mark.parametrize("config", [WITH_BROKER, EMBEDDED, Config()])
def test_it_is_valid(config: Config) -> None:
    assert problems_with(asyncapi.document(config, "example.com")) == []


def test_what_is_not_valid_is_found() -> None:
    document = asyncapi.document(WITH_BROKER, "example.com")
    document["operations"]["reject"]["action"] = "throw"
    assert len(problems_with(document)) == 1


def test_all_references_lead_somewhere() -> None:
    document = asyncapi.document(WITH_BROKER, "example.com")
    found = references(document)
    assert len(found) > 50
    for reference in found:
        assert resolve(document, reference)


def test_it_names_what_publishers_rely_on_and_no_secret() -> None:
    document = asyncapi.document(WITH_BROKER, "example.com")
    channels, broker = document["channels"], document["servers"]["broker"]
    assert (broker["protocol"], broker["host"], broker["pathname"]) == ("amqps", "mq.example.com:5671", "/some/host")
    assert channels["publications"]["bindings"]["amqp"]["exchange"]["name"] == "notifications"
    assert channels["log"]["bindings"]["amqp"]["queue"]["name"] == "notifier.log"
    assert channels["rejected"]["address"] == "notifications.rejected"
    assert channels["api"]["bindings"]["amqp"]["exchange"]["name"] == "notifications.api"
    assert "publish" in channels["api"]["parameters"]["method"]["enum"]
    assert channels["rpc0"]["bindings"]["amqp"]["queue"]["name"] == "math"
    headers = document["components"]["messages"]["publication"]["headers"]
    assert headers["properties"].keys() == {"channels", "traceparent"}
    assert list(headers["patternProperties"]) == ["^tag-"]
    text = json.dumps(document)
    assert not [secret for secret in ("somebody", "very-secret", "the-api-key") if secret in text]


def test_every_rule_is_a_channel_that_says_what_it_keeps_and_who_may_use_it() -> None:
    document = asyncapi.document(EMBEDDED, "example.com")
    channels, operations = document["channels"], document["operations"]
    assert list(channels) == ["rule0", "rule1", "rule2"]
    assert channels["rule0"]["address"] == "user.{word2}"
    assert channels["rule0"]["parameters"].keys() == {"word2"}
    assert channels["rule0"]["description"] == "Keeps 100 publications, none older than 3600 s. With presence."
    assert channels["rule0"]["x-rule"]["subscribe"] == ["user.{sub}", "role:support"]
    assert channels["rule1"]["address"] is None
    assert channels["rule2"]["address"] == "{words1}"
    assert "gets the last one" in channels["rule2"]["description"]
    assert operations["rule0Deliver"]["summary"] == "To subscribers: user.{sub} or role:support."
    assert operations["rule2Accept"]["action"] == "receive"
    assert "rule0Accept" not in operations


async def test_it_needs_the_key_and_its_endpoints_are_routes_of_the_server() -> None:
    server = Server(Config(server=ServerSection(port=0), api=Api(keys=[Secret("the-api-key")]), channels=RULES))
    await server.start()
    url = server.doors.address + "api/asyncapi.json"
    try:
        async with aiohttp.ClientSession() as http:
            async with http.get(url) as response:
                assert response.status == 401
            async with http.get(url, headers={"X-API-Key": "the-api-key"}) as response:
                assert response.status == 200
                document = await response.json()
        assert server.doors.runners[0].app is not None
        routes = {resource.canonical for resource in server.doors.runners[0].app.router.resources()}
    finally:
        await server.stop()
    assert {described["pathname"] for described in document["servers"].values()} <= routes
    assert {described["host"] for described in document["servers"].values()} == {server.doors.address[7:-1]}
