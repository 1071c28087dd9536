"""Clients that do not read, among others that do."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from loadtest import generator, orders, procfs
from loadtest.frames import CLOSE, FrameError, client_frame, split
from loadtest.latency import Quantiles
from loadtest.measurement import Helper, MeasurementFailed
from loadtest.opening import ADDRESS
from loadtest.peers.product_wire import ProductWire
from loadtest.results import trust_notes
from loadtest.traffic import Traffic
from loadtest.trials import nodes
from loadtest.trials.outcome import Bound, Outcome
from loadtest.trials.trial import CHANNEL, Trial, milliseconds
from loadtest.window import Window
from loadtest.wire import Dialogue

P99_RATIO = 1.5
SLOW = 3008
SETTLE_S = 2.0
READ_EVERY_S = 0.025
RECEIVE_BUFFER = 4096
GONE_S = 60.0
LOOK_EVERY_S = 0.1
SPARE_MIB = 16
"""What the server's memory grows by anyway while publications flow, in the history for example."""


class Slow(Trial):
    key = "slow"
    about = (
        "Healthy clients alone, then beside others that have stopped reading. The server holds at most its buffer for "
        "each of those, then they are gone with 3008, and the healthy ones do not notice."
    )

    @classmethod
    def options(cls, add: Callable[..., object]) -> None:
        add("--clients", type=int, default=1000, help="healthy ones (default: %(default)s)")
        add("--stopped", type=int, default=50, help="others (default: %(default)s)")
        add("--rate", type=float, default=50.0, help="publications a second, to all of them (default: %(default)s)")
        add("--size", type=int, default=4000, help="bytes of one publication's data (default: %(default)s)")
        add("--buffer", type=int, default=256, help="clients.max_buffer in KiB (default: %(default)s)")
        add("--seconds", type=float, default=8.0, help="length of the first window (default: %(default)s)")

    def run(self) -> Outcome:
        chosen = self.chosen
        settings = {"max_buffer": f"{chosen.buffer}KiB"}
        traffic = Traffic("fanout", chosen.clients, chosen.rate, chosen.size)
        with nodes.running(1, self.cores.servers, clients=settings) as cluster:
            [node] = cluster.nodes
            spec = orders.Spec(
                node.port, ProductWire(nodes.SECRET), traffic, [node.pid], self.cores.servers, self.cores.clients,
                READ_EVERY_S, samples=chosen.clients,
            )  # fmt: skip
            crowd = Helper(generator.main, spec)
            try:
                crowd.hear(orders.Opened)
                with self.publications(cluster, chosen.rate, chosen.size) as voice:
                    time.sleep(SETTLE_S)
                    return self._compare(node, crowd, voice)
            finally:
                crowd.end()

    def _compare(self, node: nodes.Node, crowd: Helper, voice: Helper) -> Outcome:
        chosen = self.chosen
        self.tell("healthy clients alone")
        alone = self._window(crowd, lambda: time.sleep(chosen.seconds))
        self.tell("beside clients that have stopped")
        before = procfs.memory_bytes([node.pid])
        with _stopped(node.port, chosen.stopped) as stopped:
            peak = before
            began = time.monotonic()

            def watch() -> None:
                nonlocal peak
                while time.monotonic() < began + GONE_S and node.metric(_GONE) < chosen.stopped:
                    peak = max(peak, procfs.memory_bytes([node.pid]))
                    time.sleep(LOOK_EVERY_S)

            beside = self._window(crowd, watch)
            took_s = time.monotonic() - began
            gone = node.metric(_GONE)
            codes = [_last_code(one) for one in stopped]
        count = self.stopped(voice)
        crowd.tell(orders.Finish(count * chosen.clients, GONE_S))
        totals = crowd.hear(orders.Totals)
        bounds = [
            Bound("p99 of the healthy, against alone", _ratio(beside, alone), P99_RATIO, "times"),
            Bound(
                "growth of the server's memory", (peak - before) / 2**20,
                chosen.stopped * chosen.buffer / 1024 + SPARE_MIB, "MiB",
            ),
            Bound("clients gone with 3008", gone, chosen.stopped, least=True),
            Bound("deliveries that the healthy miss", count * chosen.clients - totals.received, 0),
            Bound("connections that the healthy lost", totals.lost_connections, 0),
        ]  # fmt: skip
        figures = {
            "alone": milliseconds(alone),
            "beside the others": milliseconds(beside),
            "until the last one was gone": f"{took_s:.1f} s",
            "told 3008 when they read again": f"{codes.count(SLOW)} of {chosen.stopped}; the others were cut off",
        }
        return self.outcome(bounds, figures)

    def _window(self, crowd: Helper, meanwhile: Callable[[], None]) -> Quantiles:
        crowd.tell(orders.OpenWindow())
        meanwhile()
        crowd.tell(orders.CloseWindow())
        window = crowd.hear(Window)
        self.notes += trust_notes(window)
        if window.latency is None:
            raise MeasurementFailed("nothing was delivered in the window")
        return window.latency


_GONE = f'notifier_disconnects_total{{code="{SLOW}"}}'


@contextlib.contextmanager
def _stopped(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Clients that are subscribed and do not read."""
    wire = ProductWire(nodes.SECRET)
    made: list[socket.socket] = []
    try:
        for number in range(count):
            one = socket.socket()
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            one.connect((ADDRESS, port))
            dialogue = Dialogue(wire.steps(number, CHANNEL))
            one.sendall(dialogue.begin())
            while not dialogue.done:
                one.sendall(dialogue.take(one.recv(RECEIVE_BUFFER)))
        yield made
    finally:
        for one in made:
            one.close()


def _last_code(one: socket.socket) -> int:
    """Read what is left; the code of the close frame, 0 when the connection was cut off before it."""
    one.settimeout(2)
    rest = bytearray()
    try:
        while data := one.recv(65_536):
            rest += data
            if data.endswith(b"slow"):
                one.sendall(client_frame(SLOW.to_bytes(2, "big"), CLOSE))
        frames, _ = split(bytes(rest)[rest.rfind(b"\x88\x06") :])
    except (OSError, FrameError):
        return 0
    return int.from_bytes(frames[-1].payload[:2], "big") if frames and frames[-1].opcode == CLOSE else 0


def _ratio(beside: Quantiles, alone: Quantiles) -> float:
    return beside.p99 / alone.p99
