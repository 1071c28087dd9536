"""A worker without others, and without a broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from notifier.errors import Unavailable


class NoBus:
    """A `core.ports.Bus` to nobody."""

    on_message: Callable[[bytes], Awaitable[bytes]]

    def knows(self, node_id: str) -> bool:  # noqa: ARG002 - a port's shape
        return False

    async def tell(self, message: bytes) -> None:
        pass

    def say(self, message: bytes) -> None:
        pass

    async def ask(self, question: bytes) -> list[bytes]:  # noqa: ARG002
        return []


class NoBackends:
    """A `core.ports.Backends` that never answers: the embedded log has no broker to reach anybody with."""

    async def call(
        self,
        queue: str,  # noqa: ARG002
        method: str,  # noqa: ARG002
        data: bytes,  # noqa: ARG002
        info: bytes,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> bytes:
        raise Unavailable("calls of clients need RabbitMQ")

    async def send(self, queue: str, data: bytes, info: bytes) -> None:  # noqa: ARG002
        raise Unavailable("messages of clients need RabbitMQ")
