"""Checks of values that are well-formed, each for itself and beside the others."""

from __future__ import annotations

import ipaddress
import re

from notifier.config.addresses import RedisAddress, is_loopback, is_stream_url, is_trusted, redis_address
from notifier.config.file import Config
from notifier.config.keyfiles import read_key_file, read_public_key
from notifier.config.rules import Clients
from notifier.config.sections import Admin, Auth, Redis

LONGEST_WRITE_DELAY_S = 1.0

DEV_SECRET = "for-development-only-never-in-production"  # noqa: S105 - public, and refused off this machine
DEV_API_KEY = "dev-api-key"
# The operator "dev", whose password is the key above.
DEV_OPERATOR = "dev:scrypt:16384:8:1:bm90aWZpZXItZGV2LTEhIQ:C6atF8sO4YS-XAbAStHos1n4BogpmxB5FEPm9oG_WTQ"


def check(config: Config) -> list[str]:
    """One sentence for every value that is well-formed but impossible here, or beside another one."""
    problems = _check_auth(config.auth)
    problems += _check_clients(config.clients)
    if not config.rabbitmq.url.startswith(("amqp://", "amqps://")):
        problems.append("rabbitmq.url: must start with amqp:// or amqps://")
    if config.telemetry.otlp_endpoint and not config.telemetry.otlp_endpoint.startswith(("http://", "https://")):
        problems.append("telemetry.otlp_endpoint: must start with http:// or https://")
    problems += _check_redis(config.redis)
    if config.rabbitmq.stream_url and not is_stream_url(config.rabbitmq.stream_url):
        problems.append(
            "rabbitmq.stream_url: expected rabbitmq-stream://user:password@host:port/vhost, or rabbitmq-stream+tls://"
        )
    if config.server.workers > 1 and config.log.kind == "memory":
        problems.append(
            f'server.workers: {config.server.workers} with log.kind = "memory": the embedded log lives in one process; '
            'use 1, or log.kind = "rabbitmq"'
        )
    if bool(config.server.tls_certificate) != bool(config.server.tls_key):
        problems.append("server.tls_certificate, server.tls_key: one needs the other")
    if config.admin.port and config.admin.port == config.server.port:
        problems.append("admin.port: must be another one than server.port")
    problems += _check_operators(config.admin)
    problems += _check_archives(config)
    if config.server.shutdown_grace < 1:
        problems.append(f"server.shutdown_grace: {config.server.shutdown_grace:g}s; must be at least 1s")
    elif config.server.shutdown_delay > config.server.shutdown_grace - 1:
        problems.append("server.shutdown_delay: is a part of server.shutdown_grace; must be at least 1s shorter")
    problems += _check_origins(config.server.allowed_origins)
    problems += _check_proxies(config.server.trusted_proxies)
    problems += _check_development_secrets(config)
    return problems


def _check_clients(clients: Clients) -> list[str]:
    whole = {
        "clients.ping_interval": clients.ping_interval,
        "clients.pong_timeout": clients.pong_timeout,
        "clients.connect_timeout": clients.connect_timeout,
        "clients.sse_heartbeat": clients.sse_heartbeat,
    }
    problems = [
        f"{key}: {value:g}s; must be whole seconds, at least 1s"
        for key, value in whole.items()
        if value < 1 or not value.is_integer()
    ]
    if clients.pong_timeout >= clients.ping_interval:
        problems.append("clients.pong_timeout: must be shorter than clients.ping_interval")
    if clients.write_delay > LONGEST_WRITE_DELAY_S:
        problems.append(
            f"clients.write_delay: {clients.write_delay:g}s; at most {LONGEST_WRITE_DELAY_S:g}s, which "
            "everybody would notice already"
        )
    return problems


def _check_origins(origins: list[str]) -> list[str]:
    host = r"(\[[0-9A-Fa-f:]+\]|(\*\.)?[A-Za-z0-9.-]+)"
    return [
        f"server.allowed_origins[{index}]: {origin!r}; expected scheme://host or scheme://host:port, nothing after it; "
        '"https://*.example.com" allows all hosts below, and "*" everybody'
        for index, origin in enumerate(origins)
        if origin != "*" and not re.fullmatch(rf"https?://{host}(:\d+)?", origin)
    ]


def _check_proxies(networks: list[str]) -> list[str]:
    problems = []
    for index, text in enumerate(networks):
        try:
            ipaddress.ip_network(text)
        except ValueError:
            problems.append(
                f"server.trusted_proxies[{index}]: {text!r}; expected an address or a network such as 10.0.0.0/8, with "
                "zeros after its length"
            )
    return problems


def _check_redis(redis: Redis) -> list[str]:
    if not redis.url:
        return []
    problems = [f"redis.prefix: {redis.prefix!r}; letters, digits and . _ : -"] * (
        re.fullmatch(r"[A-Za-z0-9._:-]+", redis.prefix) is None
    )
    if redis.timeout < 0.05:
        problems.append("redis.timeout: must be at least 50ms")
    if bool(redis.cert_file) != bool(redis.key_file):
        problems.append("redis.cert_file, redis.key_file: either both or none")
    try:
        address = redis_address(redis.url)
    except ValueError as error:
        return [*problems, f"redis.url: {error}"]
    if redis.mode == "single" and len(address.hosts) > 1:
        problems.append('redis.url: several hosts; with redis.mode = "single" there is one')
    if redis.mode == "sentinel" and not redis.master:
        problems.append('redis.master: redis.mode = "sentinel" needs the name of the master')
    if redis.mode == "cluster" and address.database:
        problems.append("redis.url: a database; a cluster has only 0")
    return problems + _check_redis_files(redis, address)


