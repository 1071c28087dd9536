"""The sections about this server and what it works with. Description and default stand at the field."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from notifier.config.values import Count, Duration, Secret, Section, Size, Workers


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
    tls_certificate: Annotated[
        str, Meta(description="Certificate chain in PEM, a file; empty: no TLS. Read again when the file changes.")
    ] = ""
    tls_key: Annotated[str, Meta(description="Its private key in PEM, a file.")] = ""
    trusted_proxies: Annotated[
        list[str],
        Meta(
            description='Networks of proxies before this server, such as "10.0.0.0/8": what they say of where a client '
            "comes from is believed. Without it all clients behind a proxy count as one address in [limits]."
        ),
    ] = field(default_factory=list)
    proxy_header: Annotated[
        Literal["X-Forwarded-For", "Forwarded"],
        Meta(description="The header in which they say it. The other one is ignored: clients may send it themselves."),
    ] = "X-Forwarded-For"
    shutdown_grace: Annotated[Duration, Meta(description="How long leaving may take after SIGTERM, all in all.")] = (
        Duration(20)
    )
    shutdown_delay: Annotated[
        Duration,
        Meta(
            description="How long of that /readyz says no before clients are moved off and newcomers are refused: as "
            "long as a load balancer needs to see it."
        ),
    ] = Duration(0)
    max_connections: Annotated[
        int, Meta(ge=0, description="Most clients of one worker; others are sent elsewhere with 503. 0: any number.")
    ] = 0
    max_connect_rate: Annotated[
        int, Meta(ge=0, description="Newcomers that a worker lets in per second; the others wait. 0: any number.")
    ] = 5000
    connect_patience: Annotated[
        Duration, Meta(description="How long a newcomer may wait for that before it is sent away with 503.")
    ] = Duration(3)
    metrics: Annotated[bool, Meta(description="Serve /metrics.")] = True
    console: Annotated[bool, Meta(description="Serve the console at /.")] = True


class Admin(Section, frozen=True):
    """Operators. With a port, a listener of its own, where all is, and /api, /metrics, / and /admin only there."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0: none, clients' listener has all.")] = 0
    operators: Annotated[
        list[Secret],
        Meta(
            description="Who may log in to the operators' view at /admin: what `notifier password NAME` prints, one "
            "for each person. None: there is no such view."
        ),
    ] = field(default_factory=list)
    session: Annotated[Duration, Meta(description="How long a login lasts after its operator last did something.")] = (
        Duration(1800)
    )
    session_max: Annotated[Duration, Meta(description="How long a login lasts at most.")] = Duration(12 * 3600)


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
    reader: Annotated[
        Literal["auto", "stream", "amqp"],
        Meta(
            description='How the stream is read. "stream": over RabbitMQ\'s stream protocol (plugin rabbitmq_stream), '
            'which takes a sixth of the CPU; "amqp": over AMQP 0.9.1; "auto": over the first where it answers.'
        ),
    ] = "auto"
    stream_url: Annotated[
        Secret,
        Meta(
            description="rabbitmq-stream:// or rabbitmq-stream+tls:// URL to read by. What it leaves out is as in "
            "`url`, the port 5552 (TLS: 5551). Must lead to nodes of the same cluster with a replica of the stream."
        ),
    ] = Secret("")
    prefetch: Annotated[
        Count, Meta(le=65535, description="Records in flight from the broker to a worker that reads over AMQP 0.9.1.")
    ] = 2000


