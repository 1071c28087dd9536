"""Key sets: fetched from a real server, kept, renewed, and never asked for more often than allowed."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from notifier.auth import jwks
from notifier.auth.jwks import KeySet
from notifier.auth.tokens import Tokens
from notifier.config import Auth, Duration, Secret
from notifier.errors import TokenError, TokensUnavailable
from notifier.testing import ManualClock
from tests.unit.auth import issuer
from tests.unit.auth.issuer import KINDS, PAIRS, SECRET, jwk

MAX_AGE_S, MIN_INTERVAL_S, STALE_FOR_S = 600, 30, 86_400


class Endpoint:
    """Somebody's key set. `answer` stands for everything that may come instead; `asked` counts the requests."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk("rsa", "k1")]
        self.answer: Callable[[], web.StreamResponse] | None = None
        self.held: asyncio.Event | None = None
        self.asked = self.asked_elsewhere = 0
        self.seen_headers: dict[str, str] = {}
        self.paths: list[str] = []
        app = web.Application()
        app.router.add_get("/jwks.json", self._serve)
        app.router.add_get("/elsewhere", self._serve_elsewhere)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/jwks.json"))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.paths.append(request.path_qs)
        self.seen_headers = dict(request.headers)
        if self.held is not None:
            await self.held.wait()
        return self.answer() if self.answer else web.json_response({"keys": self.keys})

    async def _serve_elsewhere(self, request: web.Request) -> web.StreamResponse:
        self.asked_elsewhere += 1
        return web.json_response({"keys": self.keys})


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    await endpoint.server.start_server()
    yield endpoint
    if endpoint.held is not None:
        endpoint.held.set()
    await endpoint.server.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def tokens(endpoint: Endpoint, clock: ManualClock) -> AsyncIterator[Tokens]:
    verifier = Tokens(
        Auth(
            hmac_keys=[Secret(SECRET)],
            jwks_url=endpoint.url,
            jwks_max_age=Duration(MAX_AGE_S),
            jwks_min_interval=Duration(MIN_INTERVAL_S),
            jwks_stale_for=Duration(STALE_FOR_S),
        ),
        clock,
    )
    yield verifier
    await verifier.close()


LATER = int(ManualClock().time()) + 30 * 86_400


def signed(kind: str = "rsa", key_id: str | None = "k1", algorithm: str = "", number: int = 0) -> str:
    headers = {"kid": key_id} if key_id is not None else None
    return issuer.token(issuer.private_key(kind, number), algorithm or KINDS[kind][0], headers, exp=LATER)


async def good(tokens: Tokens, token: str) -> None:
    assert (await tokens.connection(token)).user == "ann"


async def refused(tokens: Tokens, token: str) -> None:
    with pytest.raises(TokenError) as caught:
        await tokens.connection(token)
    assert not any(part in str(caught.value) for part in token.split("."))


async def unavailable(tokens: Tokens, token: str) -> None:
    with pytest.raises(TokensUnavailable):
        await tokens.connection(token)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "algorithm"), PAIRS)
async def test_keys_of_all_kinds_verify_what_they_signed(
    endpoint: Endpoint, tokens: Tokens, kind: str, algorithm: str
) -> None:
    endpoint.keys = [jwk(each, f"id of {each}") for each in KINDS]
    await good(tokens, signed(kind, f"id of {kind}", algorithm))
    await refused(tokens, signed(kind, f"id of {kind}", algorithm, number=1))


async def test_a_key_that_names_its_algorithm_is_used_for_no_other(endpoint: Endpoint, tokens: Tokens) -> None:
    endpoint.keys = [jwk("rsa", "k1", alg="PS256")]
    await good(tokens, signed(algorithm="PS256"))
    await refused(tokens, signed(algorithm="RS256"))
    assert endpoint.asked == 1


