"""API keys: who may use the server API."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from notifier.config import Secret


class ApiKeys:
    """The configured keys. None configured: nobody may."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        self._keys = [key.encode() for key in keys if key]

    def accept(self, key: str) -> bool:
        """Takes the same time whichever key it is, and wherever a wrong one differs."""
        given = key.encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        return any(matches)

    def __bool__(self) -> bool:
        return bool(self._keys)
