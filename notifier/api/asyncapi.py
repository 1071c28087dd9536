"""What goes over AMQP, and the channels of clients, as an AsyncAPI 3.0 document
(https://www.asyncapi.com/docs/reference/specification/v3.0.0), made from the running configuration.

It never holds a secret, but it says who may do what: only for those with an API key.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from notifier import __version__
from notifier.api import schemas
from notifier.api.methods import BATCH, METHODS
from notifier.api.requests import BatchRequest
from notifier.api.schemas import Schema, reference
from notifier.config import ChannelRule, Config, RabbitMQ, RpcRule
from notifier.core.channel import MAX_BYTES
from notifier.log.amqp import CHANNELS, TAG
from notifier.protocol.codes import Error

BINDING = "0.3.0"  # of https://github.com/asyncapi/bindings/tree/master/amqp
REPLY_TO, CORRELATION = "$message.header#/reply_to", "$message.header#/correlation_id"

ENDPOINTS = {
    "websocket": ("ws", "/connection/websocket", "SDKs: JSON, and Protobuf by subprotocol."),
    "httpStream": ("http", "/connection/http_stream", "SDKs without WebSocket; their commands go to /emulation."),
    "sse": ("http", "/connection/sse", "The same as an event stream."),
    "oneWayWebsocket": ("ws", "/connection/uni_websocket", "The SDKs' pushes without an SDK."),
    "oneWayHttpStream": ("http", "/connection/uni_http_stream", "The same as lines of a response."),
    "oneWaySse": ("http", "/connection/uni_sse", "The same as an event stream."),
    "plainSse": ("http", "/sse", "EventSource without an SDK: ?channels=a,b; the event's id resumes all of them."),
    "plainWebsocket": ("ws", "/ws", "The same in the frames of a WebSocket."),
}

Parts = dict[str, dict[str, Any]]


def document(config: Config, host: str) -> dict[str, Any]:
    """The document, ready to be written as JSON. `host` is where clients reach this server."""
    servers: Parts = {
        name: {"host": host, "protocol": protocol, "pathname": path, "description": text}
        for name, (protocol, path, text) in ENDPOINTS.items()
    }
    channels: Parts = {}
    operations: Parts = {}
    messages: Parts = {"publication": _publication()}
    components: dict[str, Any] = {"messages": messages}
    if config.log.kind == "rabbitmq":
        servers["broker"] = _broker(config.rabbitmq)
        _describe_log(config.rabbitmq, channels, operations, messages)
        if config.rabbitmq.api:
            components["schemas"] = _describe_api(config.rabbitmq, channels, operations, messages)
        for index, entry in enumerate(config.rpc):
            _describe_rpc(index, entry, channels, operations, messages)
    for index, rule in enumerate(config.channels):
        _describe_rule(index, rule, channels, operations)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Notifications", "version": __version__, "description": _ABOUT},
        "defaultContentType": "application/json",
        "servers": servers,
        "channels": channels,
        "operations": operations,
        "components": components,
    }


_ABOUT = """Seen from the server: it receives what backends publish, and sends it to clients. A channel that begins \
with `rule` stands for all channels of clients that a rule of the configuration is the first one to match."""


# --- AMQP -----------------------------------------------------------------------------------------------------------


def _broker(section: RabbitMQ) -> dict[str, Any]:
    url = urlsplit(str.__str__(section.url))
    port = url.port or (5671 if url.scheme == "amqps" else 5672)
    return {
        "host": f"{url.hostname or 'localhost'}:{port}",
        "protocol": url.scheme,
        "protocolVersion": "0.9.1",
        "pathname": "/" + _vhost(section).removeprefix("/"),
        "description": "RabbitMQ.",
        "security": [{"type": "userPassword"}],
    }


def _vhost(section: RabbitMQ) -> str:
    """Without a name the URL means the virtual host `/` (https://www.rabbitmq.com/docs/uri-spec)."""
    return unquote(urlsplit(str.__str__(section.url)).path[1:]) or "/"


def _describe_log(section: RabbitMQ, channels: Parts, operations: Parts, messages: Parts) -> None:
    channels["publications"] = {
        "address": "{channel}",
        "description": f"The routing key is the channel, 1 to {MAX_BYTES} bytes.",
        "parameters": {"channel": {"description": "Words separated by dots, such as user.42."}},
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {"publication": {"$ref": "#/components/messages/publication"}},
        "bindings": _topic(section, section.exchange),
    }
    channels["log"] = {
        "address": section.stream,
        "description": "The stream that is the log: bound to the exchange with #, read by every worker.",
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {"publication": {"$ref": "#/components/messages/publication"}},
        "bindings": _queue(section, section.stream),
        "x-arguments": {
            "x-queue-type": "stream",
            "x-max-age": f"{int(section.max_age)}s",
            "x-max-length-bytes": int(section.max_bytes),
        },
    }
    channels["rejected"] = {
        "address": section.rejected,
        "description": "Copies of records that are no publications, with the reason.",
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {"rejected": {"$ref": "#/components/messages/rejected"}},
        "bindings": _queue(section, section.rejected),
    }
    messages["rejected"] = {
        "contentType": "application/octet-stream",
        "headers": _headers(
            {
                "x-rejected-reason": ("string", "One of a closed set of words."),
                "x-rejected-detail": ("string", "What is wrong, for people."),
                "x-rejected-offset": ("integer", "Its offset in the log."),
                "x-rejected-routing-key": ("string", "The routing key it came with."),
            }
        ),
        "payload": {"description": "The body as it came."},
    }
    operations["takePublications"] = _operation("receive", "publications", "What backends publish.")
    operations["readLog"] = _operation("receive", "log", "Every worker reads it in its order.")
    operations["reject"] = _operation("send", "rejected", "Each once, by one of the workers.")


def _publication() -> dict[str, Any]:
    headers = _headers(
        {
            CHANNELS: ("string", "More channels for the same message: names separated by spaces."),
            "traceparent": ("string", "W3C trace context."),
        }
    )
    headers["patternProperties"] = {f"^{TAG}": {"type": "string", "description": "A tag, for filters."}}
    return {
        "contentType": "application/json",
        "headers": headers,
        "payload": {"description": "The publication's data: any JSON value in UTF-8."},
        "x-amqp-properties": {
            "message_id": "Idempotency key: the same one again on the same channel is not delivered twice.",
            "expiration": "Milliseconds for which it is worth delivering.",
            "type": "The event's name in an event stream.",
            "timestamp": "When it was published.",
            "app_id": "Who published it.",
        },
    }


def _describe_api(section: RabbitMQ, channels: Parts, operations: Parts, messages: Parts) -> dict[str, Schema]:
    """The server API over AMQP; the answer is the schemas of its messages."""
    requests = {name: method.request for name, method in METHODS.items()} | {BATCH: BatchRequest}
    channels["api"] = {
        "address": "{method}",
        "description": "The server API: the method is the routing key, or the property type.",
        "parameters": {"method": {"enum": [*requests]}},
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}Request"} for name in requests},
        "bindings": _topic(section, section.api),
    }
    channels["apiAnswers"] = _answers("apiAnswer", "The queue that the request names in reply_to.")
    for name, request in requests.items():
        messages[f"{name}Request"] = {
            "payload": reference(request.__name__),
            "correlationId": {"location": CORRELATION},
        }
    messages["apiAnswer"] = {
        "correlationId": {"location": CORRELATION},
        "payload": {
            "type": "object",
            "description": "What the method answers over HTTP; of a batch `replies`.",
            "properties": {"result": {}, "replies": {"type": "array"}, "error": reference("Error")},
            "minProperties": 1,
            "maxProperties": 1,
        },
    }
    operations["answerApi"] = {
        **_operation("receive", "api", "Each request is answered once, by one of the workers."),
        "reply": _reply("apiAnswers", "apiAnswer"),
    }
    return schemas.of([*requests.values(), Error])


