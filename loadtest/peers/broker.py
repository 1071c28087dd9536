"""RabbitMQ beside the servers of this repository."""

from __future__ import annotations

from loadtest.peers.peer import NotStarted
from tests.services.ports import LOCALHOST
from tests.services.rabbitmq import RabbitMQ

STREAMS = "rabbitmq_stream"


class SharedBroker:
    """One private RabbitMQ, however many servers of a run use it: they are measured in turn, and an idle one beside
    them would only take memory and time."""

    def __init__(self) -> None:
        self._broker: RabbitMQ | None = None
        self._users = 0

    def acquire(self) -> RabbitMQ:
        """Started for the first who asks. Raises NotStarted."""
        if self._broker is None:
            broker = RabbitMQ(plugins=[STREAMS])
            try:
                broker.start()
            except RuntimeError as error:
                broker.close()
                raise NotStarted(str(error)) from error
            self._broker = broker
        self._users += 1
        return self._broker

    def release(self) -> None:
        """Ended with the last who had it."""
        self._users -= 1
        if self._broker and not self._users:
            self._broker.close()
            self._broker = None


def stream_url(broker: RabbitMQ) -> str:
    """Where it speaks the stream protocol."""
    return f"rabbitmq-stream://{LOCALHOST}:{broker.port_of(STREAMS)}"


BROKER = SharedBroker()
