"""The configuration: typed sections whose description and default stand at the field, and `load`.

A file is decoded whole, then checked whole: every mistake is told at once, with its path, what was found and what
is allowed. Reading it does nothing else.
"""

from __future__ import annotations

import ipaddress
import os
import re
import textwrap
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct, field

from notifier.errors import ConfigError

ENV_PREFIX = "NOTIFIER_"
DEV_SECRET = "for-development-only-never-in-production"  # noqa: S105 - public, and refused off this machine
DEV_API_KEY = "dev-api-key"


class Secret(str):
    """A text that never shows itself in logs, tracebacks and dumps."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"


class Duration(float):
    """Seconds. Written `250ms`, `15s`, `5m`, `24h`, `7d`, or as a number of seconds."""

    __slots__ = ()
    UNITS: typing.ClassVar = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Raises ValueError when `value` is no duration."""
        return cls(_measure(value, cls.UNITS, 'a duration such as "15s", "5m" or "24h"'))


class Size(int):
    """Bytes. Written `64KiB`, `256MiB`, `10GB`, or as a number of bytes."""

    __slots__ = ()
    UNITS: typing.ClassVar = {
        "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    }  # fmt: skip

    @classmethod
    def parse(cls, value: object) -> Size:
        """Raises ValueError when `value` is no size."""
        return cls(_measure(value, cls.UNITS, 'a size such as "64KiB" or "10GB"'))


class Workers(int):
    """A number of processes. Written as a number from 1 on, or `auto`: one for each core."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Workers:
        """Raises ValueError when `value` is no such number."""
        if value == "auto":
            return cls(len(os.sched_getaffinity(0)))
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 256:
            return cls(value)
        raise ValueError('expected a number of workers from 1 to 256, or "auto"')


def _measure(value: object, units: Mapping[str, float], expected: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"expected {expected}")
    return float(match[1]) * units[match[2]]


Count = Annotated[int, Meta(ge=1)]
Rights = list[str]


class Section(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file. Each field's description is in `config/notifier.toml`."""


class Server(Section, frozen=True):
    """Where the server listens, and who may talk to it from a browser."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8000
    workers: Annotated[
        Workers,
        Meta(description='Processes that share the port; "auto": one for each core. More than 1 need RabbitMQ.'),
    ] = Workers(1)
    name: Annotated[str, Meta(description="Name of this node in `info` and in logs; empty: the host's name.")] = ""
    allowed_origins: Annotated[
        list[str],
        Meta(
            description='Origins whose pages may connect, such as "https://app.example.com" or '
            '"https://*.example.com"; "*" lets the pages of everybody in. '
            "A page served from a loopback address is always allowed while the server listens on loopback only."
        ),
    ] = field(default_factory=list)
    shutdown_grace: Annotated[Duration, Meta(description="How long leaving may take after SIGTERM.")] = Duration(20)
    metrics: Annotated[bool, Meta(description="Serve /metrics.")] = True
    console: Annotated[bool, Meta(description="Serve the console at /.")] = True


class LogSection(Section, frozen=True):
    """Where publications come from, in order."""

    kind: Annotated[
        Literal["memory", "rabbitmq"],
        Meta(description='"memory": inside this process, lost when it ends. "rabbitmq": a stream.'),
    ] = "memory"
    known_for: Annotated[
        Duration,
        Meta(description="How far back a starting worker reads, so that a client of a quiet channel still recovers."),
    ] = Duration(24 * 3600)
    repeat_window: Annotated[
        int, Meta(ge=0, description="A message_id is a repeat within this many records of the log.")
    ] = 50_000
    append_timeout: Annotated[Duration, Meta(description="Deadline for publishing and reading it back.")] = Duration(5)
    marker_interval: Annotated[
        Duration, Meta(description="How often a worker writes a marker, to see that the whole path works.")
    ] = Duration(5)


class RabbitMQ(Section, frozen=True):
    """The broker, when the log is \"rabbitmq\"."""

    url: Annotated[Secret, Meta(description="amqp:// or amqps:// URL with user, password and virtual host.")] = Secret(
        "amqp://guest:guest@127.0.0.1:5672/"
    )
    exchange: Annotated[str, Meta(description="Topic exchange that publishers publish to.")] = "notifications"
    stream: Annotated[str, Meta(description="Stream that is the log.")] = "notifier.log"
    rejected: Annotated[str, Meta(description="Queue for copies of records that are no publications.")] = (
        "notifications.rejected"
    )
    control: Annotated[str, Meta(description="Fanout exchange between workers.")] = "notifier.control"
    api: Annotated[str, Meta(description="Exchange and queue of the server API over AMQP; empty: only over HTTP.")] = (
        "notifications.api"
    )
    declare: Annotated[bool, Meta(description="Declare exchange, stream, binding and queue; false: only check.")] = True
    max_age: Annotated[Duration, Meta(description="Age cap of a stream that is declared.")] = Duration(7 * 86400)
    max_bytes: Annotated[Size, Meta(description="Size cap of a stream that is declared.")] = Size(10 * 10**9)
    heartbeat: Annotated[Duration, Meta(description="AMQP heartbeat; a dead peer is noticed after about three.")] = (
        Duration(10)
    )
    connect_timeout: Annotated[Duration, Meta(description="Deadline for one attempt to connect.")] = Duration(10)
    prefetch: Annotated[Count, Meta(le=65535, description="Records in flight from the broker to a worker.")] = 2000


class HistorySection(Section, frozen=True):
    """Bounds of what all channels together keep in memory."""

    max_bytes: Annotated[Size, Meta(description="Retained publications, in bytes; the oldest go first.")] = Size(
        256 * 2**20
    )
    max_quiet_channels: Annotated[
        Count, Meta(description="Channels without retained publications whose last offset is remembered.")
    ] = 500_000


class Auth(Section, frozen=True):
    """Who a client is."""

    hmac_keys: Annotated[
        list[Secret],
        Meta(
            description="Shared keys of tokens, at least 32 bytes each: HS256, from 48 bytes on also HS384, from 64 on "
            "HS512. The first one signs, all verify."
        ),
    ] = field(default_factory=list)
    short_keys: Annotated[
        bool,
        Meta(
            description="Accept shared keys shorter than RFC 7518 asks for, to move from a server that had one. "
            "Short keys can be guessed from any token."
        ),
    ] = False
    public_keys: Annotated[
        list[str],
        Meta(
            description='Public keys of tokens: PEM texts, or "@/path/to/file.pem". RSA (RS256 to RS512, PS256 to '
            "PS512), P-256, P-384 or P-521 (ES256 to ES512), Ed25519 or Ed448 (EdDSA)."
        ),
    ] = field(default_factory=list)
    jwks_url: Annotated[
        str,
        Meta(description="https URL of a JSON Web Key Set with more public keys, chosen by `kid`; empty: none."),
    ] = ""
    jwks_max_age: Annotated[Duration, Meta(description="How long its keys are used before it is asked again.")] = (
        Duration(600)
    )
    jwks_min_interval: Annotated[
        Duration, Meta(description="Least time between two requests to it, however many tokens name unknown keys.")
    ] = Duration(30)
    jwks_stale_for: Annotated[
        Duration, Meta(description="How old its keys may get while it does not answer; then no token is accepted.")
    ] = Duration(24 * 3600)
    require_exp: Annotated[bool, Meta(description="Refuse tokens that never expire.")] = True
    audience: Annotated[str, Meta(description="Required `aud`; empty: a token must not be for another audience.")] = ""
    issuer: Annotated[str, Meta(description="Required `iss`; empty: any.")] = ""
    leeway: Annotated[Duration, Meta(description="Clock difference allowed in `exp`, `nbf` and `iat`.")] = Duration(5)
    roles_claim: Annotated[str, Meta(description="Claim with the roles: a list, or names separated by spaces.")] = (
        "roles"
    )
    anonymous: Annotated[bool, Meta(description="Let clients connect without a token, as the empty user.")] = False
    cookie: Annotated[str, Meta(description="Cookie that may carry the token on /sse; empty: none.")] = ""
    query_token: Annotated[
        bool, Meta(description="Accept ?token= on /sse. URLs end up in logs of proxies: prefer a header or a cookie.")
    ] = False


class Api(Section, frozen=True):
    """The server API under /api."""

    keys: Annotated[list[Secret], Meta(description="Keys accepted in X-API-Key; none: the API is off.")] = field(
        default_factory=list
    )
    max_body: Annotated[Size, Meta(description="Largest request body.")] = Size(2**20)
    max_batch: Annotated[Count, Meta(description="Most channels in one broadcast.")] = 1000


class Clients(Section, frozen=True):
    """What one connection may do and how long it may stay silent."""

    ping_interval: Annotated[Duration, Meta(description="How often a client is pinged; whole seconds.")] = Duration(25)
    pong_timeout: Annotated[Duration, Meta(description="How long an answer may take.")] = Duration(8)
    connect_timeout: Annotated[Duration, Meta(description="How long a connection may wait with `connect`.")] = Duration(
        10
    )
    close_timeout: Annotated[Duration, Meta(description="How long a closing handshake may take.")] = Duration(5)
    expired_grace: Annotated[Duration, Meta(description="How long after its token's expiry a client may refresh.")] = (
        Duration(25)
    )
    max_message: Annotated[Size, Meta(description="Largest frame from a client.")] = Size(64 * 2**10)
    max_channels: Annotated[Count, Meta(description="Most channels of one connection.")] = 128
    max_channel_bytes: Annotated[Count, Meta(le=255, description="Longest name of a channel.")] = 255
    command_rate: Annotated[
        int, Meta(ge=0, description="Commands a second that one connection may send for long; 0: any number.")
    ] = 100
    command_burst: Annotated[Count, Meta(description="Commands that it may send at once.")] = 1000
    max_buffer: Annotated[Size, Meta(description="Unsent bytes after which a client counts as slow.")] = Size(2**20)
    history_limit: Annotated[Count, Meta(description="Most publications in one history reply to a client.")] = 300
    sse_heartbeat: Annotated[Duration, Meta(description="How often an idle SSE stream gets its cursor.")] = Duration(15)
    sse_retry: Annotated[Duration, Meta(description="Reconnect delay that EventSource is told.")] = Duration(1)
    compression: Annotated[
        bool, Meta(description="Offer permessage-deflate: fewer bytes, more CPU for each publication.")
    ] = False
    send_queue: Annotated[
        str, Meta(description="Queue of the broker that gets what clients `send`; empty: they may not.")
    ] = ""


class Publications(Section, frozen=True):
    """What a publication may be."""

    max_bytes: Annotated[Size, Meta(description="Largest data of one publication.")] = Size(64 * 2**10)


class HistoryRule(Section, frozen=True):
    """What a channel keeps: at most `size` publications, none older than `ttl`."""

    size: Count
    ttl: Duration


class ChannelRule(Section, frozen=True):
    """What the channels that match `match` keep, and who may use them. The first matching rule wins."""

    match: Annotated[str, Meta(min_length=1, max_length=255)]
    history: HistoryRule | None = None
    recovery: Literal["stream", "cache"] = "stream"
    presence: bool = False
    join_leave: Literal["off", "on_request", "always"] = "off"
    delta: bool = False
    tag_filter: bool = False
    wildcard: bool = False
    subscribe: Rights = field(default_factory=list)
    publish: Rights = field(default_factory=list)


class Connect(Section, frozen=True):
    """What happens when a client connects."""

    subscribe: Annotated[
        list[str],
        Meta(
            description="Channels that every client with a user is subscribed to by the server, "
            'with claims of its token filled in, such as "user.{sub}".'
        ),
    ] = field(default_factory=list)


class RpcRule(Section, frozen=True):
    """Where calls of the methods that match `method` go: to whoever consumes `queue`, and back within `timeout`."""

    method: Annotated[str, Meta(min_length=1, max_length=255)]
    queue: Annotated[str, Meta(min_length=1, max_length=255)]
    timeout: Duration = Duration(5)
    allow: Rights = field(default_factory=list)


class LoggingSection(Section, frozen=True):
    """The program's own log lines, on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least severity shown.")] = "info"
    format: Annotated[Literal["auto", "json", "text"], Meta(description='"auto": text on a terminal, else JSON.')] = (
        "auto"
    )


class Config(Section, frozen=True):
    """The whole file."""

    server: Server = field(default_factory=Server)
    log: LogSection = field(default_factory=LogSection)
    rabbitmq: RabbitMQ = field(default_factory=RabbitMQ)
    history: HistorySection = field(default_factory=HistorySection)
    auth: Auth = field(default_factory=Auth)
    api: Api = field(default_factory=Api)
    clients: Clients = field(default_factory=Clients)
    publications: Publications = field(default_factory=Publications)
    connect: Connect = field(default_factory=Connect)
    logging: LoggingSection = field(default_factory=LoggingSection)
    channels: list[ChannelRule] = field(default_factory=list)
    rpc: list[RpcRule] = field(default_factory=list)


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """The checked configuration from a TOML file (none: only defaults) and `NOTIFIER_SECTION__KEY` variables.

    Raises ConfigError with one sentence for every mistake.
    """
    table = _read(path) if path else {}
    problems = _apply_environ(table, environ)
    config = _decode(table, Config, "", problems)
    if isinstance(config, Config):
        problems += check(config)
    if problems or not isinstance(config, Config):
        raise ConfigError(problems)
    return config


def check(config: Config) -> list[str]:
    """One sentence for every value that is well-formed but impossible here, or beside another one."""
    problems = _check_auth(config.auth)
    whole = {
        "clients.ping_interval": config.clients.ping_interval,
        "clients.pong_timeout": config.clients.pong_timeout,
        "clients.connect_timeout": config.clients.connect_timeout,
        "clients.sse_heartbeat": config.clients.sse_heartbeat,
    }
    problems += [
        f"{key}: {value:g}s; must be whole seconds, at least 1s"
        for key, value in whole.items()
        if value < 1 or not value.is_integer()
    ]
    if config.clients.pong_timeout >= config.clients.ping_interval:
        problems.append("clients.pong_timeout: must be shorter than clients.ping_interval")
    if not config.rabbitmq.url.startswith(("amqp://", "amqps://")):
        problems.append("rabbitmq.url: must start with amqp:// or amqps://")
    if config.server.workers > 1 and config.log.kind == "memory":
        problems.append(
            f'server.workers: {config.server.workers} with log.kind = "memory": the embedded log lives in one process; '
            'use 1, or log.kind = "rabbitmq"'
        )
    problems += _check_origins(config.server.allowed_origins)
    problems += _check_development_secrets(config)
    return problems


def reference() -> str:
    """A configuration file that shows every key with its description and its default."""
    lines = [
        "# Every key with its default. Each one can also be a variable: NOTIFIER_SECTION__KEY.",
        "# `notifier check --config FILE` says what is wrong with a file, and where.",
    ]
    for section in msgspec.structs.fields(Config):
        if isinstance(section.type, type) and issubclass(section.type, Struct):
            lines += ["", f"# {section.type.__doc__}", f"[{section.name}]"]
            lines += _reference_of(section.type)
    return "\n".join(lines) + "\n" + _REFERENCE_CHANNELS


_REFERENCE_CHANNELS = """
# What channels keep, and who may use them. The first rule that matches wins; without a rule nobody may do anything.
# match:     RabbitMQ's topic patterns: * is one word, # any number of words.
# history:   at most `size` publications, none older than `ttl`; without it nothing is kept or recovered.
# recovery:  "stream": everything that was missed; "cache": only the last publication.
# presence:  who is there can be asked.
# join_leave: "off", "on_request" (clients that ask for it are told who comes and goes), "always" (all are).
# delta:     clients that can get the difference to the publication before.
# tag_filter: clients may ask for publications with certain tags only.
# wildcard:  clients may subscribe to a pattern within `match`.
# subscribe, publish: any of "anyone", "authenticated", "token" (a token for this channel), "role:NAME",
#            or a pattern with a claim of the connection's token, such as "user.{sub}"; for publish also "subscriber".
# [[rpc]] entries (method, queue, timeout, allow) forward calls of clients to a queue: see docs/backends.md.

[[channels]]
match = "user.*"
history = { size = 100, ttl = "24h" }
subscribe = ["user.{sub}", "role:support"]
publish = ["role:service"]

[[channels]]
match = "news.#"
history = { size = 20, ttl = "1h" }
subscribe = ["anyone"]
"""


def _reference_of(section: type[Struct]) -> list[str]:
    lines = []
    for entry in msgspec.structs.fields(section):
        default = entry.default if entry.default is not msgspec.NODEFAULT else []
        meta = typing.get_args(entry.type)[-1]
        lines += ["", *textwrap.wrap(meta.description, 110, initial_indent="# ", subsequent_indent="# ")]
        lines.append(f"{entry.name} = {_as_toml(default)}")
    return lines


def _as_toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Duration():
            return f'"{_in_units(value, Duration.UNITS)}"'
        case Size():
            return f'"{_in_units(value, Size.UNITS)}"'
        case str():
            return f'"{value}"'
        case _:
            return str(value)


def _in_units(value: float, units: Mapping[str, float]) -> str:
    """The number in the largest unit that leaves no fraction."""
    unit, factor = max(
        ((unit, factor) for unit, factor in units.items() if value % factor == 0), key=lambda pair: pair[1]
    )
    return f"{value / factor:g}{unit}"


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_origins(origins: list[str]) -> list[str]:
    host = r"(\[[0-9A-Fa-f:]+\]|(\*\.)?[A-Za-z0-9.-]+)"
    return [
        f"server.allowed_origins[{index}]: {origin!r}; expected scheme://host or scheme://host:port, nothing after it; "
        '"https://*.example.com" allows all hosts below, and "*" everybody'
        for index, origin in enumerate(origins)
        if origin != "*" and not re.fullmatch(rf"https?://{host}(:\d+)?", origin)
    ]


def read_public_key(entry: str) -> Any:
    """The public key of an entry of `auth.public_keys`, as an object of `cryptography`.

    Raises ValueError that says what is wrong; nothing of the entry stands in it but a file's name.
    """
    # To load that package takes half as long as all the rest here, and most configurations do not need it.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    pem = _read_key_file(entry.removeprefix("@")) if entry.startswith("@") else entry.encode()
    if b"PRIVATE KEY-----" in pem:
        raise ValueError("a private key; only whoever signs tokens may have that: expected the public key")
    if b"-----BEGIN CERTIFICATE" in pem:
        raise ValueError("a certificate; expected the public key in it")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a public key in PEM (-----BEGIN PUBLIC KEY-----), or one of an unknown kind") from error
    match key:
        case rsa.RSAPublicKey() if key.key_size < 2048:
            raise ValueError(f"an RSA key of {key.key_size} bits; expected at least 2048")
        case ec.EllipticCurvePublicKey() if key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
            raise ValueError(f"a key on the curve {key.curve.name}; expected P-256, P-384 or P-521")
        case rsa.RSAPublicKey() | ec.EllipticCurvePublicKey() | ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return key
        case _:
            raise ValueError("a key of a kind that signs no tokens; expected RSA, EC, Ed25519 or Ed448")


def _read_key_file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {getattr(error, 'strerror', None) or 'not a file name'}") from error


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
    return problems + _check_jwks(auth)


def _check_jwks(auth: Auth) -> list[str]:
    if not auth.jwks_url:
        return []
    problems = []
    if not _is_trusted(auth.jwks_url):
        problems.append(
            "auth.jwks_url: expected https://host/path (http:// only on this machine), no user, password or fragment"
        )
    if auth.jwks_min_interval < 1:
        problems.append("auth.jwks_min_interval: must be at least 1s")
    if auth.jwks_max_age < auth.jwks_min_interval:
        problems.append("auth.jwks_max_age: must not be shorter than auth.jwks_min_interval")
    if auth.jwks_stale_for < auth.jwks_max_age:
        problems.append("auth.jwks_stale_for: must not be shorter than auth.jwks_max_age")
    return problems


def _is_trusted(url: str) -> bool:
    """Whether what is fetched from there can only come from that host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or port == 0 or parts.username is not None or parts.fragment or not url.isascii() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def _check_development_secrets(config: Config) -> list[str]:
    """The secrets of `--dev` stand in public code: whoever can reach the server could use them."""
    if is_loopback(config.server.host):
        return []
    found = []
    if DEV_SECRET in config.auth.hmac_keys:
        found.append("auth.hmac_keys: the development key is public; listen on 127.0.0.1 or set a key of your own")
    if DEV_API_KEY in config.api.keys:
        found.append("api.keys: the development key is public; listen on 127.0.0.1 or set a key of your own")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error


def _apply_environ(table: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    problems = []
    sections = {f.name: f.type for f in msgspec.structs.fields(Config)}
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX):
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if not key or section not in sections:
            problems.append(f"{name}: no such key; variables are named {ENV_PREFIX}SECTION__KEY")
            continue
        place = table.setdefault(section, {})
        if isinstance(place, dict):
            place[key] = _value_of_variable(text, _field_type(sections[section], key))
    return problems


def _field_type(section: Any, key: str) -> Any:
    if not (isinstance(section, type) and issubclass(section, Struct)):
        return str
    return {f.name: _bare(f.type) for f in msgspec.structs.fields(section)}.get(key, str)


def _value_of_variable(text: str, expected: Any) -> Any:
    """A variable's text as TOML would have it, so that lists and tables can be written; a plain text stays one."""
    if expected in (str, Secret):
        return text
    if typing.get_origin(expected) is list and not text.lstrip().startswith("["):
        return text.split(",") if text else []
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _decode(value: Any, kind: Any, path: str, problems: list[str]) -> Any:
    """`value` as `kind`, walking tables and lists so that every mistake is found, not only the first."""
    bare = _bare(kind)
    if typing.get_origin(bare) in (types.UnionType, typing.Union):
        bare = next(arm for arm in typing.get_args(bare) if arm is not types.NoneType)
    if isinstance(bare, type) and issubclass(bare, Struct):
        return _decode_table(value, bare, path, problems)
    if typing.get_origin(bare) is list and isinstance(value, list):
        item = typing.get_args(bare)[0]
        return [_decode(entry, item, f"{path}[{index}]", problems) for index, entry in enumerate(value)]
    try:
        return msgspec.convert(value, kind, dec_hook=_convert)
    except msgspec.ValidationError as error:
        problems.append(f"{path}: {_sentence(str(error))}; found {_shown(value, bare)}")
    return None


def _decode_table(value: Any, kind: type[Struct], path: str, problems: list[str]) -> Struct | None:
    if not isinstance(value, dict):
        problems.append(f"{path}: expected a table; found {_shown(value, kind)}")
        return None
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    before = len(problems)
    prefix = f"{path}." if path else ""
    known = ", ".join(fields)
    problems += [f"{prefix}{name}: unknown key; known here: {known}" for name in sorted(value.keys() - fields.keys())]
    problems += [f"{prefix}{f.name}: missing" for f in fields.values() if f.required and f.name not in value]
    decoded = {
        name: _decode(value[name], fields[name].type, f"{prefix}{name}", problems) for name in fields if name in value
    }
    return kind(**decoded) if len(problems) == before else None


def _convert(kind: type, value: Any) -> Any:
    if kind is Duration:
        return Duration.parse(value)
    if kind is Size:
        return Size.parse(value)
    if kind is Workers:
        return Workers.parse(value)
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("expected a text")


def _sentence(text: str) -> str:
    return text[0].lower() + text[1:].replace("`", "")


def _shown(value: Any, kind: Any) -> str:
    if kind is Secret or Secret in typing.get_args(kind):
        return "a value that is not shown"
    return repr(value)[:80]
