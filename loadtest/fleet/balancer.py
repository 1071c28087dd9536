"""What a load balancer does, at the clients' side: it asks the nodes whether they are ready, sends newcomers to those
that are, and tries another one when a node refuses. So it costs no CPU for what goes through it."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Sequence

from loadtest.opening import ADDRESS

CHECK_EVERY_S = 0.25
CHECK_TIMEOUT_S = 2.0


class Balancer:
    """Of one node nobody asks whether it is ready."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._ready = set(ports)
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(port,), daemon=True) for port in ports if len(ports) > 1
        ]
        for thread in self._threads:
            thread.start()

    def choose(self, tried: Sequence[int] = ()) -> int:
        """A node by chance that was not tried, ready ones first; 0 when all were tried."""
        left = [port for port in self._ports if port not in tried]
        return random.choice([port for port in left if port in self._ready] or left or [0])

    def close(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, port: int) -> None:
        while not self._ending.wait(CHECK_EVERY_S):
            if _is_ready(port):
                self._ready.add(port)
            else:
                self._ready.discard(port)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=CHECK_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
