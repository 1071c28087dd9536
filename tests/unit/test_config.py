"""The configuration: what is accepted, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier import config
from notifier.auth.passwords import entry_for
from notifier.config import Config, Duration, Secret, Size, is_loopback, load
from notifier.errors import ConfigError


def problems(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> list[str]:
    path = tmp_path / "notifier.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return caught.value.problems


def test_without_a_file_everything_has_its_default() -> None:
    assert load(None, {}) == Config()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("15s", 15), ("5m", 300), ("24h", 86400), ("7d", 604800), (30, 30), (1.5, 1.5)],
)
def test_durations(text: object, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("64KiB", 65536), ("10GB", 10**10), ("1MiB", 2**20), (100, 100)])
def test_sizes(text: object, size: int) -> None:
    assert Size.parse(text) == size


@given(st.text() | st.integers(max_value=-1) | st.booleans() | st.none() | st.lists(st.integers()))
def test_what_is_no_duration_and_no_size_is_a_value_error(value: object) -> None:
    for kind in (Duration, Size):
        try:
            assert kind.parse(value) >= 0
        except ValueError as error:
            assert "expected" in str(error)


def test_every_mistake_is_told_at_once_with_its_path_and_what_was_expected(tmp_path: Path) -> None:
    found = problems(
        """
        colour = "red"
        [server]
        port = 99999
        hots = "typo"
        [clients]
        ping_interval = "soon"
        max_buffer = true
        [log]
        kind = "kafka"
        [[channels]]
        history = { size = 0, ttl = "1h" }
        [[channels]]
        match = "ok"
        subscribe = "anyone"
        """,
        tmp_path,
    )
    told = "\n".join(found)
    assert "colour: unknown key" in told
    assert "server.port: expected int <= 65535; found 99999" in told
    assert "server.hots: unknown key; known here: host, port" in told
    assert 'clients.ping_interval: expected a duration such as "15s", "5m" or "24h"; found \'soon\'' in told
    assert "clients.max_buffer: expected a size" in told
    assert "log.kind" in told
    assert "'kafka'" in told
    assert "channels[0].match: missing" in told
    assert "channels[0].history.size" in told
    assert "channels[1].subscribe: expected array" in told
    assert len(found) == 9


ARCHIVED = """
[[channels]]
match = "#"
history = { size = 10, ttl = "1h" }
archive = { size = 100, ttl = "7d" }
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[auth]\nhmac_keys = ["short"]', "auth.hmac_keys[0]: 5 bytes; HS256 needs at least 32"),
        ('[clients]\nping_interval = "5s"\npong_timeout = "8s"', "must be shorter"),
        ('[clients]\nping_interval = "1500ms"', "whole seconds"),
        ('[clients]\nwrite_delay = "5s"', "clients.write_delay: 5s; at most 1s"),
        ('[rabbitmq]\nurl = "http://x"', "amqp://"),
        ('[server]\nallowed_origins = ["example.com"]', "server.allowed_origins[0]"),
        ('[server]\nallowed_origins = ["https://a.example/path"]', "nothing after it"),
        ('[server]\nhost = "0.0.0.0"\n[api]\nkeys = ["dev-api-key"]', "development key"),
        ('[server]\nhost = "0.0.0.0"\n[api]\nkeys = ["replace-this-key-too"]', "documentation's example"),
        (
            '[server]\nhost = "0.0.0.0"\n[auth]\nhmac_keys = ["replace-this-with-at-least-32-random-bytes"]',
            "documentation's example",
        ),
        (f'[server]\nhost = "::"\n[auth]\nhmac_keys = ["{config.DEV_SECRET}"]', "development key"),
        (f'{ARCHIVED}\n[log]\nkind = "rabbitmq"', "channels[0].archive: needs redis.url"),
        (f'{ARCHIVED}\n[redis]\nurl = "redis://host/"', 'channels[0].archive: needs log.kind = "rabbitmq"'),
        ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies[0]: '10.0.0.1/8'; expected an address"),
        ('[server]\nproxy_header = "X-Real-IP"', "server.proxy_header"),
        ("[limits]\nconnects_per_user = -1", "limits.connects_per_user"),
        ('[auth]\nrevocations_for = "1s"', "auth.revocations_for: must be at least 1m"),
        ("[server", "not TOML"),
        ("server = 5", "server: expected a table"),
    ],
)
def test_impossible_values_and_pairs(text: str, words: str, tmp_path: Path) -> None:
    assert any(words in problem for problem in problems(text, tmp_path))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml", {})


