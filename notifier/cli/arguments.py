"""The arguments of the commands, and their help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from notifier import __version__
from notifier.cli import local, remote, serving
from notifier.cli.common import DONE

DEFAULT_URL = "http://127.0.0.1:8000"


def parser() -> argparse.ArgumentParser:
    """Of the whole command line. `run` of what it finds does the command."""
    parser = argparse.ArgumentParser(
        prog="notifier", description="A real-time notification server: from a RabbitMQ exchange to every browser."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = _command(commands, "serve", serving.serve, "run the server")
    _config_options(serve)

    check = _command(commands, "check", local.check, "check a configuration and say what it means")
    _config_options(check)
    check.add_argument("--asyncapi", action="store_true", help="print it as an AsyncAPI document instead")
    check.add_argument("--channel", default="", help="say instead who may do what with this channel, and by which rule")
    check.add_argument(
        "--token",
        default=os.environ.get("NOTIFIER_TOKEN", ""),
        help="with --channel: for the client with this connection token (default: $NOTIFIER_TOKEN; - reads it)",
    )
    check.add_argument("--subscription-token", default="", metavar="TOKEN", help="with --channel: and with this one")

    doctor = _command(commands, "doctor", local.doctor, "look for what is wrong with a set-up, and say how to mend it")
    _config_options(doctor)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")

    token = _command(
        commands, "token", local.token, "make a connection token, signed with the configuration's first key"
    )
    _config_options(token)
    token.add_argument("user", help="the user's id: the claim sub")
    token.add_argument("--role", action="append", default=[], metavar="NAME", help="a role; may be repeated")
    token.add_argument("--claim", action="append", default=[], metavar="NAME=JSON", help="another claim")
    token.add_argument("--channel", default="", help="make a subscription token for this channel instead")
    token.add_argument("--ttl", default="1h", help="how long it is valid, such as 15m or 24h (default: 1h)")

    password = _command(
        commands, "password", local.password, "make an entry of admin.operators: who may log in at /admin"
    )
    password.add_argument("name", help="the operator's name")

    publish = _command(commands, "publish", remote.publish, "publish one notification through a running server")
    publish.add_argument("channel")
    publish.add_argument("data", help="any JSON value; - reads it from standard input")
    publish.add_argument("--id", default="", help="idempotency key: the same one again is not delivered twice")
    publish.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="a tag; may be repeated")
    _server_options(publish)

    tail = _command(commands, "tail", remote.tail, "show the publications of channels as they arrive, one JSON a line")
    tail.add_argument("channels", nargs="+", metavar="CHANNEL")
    tail.add_argument("--since", default="", metavar="CURSOR", help="begin after this cursor")
    tail.add_argument("--count", type=int, default=0, metavar="N", help="end after N publications")
    tail.add_argument("--token", default=os.environ.get("NOTIFIER_TOKEN", ""), help="connect as a client with a token")
    _server_options(tail)

    explain = _command(commands, "explain", remote.explain, "say what became of a recent message, on every node")
    explain.add_argument("message", metavar="MESSAGE_ID", nargs="?", default="", help="its message id")
    explain.add_argument("--offset", type=int, default=0, metavar="N", help="its offset, instead of the id")
    explain.add_argument("--json", action="store_true", help="print the answer as JSON")
    _server_options(explain)

    _command(commands, "version", _version, "print the version")
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _config_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        default=Path(os.environ["NOTIFIER_CONFIG"]) if "NOTIFIER_CONFIG" in os.environ else None,
        help="TOML file; every key can also be set as NOTIFIER_SECTION__KEY in the environment",
    )
    group.add_argument("--dev", action="store_true", help="everything allowed, on this machine only")


def _server_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        default=os.environ.get("NOTIFIER_URL", DEFAULT_URL),
        help=f"the server (default: $NOTIFIER_URL or {DEFAULT_URL})",
    )
    parser.add_argument(
        "--api-key",
        default=os.environ.get("NOTIFIER_API_KEY", ""),
        help="API key (default: $NOTIFIER_API_KEY, or the development key on this machine)",
    )


def _version(_options: argparse.Namespace) -> int:
    print(__version__)
    return DONE
