"""Commands that look at a configuration, or make something for one: `check`, `doctor`, `token`, `password`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import logging
import sys
from typing import Any

from notifier.cli.common import DONE, FAILED, configuration, misused, notes, pair
from notifier.config import Config


def check(options: argparse.Namespace) -> int:
    from notifier.core.rules import Rules  # noqa: PLC0415

    config = configuration(options)
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
    for note in notes(config):
        print(note)
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
        return misused(f"--channel: {error}")
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


def doctor(options: argparse.Namespace) -> int:
    """Exit code 1 when something does not work."""
    from notifier.operator import doctor  # noqa: PLC0415

    logging.disable()  # what the libraries have to say is in the findings
    findings = asyncio.run(doctor.examine(configuration(options)))
    if options.json:
        print(json.dumps([{name: getattr(each, name) for name in each.__struct_fields__} for each in findings]))
    else:
        for each in findings:
            print(f"{each.level:4}  {each.topic}: {each.text}")
            if each.fix:
                print(f"      to mend it: {each.fix}")
    return FAILED if any(each.level is doctor.Level.FAIL for each in findings) else DONE


def token(options: argparse.Namespace) -> int:
    from notifier.auth import tokens  # noqa: PLC0415
    from notifier.config import Duration  # noqa: PLC0415

    config = configuration(options)
    try:
        ttl_s = Duration.parse(options.ttl)
        claims: dict[str, Any] = {name: json.loads(value) for name, value in map(pair, options.claim)}
    except ValueError as error:
        return misused(f"--ttl or --claim: {error}")
    claims["sub"] = options.user
    if options.role:
        claims[config.auth.roles_claim] = options.role
    if options.channel:
        claims["channel"] = options.channel
    print(tokens.make(config.auth, claims, ttl_s))
    return DONE


def password(options: argparse.Namespace) -> int:
    """The password is asked for, or read from standard input."""
    from notifier.auth import passwords  # noqa: PLC0415

    asks = sys.stdin.isatty()
    text = getpass.getpass("Password: ") if asks else sys.stdin.readline().rstrip("\n")
    if asks and getpass.getpass("Again: ") != text:
        return misused("the two are not the same")
    try:
        print(passwords.entry_for(options.name, text))
    except ValueError as error:
        return misused(str(error))
    return DONE
