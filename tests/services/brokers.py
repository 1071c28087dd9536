"""Several brokers as one cluster, and the loss of the network between them."""

from __future__ import annotations

import contextlib
from typing import Self

from .deadline import SECOND, wait_until
from .rabbitmq import RabbitMQ

# Whoever is in the minority stops: what RabbitMQ recommends where no confirmed message may be lost.
SETTINGS = {"cluster_partition_handling": "pause_minority"}


class Brokers:
    """A cluster. Blocking: in a test use ``asyncio.to_thread``.

    Two brokers lose each other when neither believes the other one's cookie any more: their connection is closed, and
    every attempt at a new one fails. That needs neither root nor a network of its own.
    """

    def __init__(self, count: int) -> None:
        first = RabbitMQ(settings=SETTINGS)
        self.all = [first, *(RabbitMQ(settings=SETTINGS, beside=first) for _ in range(count - 1))]

    def __enter__(self) -> Self:
        try:
            for broker in self.all:
                broker.start()
            for broker in self.all[1:]:
                for words in (["stop_app"], ["reset"], ["join_cluster", self.all[0].node], ["start_app"]):
                    broker.ctl(*words, deadline_s=120 * SECOND)
                broker.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for broker in reversed(self.all):  # the first one has the daemon that knows all names
            broker.close()

    def cut_off(self, lost: RabbitMQ) -> None:
        """Between this one and all others nothing goes any more. Returns when it has stopped."""
        others = [broker for broker in self.all if broker is not lost]
        for broker in others:
            _eval(broker, f"erlang:set_cookie('{lost.node}', here).")
        # All at once, or `global` of OTP 25 finds that partitions overlap and takes the others apart too.
        nodes = ", ".join(f"'{broker.node}'" for broker in others)
        _eval(
            lost,
            f"Nodes = [{nodes}], [erlang:set_cookie(Node, there) || Node <- Nodes],"
            " [erlang:disconnect_node(Node) || Node <- Nodes].",
        )
        wait_until(lambda: not self.serves(lost), 60 * SECOND)

    def heal(self) -> None:
        for broker in self.all:
            for other in self.all:
                if broker is not other:
                    _eval(broker, f"erlang:set_cookie('{other.node}', erlang:get_cookie()).")
        for broker in self.all:
            broker.wait_ready(120 * SECOND)

    @staticmethod
    def serves(broker: RabbitMQ) -> bool:
        """Whether it takes connections of clients."""
        with contextlib.suppress(OSError):
            return broker._ready()
        return False


def _eval(broker: RabbitMQ, words: str) -> None:
    broker.ctl("eval", words)
