"""The commands: parse, call, print, exit code: 0 done, 1 failed, 2 asked wrongly (arguments, configuration)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import json
import logging
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from notifier import __version__
from notifier.config import DEV_API_KEY, Config, is_loopback, load
from notifier.errors import ConfigError, NotifierError

DONE, FAILED, MISUSED = 0, 1, 2
DEFAULT_URL = "http://127.0.0.1:8000"
MAX_TAIL_LINE = 16 * 2**20


class CommandError(NotifierError):
    """A command that did not do what was asked, with what to say about it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the answer is the process's exit code."""
    options = _parser().parse_args(arguments)
    options.argv = sys.argv[1:] if arguments is None else arguments
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"notifier: {problem}", file=sys.stderr)
        return MISUSED
    except NotifierError as error:
        print(f"notifier: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again while it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="notifier", description="A real-time notification server: from a RabbitMQ exchange to every browser."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = _command(commands, "serve", _serve, "run the server")
    _config_options(serve)

    check = _command(commands, "check", _check, "check a configuration and say what it means")
    _config_options(check)
    check.add_argument("--asyncapi", action="store_true", help="print it as an AsyncAPI document instead")
    check.add_argument("--channel", default="", help="say instead who may do what with this channel, and by which rule")
    check.add_argument(
        "--token",
        default=os.environ.get("NOTIFIER_TOKEN", ""),
        help="with --channel: for the client with this connection token (default: $NOTIFIER_TOKEN; - reads it)",
    )
    check.add_argument("--subscription-token", default="", metavar="TOKEN", help="with --channel: and with this one")

    doctor = _command(commands, "doctor", _doctor, "look for what is wrong with a set-up, and say how to mend it")
    _config_options(doctor)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")

    token = _command(commands, "token", _token, "make a connection token, signed with the configuration's first key")
    _config_options(token)
    token.add_argument("user", help="the user's id: the claim sub")
    token.add_argument("--role", action="append", default=[], metavar="NAME", help="a role; may be repeated")
    token.add_argument("--claim", action="append", default=[], metavar="NAME=JSON", help="another claim")
    token.add_argument("--channel", default="", help="make a subscription token for this channel instead")
    token.add_argument("--ttl", default="1h", help="how long it is valid, such as 15m or 24h (default: 1h)")

    password = _command(commands, "password", _password, "make an entry of admin.operators: who may log in at /admin")
    password.add_argument("name", help="the operator's name")

    publish = _command(commands, "publish", _publish, "publish one notification through a running server")
    publish.add_argument("channel")
    publish.add_argument("data", help="any JSON value; - reads it from standard input")
    publish.add_argument("--id", default="", help="idempotency key: the same one again is not delivered twice")
    publish.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="a tag; may be repeated")
    _server_options(publish)

    tail = _command(commands, "tail", _tail, "show the publications of channels as they arrive, one JSON a line")
    tail.add_argument("channels", nargs="+", metavar="CHANNEL")
    tail.add_argument("--since", default="", metavar="CURSOR", help="begin after this cursor")
    tail.add_argument("--count", type=int, default=0, metavar="N", help="end after N publications")
    tail.add_argument("--token", default=os.environ.get("NOTIFIER_TOKEN", ""), help="connect as a client with a token")
    _server_options(tail)

    explain = _command(commands, "explain", _explain, "say what became of a recent message, on every node")
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


def _load(options: argparse.Namespace) -> Config:
    environ = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    if options.dev:
        with resources.as_file(resources.files("notifier") / "dev.toml") as path:
            config = load(path, environ)
        if not is_loopback(config.server.host):
            raise ConfigError(["server.host: --dev listens on this machine only"])
        return config
    return load(options.config, environ)


_OWN_VARIABLES = {
    "NOTIFIER_CONFIG", "NOTIFIER_URL", "NOTIFIER_API_KEY", "NOTIFIER_TOKEN",
    # From the parent of several workers to each of them.
    "NOTIFIER_WORKERS_FOLDER", "NOTIFIER_WORKER", "NOTIFIER_WORKERS", "NOTIFIER_WORKER_REPLACES",
}  # fmt: skip


