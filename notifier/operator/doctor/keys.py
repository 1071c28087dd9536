"""The keys of tokens that come from an address: whether they can be had."""

from __future__ import annotations

from urllib.parse import urlsplit

from notifier.auth.jwks import Jwks
from notifier.config import Config
from notifier.errors import TokensUnavailable
from notifier.operator.doctor.certificate import certificate_of
from notifier.operator.doctor.finding import Finding, fail, ok

TOPIC = "keys"


class _Clock:
    def time(self) -> float:
        return 0.0

    monotonic = time


async def look(config: Config) -> list[Finding]:
    address = config.auth.jwks_url or config.auth.oidc_issuer
    if not address:
        return []
    url = urlsplit(address)
    found = await certificate_of(TOPIC, url.hostname or "", url.port or 443) if url.scheme == "https" else []
    published = Jwks(config.auth, _Clock())
    try:
        await published.find(None, "RS256")
    except TokensUnavailable:
        fix = "open auth.jwks_url from this machine: it must answer 200 with a JSON Web Key Set, without a redirect"
        return [*found, fail(TOPIC, f"no keys can be had from {url.hostname}: {published.problem}", fix)]
    finally:
        await published.close()
    return [*found, ok(TOPIC, f"{url.hostname} gives {published.count} keys")]