def _describe_rpc(index: int, entry: RpcRule, channels: Parts, operations: Parts, messages: Parts) -> None:
    name = f"rpc{index}"
    channels[name] = {
        "address": entry.queue,
        "description": f"Calls of clients to methods that match {entry.method}; the method is the property type.",
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {"call": {"$ref": "#/components/messages/call"}},
        "bindings": {"amqp": {"is": "queue", "queue": {"name": entry.queue}, "bindingVersion": BINDING}},
        "x-rule": {"method": entry.method, "allow": entry.allow, "timeout_s": float(entry.timeout)},
    }
    channels["rpcAnswers"] = _answers("answer", "The queue that the call names in reply_to.")
    messages["call"] = {
        "headers": _headers({"notifier-client": ("string", "Who calls: user and client, as JSON.")}),
        "payload": {"description": "The data of the call: any JSON value."},
        "correlationId": {"location": CORRELATION},
    }
    messages["answer"] = {
        "headers": _headers({"notifier-error-code": ("integer", "Only of an error, whose text is the body.")}),
        "payload": {"description": "Any JSON value."},
        "correlationId": {"location": CORRELATION},
    }
    operations[name] = {
        **_operation("send", name, "A client's call."),
        "reply": _reply("rpcAnswers", "answer"),
    }