# --- the commands ---------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    from notifier import systemd  # noqa: PLC0415 - the other commands start without the server's weight
    from notifier.doors import url  # noqa: PLC0415
    from notifier.server import Server, serve  # noqa: PLC0415
    from notifier.telemetry import logs, reports  # noqa: PLC0415
    from notifier.workers.parent import Parent, worker_argv  # noqa: PLC0415
    from notifier.workers.siblings import Siblings  # noqa: PLC0415

    config = _load(options)
    logs.set_up(config.logging)
    reports.set_up(config.telemetry)
    siblings = Siblings.of_environment()

    def announce(address: str) -> None:
        log = "the embedded log (in memory)" if config.log.kind == "memory" else "RabbitMQ"
        workers = f", {config.server.workers} workers" if config.server.workers > 1 else ""
        print(f"notifier {__version__} on {address} with {log}{workers}", flush=True)
        if config.server.console:
            admin, tls = config.admin, bool(config.server.tls_certificate)
            console = url(admin.host, admin.port, tls=tls) if admin.port else address
            print(f"Console: {console}", flush=True)
            if config.admin.operators:
                print(f"Operators' view: {console}admin", flush=True)
        if options.dev:
            key = f" Key of the server API: {DEV_API_KEY}" if DEV_API_KEY in config.api.keys else ""
            print(f"Development mode: clients may do everything, and only this machine can connect.{key}", flush=True)
        systemd.tell_ready()

    if config.server.workers > 1 and siblings is None:
        return asyncio.run(Parent(config, worker_argv(options.argv), announce).run())

    def started(server: Server) -> None:
        if siblings is None:  # of several, the parent says where
            announce(server.doors.address)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(config, started, siblings, lambda: _load(options)))
    return DONE


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop


def _check(options: argparse.Namespace) -> int:
    from notifier.core.rules import Rules  # noqa: PLC0415

    config = _load(options)
    rules = Rules(config.channels)
    if options.asyncapi:
        from notifier.api.asyncapi import document  # noqa: PLC0415

        print(json.dumps(document(config, f"{config.server.host}:{config.server.port}"), indent=2))
        return DONE
    if options.channel:
        return asyncio.run(_explain_access(config, options))
    print(
        f"ok: {len(rules)} channel rules, log {config.log.kind}, listening on {config.server.host}:{config.server.port}"
    )
    if not len(rules):
        print("note: without a [[channels]] rule nobody can subscribe to anything")
    auth = config.auth
    if not (auth.has_keys or auth.anonymous):
        print("note: without auth.hmac_keys, public_keys, jwks_url, oidc_issuer or anonymous nobody can connect")
    if not config.api.keys:
        print("note: without api.keys the server API is off")
    return DONE


async def _explain_access(config: Config, options: argparse.Namespace) -> int:
    """Exit code 0 when the client may subscribe, else 1."""
    from notifier.auth.tokens import Tokens  # noqa: PLC0415
    from notifier.core.identity import ANONYMOUS  # noqa: PLC0415
    from notifier.operator import access  # noqa: PLC0415

    token = sys.stdin.read().strip() if options.token == "-" else options.token  # noqa: S105
    tokens = Tokens(config.auth)
    granted = None
    try:
        identity = await tokens.connection(token) if token else ANONYMOUS
        print(f"client: {access.who(identity)}")
        if options.subscription_token:
            granted = await _is_granted(tokens, options.subscription_token, identity.user, options.channel)
        allowed, lines = access.explain(config, identity, options.channel, granted)
    except ValueError as error:
        return _misused(f"--channel: {error}")
    finally:
        await tokens.close()
    print("\n".join(lines))
    return DONE if allowed else FAILED


async def _is_granted(tokens: Any, token: str, user: str, channel: str) -> bool:
    from notifier.errors import TokenError  # noqa: PLC0415

    try:
        await tokens.subscription(token, user, channel)
    except TokenError as error:
        print(f"subscription token: {error}")
        return False
    return True


def _doctor(options: argparse.Namespace) -> int:
    """Exit code 1 when something does not work."""
    from notifier.operator import doctor  # noqa: PLC0415

    logging.disable()  # what the libraries have to say is in the findings
    findings = asyncio.run(doctor.examine(_load(options)))
    if options.json:
        print(json.dumps([{name: getattr(each, name) for name in each.__struct_fields__} for each in findings]))
    else:
        for each in findings:
            print(f"{each.level:4}  {each.topic}: {each.text}")
            if each.fix:
                print(f"      to mend it: {each.fix}")
    return FAILED if any(each.level is doctor.Level.FAIL for each in findings) else DONE


def _token(options: argparse.Namespace) -> int:
    from notifier.auth import tokens  # noqa: PLC0415
    from notifier.config import Duration  # noqa: PLC0415

    config = _load(options)
    try:
        ttl_s = Duration.parse(options.ttl)
        claims: dict[str, Any] = {name: json.loads(value) for name, value in map(_pair, options.claim)}
    except ValueError as error:
        return _misused(f"--ttl or --claim: {error}")
    claims["sub"] = options.user
    if options.role:
        claims[config.auth.roles_claim] = options.role
    if options.channel:
        claims["channel"] = options.channel
    print(tokens.make(config.auth, claims, ttl_s))
    return DONE