def test_every_key_can_be_a_variable() -> None:
    loaded = load(
        None,
        {
            "NOTIFIER_SERVER__PORT": "9000",
            "NOTIFIER_SERVER__NAME": "123",
            "NOTIFIER_RABBITMQ__URL": "amqp://u:p@host/",
            "NOTIFIER_CLIENTS__PING_INTERVAL": "30s",
            "NOTIFIER_AUTH__ANONYMOUS": "true",
            "NOTIFIER_API__KEYS": "one,two",
            "NOTIFIER_SERVER__ALLOWED_ORIGINS": '["https://a.example"]',
            "PATH": "/bin",
        },
    )
    assert loaded.server.port == 9000
    assert loaded.server.name == "123"
    assert float(loaded.clients.ping_interval) == 30
    assert loaded.auth.anonymous is True
    assert loaded.api.keys == ["one", "two"]
    assert loaded.server.allowed_origins == ["https://a.example"]


@pytest.mark.parametrize("name", ["NOTIFIER_PORT", "NOTIFIER_SERVER__HOTS", "NOTIFIER_NOWHERE__X"])
def test_a_variable_that_is_no_key_is_said(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no such key|unknown key"):
        load(None, {name: "1"})


def test_secrets_never_show(tmp_path: Path) -> None:
    secret = "canary-" * 8
    loaded = load(None, {"NOTIFIER_AUTH__HMAC_KEYS": secret, "NOTIFIER_RABBITMQ__URL": f"amqp://u:{secret}@h/"})
    assert isinstance(loaded.auth.hmac_keys[0], Secret)
    assert "canary" not in repr(loaded)
    told = problems(f'[api]\nkeys = [["{secret}"]]\n[rabbitmq]\nurl = ["{secret}"]', tmp_path)
    assert len(told) == 2
    assert "canary" not in "\n".join(told)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("127.evil.test", False), ("localhost.evil.test", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_loopback_addresses(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_reference_file_shows_every_key_with_its_default() -> None:
    path = Path(__file__).parents[2] / "config" / "notifier.toml"
    assert path.read_text() == config.reference(), "run: make config"
    assert load(path, {}) == Config(channels=load(path, {}).channels)


ENTRY = config.DEV_OPERATOR.replace("dev:", "ann:", 1)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ('operators = ["ann:a-password"]', "admin.operators[0]: not what `notifier password NAME` prints"),
        (f'operators = ["{ENTRY[:-1]}"]', "admin.operators[0]: not what"),
        (f'operators = ["{ENTRY.replace("16384", "2")}"]', "admin.operators[0]: not what"),
        (f'operators = ["{ENTRY}", "{ENTRY}"]', "admin.operators[1]: there is an operator ann already"),
        ('session = "10s"', "admin.session: must be at least 1m"),
        ('session_max = "20m"', "admin.session_max: must not be shorter"),
        (f'host = "0.0.0.0"\nport = 9000\noperators = ["{config.DEV_OPERATOR}"]', "admin.operators: the development"),
    ],
)
def test_operators_that_cannot_be(section: str, expected: str, tmp_path: Path) -> None:
    [problem] = problems(f"[admin]\n{section}\n", tmp_path)
    assert problem.startswith(expected)
    assert "a-password" not in problem


def test_what_the_command_prints_is_an_operator(tmp_path: Path) -> None:
    found = load(None, {"NOTIFIER_ADMIN__OPERATORS": entry_for("ann", "a long password")})
    assert [entry.partition(":")[0] for entry in found.admin.operators] == ["ann"]
    assert "scrypt" not in repr(found.admin)