def _answers(message: str, text: str) -> dict[str, Any]:
    return {
        "address": None,
        "description": text,
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _reply(channel: str, message: str) -> dict[str, Any]:
    return {
        "address": {"location": REPLY_TO},
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _topic(section: RabbitMQ, name: str) -> dict[str, Any]:
    exchange = {"name": name, "type": "topic", "durable": True, "autoDelete": False, "vhost": _vhost(section)}
    return {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": BINDING}}


def _queue(section: RabbitMQ, name: str) -> dict[str, Any]:
    queue = {"name": name, "durable": True, "exclusive": False, "autoDelete": False, "vhost": _vhost(section)}
    return {"amqp": {"is": "queue", "queue": queue, "bindingVersion": BINDING}}


def _headers(fields: dict[str, tuple[str, str]]) -> Schema:
    return {
        "type": "object",
        "properties": {name: {"type": kind, "description": text} for name, (kind, text) in fields.items()},
    }


def _operation(action: str, channel: str, text: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": text}


# --- clients --------------------------------------------------------------------------------------------------------


def _describe_rule(index: int, rule: ChannelRule, channels: Parts, operations: Parts) -> None:
    name = f"rule{index}"
    address, parameters = _address(rule.match)
    channels[name] = {
        "address": address,
        "title": rule.match,
        "description": _in_words(rule),
        "parameters": parameters,
        "servers": [{"$ref": f"#/servers/{endpoint}"} for endpoint in ENDPOINTS],
        "messages": {"publication": {"$ref": "#/components/messages/publication"}},
        "x-rule": msgspec.to_builtins(rule, enc_hook=float),  # durations in seconds
    }
    operations[f"{name}Deliver"] = _operation("send", name, f"To subscribers: {_anybody(rule.subscribe)}.")
    if rule.publish:
        operations[f"{name}Accept"] = _operation("receive", name, f"From clients: {_anybody(rule.publish)}.")


def _address(pattern: str) -> tuple[str | None, Parts]:
    """The pattern with a parameter for each word that stands for others."""
    if "{" in pattern or "}" in pattern:
        return None, {}  # they would be taken for parameters
    words: list[str] = []
    parameters: Parts = {}
    for place, word in enumerate(pattern.split("."), 1):
        if word in ("*", "#"):
            name = f"word{place}" if word == "*" else f"words{place}"
            parameters[name] = {"description": "One word." if word == "*" else "Any number of words, or none."}
            words.append("{" + name + "}")
        else:
            words.append(word)
    return ".".join(words), parameters


def _in_words(rule: ChannelRule) -> str:
    kept = "Keeps no history."
    if rule.history is not None:
        kept = f"Keeps {rule.history.size} publications, none older than {rule.history.ttl:g} s."
    if rule.recovery == "cache":
        kept += " A subscriber gets the last one."
    others = {
        "presence": rule.presence,
        "join and leave": rule.join_leave != "off",
        "deltas": rule.delta,
        "tag filters": rule.tag_filter,
        "subscriptions to patterns": rule.wildcard,
    }
    with_ = ", ".join(name for name, is_on in others.items() if is_on)
    return f"{kept}{f' With {with_}.' if with_ else ''}"


def _anybody(rights: list[str]) -> str:
    return " or ".join(rights) or "nobody"
