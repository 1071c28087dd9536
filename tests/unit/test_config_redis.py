"""The section `redis`: what its URL may be, and which settings go together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.config import Config, Duration, Redis, Secret, check, redis_address

SECRET = "canary"


@pytest.mark.parametrize(
    ("url", "tls", "user", "password", "hosts", "database"),
    [
        ("redis://h", False, "", "", (("h", 0),), 0),
        ("rediss://h:6380/3", True, "", "", (("h", 6380),), 3),
        ("redis://:p%40ss@h/", False, "", "p@ss", (("h", 0),), 0),
        ("redis://u:p:q@h", False, "u", "p:q", (("h", 0),), 0),
        ("redis://u@a:1,b:2,[::1]:3,[::2]", False, "u", "", (("a", 1), ("b", 2), ("::1", 3), ("::2", 0)), 0),
    ],
)
def test_urls(url: str, tls: bool, user: str, password: str, hosts: tuple[tuple[str, int], ...], database: int) -> None:
    found = redis_address(url)
    assert (found.tls, found.user, found.password, found.hosts, found.database) == (
        tls,
        user,
        password,
        hosts,
        database,
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://h", "redis://", "redis://h:0", "redis://h:65536", "redis://h:x", "redis://h/x", "redis://a,,b", "redis://[::1",
        "redis://h?ssl_cert_reqs=none", "redis://h/0#x", f"redis://u:{SECRET}@@h", f"redis://u:{SECRET}/x@h", "unix:///s",
    ],
)  # fmt: skip
def test_what_is_no_url_is_told_without_what_is_in_it(url: str) -> None:
    [problem] = check(Config(redis=Redis(url=Secret(url))))
    assert problem.startswith("redis.url: expected ")
    assert SECRET not in problem


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for url in (text, f"redis://{text}"):
        try:
            assert redis_address(url).hosts
        except ValueError as error:
            assert "expected" in str(error)


@pytest.mark.parametrize(
    ("redis", "words"),
    [
        (Redis(url=Secret("redis://a,b")), 'redis.url: several hosts; with redis.mode = "single" there is one'),
        (Redis(url=Secret("redis://a,b"), mode="sentinel"), "redis.master: "),
        (Redis(url=Secret("redis://a,b/1"), mode="cluster"), "redis.url: a database; a cluster has only 0"),
        (Redis(url=Secret("redis://a"), prefix="{a}"), "redis.prefix: '{a}'"),
        (Redis(url=Secret("redis://a"), timeout=Duration(0)), "redis.timeout: must be at least 50ms"),
        (Redis(url=Secret("redis://a"), ca_file="ca.pem"), "only with a URL that begins with rediss://"),
        (Redis(url=Secret("rediss://a"), cert_file="a.pem"), "redis.cert_file, redis.key_file: either both or none"),
        (Redis(url=Secret("rediss://a"), ca_file="/nowhere.pem"), "redis.ca_file: /nowhere.pem: No such file"),
        (Redis(url=Secret("rediss://a"), ca_file=__file__.replace("test_config_redis", "__init__")), "not PEM"),
    ],
)
def test_impossible_values_and_pairs(redis: Redis, words: str) -> None:
    assert any(words in problem for problem in check(Config(redis=redis)))


def test_possible_ones(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("-----BEGIN CERTIFICATE-----")
    for redis in (
        Redis(),
        Redis(url=Secret("redis://a,b"), mode="sentinel", master="main"),
        Redis(url=Secret("redis://a,b"), mode="cluster"),
        Redis(url=Secret("rediss://a"), ca_file=str(file), cert_file=str(file), key_file=str(file)),
    ):
        assert check(Config(redis=redis)) == []
