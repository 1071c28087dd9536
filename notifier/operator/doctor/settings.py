"""What the configuration says that is allowed, and that somebody will regret."""

from __future__ import annotations

from notifier.config import DEV_API_KEY, DEV_SECRET, Config, is_loopback
from notifier.operator.doctor.finding import Finding, ok, warn

TOPIC = "configuration"


async def look(config: Config) -> list[Finding]:
    return [*_reachable(config), *_access(config), *_retention(config)] or [ok(TOPIC, "nothing to say against it")]


def _reachable(config: Config) -> list[Finding]:
    found: list[Finding] = []
    if config.log.kind == "memory":
        text = "the log is in memory: a restart forgets everything, and no second node can be added"
        found.append(warn(TOPIC, text, 'log.kind = "rabbitmq"'))
    if is_loopback(config.server.host):
        return [*found, *_operators(config)]
    if DEV_API_KEY in config.api.keys or DEV_SECRET in config.auth.hmac_keys:
        found.append(warn(TOPIC, "a development secret is in use", "make keys of your own: openssl rand -hex 32"))
    if "*" in config.server.allowed_origins:
        text = "pages of every origin may connect in their visitors' names where a cookie carries the token"
        found.append(warn(TOPIC, text, "server.allowed_origins: name your own origins"))
    if config.server.metrics and not config.admin.port:
        text = "/metrics is served on the same address as clients are"
        found.append(warn(TOPIC, text, "admin.port, hide it in the proxy (deploy/), or server.metrics = false"))
    return [*found, *_operators(config)]


def _operators(config: Config) -> list[Finding]:
    """Whether the operators' view may be reached in a way that nobody wants."""
    admin, server = config.admin, config.server
    host = admin.host if admin.port else server.host
    if not admin.operators or is_loopback(host):
        return []
    found: list[Finding] = []
    if not admin.port:
        text = "the operators' view is served on the same address as clients are"
        found.append(warn(TOPIC, text, "admin.port, or hide /admin in the proxy"))
    if not server.tls_certificate:
        text = "operators' passwords come here without TLS, unless a proxy before it speaks TLS"
        found.append(warn(TOPIC, text, "server.tls_certificate, or admin.host on loopback behind a proxy"))
    return found


def closed(config: Config) -> list[Finding]:
    """For whom nothing is open yet, since nothing was configured for them."""
    auth = config.auth
    found: list[Finding] = []
    if not (auth.has_keys or auth.anonymous):
        fix = "auth.hmac_keys, auth.public_keys, auth.jwks_url, auth.oidc_issuer, or auth.anonymous = true"
        found.append(warn(TOPIC, "nobody can connect: no key verifies tokens", fix))
    if not config.channels:
        found.append(warn(TOPIC, "nobody can subscribe: there is no channel rule", "add [[channels]] rules"))
    if not config.api.keys:
        found.append(warn(TOPIC, "the server API is off: it has no keys", "api.keys, if backends publish over HTTP"))
    return found


def _access(config: Config) -> list[Finding]:
    auth = config.auth
    found = closed(config)
    if auth.short_keys:
        found.append(warn(TOPIC, "short shared keys are accepted: they can be guessed", "auth.short_keys = false"))
    if auth.query_token:
        text = "tokens are accepted in URLs, which proxies write to their logs"
        found.append(warn(TOPIC, text, "auth.query_token = false; use a header or auth.cookie"))
    if not auth.require_exp:
        found.append(warn(TOPIC, "tokens that never expire are accepted", "auth.require_exp = true"))
    return found


def _retention(config: Config) -> list[Finding]:
    if config.log.kind != "rabbitmq":
        return []
    found: list[Finding] = []
    kept_s = float(config.rabbitmq.max_age)
    for index, rule in enumerate(config.channels):
        if rule.history is not None and rule.history.ttl > kept_s:
            text = f"channels[{index}].history.ttl is longer than the stream keeps records (rabbitmq.max_age)"
            found.append(warn(TOPIC, text, "a longer rabbitmq.max_age: after a restart what is older cannot be had"))
    if config.log.known_for > kept_s:
        text = "log.known_for is longer than the stream keeps records (rabbitmq.max_age)"
        found.append(warn(TOPIC, text, "a longer rabbitmq.max_age, or a shorter log.known_for"))
    longest = max((float(rule.history.ttl) for rule in config.channels if rule.history is not None), default=0.0)
    if longest > config.log.known_for:
        text = f"a starting node reads back {config.log.known_for:g} s, and a rule keeps history for {longest:g} s"
        found.append(warn(TOPIC, text, "log.known_for at least as long as the longest history"))
    return found