@pytest.mark.parametrize(
    "key",
    [
        jwk("rsa", "k1", use="enc"),
        jwk("rsa", "k1", key_ops=["encrypt"]),
        jwk("rsa", "k1", key_ops=["sign"]),
        jwk("rsa", "k1", key_ops="verify"),
        jwk("rsa", "k1", alg="HS256"),
        jwk("rsa", "k1", alg="none"),
        jwk("rsa", "k1", alg=["RS256"]),
        issuer.private_jwk("rsa", "k1"),
        issuer.private_jwk("p256", "k1"),
        issuer.private_jwk("ed25519", "k1"),
        jwk("rsa", "k1", n=5),
        jwk("rsa", "k1", e=None),
        jwk("rsa", "k1", kty="EC"),
        jwk("rsa", "k1", kty=["RSA"]),
        jwk("short_rsa", "k1"),
        {"kty": "oct", "kid": "k1", "k": "c2VjcmV0" * 10, "alg": "HS256"},
        {"kty": "EC", "kid": "k1", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "OKP", "kid": "k1", "crv": "X25519", "x": "A" * 43},
        {"kid": "k1"},
        {},
    ],
)
async def test_keys_that_are_for_something_else_are_left_out(
    endpoint: Endpoint, tokens: Tokens, key: dict[str, Any]
) -> None:
    assert len(KeySet([key])) == 0
    endpoint.keys = [key, jwk("p256", "k2")]
    await good(tokens, signed("p256", "k2"))
    await refused(tokens, signed())
    await refused(tokens, issuer.token("secret" * 10, "HS256", {"kid": "k1"}, exp=LATER))


def test_the_members_that_allow_verifying() -> None:
    for members in ({"use": "sig"}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}, {"x5c": ["?"]}):
        assert KeySet([jwk("rsa", "k1", **members)]).find("k1", "RS256")
    assert KeySet([jwk("k256", "k1"), jwk("p256", "k2")]).find("k1", "ES256") is None


async def test_a_key_is_not_used_for_a_token_that_names_another(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock
) -> None:
    endpoint.keys = [jwk("rsa", "k1"), jwk("rsa", "k2", number=1), jwk("p256", "k3")]
    await good(tokens, signed(key_id="k1"))
    clock.advance(MIN_INTERVAL_S)
    await refused(tokens, signed(key_id="k2"))
    await refused(tokens, signed(key_id="k3"))
    await refused(tokens, signed("p256", "k1"))
    assert endpoint.asked == 1, "these ids are known, so nothing more is to be learned"


async def test_one_id_may_stand_for_keys_of_several_kinds(endpoint: Endpoint, tokens: Tokens) -> None:
    endpoint.keys = [jwk("rsa", "k"), jwk("p256", "k"), jwk("rsa", "k", number=1)]
    await good(tokens, signed("rsa", "k"))
    await good(tokens, signed("p256", "k"))
    await refused(tokens, signed("rsa", "k", number=1))


async def test_a_token_without_an_id_needs_a_single_key_that_fits(endpoint: Endpoint, tokens: Tokens) -> None:
    endpoint.keys = [jwk("rsa", "k1"), jwk("p256", None), jwk("p384", "a"), jwk("p384", "b", number=1)]
    await good(tokens, signed("rsa", None))
    await good(tokens, signed("p256", None))
    await refused(tokens, signed("p384", None))


async def test_a_published_key_is_no_shared_secret(endpoint: Endpoint, tokens: Tokens) -> None:
    """Algorithm confusion with a key of the set: HMAC is only for the keys of the configuration."""
    await good(tokens, signed())
    pem = issuer.public_pem("rsa").encode()
    for secret in (pem, pem.strip(), json.dumps(jwk("rsa", "k1")).encode()):
        header = issuer.by_hand({"alg": "HS256", "kid": "k1"}, {"sub": "ann", "exp": LATER}, "").removesuffix(".")
        await refused(tokens, f"{header}.{issuer.hmac_text(secret, header)}")


async def test_shared_keys_of_the_configuration_need_no_key_set(endpoint: Endpoint, tokens: Tokens) -> None:
    await good(tokens, issuer.token(SECRET, "HS256", {"kid": "whatever"}, exp=LATER))
    await refused(tokens, issuer.token(SECRET + "x", "HS256", {"kid": "whatever"}, exp=LATER))
    for algorithm in ("none", "HS512", "ES256K", "x"):
        await refused(tokens, issuer.by_hand({"alg": algorithm, "kid": "k1"}, {"sub": "ann", "exp": LATER}))
    assert endpoint.asked == 0


