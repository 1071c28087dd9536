"""Doors: which paths there are, and where they are listened on: clients' listener, and one of operators' own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from notifier.admin.endpoints import AdminEndpoints, Examine
from notifier.admin.guard import Guard
from notifier.api.audit import Audit
from notifier.api.http import ApiEndpoint, DocumentsEndpoint, ProfileEndpoint, ReloadEndpoint
from notifier.auth.keys import ApiKeys
from notifier.auth.operators import Operators
from notifier.certificate import Certificate
from notifier.config import Config, Limits
from notifier.console import page
from notifier.core.node import Node
from notifier.core.ports import Row
from notifier.errors import ConfigError
from notifier.telemetry import logs
from notifier.telemetry.profile import Profiler
from notifier.transports import garbage, seats
from notifier.transports.address import Addresses
from notifier.transports.doorstep import Doorsteps, Endpoint
from notifier.transports.emulation import EmulationEndpoints
from notifier.transports.entrance import Entrance
from notifier.transports.gate import Gate
from notifier.transports.listener import Listener
from notifier.transports.plain import PlainEndpoints
from notifier.transports.unidirectional import UnidirectionalEndpoints
from notifier.transports.websocket import WebSocketEndpoint
from notifier.workers.siblings import Siblings
from notifier.workers.status import StatusEndpoints

KEEPALIVE_S = 15.0  # also the deadline for a request's headers (aiohttp arms it when a connection is made)
_NEVER_WAITING = ("/livez", "/readyz", "/metrics", "/api")
_NAMED = ("/api", "/admin/api/")  # requests that do something: each has an id, in logs and in its answer
_ID = web.RequestKey("id", str)
AT_ONCE_S = 0.5  # how long letting go may take when nobody wants to wait


class Doors:
    """open → close → clear. `reload` reads the configuration again."""

    def __init__(
        self,
        config: Config,
        node: Node,
        status: StatusEndpoints,
        keys: ApiKeys,
        audit: Audit,
        reload: Callable[[], Awaitable[Struct]],
        siblings: Siblings | None,
        operators: Operators,
        examine: Examine,
    ) -> None:
        """Raises ConfigError when the certificate cannot be used. Must be called inside a running loop."""
        self._config = config
        self._node = node
        self._status = status
        self._keys = keys
        self._audit = audit
        self._reload = reload
        self._shared = siblings is not None
        self._gate = Gate(config.server, config.limits, node.stats)
        self._entrance = Entrance(node, config.server)
        self._api = ApiEndpoint(node, keys, config.api.max_body, audit)
        guard = Guard(node, operators, audit, Addresses(config.server))
        self._admin = AdminEndpoints(node, guard, audit, examine, page.for_operators(config))
        self._profiler = Profiler(f"worker-{siblings.index}" if siblings is not None else "")
        server = config.server
        self.certificate = Certificate(server.tls_certificate, server.tls_key) if server.tls_certificate else None
        self._note_expiry()
        self.runners: list[web.AppRunner] = []
        self._listeners: list[Listener] = []
        self._steps: list[Doorsteps] = []
        self._websockets: dict[bytes, Endpoint] = {}
        self.address = self.admin_address = ""

    async def open(self) -> None:
        """Listen. Raises ConfigError when an address cannot be listened on."""
        server, admin = self._config.server, self._config.admin
        self.address = await self._listen(server.host, server.port, "server", for_operators=not admin.port)
        if admin.port:
            self.admin_address = await self._listen(admin.host, admin.port, "admin", for_operators=True)

    @property
    def busy(self) -> bool:
        """Whether there are requests of backends that are not answered yet."""
        return self._api.busy > 0

    def reload(self, limits: Limits) -> None:
        """Other limits from now on."""
        self._gate.reload(limits)

    def renew_certificate(self) -> None:
        """Take a new one, if there is one."""
        if self.certificate is not None and self.certificate.renew():
            self._note_expiry()

    def _note_expiry(self) -> None:
        if self.certificate is not None:
            self._node.stats.certificate_expires_at = self.certificate.expires_at

    def close(self) -> None:
        """Take no more connections. Those that were taken go on."""
        for listener in self._listeners:
            listener.close()

    async def clear(self) -> None:
        """Let go of everything."""
        self.close()
        while self._steps:
            self._steps.pop().clear()
        while self.runners:
            await self.runners.pop().cleanup()

    async def _listen(self, host: str, port: int, section: str, *, for_operators: bool) -> str:
        """The address. Raises ConfigError."""
        runner = web.AppRunner(
            self._application(for_operators=for_operators),
            handler_cancellation=True,  # a stream's handler ends with its connection
            shutdown_timeout=AT_ONCE_S,  # `Server.drain` has waited for what is worth it
        )
        self.runners.append(runner)
        await runner.setup()
        assert runner.server is not None  # noqa: S101 - it has been set up
        tls = self.certificate.context if self.certificate is not None else None
        steps = Doorsteps(garbage.protocols(runner.server, KEEPALIVE_S), self._websockets, KEEPALIVE_S)
        self._steps.append(steps)
        listener = Listener(steps, tls)
        self._listeners.append(listener)
        try:
            host, port = await listener.open(host, port, shared=self._shared)
        except OSError as error:
            await self.clear()
            raise ConfigError(
                [f"{section}.host, {section}.port: cannot listen on {host}:{port}: {error.strerror}"]
            ) from error
        return url(host, port, tls=tls is not None)

    def _application(self, *, for_operators: bool) -> web.Application:
        application = web.Application(client_max_size=self._config.api.max_body, middlewares=[self._in_turn])
        application.on_response_prepare.append(self._complete)
        self._add_clients_routes(application.router)
        if for_operators:
            self._add_operators_routes(application.router)
        return application

    def _add_clients_routes(self, route: web.UrlDispatcher) -> None:
        node, gate, entrance = self._node, self._gate, self._entrance
        # No HEAD where an answer has no end, or is a handshake: both are for GET alone (RFC 6455 section 4.1).
        self._add_websocket(route, "/connection/websocket", WebSocketEndpoint(node, gate, entrance).handle)
        emulation = EmulationEndpoints(node, gate, entrance)
        for method in ("POST", "OPTIONS"):
            route.add_route(method, "/connection/http_stream", emulation.http_stream)
            route.add_route(method, "/emulation", emulation.upward)
        for method in ("GET", "POST"):
            route.add_route(method, "/connection/sse", emulation.event_stream)
        one_way = UnidirectionalEndpoints(node, gate, entrance)
        self._add_websocket(route, "/connection/uni_websocket", one_way.websocket)
        for method in ("GET", "POST"):
            route.add_route(method, "/connection/uni_sse", one_way.event_stream)
        for method in ("POST", "OPTIONS"):
            route.add_route(method, "/connection/uni_http_stream", one_way.http_stream)
        plain = PlainEndpoints(node, gate, entrance, self._config.auth, self._keys)
        route.add_get("/sse", plain.event_stream, allow_head=False)
        route.add_options("/sse", plain.preflight)
        self._add_websocket(route, "/ws", plain.websocket)
        route.add_get("/livez", self._status.livez)
        route.add_get("/readyz", self._status.readyz)

    def _add_websocket(self, route: web.UrlDispatcher, path: str, handler: Handler) -> None:
        """By the short way where that can be taken, and by aiohttp's, which has an answer to everything else."""
        route.add_get(path, handler, allow_head=False)
        self._websockets[path.encode()] = partial(self._in_turn, handler=handler)

    def _add_operators_routes(self, route: web.UrlDispatcher) -> None:
        config, keys = self._config, self._keys
        documents = DocumentsEndpoint(config, keys)
        route.add_route("*", "/api/openapi.json", documents.openapi)
        route.add_route("*", "/api/asyncapi.json", documents.asyncapi)
        route.add_route("*", "/api/reload", ReloadEndpoint(self._reload, keys, self._audit).handle)
        route.add_route("*", "/api/profile", ProfileEndpoint(self._profiler, keys).handle)
        route.add_route("*", "/api", self._api.handle)
        route.add_route("*", "/api/{method}", self._api.handle)
        if config.server.metrics:
            route.add_get("/metrics", self._status.metrics)
        if config.server.console:
            route.add_get("/", page.for_developers(config).handle)
        route.add_get("/admin", self._admin.page)
        route.add_get("/admin/tail", self._admin.tail, allow_head=False)
        route.add_route("*", "/admin/api/{method}", self._admin.call)

    @web.middleware
    async def _in_turn(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A flood of requests leaves the loop time for others. Backends do not stand in one row with it."""
        turns = self._node.turns
        if turns.must_wait(Row.NEW) and not request.path.startswith(_NEVER_WAITING):
            await turns.wait(Row.NEW)
        try:
            if not request.path.startswith(_NAMED):
                return await handler(request)
            with logs.of_request(request.headers.get(logs.REQUEST_ID, "")) as request[_ID]:
                return await handler(request)
        finally:
            seats.leave(request)

    async def _complete(self, request: web.Request, response: web.StreamResponse) -> None:
        """No browser takes an answer for something else than it says it is. While leaving, it is the last one on its
        connection: a balancer opens the next one elsewhere."""
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if _ID in request:
            response.headers[logs.REQUEST_ID] = request[_ID]
        if self._node.leaving and isinstance(response, web.Response):
            response.headers["Connection"] = "close"  # aiohttp has decided on it before this is called
            response.force_close()


def url(host: str, port: int, *, tls: bool) -> str:
    """Where a listener is found."""
    return f"http{'s' * tls}://{f'[{host}]' if ':' in host else host}:{port}/"
