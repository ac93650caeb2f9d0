"""The aiohttp face of `hotconf.api`: its endpoints as routes, as an application, and as a server of their own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from hotconf.api.endpoints import BODY_LIMIT, Endpoint, endpoints
from hotconf.api.exchange import Response
from hotconf.web.pin import release_snapshot
from hotconf.web.safety import Safety, grant_of, header, peer_of, to_aiohttp
from hotconf.web.server.drain import abort_slow_reader, drain_state
from hotconf.web.server.server import Server
from hotconf.web.server.sockets import unsent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hotconf.api.exchange import Request
    from hotconf.conf import HotConf
    from hotconf.process.service import Service


def config_app(
    conf: HotConf[Any],
    *,
    safety: Safety | None = None,
    state: Callable[[], str] | None = None,
    heartbeat: float = 15.0,
    max_watchers: int = 10_000,
) -> web.Application:
    """Return an application with every endpoint, to run alone or to mount with `add_subapp` under any prefix.

    Args:
        conf: The configuration.
        safety: Decides which requests are answered. By default those to loopback names, without a token.
        state: As for `config_routes`.
        heartbeat: As for `config_routes`.
        max_watchers: As for `config_routes`.

    Returns:
        The application. It does not start the configuration: that is up to `conf.running()` or a `Service`.

    Raises:
        ValueError: `heartbeat` is not a number of seconds, or too small.
    """
    safety = safety or Safety()
    app = web.Application(middlewares=[safety.middleware()], client_max_size=BODY_LIMIT)
    options: Any = {"state": state, "heartbeat": heartbeat, "max_watchers": max_watchers}
    app.add_routes(config_routes(conf, app=app, safety=safety, **options))
    return app


def config_routes(
    conf: HotConf[Any],
    *,
    app: web.Application | None = None,
    safety: Safety | None = None,
    state: Callable[[], str] | None = None,
    heartbeat: float = 15.0,
    max_watchers: int = 10_000,
) -> list[web.RouteDef]:
    """Return the endpoints as routes, for an application that has middlewares of its own.

    One of them must be `Safety.middleware`, or another that authenticates: without it every client is answered.

    Args:
        conf: The configuration.
        app: The application that gets the routes: its `on_shutdown` ends streams and parked requests. It is needed
            under a runner of aiohttp, which would wait for them. `Server` ends them by itself.
        safety: The Safety whose middleware the application has: `/metrics` has the count of what it refused.
        state: Returns the state for `/readyz` and `/status`: `lambda: service.state` where a service starts more than
            the configuration. By default it is the state of the configuration.
        heartbeat: Seconds between two heartbeats of a stream.
        max_watchers: The largest number of parked requests and streams. Beyond it the response is 503.

    Returns:
        The routes, for `app.add_routes`.

    Raises:
        ValueError: `heartbeat` is not a number of seconds, or too small.
    """
    unauthorized = None if safety is None else lambda: safety.unauthorized
    served = endpoints(conf, state=state, heartbeat=heartbeat, max_watchers=max_watchers, unauthorized=unauthorized)
    shutdown = None if app is None else _Shutdown(app)
    return [route(endpoint, shutdown) for endpoint in served]


def config_server(
    service: Service,
    conf: HotConf[Any],
    *,
    safety: Safety,
    host: str,
    port: int,
    unix_socket: Path | None = None,
    heartbeat: float = 15.0,
    max_watchers: int = 10_000,
) -> Server:
    """Add a server to a service, and return it. It serves the endpoints of a configuration and nothing else."""

    async def front(_request: Request) -> Response:
        return Response(status=HTTPStatus.FOUND, headers={"Location": "dashboard"})

    app = config_app(conf, safety=safety, state=lambda: service.state, heartbeat=heartbeat, max_watchers=max_watchers)
    app.add_routes([route(Endpoint("GET", "/", front, holds_no_data=True))])
    server = Server(app, host=host, port=port, unix_socket=unix_socket)
    service.add(server)
    return server


class _Shutdown:
    """The shutdown of one application. `event` is a new one for each start, and set by `on_shutdown`."""

    def __init__(self, app: web.Application) -> None:
        self.event = asyncio.Event()
        app.on_startup.append(self._begin)
        app.on_shutdown.append(self._end)

    async def _begin(self, _app: web.Application) -> None:
        self.event = asyncio.Event()

    async def _end(self, _app: web.Application) -> None:
        self.event.set()


def route(endpoint: Endpoint, shutdown: _Shutdown | None = None) -> web.RouteDef:
    """Return an endpoint as a route."""

    async def serve(request: web.Request) -> web.StreamResponse:
        wrapped = _Request(request, shutdown)
        answer = await endpoint.answer(wrapped)
        if isinstance(answer, Response):
            complete = to_aiohttp(answer)
            if wrapped.expects_continue:
                complete.force_close()  # a client that was not told to go on may leave its body out
            return complete
        try:
            response = web.StreamResponse(headers=answer.headers)
            chunked = request.version >= (1, 1)  # HTTP/1.0 has no chunks
            if chunked:
                response.enable_chunked_encoding()
            await response.prepare(request)
            response.headers.clear()  # they are sent, and take more memory than everything else of a stream
            transport = request.transport
            if transport is not None:
                await answer.open(_Channel(transport, chunked=chunked))
                if not transport.is_closing():
                    abort_slow_reader(request)
                    with contextlib.suppress(ConnectionError):
                        await response.write(answer.last)
        finally:
            answer.close()
        return response

    serve.holds_no_data = endpoint.holds_no_data  # type: ignore[attr-defined]  # `Safety.middleware` reads it
    path = endpoint.path.replace("}", ":(?s:.*)}")
    options = {"allow_head": endpoint.allow_head} if endpoint.method == "GET" else {}
    return web.route(endpoint.method, path, serve, expect_handler=_expect, **options)


async def _expect(request: web.Request) -> None:
    """Tell the client nothing yet: it is to send its body when that is wanted, which the middlewares decide."""
    if request.version >= (1, 1) and not _expects_continue(request):
        raise web.HTTPExpectationFailed


def _expects_continue(request: web.Request) -> bool:
    return request.version >= (1, 1) and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"


class _Request:
    """A request of aiohttp, as handlers see it."""

    __slots__ = ("_request", "_shutdown", "expects_continue")

    def __init__(self, request: web.Request, shutdown: _Shutdown | None) -> None:
        self._request = request
        self._shutdown = shutdown
        self.expects_continue = hdrs.EXPECT in request.headers and _expects_continue(request)

    @property
    def method(self) -> str:
        return self._request.method

    @property
    def path(self) -> str:
        return self._request.rel_url.raw_path

    @property
    def tail(self) -> str:
        match = self._request.match_info
        if not match or match.route.resource is None:  # no placeholder
            return ""
        # The prefix may have been sent in another spelling, %63onfig: its slashes count, not its letters.
        return self.path.split("/", match.route.resource.canonical.partition("{")[0].count("/"))[-1]

    @property
    def query(self) -> str:
        return self._request.rel_url.raw_query_string

    def header(self, name: str) -> str | None:
        return header(self._request.headers, name)

    async def read(self) -> bytes:
        size, most = self._request.content_length or 0, self._request.client_max_size
        if size > most:  # aiohttp would read as much of it first
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=size)
        if self.expects_continue:
            self.expects_continue = False
            writer = self._request.writer
            await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            writer.output_size = 0  # of the response, which has not begun
        return await self._request.read()

    @property
    def peer(self) -> str:
        return peer_of(self._request)

    @property
    def token(self) -> str | None:
        grant = grant_of(self._request)
        return None if grant is None else grant.tokens.name

    @property
    def draining(self) -> asyncio.Event | None:
        state = drain_state(self._request)
        if state is not None:
            return state.draining
        return None if self._shutdown is None else self._shutdown.event

    def is_gone(self) -> bool:
        transport, grant = self._request.transport, grant_of(self._request)
        # A client that sends no more cannot be told from one that has left.
        if transport is None or transport.is_closing() or getattr(transport.get_protocol(), "half_closed", False):
            return True
        return grant is not None and grant.is_revoked

    def release_snapshot(self) -> None:
        release_snapshot(self._request)


class _Channel:
    """The connection of a stream. It writes to the transport: awaiting each write would need a task for each stream."""

    __slots__ = ("_chunked", "transport")

    def __init__(self, transport: asyncio.Transport, *, chunked: bool) -> None:
        self.transport = transport
        self._chunked = chunked

    @property
    def unsent(self) -> int:
        return unsent(self.transport)

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(_chunk(data) if self._chunked else data)


@functools.lru_cache(maxsize=1)  # one event goes to many streams
def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