async def test_addresses_in_a_token_are_not_asked(endpoint: Endpoint, tokens: Tokens) -> None:
    elsewhere = str(endpoint.server.make_url("/elsewhere"))
    mine = issuer.private_key("rsa", 1)
    for headers in ({"jku": elsewhere}, {"x5u": elsewhere}, {"jwk": jwk("rsa", "k1", 1)}):
        await refused(tokens, issuer.token(mine, "RS256", {"kid": "k1", **headers}, exp=LATER))
    assert endpoint.asked_elsewhere == 0


# --- when it is asked -----------------------------------------------------------------------------------------------


async def test_many_tokens_at_once_share_one_request(endpoint: Endpoint, tokens: Tokens) -> None:
    endpoint.held = asyncio.Event()
    waiting = [asyncio.create_task(good(tokens, signed())) for _ in range(50)]
    await until(lambda: endpoint.asked == 1)
    endpoint.held.set()
    await asyncio.gather(*waiting)
    assert endpoint.asked == 1


async def test_a_caller_that_gives_up_leaves_the_request_to_the_others(endpoint: Endpoint, tokens: Tokens) -> None:
    endpoint.held = asyncio.Event()
    first, second = (asyncio.create_task(good(tokens, signed())) for _ in range(2))
    await until(lambda: endpoint.asked == 1)
    first.cancel()
    await asyncio.wait([first])
    endpoint.held.set()
    await second
    assert endpoint.asked == 1


async def test_a_new_key_is_found_by_its_id(endpoint: Endpoint, tokens: Tokens, clock: ManualClock) -> None:
    await good(tokens, signed())
    endpoint.keys = [jwk("rsa", "k2", number=1)]
    clock.advance(MIN_INTERVAL_S)
    await good(tokens, signed(key_id="k2", number=1))
    await refused(tokens, signed())
    assert endpoint.asked == 2


async def test_unknown_ids_cause_one_request_in_an_interval(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock
) -> None:
    await good(tokens, signed())
    for round_ in range(3):
        clock.advance(MIN_INTERVAL_S - 1)
        await refused(tokens, signed(key_id="x"))
        assert endpoint.asked == 1 + round_
        clock.advance(1)
        await asyncio.gather(*(refused(tokens, signed(key_id=f"x{number}")) for number in range(200)))
        assert endpoint.asked == 2 + round_
        await good(tokens, signed())


async def test_ten_thousand_made_up_ids_cost_one_request_and_hold_nobody_up(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock
) -> None:
    """S10: those who have a key that is known are served in between."""
    await good(tokens, signed())
    clock.advance(MIN_INTERVAL_S)
    endpoint.held = asyncio.Event()
    made_up = [
        asyncio.create_task(refused(tokens, issuer.by_hand({"alg": "RS256", "kid": f"x{number}"}, {"sub": "ann"})))
        for number in range(10_000)
    ]
    await until(lambda: endpoint.asked == 2)
    await good(tokens, signed())
    endpoint.held.set()
    await asyncio.gather(*made_up)
    assert endpoint.asked == 2
    await good(tokens, signed())


@pytest.mark.parametrize(
    "key_id",
    ["../../etc/passwd", "' OR 1=1 --", "k1\0", "k1\n", "http://169.254.169.254/", "k1/../k1", "K1", "é", "x" * 256],
)
async def test_an_id_is_looked_up_and_nothing_else(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock, key_id: str
) -> None:
    """S11: it is part of no path, no request and no text."""
    await good(tokens, signed())
    clock.advance(MIN_INTERVAL_S)
    await refused(tokens, issuer.by_hand({"alg": "RS256", "kid": key_id}, {"sub": "ann"}))
    await refused(tokens, issuer.by_hand({"alg": "RS256", "kid": key_id * 8000}, {"sub": "ann"}))
    assert endpoint.asked == 2
    assert set(endpoint.paths) == {"/jwks.json"}


