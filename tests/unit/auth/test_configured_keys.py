"""Keys in the configuration: what is wrong with one is said when it is read, and nothing of it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from notifier.auth import signatures
from notifier.config import Auth, Config, Duration, Secret, check, read_public_key
from tests.unit.auth import issuer
from tests.unit.auth.issuer import KINDS, SECRET, private_pem, public_pem


def problems(auth: Auth) -> list[str]:
    return check(Config(auth=auth))


@pytest.mark.parametrize("kind", KINDS)
def test_public_keys_of_all_kinds_are_accepted(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(public_pem(kind))
    assert problems(Auth(public_keys=[public_pem(kind), f"@{file}", f"\n{public_pem(kind).strip()}\n"])) == []
    assert tuple(signatures.public_key(read_public_key(f"@{file}"))) == KINDS[kind]


def _dsa_pem() -> str:
    key = dsa.generate_private_key(2048).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (private_pem("rsa"), "a private key; only whoever signs tokens may have that"),
        (private_pem("p256") + public_pem("p256"), "a private key"),
        (private_pem("ed25519"), "a private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate"),
        (public_pem("short_rsa"), "an RSA key of 1024 bits; expected at least 2048"),
        (public_pem("k256"), "a key on the curve secp256k1; expected P-256, P-384 or P-521"),
        (_dsa_pem(), "a key of a kind that signs no tokens"),
        (public_pem("rsa")[:200], "not a public key in PEM"),
        ("canary", "not a public key in PEM"),
        ("", "not a public key in PEM"),
        ("@/nowhere/key.pem", "/nowhere/key.pem: No such file or directory"),
        ("@/", "/: Is a directory"),
        ("@a\0b", "not a file name"),
    ],
)
def test_what_is_no_usable_public_key(entry: str, words: str) -> None:
    (told,) = problems(Auth(public_keys=[public_pem("rsa"), entry]))
    assert told.startswith(f"auth.public_keys[1]: {words}") or told.endswith(words)
    assert "canary" not in told
    assert "MII" not in told


def test_shared_keys_that_are_too_short_or_public() -> None:
    told = problems(Auth(hmac_keys=[Secret("x" * 31), Secret(SECRET), Secret(public_pem("rsa"))]))
    assert told == [
        "auth.hmac_keys[0]: 31 bytes; HS256 needs at least 32 (auth.short_keys accepts it all the same)",
        "auth.hmac_keys[2]: a key in PEM; public keys belong in auth.public_keys",
    ]


@pytest.mark.parametrize(
    "url",
    ["https://id.example/jwks.json", "https://id.example:8443/a?b=c", "https://10.0.0.1/", "http://127.0.0.1:9000/jwks",
     "http://localhost/jwks", "http://[::1]:80/jwks"],
)  # fmt: skip
def test_addresses_of_key_sets_that_are_accepted(url: str) -> None:
    assert problems(Auth(jwks_url=url)) == []


@pytest.mark.parametrize(
    "url",
    ["http://id.example/jwks.json", "http://10.0.0.1/", "http://127.0.0.1.id.example/", "http://localhost.id.example/",
     "ftp://id.example/", "file:///etc/keys", "id.example/jwks", "https://", "https:///jwks", "https://u:canary@id.example/",
     "https://u@id.example/", "https://id.example/#x", "https://id.example:0/", "https://id.example:99999/",
     "https://[::1/", "https://id.example/a b", "https://é.example/"],
)  # fmt: skip
def test_addresses_of_key_sets_that_are_not(url: str) -> None:
    (told,) = problems(Auth(jwks_url=url))
    assert told.startswith("auth.jwks_url: expected https://host/path")
    assert "canary" not in told


def test_intervals_of_a_key_set_that_are_impossible() -> None:
    url = "https://id.example/"
    assert problems(Auth(jwks_url=url, jwks_min_interval=Duration(0.5))) == [
        "auth.jwks_min_interval: must be at least 1s"
    ]
    told = problems(Auth(jwks_url=url, jwks_max_age=Duration(10), jwks_stale_for=Duration(9)))
    assert [problem.split(":")[0] for problem in told] == ["auth.jwks_max_age", "auth.jwks_stale_for"]
    assert problems(Auth(jwks_max_age=Duration(10))) == []


def test_a_file_is_read_from_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(b"\xff\xfe")
    assert problems(Auth(public_keys=[f"@{file}"]))[0].startswith("auth.public_keys[0]: not a public key in PEM")
    file.write_text(issuer.public_pem("p521"))
    assert problems(Auth(public_keys=[f"@{file}"])) == []


async def test_a_short_shared_key_is_accepted_only_when_it_is_asked_for() -> None:
    assert "auth.short_keys" in problems(Auth(hmac_keys=[Secret("secret")]))[0]
    auth = Auth(hmac_keys=[Secret("secret")], short_keys=True)
    assert problems(auth) == []
    assert "HS256" in signatures.shared_key("secret", short=True)
    assert problems(Auth(hmac_keys=[Secret("")], short_keys=True)) != []
