"""The paths below `/admin`: the page, `POST /admin/api/METHOD` and the live tail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import msgspec
from aiohttp import web
from msgspec import Struct

from notifier.admin import answers
from notifier.admin.answers import Refused
from notifier.admin.guard import Credentials, Guard
from notifier.admin.tail import Filter, Tail, Tails, TooMany
from notifier.admin.views import VIEWS, Nothing
from notifier.api import methods
from notifier.api.audit import Audit
from notifier.auth.operators import Login
from notifier.console.page import Console
from notifier.core import channel as channels
from notifier.core.node import Node
from notifier.errors import Unavailable
from notifier.protocol import codes
from notifier.protocol.codes import CommandFailed, Error

METHODS = frozenset(
    {"publish", "disconnect", "unsubscribe", "revoke", "history", "presence", "presence_stats", "explain"}
)
"""Those of the server API that operators need; they take the same requests."""

BUNDLED_FOR_S = 0.25
LOOK_EVERY_S = 5.0
FOLLOW_EVERY_S = 3.0
STREAM_HEADERS = {**answers.HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}

Examine = Callable[[], Awaitable[Sequence[Struct]]]


class Who(Struct):
    """Who is logged in, and at which worker. `ends_at` is wall time in seconds."""

    name: str
    ends_at: float
    node: str
    version: str


class Examined(Struct):
    """What the node of this name looked at."""

    node: str
    findings: list[Struct]


class AdminEndpoints:
    """`examine` looks for what is wrong with the set-up, as `notifier doctor` does. While there are no operators,
    there is nothing at these paths."""

    def __init__(self, node: Node, guard: Guard, audit: Audit, examine: Examine, page: Console) -> None:
        self._node = node
        self._guard = guard
        self._audit = audit
        self._examine = examine
        self._examination = asyncio.Lock()
        self._tails = Tails(node)
        self._page = page

    async def page(self, request: web.Request) -> web.Response:
        try:
            self._guard.check_operators()
        except Refused as refused:
            return answers.refusal(refused)
        return await self._page.handle(request)

    async def call(self, request: web.Request) -> web.Response:
        try:
            return await self._call(request)
        except Refused as refused:
            return answers.refusal(refused)
        except CommandFailed as error:
            return answers.failure(error.error)
        except Unavailable as error:
            text = f"{codes.INTERNAL.message}: {error}"
            return answers.failure(Error(codes.INTERNAL.code, text, temporary=True))

    async def _call(self, request: web.Request) -> web.Response:
        self._guard.check_operators()
        if request.method != "POST":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "use POST", {"Allow": "POST"})
        self._guard.check_page(request)
        name = request.match_info["method"]
        if name == "login":
            return await self._log_in(request)
        if name == "session" and not self._guard.knows(request):
            return answers.result(None)
        login = self._guard.login(request)
        if name == "logout":
            return await self._log_out(request, login)
        response = await self._answer(request, name, login)
        self._guard.keep_longer(request, response, login)
        return response

    async def _log_in(self, request: web.Request) -> web.Response:
        given = answers.decoded(Credentials, await answers.body_of(request))
        login = await self._guard.log_in(request, given)
        response = answers.result(self._who(login))
        self._guard.keep(request, response, login)
        return response

    async def _log_out(self, request: web.Request, login: Login) -> web.Response:
        await self._guard.log_out(request, login)
        response = answers.result(Nothing())
        self._guard.forget(request, response)
        return response

    def _who(self, login: Login) -> Who:
        return Who(login.name, login.ends, self._node.name, self._node.version)

    async def _answer(self, request: web.Request, name: str, login: Login) -> web.Response:
        body = await answers.body_of(request)
        if name == "session":
            return answers.result(self._who(login))
        if name == "doctor":
            return answers.result(await self._look())
        if name in VIEWS:
            view = VIEWS[name]
            return answers.result(await view.call(self._node, answers.decoded(view.request, body)))
        if name not in METHODS:
            raise Refused(HTTPStatus.NOT_FOUND, "no such method")
        try:
            by = self._guard.by(login, request)
            return answers.raw(await self._audit.call(self._node, name, body, by, by_hand=True))
        except methods.BadBody as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error

    async def _look(self) -> Examined:
        """One at a time: an examination opens connections and takes some seconds."""
        if self._examination.locked():
            text = "an examination is under way already"
            raise Refused(HTTPStatus.CONFLICT, text, {"Retry-After": "5"})
        async with self._examination:
            return Examined(self._node.name, list(await self._examine()))

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """`GET /admin/tail?channel=PATTERN&user=USER`: server-sent events."""
        try:
            self._guard.check_operators()
            self._guard.check_origin(request)
            login = self._guard.login(request)
            wanted = _filter(request)
            tail = self._tails.open(wanted)
        except Refused as refused:
            return answers.refusal(refused)
        except TooMany:
            text = "as many operators look at this worker's tail as can be served"
            return answers.refusal(Refused(HTTPStatus.SERVICE_UNAVAILABLE, text, {"Retry-After": "10"}))
        following = asyncio.create_task(self._follow(wanted)) if wanted.user else None
        try:
            return await self._stream(request, tail, login)
        finally:
            self._tails.close(tail)
            if following is not None:
                following.cancel()

    async def _follow(self, wanted: Filter) -> None:
        """Keep up with what the user is subscribed to, on all nodes."""
        while True:
            try:
                found = await self._node.control.connections(wanted.user)
                wanted.follow({name for each in found for name in each.channels})
            except Unavailable:
                pass  # what was known goes on
            await asyncio.sleep(FOLLOW_EVERY_S)

    async def _stream(self, request: web.Request, tail: Tail, login: Login) -> web.StreamResponse:
        response = web.StreamResponse(headers=STREAM_HEADERS)
        await response.prepare(request)
        await response.write(b"retry: 2000\n\n" + _event("begin", {"node": self._node.name}))
        while self._guard.goes_on(login) and not self._node.leaving:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await tail.something.wait()
            except TimeoutError:
                await response.write(b":\n\n")
                continue
            await response.write(_event("records", {"records": tail.take(), "dropped": tail.dropped}))
            await asyncio.sleep(BUNDLED_FOR_S)
        await response.write(_event("end", {}))
        return response


def _filter(request: web.Request) -> Filter:
    """Raises Refused."""
    pattern, user = request.query.get("channel", ""), request.query.get("user", "")
    if pattern and (problem := channels.problem_with_pattern(pattern)):
        raise Refused(HTTPStatus.BAD_REQUEST, f"channel: {problem}")
    if len(user.encode()) > channels.MAX_BYTES:
        raise Refused(HTTPStatus.BAD_REQUEST, f"user: at most {channels.MAX_BYTES} bytes")
    return Filter(pattern, user)


def _event(name: str, value: object) -> bytes:
    """One event; JSON has no line ends of its own (WHATWG HTML, 9.2.6)."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(value))