async def test_those_with_known_keys_do_not_wait_for_unknown_ones(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock
) -> None:
    await good(tokens, signed())
    clock.advance(MIN_INTERVAL_S)
    endpoint.held = asyncio.Event()
    unknown = asyncio.create_task(refused(tokens, signed(key_id="x")))
    await until(lambda: endpoint.asked == 2)
    await good(tokens, signed())
    assert not unknown.done()
    endpoint.held.set()
    await unknown


async def test_keys_are_renewed_before_they_are_over_age_and_nobody_waits(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock
) -> None:
    await good(tokens, signed())
    clock.advance(MAX_AGE_S * 0.7)
    await good(tokens, signed())
    endpoint.held = asyncio.Event()
    endpoint.keys = [jwk("rsa", "k2", number=1)]
    clock.advance(MAX_AGE_S * 0.2)
    await good(tokens, signed())  # the request is held, and yet this is answered
    await until(lambda: endpoint.asked == 2)
    endpoint.held.set()
    await good(tokens, signed(key_id="k2", number=1))
    await refused(tokens, signed())
    assert endpoint.asked == 2


async def test_keys_over_age_are_renewed_before_they_are_used(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock
) -> None:
    await good(tokens, signed())
    endpoint.keys = [jwk("rsa", "k2", number=1)]
    clock.advance(MAX_AGE_S + 1)
    await refused(tokens, signed())
    assert endpoint.asked == 2


# --- away -----------------------------------------------------------------------------------------------------------


def status(number: int) -> Callable[[], web.StreamResponse]:
    return lambda: web.json_response({"keys": [jwk("rsa", "k1")]}, status=number)


async def test_without_any_keys_it_is_not_the_tokens_fault(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock
) -> None:
    endpoint.answer = status(503)
    for _ in range(3):
        await unavailable(tokens, signed())
    assert endpoint.asked == 1
    endpoint.answer = None
    clock.advance(MIN_INTERVAL_S)
    await good(tokens, signed())


async def test_a_host_that_cannot_be_reached(unused_tcp_port: int, caplog: pytest.LogCaptureFixture) -> None:
    tokens = Tokens(Auth(jwks_url=f"http://127.0.0.1:{unused_tcp_port}/"))
    await unavailable(tokens, signed())
    assert "the host cannot be reached" in caplog.text
    await tokens.close()


async def test_old_keys_go_on_while_the_endpoint_is_away(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "notifier")
    for _ in range(3):
        await good(tokens, signed())
        clock.advance(MAX_AGE_S + 1)
    endpoint.answer = status(500)
    for _ in range(5):
        clock.advance(MAX_AGE_S + 1)
        asked = endpoint.asked
        await good(tokens, signed())
        await until(lambda asked=asked: endpoint.asked == asked + 1 and _is_idle(tokens))  # type: ignore[misc]
    # Whether that key exists is not known now: a new try may help.
    await unavailable(tokens, signed(key_id="k2", number=1))
    endpoint.answer = None
    clock.advance(MAX_AGE_S)
    await good(tokens, signed())
    await until(lambda: _is_idle(tokens))
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name.startswith("notifier")]
    assert [level for level, _ in told] == ["INFO", "WARNING", "INFO"], told
    assert told[1][1].endswith("the answer has status 500")


def _is_idle(tokens: Tokens) -> bool:
    return tokens._jwks is not None and tokens._jwks._fetching is None


async def test_while_it_is_known_to_be_away_nobody_waits_for_it(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock
) -> None:
    await good(tokens, signed())
    endpoint.answer = status(500)
    clock.advance(MAX_AGE_S + 1)
    await good(tokens, signed())
    assert endpoint.asked == 2
    endpoint.held = asyncio.Event()
    clock.advance(MIN_INTERVAL_S)
    await good(tokens, signed())
    assert not _is_idle(tokens), "the request is still held"
    await until(lambda: endpoint.asked == 3)


