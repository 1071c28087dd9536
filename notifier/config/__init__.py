"""The configuration: typed sections whose description and default stand at the field, how they are loaded and checked,
and the reference that is made from them."""

from notifier.config.addresses import RedisAddress, is_loopback, is_trusted, redis_address
from notifier.config.checking import DEV_API_KEY, DEV_OPERATOR, DEV_SECRET, OPERATOR, check
from notifier.config.file import Config
from notifier.config.keyfiles import read_public_key
from notifier.config.loading import ENV_PREFIX, load
from notifier.config.reference import as_toml, default, description, reference
from notifier.config.rules import ChannelRule, Clients, Connect, HistoryRule, Limits, Publications, RpcRule
from notifier.config.sections import (
    Admin,
    Api,
    Auth,
    HistorySection,
    LoggingSection,
    LogSection,
    RabbitMQ,
    Redis,
    Server,
    Telemetry,
)
from notifier.config.values import Duration, Secret, Section, Size, Workers

__all__ = [
    "DEV_API_KEY",
    "DEV_OPERATOR",
    "DEV_SECRET",
    "ENV_PREFIX",
    "OPERATOR",
    "Admin",
    "Api",
    "Auth",
    "ChannelRule",
    "Clients",
    "Config",
    "Connect",
    "Duration",
    "HistoryRule",
    "HistorySection",
    "Limits",
    "LogSection",
    "LoggingSection",
    "Publications",
    "RabbitMQ",
    "Redis",
    "RedisAddress",
    "RpcRule",
    "Secret",
    "Section",
    "Server",
    "Size",
    "Telemetry",
    "Workers",
    "as_toml",
    "check",
    "default",
    "description",
    "is_loopback",
    "is_trusted",
    "load",
    "read_public_key",
    "redis_address",
    "reference",
]