class Redis(Section, frozen=True):
    """What several nodes share beside the log: presence, the archive, revocations, limits. Not needed for delivery."""

    url: Annotated[
        Secret,
        Meta(
            description="redis://user:password@host:port/0, rediss:// for TLS; empty: no Redis. Several hosts are "
            "separated by commas: the sentinels, or some nodes of the cluster."
        ),
    ] = Secret("")
    mode: Annotated[
        Literal["single", "sentinel", "cluster"],
        Meta(description='"single": one server. "sentinel": the master that sentinels name. "cluster": all its nodes.'),
    ] = "single"
    master: Annotated[str, Meta(description="The name by which the sentinels know the master.")] = ""
    sentinel_user: Annotated[str, Meta(description="User of the sentinels, who have passwords of their own.")] = ""
    sentinel_password: Annotated[Secret, Meta(description="Password of the sentinels; empty: none.")] = Secret("")
    ca_file: Annotated[
        str, Meta(description="PEM file with the authorities to trust with rediss://; empty: those of the system.")
    ] = ""
    cert_file: Annotated[str, Meta(description="PEM file with the certificate to show; empty: none.")] = ""
    key_file: Annotated[str, Meta(description="PEM file with the key to it.")] = ""
    prefix: Annotated[str, Meta(min_length=1, max_length=64, description="What the names of all keys begin with.")] = (
        "notifier"
    )
    timeout: Annotated[Duration, Meta(description="Deadline for one call.")] = Duration(2)
    connections: Annotated[
        Count, Meta(le=1000, description="Most calls of one worker at once; each takes a connection.")
    ] = 20


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
    oidc_issuer: Annotated[
        str,
        Meta(
            description="https URL of an OpenID Connect issuer: tokens must be from it, and its keys are found by its "
            "discovery document. Instead of jwks_url."
        ),
    ] = ""
    jwks_hosts: Annotated[
        list[str],
        Meta(description="Hosts beside the issuer's own that its discovery document may name for its keys."),
    ] = field(default_factory=list)
    jwks_max_age: Annotated[Duration, Meta(description="How long its keys are used before it is asked again.")] = (
        Duration(600)
    )
    jwks_min_interval: Annotated[
        Duration, Meta(description="Least time between two requests to it, however many tokens name unknown keys.")
    ] = Duration(30)
    jwks_stale_for: Annotated[
        Duration, Meta(description="How old its keys may get while it does not answer; then no token is accepted.")
    ] = Duration(24 * 3600)
    revocations_for: Annotated[
        Duration,
        Meta(description="How long Redis keeps revocations: longer than tokens live. Without it, log.known_for."),
    ] = Duration(30 * 86400)
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

    @property
    def required_issuer(self) -> str:
        """What `iss` must be; empty for anything."""
        return self.oidc_issuer or self.issuer

    @property
    def has_keys(self) -> bool:
        """Whether there is anything that verifies tokens."""
        return bool(self.hmac_keys or self.public_keys or self.jwks_url or self.oidc_issuer)


class Api(Section, frozen=True):
    """The server API under /api."""

    keys: Annotated[list[Secret], Meta(description="Keys accepted in X-API-Key; none: the API is off.")] = field(
        default_factory=list
    )
    max_body: Annotated[Size, Meta(description="Largest request body.")] = Size(2**20)
    max_batch: Annotated[Count, Meta(description="Most channels in one broadcast.")] = 1000
    audit: Annotated[
        Literal["off", "changes", "all"],
        Meta(
            description='Log lines of calls: "changes": those that end, move or revoke something; "all": publishing '
            "and reading too."
        ),
    ] = "changes"


class LoggingSection(Section, frozen=True):
    """The program's own log lines, on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least severity shown.")] = "info"
    format: Annotated[Literal["auto", "json", "text"], Meta(description='"auto": text on a terminal, else JSON.')] = (
        "auto"
    )


class Telemetry(Section, frozen=True):
    """Traces and reports of errors; both need an optional dependency."""

    otlp_endpoint: Annotated[
        str,
        Meta(description='http(s) URL that takes OTLP traces, such as "http://127.0.0.1:4318/v1/traces"; empty: none.'),
    ] = ""
    trace_share: Annotated[
        float,
        Meta(ge=0, le=1, description="Share of the messages sampled by their publisher that are traced here too."),
    ] = 1.0
    sentry_dsn: Annotated[Secret, Meta(description="DSN of a Sentry project that errors are sent to; empty: none.")] = (
        Secret("")
    )
