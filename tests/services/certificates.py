"""Certificates for tests: an authority of their own, and what it signs for this machine."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


class Authority:
    """Writes `ca.pem` into the folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("tests")
        certificate = self._built(self._name, self._key, days=30, is_authority=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, chain: Path, key: Path, *, name: str = "localhost", days: float = 30) -> None:
        """A certificate for `localhost` and 127.0.0.1, and its key."""
        own = ec.generate_private_key(ec.SECP256R1())
        certificate = self._built(_name(name), own, days=days, is_authority=False)
        no_password = serialization.NoEncryption()
        key.write_bytes(own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password))
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _built(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: float, is_authority: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
