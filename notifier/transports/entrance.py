"""Entrance: who may begin to connect here, and when. What it turns away has cost next to nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from notifier.config import Server
from notifier.core.admission import Admission, Answer
from notifier.core.node import Node

LONGEST_RETRY_S = 3
SHORTEST_TURN_S = 0.001


class Entrance:
    """Nobody enters while this worker is not ready or is leaving, and newcomers only as fast as deliveries allow."""

    def __init__(self, node: Node, server: Server) -> None:
        """Must be called inside a running loop."""
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._admission: Admission[asyncio.Future[bool]] = Admission(
            server.max_connect_rate, server.connect_patience, node.clock
        )
        self._most = server.max_connections
        self._turn: asyncio.Handle | None = None

    async def opens(self) -> bool:
        """Wait for one's turn, if need be. The answer is whether to go on; see `unavailable` for the other case."""
        if self._is_closed():
            return False
        admission, turn = self._admission, self._loop.create_future()
        answer = admission.ask(turn)
        if answer is Answer.NEVER:
            self._node.stats.refused["storm"] += 1
            return False
        self._expect_turn()
        if answer is Answer.NOW:
            return True
        try:
            if not await turn:
                self._node.stats.refused["storm"] += 1
                return False
        finally:
            admission.withdraw(turn)
            self._node.stats.waiting = len(admission)
        return not self._is_closed()

    def _is_closed(self) -> bool:
        node = self._node
        if node.draining:
            node.stats.refused["leaving"] += 1
            return True
        if not node.log.ready:
            node.stats.refused["not_ready"] += 1
            return True
        if self._most and node.stats.connections.total() >= self._most:
            node.stats.refused["full"] += 1
            return True
        return False

    def _expect_turn(self) -> None:
        """A turn of the loop's for everybody else, then one for the newcomers."""
        self._node.stats.waiting = len(self._admission)
        delay_s = self._admission.next_turn_s
        if self._turn is None and delay_s is not None:
            if delay_s < SHORTEST_TURN_S:
                self._turn = self._loop.call_soon(self._give_turn)
            else:
                self._turn = self._loop.call_later(delay_s, self._give_turn)

    def _give_turn(self) -> None:
        self._turn = None
        admitted, refused = self._admission.turn()
        for answer, answered in ((True, admitted), (False, refused)):
            for turn in answered:
                if not turn.done():
                    turn.set_result(answer)
        self._expect_turn()


def unavailable(text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """503 for who shall try elsewhere: the connection ends, so that a balancer chooses anew, and how long to wait is by
    chance, so that those who were refused together do not come back together.

    To be returned: an exception and its traceback are a circle of objects, and a crowd may get this.
    """
    fields = {"Content-Type": "text/plain; charset=utf-8", **(headers or {}), "Retry-After": str(retry_after_s())}
    refused = web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, body=text.encode(), headers=fields)
    refused.force_close()
    return refused


def gone() -> web.Response:
    """For a client that has gone while its request waited; nobody reads this answer."""
    return unavailable("the client has gone\n")


def retry_after_s() -> int:
    """Whole seconds (RFC 9110 section 10.2.3)."""
    return random.randint(1, LONGEST_RETRY_S)  # noqa: S311 - spread, not secret


def about(delay_s: float) -> float:
    """A delay like this one, by chance up to half longer or shorter."""
    return delay_s * random.uniform(0.5, 1.5)  # noqa: S311 - spread, not secret
