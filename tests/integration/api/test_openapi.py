"""The server keeps to its OpenAPI document: requests made from the document, and what it answers looked at by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from notifier.api import openapi
from notifier.api.methods import BATCH, METHODS
from notifier.config import Api, Auth, ChannelRule, Config, Duration, HistoryRule, Secret
from notifier.config import Server as ServerSection
from notifier.server import Server
from tests.services.deadline import SECOND

API_KEY = "key-of-the-tests"
KEPT = HistoryRule(size=100, ttl=Duration(60))
RULES = [
    ChannelRule(match="closed.#"),
    ChannelRule(match="plain.#", presence=True, subscribe=["anyone"]),
    ChannelRule(match="#", history=KEPT, presence=True, subscribe=["anyone"]),
]
TRANSPORT = {"X-Centrifugo-Error-Mode": "transport"}
OPERATIONS = ["/api", *(f"/api/{name}" for name in (*METHODS, BATCH))]

load_all_checks()
CONFORMS: list[Any] = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
REFUSES: list[Any] = [*CONFORMS, *CHECKS.get_by_names(["negative_data_rejection"])]

schema = schemathesis.openapi.from_dict(openapi.document())
bounded = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class RunningServer:
    """A server on the embedded log, in a thread of its own: what tests it must wait for its answers."""

    def __init__(self) -> None:
        self.url = ""
        self._started = threading.Event()
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> RunningServer:
        self._thread.start()
        assert self._started.wait(10 * SECOND)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10 * SECOND)
        self._loop.close()

    async def _run(self) -> None:
        config = Config(
            server=ServerSection(port=0),
            auth=Auth(anonymous=True),
            api=Api(keys=[Secret(API_KEY)], max_batch=5),
            channels=RULES,
        )
        server = Server(config)
        await server.start()
        self.url = server.doors.address
        self._started.set()
        await self._ended.wait()
        await server.stop()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with RunningServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["X-API-Key"] = API_KEY
        yield session


def cases(path: str, mode: GenerationMode) -> st.SearchStrategy[Case[Any]]:
    return schema[path]["POST"].as_strategy(generation_mode=mode)


def probable(body: Any) -> Any:
    """Bodies are more often good ones without base64, which is hardly ever JSON, and with data."""
    if isinstance(body, dict):
        return {"data": 1, **{name: value for name, value in body.items() if not name.startswith("b64")}}
    return body


@pytest.mark.parametrize("path", OPERATIONS)
def test_answers_to_requests_by_the_document_are_by_the_document(path: str, url: str, http: requests.Session) -> None:
    @bounded
    @given(case=cases(path, GenerationMode.POSITIVE), error_mode=st.sampled_from([{}, TRANSPORT]), data=st.booleans())
    def check(case: Case[Any], error_mode: dict[str, str], data: bool) -> None:
        if data:
            case.body = probable(case.body)
        case.call_and_validate(base_url=url, session=http, headers=error_mode, checks=CONFORMS)

    check()


@pytest.mark.parametrize("path", OPERATIONS)
def test_other_requests_are_refused(path: str, url: str, http: requests.Session) -> None:
    """With the statuses of the error mode; otherwise a method's errors are no refusals to HTTP."""

    @bounded
    @given(case=cases(path, GenerationMode.NEGATIVE))
    def check(case: Case[Any]) -> None:
        case.call_and_validate(base_url=url, session=http, headers=TRANSPORT, checks=REFUSES)

    check()


@pytest.mark.parametrize("path", OPERATIONS)
def test_all_methods_need_the_key_and_post(path: str, url: str) -> None:
    documented = schema.raw_schema["paths"][path]["post"]["responses"]
    for method, headers, status in (("POST", {}, 401), ("GET", {"X-API-Key": API_KEY}, 405)):
        response = requests.request(method, url.rstrip("/") + path, headers=headers, timeout=10 * SECOND)
        assert response.status_code == status
        assert str(status) in documented
        assert response.json()["code"] == status


@pytest.mark.parametrize(("headers", "words"), [({}, "is required"), ({"X-API-Key": "other"}, "is not known")])
def test_a_key_that_is_not_known_is_told_apart_from_none(url: str, headers: dict[str, str], words: str) -> None:
    response = requests.post(url + "api/info", headers=headers, timeout=10 * SECOND)
    assert (response.status_code, words in response.json()["message"]) == (401, True)


def test_everybody_gets_the_document_and_nobody_can_change_it(url: str) -> None:
    response = requests.get(url + "api/openapi.json", timeout=10 * SECOND)
    assert response.json() == openapi.document()
    assert requests.post(url + "api/openapi.json", timeout=10 * SECOND).status_code == 405


def test_every_method_says_what_it_is_for() -> None:
    document = openapi.document()
    assert {path for path in document["paths"] if "post" in document["paths"][path]} == set(OPERATIONS)
    for path in OPERATIONS:
        assert len(document["paths"][path]["post"]["summary"]) > 10
    publish = document["components"]["schemas"]["PublishRequest"]
    assert publish["required"] == ["channel"]
    assert publish["properties"]["data"] == {"description": "What is published: any JSON value."}
