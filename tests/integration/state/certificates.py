"""An authority of the test's own, and certificates that it has signed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """Writes `ca.pem` into the folder, and what it signs beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority of the tests")
        builder = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self._write("ca.pem", builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def sign(self, file: str, *names: x509.GeneralName) -> None:
        """`FILE.pem` and `FILE.key`: for a server with these names, or a client that has none."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(file), self._name, key)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self._write(f"{file}.pem", builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        self._write(f"{file}.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def _write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
