"""Guard: what every request of the operators' page passes, and how one logs in and out.

The session is in a cookie that scripts cannot read and that browsers send with requests of our own page only
(`HttpOnly`, `SameSite=Strict`). What changes something must also carry a header that no other page can set without
being asked first, and come from our own origin (OWASP, cross-site request forgery).
"""

from __future__ import annotations

import contextlib
import math
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from msgspec import Struct

from notifier.admin.answers import Refused
from notifier.api.audit import Audit
from notifier.auth.operators import Login, Operators
from notifier.auth.passwords import MAX_BYTES
from notifier.core.inspection import LoggedOut
from notifier.core.node import Node
from notifier.core.rates import Limiter, Rate
from notifier.errors import Unavailable
from notifier.transports.address import Addresses, network_of

HEADER = "X-Notifier-Console"
ACTIVE = "active"  # the header's value when the operator has just done something
COOKIE, SECURE_COOKIE = "notifier-operator", "__Host-notifier-operator"  # RFC 6265bis section 4.1.3.2
TRIES_EVERY_S, TRIES_AT_ONCE = 10.0, 10
ALL_TRIES_EVERY_S, ALL_TRIES_AT_ONCE = 1.0, 30


class Credentials(Struct, forbid_unknown_fields=True):
    """What somebody types."""

    name: str = ""
    password: str = ""


class Guard:
    """Lets operators in."""

    def __init__(self, node: Node, operators: Operators, audit: Audit, addresses: Addresses) -> None:
        self._node = node
        self._operators = operators
        self._audit = audit
        self._addresses = addresses
        self._tries: Limiter[bytes] = Limiter(Rate(1 / TRIES_EVERY_S, TRIES_AT_ONCE))
        self._all_tries: Limiter[None] = Limiter(Rate(1 / ALL_TRIES_EVERY_S, ALL_TRIES_AT_ONCE))

    def check_page(self, request: web.Request) -> None:
        """Raises Refused for a request of a page that is not ours."""
        if HEADER not in request.headers:
            raise Refused(HTTPStatus.FORBIDDEN, f"the header {HEADER} is required")
        self.check_origin(request)

    def check_origin(self, request: web.Request) -> None:
        """The same for what only reads, and cannot carry a header."""
        if not _is_our_page(request):
            raise Refused(HTTPStatus.FORBIDDEN, "a request of another page: Origin is not this server's Host")

    def check_operators(self) -> None:
        """Raises Refused while there are none: then there is nothing to see."""
        if not self._operators:
            raise Refused(HTTPStatus.NOT_FOUND, "there are no operators: admin.operators is empty")

    def login(self, request: web.Request) -> Login:
        """The request's session. Raises Refused."""
        found = self._session(request)
        if found is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "log in first")
        return found

    def knows(self, request: web.Request) -> bool:
        """Whether it has one."""
        return self._session(request) is not None

    def _session(self, request: web.Request) -> Login | None:
        for name in (SECURE_COOKIE, COOKIE):
            found = self._operators.find(request.cookies.get(name, ""))
            if found is not None and self.goes_on(found):
                return found
        return None

    def goes_on(self, login: Login) -> bool:
        return self._operators.goes_on(login) and login.id not in self._node.logouts

    def by(self, login: Login, request: web.Request) -> str:
        """How the audit names who did something."""
        return f"operator {login.name} at {self._addresses.of(request)}"

    async def log_in(self, request: web.Request, given: Credentials) -> Login:
        """Raises Refused."""
        self._count_try(request)
        fits = len(given.password.encode("utf-8", "surrogatepass")) <= MAX_BYTES
        if fits and await self._operators.check(given.name, given.password):
            login = self._operators.begin(given.name)
            self._audit.note("login", self.by(login, request), "ok")
            return login
        self._node.stats.refused["operator"] += 1
        # The name may be a password, typed into the wrong field: only one that is an operator's is written.
        name = given.name if given.name in self._operators else "unknown"
        self._audit.refused(f"{self._addresses.of(request)}, login of {name}")
        raise Refused(HTTPStatus.UNAUTHORIZED, "wrong name or password")

    async def log_out(self, request: web.Request, login: Login) -> None:
        """The session is over here, and wherever it can be told. Elsewhere it ends in its own time."""
        told = LoggedOut(login.id, login.ends)
        told.obey(self._node)
        with contextlib.suppress(Unavailable):
            await self._node.control.tell(told)
        self._audit.note("logout", self.by(login, request), "ok")

    def keep(self, request: web.Request, response: web.Response, login: Login) -> None:
        """Give the browser the session's cookie, for the first time or again."""
        secure = _speaks_tls(request)
        response.set_cookie(
            SECURE_COOKIE if secure else COOKIE,
            self._operators.token(login),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=secure,
        )

    def keep_longer(self, request: web.Request, response: web.Response, login: Login) -> None:
        """The same, when the operator does something and it is worth it."""
        if request.headers.get(HEADER) == ACTIVE and (renewed := self._operators.renewed(login)):
            self.keep(request, response, renewed)

    def forget(self, request: web.Request, response: web.Response) -> None:
        secure = _speaks_tls(request)
        name = SECURE_COOKIE if secure else COOKIE
        response.del_cookie(name, path="/", httponly=True, samesite="Strict", secure=secure)

    def _count_try(self, request: web.Request) -> None:
        """Raises Refused for somebody who tries too often. Who guesses from many addresses is held back with all."""
        address = self._addresses.of(request)
        now_s = time.monotonic()
        wait_s = self._tries.take(network_of(address) if address is not None else b"", now_s)
        wait_s = wait_s or self._all_tries.take(None, now_s)
        if wait_s:
            self._node.stats.refused["operator"] += 1
            retry = {"Retry-After": str(math.ceil(wait_s))}
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, f"too many attempts; wait {math.ceil(wait_s)} s", retry)


def _is_our_page(request: web.Request) -> bool:
    """Whether a request comes from our own page, as far as browsers tell; other programs hold no cookie of somebody
    else's. `Sec-Fetch-Site` knows better than a proxy that changes `Host` (W3C, Fetch Metadata); browsers send it where
    the page came over TLS or from this machine."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origins = request.headers.getall("Origin", [])
    return not origins or (len(origins) == 1 and _host_of(origins[0]) == request.headers.get("Host", "").lower())


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _speaks_tls(request: web.Request) -> bool:
    """Whether the browser does, be it to a proxy: its own page's origin says so."""
    return request.secure or request.headers.get("Origin", "").lower().startswith("https://")
