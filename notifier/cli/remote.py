"""Commands that ask a running server: `publish`, `tail`, `explain`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from notifier.cli.common import DONE, FAILED, CommandError, misused, pair
from notifier.config import DEV_API_KEY, is_loopback

MAX_TAIL_LINE = 16 * 2**20


def publish(options: argparse.Namespace) -> int:
    text = sys.stdin.read() if options.data == "-" else options.data
    try:
        data = json.loads(text)
    except ValueError as error:
        return misused(f"the data is not JSON (a text stands in double quotes, as in '\"hello\"'): {error}")
    try:
        tags = dict(map(pair, options.tag))
    except ValueError as error:
        return misused(f"--tag: {error}")
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


def tail(options: argparse.Namespace) -> int:
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


def explain(options: argparse.Namespace) -> int:
    """Exit code 1 when no node knows of such a message."""
    if bool(options.message) == bool(options.offset):
        return misused("give either MESSAGE_ID or --offset")
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
