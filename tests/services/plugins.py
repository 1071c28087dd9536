"""Where RabbitMQ's plugins listen: their lines of rabbitmq.conf, by plugin, for an address and one port there."""

from collections.abc import Callable

from .ports import free_port

Listener = Callable[[str, int], dict[str, str]]


def _stream(host: str, port: int) -> dict[str, str]:
    # The client is told where to go on: without the advertised address it is sent to the machine's name.
    return {
        "stream.listeners.tcp.1": f"{host}:{port}",
        "stream.advertised_host": host,
        "stream.advertised_port": str(port),
    }


def _address(prefix: str) -> Listener:
    return lambda host, port: {f"{prefix}.listeners.tcp.1": f"{host}:{port}"}


def _web(prefix: str) -> Listener:
    return lambda host, port: {f"{prefix}.tcp.ip": host, f"{prefix}.tcp.port": str(port)}


def _over(lower: str, prefix: str) -> Listener:
    """A web plugin enables the plain one below it, which must not sit on the port that everybody knows."""
    return lambda host, port: {**_address(lower)(host, free_port()), **_web(prefix)(host, port)}


LISTENERS: dict[str, Listener] = {
    "rabbitmq_stream": _stream,
    "rabbitmq_stomp": _address("stomp"),
    "rabbitmq_mqtt": _address("mqtt"),
    "rabbitmq_web_stomp": _over("stomp", "web_stomp"),
    "rabbitmq_web_mqtt": _over("mqtt", "web_mqtt"),
    "rabbitmq_management": _web("management"),
    "rabbitmq_prometheus": _web("prometheus"),
}