def _password(options: argparse.Namespace) -> int:
    """The password is asked for, or read from standard input."""
    from notifier.auth import passwords  # noqa: PLC0415

    asks = sys.stdin.isatty()
    text = getpass.getpass("Password: ") if asks else sys.stdin.readline().rstrip("\n")
    if asks and getpass.getpass("Again: ") != text:
        return _misused("the two are not the same")
    try:
        print(passwords.entry_for(options.name, text))
    except ValueError as error:
        return _misused(str(error))
    return DONE


def _publish(options: argparse.Namespace) -> int:
    text = sys.stdin.read() if options.data == "-" else options.data
    try:
        data = json.loads(text)
    except ValueError as error:
        return _misused(f"the data is not JSON (a text stands in double quotes, as in '\"hello\"'): {error}")
    try:
        tags = dict(map(_pair, options.tag))
    except ValueError as error:
        return _misused(f"--tag: {error}")
    body: dict[str, Any] = {"channel": options.channel, "data": data}
    if options.id:
        body["idempotency_key"] = options.id
    if tags:
        body["tags"] = tags
    with _open(options, "/api/publish", json.dumps(body).encode()) as response:
        answer = json.load(response)
    if "error" in answer:
        raise CommandError(f"{answer['error']['message']} ({answer['error']['code']})")
    print(json.dumps(answer["result"]))
    return DONE


def _tail(options: argparse.Namespace) -> int:
    query = [("channel", channel) for channel in options.channels]
    query.append(("envelope", "1"))
    if options.since:
        query.append(("last_event_id", options.since))
    seen = 0
    with _open(options, "/sse?" + urllib.parse.urlencode(query), None) as response:
        name = ""
        while line := response.readline(MAX_TAIL_LINE):
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data" and name.startswith("notifier."):
                print(f"{name.removeprefix('notifier.')}: {value}", file=sys.stderr, flush=True)
            elif field == "data":
                print(value, flush=True)
                seen += 1
                if seen == options.count:
                    return DONE
            elif not field:
                name = ""
    raise CommandError("the server ended the stream")


def _explain(options: argparse.Namespace) -> int:
    """Exit code 1 when no node knows of such a message."""
    if bool(options.message) == bool(options.offset):
        return _misused("give either MESSAGE_ID or --offset")
    body = {"id": options.message} if options.message else {"offset": options.offset}
    with _open(options, "/api/explain", json.dumps(body).encode()) as response:
        answer = json.load(response)
    if "error" in answer:
        raise CommandError(f"{answer['error']['message']} ({answer['error']['code']})")
    nodes = answer["result"]["nodes"]
    if options.json:
        print(json.dumps(nodes))
    else:
        from notifier.operator import fates  # noqa: PLC0415

        print("\n".join(fates.told(nodes)))
    return DONE if any(node.get("records") for node in nodes) else FAILED


def _version(_options: argparse.Namespace) -> int:
    print(__version__)
    return DONE


# --- helpers of the commands that talk to a server ------------------------------------------------------------------


@contextlib.contextmanager
def _open(options: argparse.Namespace, path: str, body: bytes | None) -> Any:
    """The answer to a request. Raises CommandError with what the server said."""
    url = options.url.rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        raise CommandError(f"--url: {options.url!r} must start with http:// or https://")
    request = urllib.request.Request(url, data=body)  # noqa: S310 - the scheme was looked at
    if body is not None:
        request.add_header("Content-Type", "application/json")
    if getattr(options, "token", ""):
        request.add_header("Authorization", f"Bearer {options.token}")
    elif key := options.api_key or _development_key(options.url):
        request.add_header("X-API-Key", key)
    try:
        with urllib.request.urlopen(request) as response:  # noqa: S310
            yield response
    except urllib.error.HTTPError as error:
        hint = "; give one with --api-key or NOTIFIER_API_KEY" if error.code == 401 and not _shows_who(options) else ""
        raise CommandError(f"{error.code} {error.reason}: {_message_in(error)}{hint}") from error
    except urllib.error.URLError as error:
        raise CommandError(f"{options.url}: {error.reason}") from error
    except (OSError, ValueError) as error:
        raise CommandError(f"{options.url}: {error}") from error


def _message_in(error: urllib.error.HTTPError) -> str:
    text = error.read(4096).decode(errors="replace").strip()
    try:
        answer = json.loads(text)
        return str(answer.get("message") or answer["error"]["message"])
    except (ValueError, KeyError, AttributeError, TypeError):
        return text


def _shows_who(options: argparse.Namespace) -> bool:
    return bool(getattr(options, "token", "") or options.api_key)


def _development_key(url: str) -> str:
    return DEV_API_KEY if is_loopback(urllib.parse.urlsplit(url).hostname or "") else ""


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def _misused(text: str) -> int:
    print(f"notifier: {text}", file=sys.stderr)
    return MISUSED
