"""`/livez`, `/readyz`, `/metrics`: of this worker, and where it has siblings, of all of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from notifier.telemetry.health import Health
from notifier.telemetry.merge import merged
from notifier.telemetry.metrics import CONTENT_TYPE, Metrics
from notifier.workers.siblings import Answers, Siblings

METRICS, READY = "metrics", "ready"


class StatusEndpoints:
    """The handlers of the three paths."""

    def __init__(self, health: Health, metrics: Metrics, siblings: Siblings | None) -> None:
        self._health = health
        self._metrics = metrics
        self._siblings = siblings

    def answers(self) -> Answers:
        """What siblings may ask."""
        return {METRICS: self._metrics.text, READY: lambda: msgspec.json.encode(self._health.report())}

    async def livez(self, _request: web.Request) -> web.Response:
        """The loop answers, so the process is alive; nothing else counts."""
        return web.Response(body=b'{"status":"alive"}', content_type="application/json")

    async def readyz(self, _request: web.Request) -> web.Response:
        ready, body = await self._report()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")

    async def metrics(self, _request: web.Request) -> web.Response:
        text = self._metrics.text()
        if self._siblings is not None:
            others = await self._siblings.ask(METRICS)
            text = merged([text, *(answer for answer in others.values() if answer is not None)])
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def _report(self) -> tuple[bool, dict[str, Any]]:
        """Ready when every worker is that takes connections; one that is being replaced takes none."""
        ready, body = self._health.report()
        if self._siblings is None:
            return ready, body
        workers: dict[str, Any] = {str(self._siblings.index): body}
        for index, answer in (await self._siblings.ask(READY)).items():
            if answer is None:
                begun = self._siblings.has_begun(index)
                workers[str(index)] = {"status": "being replaced" if begun else "starting"}
                ready = ready and begun
                continue
            other_ready, other = msgspec.json.decode(answer, type=tuple[bool, dict[str, Any]])
            workers[str(index)] = other
            ready = ready and other_ready
        status = "ready" if ready else "not ready"
        return ready, {"status": status, "checks": _worst(workers), "workers": dict(sorted(workers.items()))}


def _worst(workers: dict[str, Any]) -> dict[str, Any]:
    """Of each check the one that does not hold, if there is such a one among the workers."""
    found: dict[str, Any] = {}
    for worker in workers.values():
        for name, check in msgspec.to_builtins(worker.get("checks", {})).items():
            if name not in found or not check["ok"]:
                found[name] = check
    return found
