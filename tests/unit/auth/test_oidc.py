"""An OpenID Connect issuer: its keys are found by its discovery document, and by nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from notifier.auth.tokens import Tokens
from notifier.config import Auth, Config, check
from notifier.errors import TokenError, TokensUnavailable
from notifier.testing import ManualClock
from tests.unit.auth.issuer import jwk, private_key, token


class Issuer:
    """Serves a discovery document and keys under a path, as multi-tenant issuers do."""

    def __init__(self) -> None:
        self.document: Any = {}
        self.asked: list[str] = []
        app = web.Application()
        app.router.add_get("/realms/a/.well-known/openid-configuration", self._discover)
        app.router.add_get("/{tail:.*}", self._keys)
        self.server = TestServer(app)

    @property
    def name(self) -> str:
        return str(self.server.make_url("/realms/a"))

    async def _discover(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        return web.json_response({"issuer": self.name, "jwks_uri": self.name + "/certs"} | self.document)

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        return web.json_response({"keys": [jwk("rsa", "k1")]})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    await issuer.server.start_server()
    yield issuer
    await issuer.server.close()


async def verified(issuer: Issuer, auth: Auth | None = None, **claims: Any) -> str:
    clock = ManualClock()
    tokens = Tokens(auth or Auth(oidc_issuer=issuer.name), clock)
    try:
        signed = token(private_key("rsa"), "RS256", {"kid": "k1"}, exp=clock.time() + 60, **claims)
        return (await tokens.connection(signed)).user
    finally:
        await tokens.close()


async def test_a_token_of_the_issuer_is_verified_by_the_keys_that_it_names(issuer: Issuer) -> None:
    assert await verified(issuer, iss=issuer.name) == "ann"
    assert issuer.asked == ["/realms/a/.well-known/openid-configuration", "/realms/a/certs"]


@pytest.mark.parametrize("other", [None, "", "https://id.example"])
async def test_a_token_of_somebody_else_is_refused(issuer: Issuer, other: str | None) -> None:
    with pytest.raises(TokenError, match="another issuer"):
        await verified(issuer, iss=other)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://id.example"},
        {"issuer": None},
        {"jwks_uri": "https://id.example/certs"},
        {"jwks_uri": "http://10.0.0.1/certs"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 5},
    ],
)
async def test_a_document_that_leads_elsewhere_is_not_followed(issuer: Issuer, document: dict[str, Any]) -> None:
    issuer.document = document
    with pytest.raises(TokensUnavailable):
        await verified(issuer, iss=issuer.name)
    assert issuer.asked == ["/realms/a/.well-known/openid-configuration"]


async def test_another_host_for_keys_must_be_named_in_the_configuration(issuer: Issuer) -> None:
    elsewhere = Issuer()
    await elsewhere.server.start_server()
    try:
        host = f"{elsewhere.server.host}:{elsewhere.server.port}"
        issuer.document = {"jwks_uri": f"http://{host}/certs"}
        with pytest.raises(TokensUnavailable):
            await verified(issuer, iss=issuer.name)
        assert elsewhere.asked == []
        auth = Auth(oidc_issuer=issuer.name, jwks_hosts=[host])
        assert await verified(issuer, auth, iss=issuer.name) == "ann"
    finally:
        await elsewhere.server.close()


@pytest.mark.parametrize(
    ("auth", "path"),
    [
        (Auth(oidc_issuer="http://id.example"), "auth.oidc_issuer"),
        (Auth(oidc_issuer="https://id.example/?x=1"), "auth.oidc_issuer"),
        (Auth(oidc_issuer="https://id.example", jwks_url="https://id.example/keys"), "auth.jwks_url"),
        (Auth(oidc_issuer="https://id.example", issuer="https://other.example"), "auth.issuer"),
    ],
)
def test_impossible_settings_are_said(auth: Auth, path: str) -> None:
    assert any(path in problem for problem in check(Config(auth=auth)))