def _check_redis_files(redis: Redis, address: RedisAddress) -> list[str]:
    files = {"ca_file": redis.ca_file, "cert_file": redis.cert_file, "key_file": redis.key_file}
    if any(files.values()) and not address.tls:
        return ["redis.ca_file, redis.cert_file: only with a URL that begins with rediss://"]
    problems = []
    for key, name in files.items():
        try:
            if name and b"-----BEGIN " not in read_key_file(name):
                problems.append(f"redis.{key}: {name}: not PEM (-----BEGIN …)")
        except ValueError as error:
            problems.append(f"redis.{key}: {error}")
    return problems


def _check_auth(auth: Auth) -> list[str]:
    problems = []
    for index, key in enumerate(auth.hmac_keys):
        if len(key.encode()) < 32 and not (key and auth.short_keys):
            problems.append(
                f"auth.hmac_keys[{index}]: {len(key.encode())} bytes; HS256 needs at least 32 "
                "(auth.short_keys accepts it all the same)"
            )
        elif "-----BEGIN " in key:
            problems.append(f"auth.hmac_keys[{index}]: a key in PEM; public keys belong in auth.public_keys")
    for index, entry in enumerate(auth.public_keys):
        try:
            read_public_key(entry)
        except ValueError as error:
            problems.append(f"auth.public_keys[{index}]: {error}")
    if auth.revocations_for < 60:
        problems.append("auth.revocations_for: must be at least 1m")
    return problems + _check_jwks(auth)


def _check_jwks(auth: Auth) -> list[str]:
    if not auth.jwks_url and not auth.oidc_issuer:
        return []
    problems = []
    expected = "expected https://host/path (http:// only on this machine), no user, password or fragment"
    if auth.jwks_url and not is_trusted(auth.jwks_url):
        problems.append(f"auth.jwks_url: {expected}")
    if auth.oidc_issuer and (not is_trusted(auth.oidc_issuer) or "?" in auth.oidc_issuer):
        problems.append(f"auth.oidc_issuer: {expected}")
    if auth.oidc_issuer and auth.jwks_url:
        problems.append("auth.oidc_issuer, auth.jwks_url: the issuer names its own keys; expected one of the two")
    if auth.oidc_issuer and auth.issuer not in ("", auth.oidc_issuer):
        problems.append("auth.issuer: must be empty or the same as auth.oidc_issuer")
    if auth.jwks_min_interval < 1:
        problems.append("auth.jwks_min_interval: must be at least 1s")
    if auth.jwks_max_age < auth.jwks_min_interval:
        problems.append("auth.jwks_max_age: must not be shorter than auth.jwks_min_interval")
    if auth.jwks_stale_for < auth.jwks_max_age:
        problems.append("auth.jwks_stale_for: must not be shorter than auth.jwks_max_age")
    return problems


# Name, costs of scrypt (RFC 7914: N, r, p), salt and hash, the latter two in base64url without padding.
OPERATOR = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._@-]{0,63}):scrypt:(?P<n>16384|32768|65536|131072):(?P<r>8):(?P<p>[1-4])"
    r":(?P<salt>[A-Za-z0-9_-]{22,86}):(?P<hash>[A-Za-z0-9_-]{43})"
)


def _check_operators(admin: Admin) -> list[str]:
    problems = []
    names: set[str] = set()
    for index, entry in enumerate(admin.operators):
        match = OPERATOR.fullmatch(str.__str__(entry))
        if match is None:
            problems.append(f"admin.operators[{index}]: not what `notifier password NAME` prints; it is not shown here")
        elif match["name"] in names:
            problems.append(f"admin.operators[{index}]: there is an operator {match['name']} already")
        else:
            names.add(match["name"])
    if admin.session < 60:
        problems.append("admin.session: must be at least 1m")
    if admin.session_max < admin.session:
        problems.append("admin.session_max: must not be shorter than admin.session")
    return problems


def _check_archives(config: Config) -> list[str]:
    """Whether it reaches as far as the history is looked at with the rule."""
    problems = []
    for index, rule in enumerate(config.channels):
        if rule.archive is not None:
            path = f"channels[{index}].archive"
            if not config.redis.url:
                problems.append(f"{path}: needs redis.url, where it is kept")
            if config.log.kind != "rabbitmq":
                problems.append(f'{path}: needs log.kind = "rabbitmq": the embedded log ends with its process')
    return problems


def _check_development_secrets(config: Config) -> list[str]:
    """The secrets of `--dev` and of examples are public: whoever can reach the server could use them."""
    if is_loopback(config.server.host) and (not config.admin.port or is_loopback(config.admin.host)):
        return []
    found = []
    if DEV_OPERATOR in config.admin.operators:
        found.append("admin.operators: the development password is public; listen on 127.0.0.1 or set one of your own")
    public = "is public; listen on 127.0.0.1 or set a key of your own: openssl rand -hex 32"
    found += [
        f"auth.hmac_keys: {name} {public}" for key, name in _PUBLIC_SECRETS.items() if key in config.auth.hmac_keys
    ]
    found += [f"api.keys: {name} {public}" for key, name in _PUBLIC_API_KEYS.items() if key in config.api.keys]
    return found


_DEVELOPMENT, _EXAMPLE = "the development key", "the key of the documentation's example"
_PUBLIC_SECRETS = {
    DEV_SECRET: _DEVELOPMENT,
    "replace-this-with-at-least-32-random-bytes": _EXAMPLE,
    "the-same-key-as-before-if-it-is-long-enough": _EXAMPLE,
}
_PUBLIC_API_KEYS = {DEV_API_KEY: _DEVELOPMENT, "replace-this-key-too": _EXAMPLE, "the-same-key-as-before": _EXAMPLE}
