"""The examination: every part looked at, side by side, each within a deadline."""

from __future__ import annotations

import asyncio

from notifier.config import Config
from notifier.operator.doctor import broker, certificate, keys, machine, redis, settings
from notifier.operator.doctor.finding import Finding, fail

DEADLINE_S = 20.0


async def examine(config: Config) -> list[Finding]:
    """All findings, in the order in which one would mend them. Never raises for what it finds."""
    parts = (settings, machine, certificate, broker, redis, keys)
    found = await asyncio.gather(
        *(asyncio.wait_for(part.look(config), DEADLINE_S) for part in parts), return_exceptions=True
    )
    findings: list[Finding] = []
    for name, result in zip((part.TOPIC for part in parts), found, strict=True):
        if isinstance(result, list):
            findings += result
        elif isinstance(result, TimeoutError):
            findings.append(fail(name, f"gave no answer within {DEADLINE_S:g} s", "see whether it hangs"))
        elif isinstance(result, Exception):
            findings.append(fail(name, f"could not be looked at ({type(result).__name__})", "report this as a bug"))
        elif isinstance(result, BaseException):
            raise result
    return findings