async def test_keys_do_not_stay_good_for_ever(
    endpoint: Endpoint, tokens: Tokens, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await good(tokens, signed())
    endpoint.answer = status(500)
    clock.advance(STALE_FOR_S)
    await good(tokens, signed())
    clock.advance(MIN_INTERVAL_S)
    await unavailable(tokens, signed())
    await unavailable(tokens, signed())
    assert caplog.text.count("too old") == 1
    endpoint.answer = None
    await until(lambda: _is_idle(tokens))
    clock.advance(MIN_INTERVAL_S)
    await good(tokens, signed())


# --- answers that are none ------------------------------------------------------------------------------------------


def body(data: bytes, **headers: str) -> Callable[[], web.StreamResponse]:
    return lambda: web.Response(body=data, headers=headers)


A_SET = json.dumps({"keys": [jwk("rsa", "k1")]}).encode()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(404), "the answer has status 404"),
        (status(204), "the answer has status 204"),
        (body(b"<html>"), "is not a JSON Web Key Set"),
        (body(b"[]"), "is not a JSON Web Key Set"),
        (body(b'{"keys": {}}'), "is not a JSON Web Key Set"),
        (body(b'{"keys": ["x"]}'), "is not a JSON Web Key Set"),
        (body(b'{"keys": [{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}]}"), "is not a JSON Web Key Set"),
        (body(b'{"keys": []}'), "has no key that can verify tokens"),
        (body(b'{"keys": [' + b"{}," * 100 + b"{}]}"), "has more than 100 keys"),
        (body(A_SET + b" " * 2**18), "is longer than 262144 bytes"),
        (body(gzip.compress(A_SET), **{"Content-Encoding": "gzip"}), "is not a JSON Web Key Set"),
    ],
)
async def test_answers_that_are_no_key_set(
    endpoint: Endpoint, tokens: Tokens, caplog: pytest.LogCaptureFixture,
    answer: Callable[[], web.StreamResponse], reason: str,
) -> None:  # fmt: skip
    endpoint.answer = answer
    await unavailable(tokens, signed())
    assert reason in caplog.text


async def test_a_hundred_keys_are_read(endpoint: Endpoint, tokens: Tokens) -> None:
    endpoint.keys = [jwk("p256", f"other {number}") for number in range(99)] + [jwk("rsa", "k1")]
    await good(tokens, signed())


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(endpoint: Endpoint, tokens: Tokens, number: int) -> None:
    endpoint.answer = lambda: web.Response(status=number, headers={"Location": "/elsewhere"})
    await unavailable(tokens, signed())
    assert (endpoint.asked, endpoint.asked_elsewhere) == (1, 0)


async def test_an_answer_without_an_end_is_cut_off(endpoint: Endpoint, tokens: Tokens) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 2**14
            yield b" " * 2**14

    endpoint.answer = lambda: web.Response(body=endless())
    await unavailable(tokens, signed())
    await until(lambda: _is_idle(tokens))
    assert sent < 2**26


async def test_an_answer_that_does_not_come_is_not_waited_for_long(
    endpoint: Endpoint, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.05)
    endpoint.held = asyncio.Event()
    await unavailable(tokens, signed())
    assert "no answer in time" in caplog.text


async def test_cookies_are_not_kept(endpoint: Endpoint, clock: ManualClock) -> None:
    tokens = Tokens(Auth(jwks_url=endpoint.url.replace("127.0.0.1", "localhost")), clock)
    endpoint.answer = lambda: web.json_response({"keys": endpoint.keys}, headers={"Set-Cookie": "who=me"})
    await good(tokens, signed())
    clock.advance(MAX_AGE_S + 1)
    await good(tokens, signed())
    assert endpoint.asked == 2
    assert "Cookie" not in endpoint.seen_headers
    await tokens.close()


# --- the end --------------------------------------------------------------------------------------------------------


async def test_closing_ends_a_request_and_those_who_wait(endpoint: Endpoint, tokens: Tokens) -> None:
    endpoint.held = asyncio.Event()
    waiting = asyncio.create_task(unavailable(tokens, signed()))
    await until(lambda: endpoint.asked == 1)
    async with asyncio.timeout(jwks.FETCH_TIMEOUT_S / 2):
        await tokens.close()
        await waiting
    await unavailable(tokens, signed())
    assert endpoint.asked == 1
