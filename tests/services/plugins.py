"""Where RabbitMQ's plugins listen: their lines of rabbitmq.conf, by plugin, for one port on loopback."""

from collections.abc import Callable

from .ports import LOCALHOST, free_port


def _stream(port: int) -> dict[str, str]:
    # The client is told where to go on: without the advertised address it is sent to the machine's name.
    return {
        "stream.listeners.tcp.1": f"{LOCALHOST}:{port}",
        "stream.advertised_host": LOCALHOST,
        "stream.advertised_port": str(port),
    }


def _address(prefix: str) -> Callable[[int], dict[str, str]]:
    return lambda port: {f"{prefix}.listeners.tcp.1": f"{LOCALHOST}:{port}"}


def _web(prefix: str) -> Callable[[int], dict[str, str]]:
    return lambda port: {f"{prefix}.tcp.ip": LOCALHOST, f"{prefix}.tcp.port": str(port)}


def _over(lower: str, prefix: str) -> Callable[[int], dict[str, str]]:
    """A web plugin enables the plain one below it, which must not sit on the port that everybody knows."""
    return lambda port: {**_address(lower)(free_port()), **_web(prefix)(port)}


LISTENERS: dict[str, Callable[[int], dict[str, str]]] = {
    "rabbitmq_stream": _stream,
    "rabbitmq_stomp": _address("stomp"),
    "rabbitmq_mqtt": _address("mqtt"),
    "rabbitmq_web_stomp": _over("stomp", "web_stomp"),
    "rabbitmq_web_mqtt": _over("mqtt", "web_mqtt"),
    "rabbitmq_management": _web("management"),
    "rabbitmq_prometheus": _web("prometheus"),
}
