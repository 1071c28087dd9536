"""The server's TLS certificate: loaded, and loaded again when its files change, without a restart."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from cryptography import x509

from notifier.errors import ConfigError

_logger = logging.getLogger(__name__)


class Certificate:
    """`context` is for listening: TLS 1.2 or newer (RFC 9325, section 3.1.1). `expires_at` is wall time in seconds."""

    def __init__(self, chain: str, key: str) -> None:
        """Both are files in PEM. Raises ConfigError when they cannot be used."""
        self._chain, self._key = Path(chain), Path(key)
        try:
            self._seen = self._stamp()
            self.context = _context(self._chain, self._key)
            self.expires_at = _expiry(self._chain)
        except (OSError, ValueError) as error:
            raise ConfigError([f"server.tls_certificate, server.tls_key: {_reason(error)}"]) from error

    def renew(self) -> bool:
        """Take what is in the files now, if they have changed; connections that are there stay as they are. What cannot
        be used changes nothing, and is told once."""
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            self._seen = stamp
            _context(self._chain, self._key)  # before the one in use is touched
            self.context.load_cert_chain(self._chain, self._key)
            self.expires_at = _expiry(self._chain)
        except (OSError, ValueError) as error:
            reason = _reason(error)
            _logger.error("the new certificate cannot be used, the old one stays: %s", reason)  # noqa: TRY400
            return False
        _logger.info("a new certificate is in use", extra={"expires_at": self.expires_at})
        return True

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        """What tells that a file is another one: also where a link points elsewhere, as with mounted secrets."""
        return tuple((found.st_mtime_ns, found.st_ino) for found in (self._chain.stat(), self._key.stat()))


def _context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Without a password for the key, one that needs it must not be asked for on the terminal.
    context.load_cert_chain(chain, key, password=lambda: b"")
    return context


def _expiry(chain: Path) -> float:
    return x509.load_pem_x509_certificates(chain.read_bytes())[0].not_valid_after_utc.timestamp()


def _reason(error: Exception) -> str:
    match error:
        case ssl.SSLError():
            return f"the certificate and the key do not fit together, or are not in PEM ({error.reason or 'TLS'})"
        case OSError():
            return f"{error.filename or 'a file'}: {error.strerror}"
        case _:
            return str(error)
