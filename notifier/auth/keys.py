"""API keys: who may use the server API."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from notifier.config import Secret


class ApiKeys:
    """The configured keys. None configured: nobody may."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        self.replace(keys)

    def replace(self, keys: Sequence[Secret]) -> None:
        """These are the keys from now on."""
        self._keys = [key.encode() for key in keys if key]

    def find(self, key: str) -> int:
        """The key's number in the configuration, from 1 on; 0 when it is none. Takes the same time whichever key it is,
        and wherever a wrong one differs."""
        given = key.encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        return matches.index(True) + 1 if any(matches) else 0

    def accept(self, key: str) -> bool:
        return self.find(key) > 0

    def __bool__(self) -> bool:
        return bool(self._keys)
