"""The ASGI application: what it is made of, its routes, and what answers when no route does."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from correlator.lookup import Lookup
from correlator.lookups import Lookups
from receiver.acceptance import Gate
from receiver.answers import METHOD_NOT_ALLOWED, NOT_FOUND, UNFORESEEN, answer_problem
from receiver.api import Api
from receiver.captures import CaptureLog, replicas_of
from receiver.documents.files import FOLDER, OPENAPI
from receiver.draining import Drain, Drainer
from receiver.health import Health
from receiver.keeping import Keeping
from receiver.operations import CALLBACK_PATHS, by_path
from receiver.partitions import CaptureLogs
from receiver.provider import Provider
from receiver.reception import Reception
from receiver.settings import Settings
from receiver.spool import Spool, file_of
from receiver.veil import Veil
from receiver.webhooks import Clock, Endpoint, Webhooks, utc_now
from receiver.writer import Writer
from schemas.keyspace import keyspaces

_WEBHOOK_PATTERNS = [compile_path(path)[0] for path in CALLBACK_PATHS]


def make_app(
    settings: Settings,
    providers: Mapping[str, Provider],
    clients: Sequence[Redis],
    clock: Clock = utc_now,
    *,
    check: Callable[[], Awaitable[None]] | None = None,
) -> ASGIApp:
    """The whole application over Redis clients; they are closed with it.

    Args:
        settings: the configuration.
        providers: those that there are.
        clients: one for each partition, in their order.
        clock: an argument, so that a test may send what was signed in another year.
        check: raises ConfigError or StoreError while the server may not be written to; None: any that answers may.
    """
    places = list(zip(clients, keyspaces(settings.namespace, settings.redis.partitions), strict=True))
    log = CaptureLogs([CaptureLog(*place, replicas_of(settings.redis)) for place in places])
    deadline = settings.redis.write_deadline_seconds
    gate = Gate(log.answers if check is None else check, accepted=check is None)
    keeping = Keeping(log, Spool(settings), gate, deadline)
    drainer = Drainer(Drain(file_of(settings), log, gate, deadline), gate, keeping.catch_up)
    veil = Veil(settings.id_key)
    endpoints = {
        name: Endpoint(account, providers[account.provider], veil) for name, account in settings.accounts.items()
    }
    server = settings.server
    reception = Reception(server.max_body_bytes, server.max_in_flight_bytes, server.body_timeout_seconds)
    writer = Writer(keeping, deadline)
    webhooks = Webhooks(endpoints, reception, writer, log, clock, replay_tokens=server.replay_tokens)
    health = Health(places, keeping, deadline, settings.redis.wait_replicas)
    api = Api(
        tokens=server.api_tokens,
        endpoints=endpoints,
        providers=frozenset(providers),
        reception=reception,
        writer=writer,
        lookup=Lookups([Lookup(*place, settings.id_key) for place in places]),
        clock=clock,
    )
    handlers = {"alive": health.alive, "ready": health.ready, "measure": health.measure, "describe": Description().show}
    routes = [
        Route(path, handler, methods=[method])
        for path, methods in by_path(handlers).items()
        for method, handler in methods.items()
    ]
    app = Starlette(
        routes=[*api.routes(), *routes],
        exception_handlers={HTTPException: _no_route},
        lifespan=_living(keeping, drainer, clients),
    )
    app.router.redirect_slashes = False
    front = Front(webhooks, app)
    admin_port = server.admin_port
    return front if admin_port in (None, server.port) else ByPort(front, admin_port)


class Front:
    """Hands webhook requests straight to their application, past layers of middleware, and all else to Starlette."""

    def __init__(self, webhooks: ASGIApp, others: ASGIApp) -> None:
        self._webhooks = webhooks
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        params = _webhook_params(scope["path"]) if scope["type"] == "http" else None
        if params is None:
            await self._others(scope, receive, send)
        else:
            scope["path_params"] = params
            await self._webhooks(scope, receive, send)


def _webhook_params(path: str) -> dict[str, str] | None:
    """The parts of a webhook path; None for any other path."""
    for pattern in _WEBHOOK_PATTERNS:
        if match := pattern.match(path):
            return match.groupdict()
    return None


class Description:
    """The OpenAPI document, as it is committed."""

    def __init__(self) -> None:
        self._document = (FOLDER / OPENAPI).read_bytes()

    async def show(self, _: Request) -> Response:
        """What all routes take and answer."""
        return Response(self._document, media_type="application/json")


async def _no_route(_: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, as problems."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these only
    reason = dict([NOT_FOUND, METHOD_NOT_ALLOWED]).get(error.status_code, UNFORESEEN.reason)
    return _Problem(error.status_code, reason, f"{error.detail}: see README.md for the routes", error.headers)


class _Problem(Response):
    """A problem as a response, for the routes that are ordinary Starlette."""

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None) -> None:
        super().__init__(status_code=status)
        self._problem = (status, reason, detail)
        self._more = tuple((name.lower().encode(), value.encode()) for name, value in (headers or {}).items())

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        await answer_problem(send, *self._problem, *self._more)


class ByPort:
    """Keeps /webhooks off the admin port, and everything that is for us off the public one."""

    def __init__(self, app: ASGIApp, admin_port: int) -> None:
        self._app = app
        self._admin_port = admin_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if it came in by its port."""
        if scope["type"] == "http" and not self._belongs(scope):
            await answer_problem(send, *NOT_FOUND, "not on this port: see server.admin_port")
            return
        await self._app(scope, receive, send)

    def _belongs(self, scope: Scope) -> bool:
        on_admin_port = scope["server"][1] == self._admin_port
        path: str = scope["path"]
        if path.startswith("/webhooks/"):
            return not on_admin_port
        return on_admin_port or path in ("/healthz", "/readyz")


def _living(
    keeping: Keeping, drainer: Drainer, clients: Sequence[Redis]
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await keeping.open()
        drainer.start()
        yield
        await drainer.stop()
        await keeping.close()
        for redis in clients:
            await redis.aclose()

    return lifespan
