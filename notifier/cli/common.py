"""What the commands have in common: exit codes, the configuration, what to say to whoever asks wrongly."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import resources

from notifier.config import Config, is_loopback, load
from notifier.errors import ConfigError, NotifierError

DONE, FAILED, MISUSED = 0, 1, 2

_OWN_VARIABLES = {
    "NOTIFIER_CONFIG", "NOTIFIER_URL", "NOTIFIER_API_KEY", "NOTIFIER_TOKEN",
    # From the parent of several workers to each of them.
    "NOTIFIER_WORKERS_FOLDER", "NOTIFIER_WORKER", "NOTIFIER_WORKERS", "NOTIFIER_WORKER_REPLACES",
}  # fmt: skip


class CommandError(NotifierError):
    """A command that did not do what was asked, with what to say about it."""


def configuration(options: argparse.Namespace) -> Config:
    """The configuration that the options name. Raises ConfigError."""
    environ = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    if options.dev:
        with resources.as_file(resources.files("notifier") / "dev.toml") as path:
            config = load(path, environ)
        if not is_loopback(config.server.host):
            raise ConfigError(["server.host: --dev listens on this machine only"])
        return config
    return load(options.config, environ)


def notes(config: Config) -> list[str]:
    """What is closed to everybody, as lines: a configuration may be right and say nothing."""
    from notifier.operator.doctor import settings  # noqa: PLC0415 - the other commands start without the doctor's weight

    return [f"note: {finding.text}; {finding.fix}" for finding in settings.closed(config)]


def misused(text: str) -> int:
    """Say what was asked wrongly; the answer is the exit code."""
    print(f"notifier: {text}", file=sys.stderr)
    return MISUSED


def pair(text: str) -> tuple[str, str]:
    """Of NAME=VALUE. Raises ValueError."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value
