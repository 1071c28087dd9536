"""Public keys of whoever issues tokens, from an address (RFC 7517): kept fresh, but asked for only now and then.

The address comes from the configuration, never from a token (reliability.md, S8). Unknown keys cannot be used to make
this server ask again and again (S10), and when the other side is away the keys it had go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from notifier.auth import signatures
from notifier.auth.signatures import Check
from notifier.config import Auth, is_trusted
from notifier.core.ports import Clock
from notifier.errors import TokensUnavailable
from notifier.tasks import end

_logger = logging.getLogger(__name__)

FETCH_TIMEOUT_S = 5.0
MAX_BYTES = 256 * 2**10
MAX_KEYS = 100
REFRESH_AT = 0.8  # of the keys' age limit: there is time left for some attempts


class KeySet:
    """Keys that were published together. Those that are not for verifying, or not understood, are left out."""

    def __init__(self, keys: Iterable[Mapping[str, Any]]) -> None:
        self._by_id: dict[str, dict[str, Check]] = {}
        self._all: list[Mapping[str, Check]] = []
        for key in keys:
            checks = _checks(key)
            if not checks:
                continue
            self._all.append(checks)
            if isinstance(key.get("kid"), str):
                # One id may stand for keys of several kinds; of two of a kind the first one counts.
                self._by_id[key["kid"]] = {**checks, **self._by_id.get(key["kid"], {})}

    @classmethod
    def parse(cls, body: bytes) -> KeySet:
        """Raises ValueError when this is no key set, or one without a single key that can be used."""
        try:
            keys = _SET.decode(body).keys
        except (ValueError, RecursionError) as error:
            raise ValueError("the answer is not a JSON Web Key Set") from error
        if len(keys) > MAX_KEYS:
            raise ValueError(f"the answer has more than {MAX_KEYS} keys")
        found = cls(keys)
        if not found:
            raise ValueError("the answer has no key that can verify tokens")
        return found

    def __len__(self) -> int:
        return len(self._all)

    def has(self, key_id: str) -> bool:
        return key_id in self._by_id

    def find(self, key_id: str | None, algorithm: str) -> Check | None:
        """The key of this id if it can be used with the algorithm; without an id the only one that can."""
        if key_id is not None:
            return self._by_id.get(key_id, {}).get(algorithm)
        fitting = [checks[algorithm] for checks in self._all if algorithm in checks]
        return fitting[0] if len(fitting) == 1 else None


class Jwks:
    """The key set at `auth.jwks_url`, or the one that the discovery document of `auth.oidc_issuer` names. Fetched when
    it is first needed, then kept fresh for as long as it is used."""

    def __init__(self, auth: Auth, clock: Clock) -> None:
        self._url = auth.jwks_url
        self._issuer = auth.oidc_issuer
        self._host = urlsplit(self._url or self._issuer).netloc
        self._trusted = {self._host, *auth.jwks_hosts}
        self._max_age_s = float(auth.jwks_max_age)
        self._min_interval_s = float(auth.jwks_min_interval)
        self._stale_for_s = float(auth.jwks_stale_for)
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = self._asked_at = float("-inf")
        self._problem = ""
        self._session: aiohttp.ClientSession | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def problem(self) -> str:
        """Why the keys could not be fetched when they last should have been; empty when they were."""
        return self._problem

    @property
    def count(self) -> int:
        """How many keys there are that can be used."""
        return 0 if self._keys is None else len(self._keys)

    async def find(self, key_id: str | None, algorithm: str) -> Check | None:
        """The key for a token, None if there is none. Waits only where the answer depends on it: when there are no keys
        yet, when they are over age, or when the id is new.

        Raises TokensUnavailable when there are no keys, or the id is new and the others cannot be asked about it.
        """
        age_s = self._clock.monotonic() - self._fetched_at
        if self._keys is None or (age_s > self._max_age_s and not self._problem):
            await self._fetch()
        elif age_s > self._max_age_s * REFRESH_AT:
            self._start()
        keys = self._current()
        if key_id is not None and not keys.has(key_id):
            await self._fetch()
            keys = self._current()
            if self._problem and not keys.has(key_id):
                raise TokensUnavailable("the token names a key that is not known, and the keys cannot be fetched now")
        return keys.find(key_id, algorithm)

    async def close(self) -> None:
        """Let go of everything. From then on no keys are fetched."""
        self._closed = True
        if self._fetching is not None:
            await end(self._fetching)
        if self._session is not None:
            await self._session.close()

    def _current(self) -> KeySet:
        if self._keys is not None and self._clock.monotonic() - self._fetched_at > self._stale_for_s:
            _logger.error("the keys of tokens are too old to be used any longer", extra={"host": self._host})
            self._keys = None
        if self._keys is None:
            raise TokensUnavailable("the keys to verify tokens with cannot be had now")
        return self._keys

    async def _fetch(self) -> None:
        """Wait until the fetch that runs, or that may begin now, is over. Its outcome is in the state."""
        task = self._start()
        if task is not None:
            await asyncio.wait([task])  # a caller that is cancelled leaves it to the others

    def _start(self) -> asyncio.Task[None] | None:
        """The fetch that runs; a new one unless the last one began too short a time ago."""
        if self._fetching is not None or self._closed:
            return self._fetching
        now = self._clock.monotonic()
        if now - self._asked_at < self._min_interval_s:
            return None
        self._asked_at = now
        self._fetching = asyncio.create_task(self._run())
        return self._fetching

    async def _run(self) -> None:
        try:
            keys = KeySet.parse(await self._download())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._failed(error)
        else:
            self._succeeded(keys)
        finally:
            self._fetching = None

    def _succeeded(self, keys: KeySet) -> None:
        if self._keys is None or self._problem:
            _logger.info("fetched the keys of tokens", extra={"host": self._host, "keys": len(keys)})
        self._keys, self._problem = keys, ""
        self._fetched_at = self._clock.monotonic()

    def _failed(self, error: Exception) -> None:
        if not self._problem:
            _logger.warning(
                "the keys of tokens cannot be fetched: %s",
                _reason(error),
                extra={"host": self._host, "known_keys": 0 if self._keys is None else len(self._keys)},
            )
        self._problem = _reason(error)

    async def _download(self) -> bytes:
        return await self._get(self._url or await self._discover())

    async def _discover(self) -> str:
        """Where the issuer has its keys (OpenID Connect Discovery 1.0, section 4).

        Raises ValueError for a document that is not this issuer's, or that names a host that nobody has trusted.
        """
        body = await self._get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            said = _DISCOVERY.decode(body)
        except (ValueError, RecursionError) as error:
            raise ValueError("the answer is not a discovery document") from error
        if said.issuer != self._issuer:
            raise ValueError("the discovery document is another issuer's")
        if not is_trusted(said.jwks_uri) or urlsplit(said.jwks_uri).netloc not in self._trusted:
            raise ValueError("the discovery document names a host for its keys that auth.jwks_hosts does not")
        return said.jwks_uri

    async def _get(self, url: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,  # a small answer stays small
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        # A redirect would take the choice of the host from the configuration.
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"the answer has status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_chunked(2**14):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"the answer is longer than {MAX_BYTES} bytes")
            return bytes(body)


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


_DISCOVERY = msgspec.json.Decoder(_Discovery)


class _Set(msgspec.Struct):
    keys: list[dict[str, Any]]


_SET = msgspec.json.Decoder(_Set)
_READERS: Mapping[Any, Any] = {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk, "OKP": OKPAlgorithm.from_jwk}


def _checks(key: Mapping[str, Any]) -> Mapping[str, Check]:
    """What a JSON Web Key can verify, by algorithm: nothing if it is for something else, or no public key.

    A private key that is published is no secret any more, so it shows nothing about who signed: it is left out too.
    """
    reader = _READERS.get(key.get("kty")) if isinstance(key.get("kty"), str) else None
    if reader is None or key.get("use", "sig") != "sig" or not _may_verify(key.get("key_ops")):
        return {}
    try:
        checks = signatures.public_key(reader(dict(key)))
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError, OverflowError):
        return {}
    if "alg" not in key:
        return checks
    return {name: check for name, check in checks.items() if name == key["alg"]}


def _may_verify(operations: Any) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _reason(error: Exception) -> str:
    """What happened, for people; nothing of the answer."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "the certificate is not trusted, or TLS failed"
        case aiohttp.ClientConnectorError():
            return f"the host cannot be reached: {error.os_error.strerror or 'unknown reason'}"
        case aiohttp.ClientError() | OSError():
            return f"the connection failed ({type(error).__name__})"
        case _:
            return str(error)
