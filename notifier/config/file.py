"""The whole file, section by section."""

from __future__ import annotations

from msgspec import field

from notifier.config.rules import ChannelRule, Clients, Connect, Limits, Publications, RpcRule
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
from notifier.config.values import Section


class Config(Section, frozen=True):
    """The whole file."""

    server: Server = field(default_factory=Server)
    admin: Admin = field(default_factory=Admin)
    log: LogSection = field(default_factory=LogSection)
    rabbitmq: RabbitMQ = field(default_factory=RabbitMQ)
    redis: Redis = field(default_factory=Redis)
    history: HistorySection = field(default_factory=HistorySection)
    auth: Auth = field(default_factory=Auth)
    api: Api = field(default_factory=Api)
    clients: Clients = field(default_factory=Clients)
    limits: Limits = field(default_factory=Limits)
    publications: Publications = field(default_factory=Publications)
    connect: Connect = field(default_factory=Connect)
    logging: LoggingSection = field(default_factory=LoggingSection)
    telemetry: Telemetry = field(default_factory=Telemetry)
    channels: list[ChannelRule] = field(default_factory=list)
    rpc: list[RpcRule] = field(default_factory=list)
