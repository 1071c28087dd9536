"""Certificates: the server's own, and those of whom it talks to: whether they are trusted, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from notifier.certificate import Certificate
from notifier.config import Config, Server
from notifier.errors import ConfigError
from notifier.operator.doctor.finding import Finding, fail, ok, warn

TOPIC = "tls"
SOON_S = 21 * 86400
OTHERS = 0o077


async def look(config: Config) -> list[Finding]:
    """The server's own."""
    return _own(config.server)


def _own(server: Server) -> list[Finding]:
    if not server.tls_certificate:
        return []
    try:
        Certificate(server.tls_certificate, server.tls_key)
        mode = Path(server.tls_key).stat().st_mode
        own = x509.load_pem_x509_certificates(Path(server.tls_certificate).read_bytes())[0]
    except (ConfigError, OSError, ValueError) as error:
        return [fail(TOPIC, str(error), "server.tls_certificate, server.tls_key: files in PEM that fit together")]
    found = [expiry(TOPIC, "the server's certificate", own.public_bytes(Encoding.DER))]
    if mode & OTHERS:
        found.append(warn(TOPIC, "others may read the private key's file", f"chmod 600 {server.tls_key}"))
    return found


async def certificate_of(topic: str, host: str, port: int) -> list[Finding]:
    """Whether the certificate on this address is trusted, and for how long."""
    context = ssl.create_default_context()
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        return [fail(topic, f"the certificate of {host} is not trusted: {error.verify_message}", "renew or trust it")]
    except (OSError, TimeoutError):
        return [fail(topic, f"no TLS connection to {host}:{port}", "see that it listens there, and speaks TLS")]
    secured = writer.get_extra_info("ssl_object")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return [expiry(topic, f"the certificate of {host}", secured.getpeercert(binary_form=True))]


def expiry(topic: str, what: str, certificate: bytes) -> Finding:
    """Whether a certificate (DER) ends soon."""
    left_s = (x509.load_der_x509_certificate(certificate).not_valid_after_utc - datetime.now(UTC)).total_seconds()
    if left_s < 0:
        return fail(topic, f"{what} has expired", "renew it")
    if left_s < SOON_S:
        return warn(topic, f"{what} expires in {left_s / 86400:.0f} days", "renew it")
    return ok(topic, f"{what} is good for {left_s / 86400:.0f} days")
