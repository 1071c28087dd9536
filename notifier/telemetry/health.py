"""Health: is the process alive, and should it get new clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct


class Check(Struct, omit_defaults=True):
    """One thing that must hold for new clients to be sent here. `detail` says why not, or something worth knowing."""

    ok: bool
    detail: str = ""


class Health:
    """Named checks. All must hold to be ready; none of them ever ends a connection or fails liveness."""

    def __init__(self) -> None:
        self._checks: dict[str, Callable[[], Check]] = {}

    def add(self, name: str, check: Callable[[], Check]) -> None:
        self._checks[name] = check

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether this is ready, and the body that says why."""
        results = {name: check() for name, check in self._checks.items()}
        ready = all(result.ok for result in results.values())
        return ready, {"status": "ready" if ready else "not ready", "checks": results}
