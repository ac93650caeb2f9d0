"""An aiohttp application behind an accept loop of its own, drained without losing an accepted request.

The order of a drain is the point of this file. Accept what the kernel already queued, then close the listeners: closing
first would reset clients that believe themselves connected. Tell long-lived handlers, so that they end from their own
task. Let idle connections linger, each answer saying `Connection: close`: a client may be sending just now. Only then
close what is idle, wait for what runs, and at the deadline cancel, by name, what still does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from aiohttp import WSCloseCode, WSMessage, WSMsgType, hdrs, web
from aiohttp.log import access_logger

from hotconf.drain import step
from hotconf.web.connection import Connection, connection_of, expect_close, unread, unsent
from hotconf.web.limits import (
    BodyTimeout,
    Door,
    Limits,
    Seat,
    answer,
)
from hotconf.web.listener import Listener, bind_tcp, bind_unix, place_of
from hotconf.web.problem import Problem
from hotconf.web.ready import ReadyResponse
from hotconf.web.repeats import Repeats, can_repeat

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

    Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

_CHECK_INTERVAL = 0.02
_CALM_CHECKS = 3
_REPORT_INTERVAL = 5.0
_FLUSH_TIMEOUT = 1.0
_CLEANUP_TIMEOUT = 0.5
_DEFAULT_CLOSE_TIMEOUT = 1.0

_DEFAULT_LIMITS = Limits()
_WS_ENDS = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


class Server:
    """Serves one `web.Application` on a TCP address or, with `unix_socket`, on a socket file (mode 0600).

    Life: start, begin_drain, drain, stop; all on the event loop's thread. A stopped server may start again. `name` is
    for logs. With port 0 the kernel chooses: `port`, `addresses`, `url` and `name` tell what was bound once start
    returns. In seconds: `idle_linger` is how long an idle connection is still answered in a drain, `close_timeout` how
    long the client of a stream or WebSocket, or of TLS, may take to hear a goodbye and answer it. Off by default: the
    access log (`aiohttp.access`) and `handler_cancellation`, so that a client that leaves cancels no handler.
    `limits` may be a function, which is asked for each connection and each request: what it returns then is obeyed.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        unix_socket: str | Path | None = None,
        ssl_context: ssl.SSLContext | None = None,
        reuse_port: bool = False,
        backlog: int = 128,
        idle_linger: float = 0.3,
        close_timeout: float = _DEFAULT_CLOSE_TIMEOUT,
        access_log: bool = False,
        handler_cancellation: bool = False,
        limits: Limits | Callable[[], Limits] = _DEFAULT_LIMITS,
    ) -> None:
        self.host = host
        self.port = port
        self.unix_socket = None if unix_socket is None else Path(unix_socket)
        self.name = f"{_scheme(ssl_context)} {self._requested_place()}"
        self._app = app
        self._ssl_context = ssl_context
        self._reuse_port = reuse_port
        self._backlog = backlog
        self._idle_linger = idle_linger
        self.close_timeout = close_timeout
        self._access_log = access_log
        self._handler_cancellation = handler_cancellation
        self._door = Door(limits if callable(limits) else lambda: limits)
        self._repeats = Repeats()
        self._repeating = False
        self._requested_port = port
        self._runner: web.AppRunner | None = None
        self._listeners: list[Listener] = []
        self._arriving: dict[asyncio.Task[Any], _Arrival] = {}
        self._in_flight: dict[asyncio.Task[Any], tuple[web.BaseRequest, float]] = {}
        self._draining = asyncio.Event()
        self._last_words = False
        self._cutting = False
        self._time: Callable[[], float]

    @property
    def addresses(self) -> tuple[str, ...]:
        """What is bound, as text: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/app.sock`. Empty when not listening."""
        return tuple(listener.place for listener in self._listeners)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end. For a socket file: `http://unix:/run/app.sock:`."""
        scheme = _scheme(self._ssl_context)
        if self.unix_socket is not None:
            return f"{scheme}://unix:{self.unix_socket}:"
        return f"{scheme}://{place_of((self.host, self.port))}"

    @property
    def refused(self) -> Mapping[str, int]:
        """How often a client was refused since the server was made, by the limit that it met: every one, 0 too."""
        return self._door.refused

    @property
    def draining(self) -> asyncio.Event:
        """Set when long-lived handlers must come to an end, from their own task."""
        return self._draining

    async def start(self) -> None:
        """Bind, run the application's start-up, then accept.

        Raises OSError, its `strerror` naming the address, if that cannot be had. On any failure, cancellation
        included, all that was started is undone.
        """
        self._draining = asyncio.Event()
        self._last_words = self._cutting = False
        self._time = asyncio.get_running_loop().time
        try:
            self._listeners = await self._bind()
            await self._set_up()
            for listener in self._listeners:
                listener.start(self._backlog)
        except BaseException:
            await self.stop()
            raise
        self.name = f"{_scheme(self._ssl_context)} {', '.join(self.addresses)}"

    def begin_drain(self) -> None:
        """Say `Connection: close` in every answer from now on. Still accepts and serves."""
        self._last_words = True
        self._repeats.clear()
        for request, _ in self._in_flight.values():
            self._announce_end(request)

    async def drain(self, *, deadline: float) -> tuple[str, ...]:
        """Stop accepting, finish what was accepted. `deadline` is in the loop's time.

        Returns within a second of the deadline the names of what it cut, `GET /slow (12.3 s)`; empty: nothing.
        """
        self.begin_drain()
        lingers_until = min(asyncio.get_running_loop().time() + self._idle_linger, deadline)
        with step(f"{self.name}: backlog"):
            await self._stop_accepting(until=lingers_until)
        self._draining.set()
        with step(f"{self.name}: idle linger"):
            at_rest = await self._come_to_rest(until=lingers_until)
        if at_rest:
            return ()
        with step(f"{self.name}: requests in flight"):
            at_rest = await self._come_to_rest(until=deadline, tidy=self._close_idle)
        if at_rest:
            return ()
        with step(f"{self.name}: cutting"):
            return await self._cut()

    async def stop(self) -> None:
        """Close whatever is left and run the application's clean-up hooks. May be called at any time, and again."""
        self._draining.set()
        self._close_listeners()
        self._drop_arriving()
        self._door.close()
        transports = self._transports()
        # Cleared first: a hook that raises must not run again when a caller stops once more to be sure.
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                await runner.cleanup()
            finally:
                _abort(transports)

    # Listening

    def _requested_place(self) -> str:
        return place_of((self.host, self.port) if self.unix_socket is None else str(self.unix_socket))

    async def _bind(self) -> list[Listener]:
        if self.unix_socket is not None:
            bound = [bind_unix(self.unix_socket)]
        else:
            bound = await bind_tcp(self.host, self._requested_port, reuse_port=self._reuse_port)
            self.port = bound[0].getsockname()[1]
        return [Listener(sock, accepted=self._accepted) for sock in bound]

    async def _set_up(self) -> None:
        self._runner = web.AppRunner(
            self._app,
            handle_signals=False,
            access_log=access_logger if self._access_log else None,
            handler_cancellation=self._handler_cancellation,
            shutdown_timeout=_CLEANUP_TIMEOUT,
        )
        await self._runner.setup()
        # Around the whole application, not as one of its middlewares: those belong to the user's object, which may be
        # frozen already and may be served again by someone else.
        factory = _serving(self._runner)
        factory.request_handler = functools.partial(self._answer, factory.request_handler)
        self._repeating = can_repeat(self._app) and not self._access_log

    def _accepted(self, sock: socket.socket, peer: object) -> None:
        host = _host_of(peer)
        if reason := self._door.refusal(host):
            self._turn_away(sock, reason)
            return
        sock.setblocking(False)
        seat = Seat(self._door, host)
        task = asyncio.get_running_loop().create_task(self._adopt(sock, seat))
        self._arriving[task] = _Arrival(sock, seat)
        task.add_done_callback(self._arrived)

    def _turn_away(self, sock: socket.socket, reason: str) -> None:
        self._door.count(reason)
        if reason == "connections" and self._ssl_context is None:
            self._door.turn_away(sock)
        else:
            sock.close()

    async def _adopt(self, sock: socket.socket, seat: Seat) -> None:
        loop = asyncio.get_running_loop()
        factory = functools.partial(
            Connection, _serving(self._runner), door=self._door, seat=seat, repeats=self._repeats
        )
        if self._ssl_context is None:
            await loop.connect_accepted_socket(factory, sock)
            return
        patience = self._door.limits().handshake_timeout
        gives_up_at = loop.time() + patience
        try:
            await loop.connect_accepted_socket(
                factory,
                sock,
                ssl=self._ssl_context,
                ssl_handshake_timeout=patience,
                # The default is 30 s, in which a client that never answers the goodbye would hold a drain.
                ssl_shutdown_timeout=self.close_timeout,
            )
        except ConnectionAbortedError:
            if loop.time() >= gives_up_at:
                self._door.count("handshake_timeout")
            raise

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        arrival = self._arriving.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.debug("%s: a connection failed before its first request: %r", self.name, error)
        if task.cancelled() or error is not None:
            arrival.sock.close()
            arrival.seat.leave()

    # Serving

    async def _answer(self, handle: Handler, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Registered by task: until that ends, the response is still being written."""
        task = self._register(request)
        try:
            response = self._refusal(request)
            if response is None:
                response = await handle(request)
        except (BodyTimeout, web.RequestPayloadError) as error:
            if request.writer.output_size:
                raise
            late = isinstance(error, BodyTimeout)
            response = answer(HTTPStatus.REQUEST_TIMEOUT if late else HTTPStatus.BAD_REQUEST)
        except web.HTTPExpectationFailed:  # raised before any middleware of the application
            response = answer(HTTPStatus.EXPECTATION_FAILED)
        except web.HTTPException as refusal:
            self._end_after(request, refusal)
            raise
        except asyncio.CancelledError:
            # With the headers on the wire the only honest end is a broken one: the connection closes unfinished.
            if not self._cutting or request.writer.output_size:
                raise
            task.uncancel()
            response = _unavailable()
        self._end_after(request, response)
        if self._repeating and isinstance(response, ReadyResponse) and not self._last_words:
            connection_of(request).learn(request, response)
        return response

    def _refusal(self, request: web.BaseRequest) -> web.StreamResponse | None:
        return _unavailable() if self._cutting else connection_of(request).refusal(request)

    def _register(self, request: web.BaseRequest) -> asyncio.Task[Any]:
        task = _current_task()
        # A plain tuple, of the request and when it began: this runs once a request.
        self._in_flight[task] = request, self._time()
        task.add_done_callback(self._answered)
        request[_SERVER] = self
        connection_of(request).begin(request)
        if self._last_words:
            self._announce_end(request)
        return task

    def _answered(self, task: asyncio.Task[Any]) -> None:
        request, _ = self._in_flight.pop(task)
        connection_of(request).end(request)

    def _announce_end(self, request: web.BaseRequest) -> None:
        if self._is_last(request):
            expect_close(request)

    def _end_after(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        broken = connection_of(request).settle_body(request)
        # Also where the request was asked, before the drain, whether it keeps its connection: it remembers its answer.
        if (broken or self._is_last(request)) and isinstance(response, web.StreamResponse):
            response.force_close()

    def _is_last(self, request: web.BaseRequest) -> bool:
        """Whether this answer ends its connection: in a drain, unless pipelined requests were read behind it."""
        return self._last_words and not connection_of(request).has_queued()

    # Draining

    async def _stop_accepting(self, *, until: float) -> None:
        for listener in self._listeners:
            await listener.empty(until=until)
        self._close_listeners()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _drop_arriving(self) -> None:
        for task in self._arriving:
            task.cancel()

    def _drop_stalled_handshakes(self) -> None:
        # Without TLS a connection arrives by itself, within a turn or two, and its first request may be waiting.
        if self._ssl_context is not None:
            for task, arrival in self._arriving.items():
                if not unread(arrival.sock):
                    task.cancel()

    async def _come_to_rest(self, *, until: float, tidy: Callable[[], None] = lambda: None) -> bool:
        """Wait until nothing is open or running, tidying up now and then. False: that time came first."""
        time = asyncio.get_running_loop().time
        report_at = time() + _REPORT_INTERVAL
        calm = 0
        while calm < _CALM_CHECKS:
            if time() >= until:
                return False
            await asyncio.sleep(min(_CHECK_INTERVAL, until - time()))
            tidy()
            if time() >= report_at:
                report_at += _REPORT_INTERVAL
                self._report()
            calm = 0 if self._is_busy() else calm + 1
        return True

    def _is_busy(self) -> bool:
        return bool(self._in_flight or self._arriving or self._connections())

    def _report(self) -> None:
        counts = len(self._in_flight), len(self._connections())
        log.info("%s: draining; requests in flight: %d, connections open: %d", self.name, *counts)

    def _close_idle(self) -> None:
        """Close each connection on which nothing runs, waits to be read or waits to be sent."""
        self._drop_stalled_handshakes()
        for connection in self._connections():
            if connection.is_idle():
                # close() would end only the connection's task and leave its transport open; force_close() ends both.
                connection.force_close()

    async def _cut(self) -> tuple[str, ...]:
        """Cancel what still runs. Answers have a moment to leave, then every transport is torn down."""
        self._cutting = True
        self._close_idle()
        transports = self._transports()
        names = self._unfinished()
        for task in tuple(self._in_flight):
            task.cancel()
        flushed_by = asyncio.get_running_loop().time() + _FLUSH_TIMEOUT
        await self._come_to_rest(until=flushed_by)
        _abort(transports)
        return names

    def _unfinished(self) -> tuple[str, ...]:
        now = self._time()
        running = [_describe(request, now - since) for request, since in self._in_flight.values()]
        answering = {request.protocol for request, _ in self._in_flight.values()}
        sending = (
            f"response to {_host_of(connection.peername) or 'a local client'}"
            for connection in self._connections()
            if connection not in answering and unsent(connection.transport)
        )
        return (*running, *sending)

    def _transports(self) -> list[asyncio.Transport]:
        """Return them all. To be asked before closing: a connection told to close forgets its transport."""
        return [connection.transport for connection in self._connections() if connection.transport is not None]

    def _connections(self) -> list[Connection]:
        serving = None if self._runner is None else self._runner.server
        return [] if serving is None else cast("list[Connection]", serving.connections)


_SERVER = web.RequestKey("server", Server)


def draining_of(request: web.BaseRequest) -> asyncio.Event:
    """Return the event that tells a long-lived handler to end: send its last words, and return.

    Under another server than ours: an event that is never set.
    """
    server = server_of(request)
    return asyncio.Event() if server is None else server.draining


def server_of(request: web.BaseRequest) -> Server | None:
    """Return the server that a request came to, None where it is another than ours."""
    return request.get(_SERVER)


async def messages(ws: web.WebSocketResponse, request: web.BaseRequest) -> AsyncGenerator[WSMessage, None]:
    """Yield what the client sends until it leaves; in a drain close with 1001 (going away).

    Wrap it in `contextlib.aclosing` if the loop may end early. Closing happens here, in the task that reads: from
    another one aiohttp closes the transport without waiting for the client's reply, which then meets a reset.
    """
    draining = asyncio.ensure_future(draining_of(request).wait())
    draining.add_done_callback(lambda ended: None if ended.cancelled() else limit_goodbye(request))
    receiving: asyncio.Task[WSMessage] | None = None
    try:
        while not draining.done():
            receiving = asyncio.ensure_future(ws.receive())
            await asyncio.wait((receiving, draining), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                break
            message = receiving.result()
            if message.type in _WS_ENDS:
                return
            yield message
    finally:
        await _settle(draining, receiving)
    await _go_away(ws, timeout=_close_timeout_of(request))


def limit_goodbye(request: web.BaseRequest) -> None:
    """Tear the connection of a long-lived handler down where, after the server's `close_timeout`, bytes wait for it.

    To be called when the drain has begun: a client that does not read what it is sent would hold it to its deadline,
    and its handler perhaps in the middle of a message.
    """
    if request.transport is not None:
        later = asyncio.get_running_loop().call_later
        later(_close_timeout_of(request), _abort_unsent, request.transport)


def _abort_unsent(transport: asyncio.Transport) -> None:
    if unsent(transport):
        log.info("a client did not read our last words: %s", _host_of(transport.get_extra_info("peername")))
        transport.abort()


def _close_timeout_of(request: web.BaseRequest) -> float:
    server = request.get(_SERVER)
    return _DEFAULT_CLOSE_TIMEOUT if server is None else server.close_timeout


async def _settle(*tasks: asyncio.Future[Any] | None) -> None:
    started = [task for task in tasks if task is not None]
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)


async def _go_away(ws: web.WebSocketResponse, *, timeout: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await ws.close(code=WSCloseCode.GOING_AWAY)


class _Arrival(NamedTuple):
    """A connection that was accepted and has no transport yet: a TLS handshake is under way."""

    sock: socket.socket
    seat: Seat


def _describe(request: web.BaseRequest, age: float) -> str:
    # The raw path: percent-encoded, so that no request can write a line of its own into a log; and no query, which may
    # hold secrets.
    return f"{request.method} {request.rel_url.raw_path} ({age:.1f} s)"


def _unavailable() -> web.Response:
    headers: dict[str, str] = {hdrs.RETRY_AFTER: "1"}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the server is shutting down", headers=headers).response()


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "called outside a task"  # noqa: S101 - for the type checker
    return task


def _serving(runner: web.AppRunner | None) -> web.Server:
    if runner is None or runner.server is None:
        raise ConnectionAbortedError("the server has stopped")
    return runner.server


def _abort(transports: Iterable[asyncio.Transport]) -> None:
    """Close without sending what is left, which a client that does not read would hold open. Closed ones: nothing."""
    for transport in transports:
        transport.abort()


def _host_of(peer: object) -> str | None:
    """Return the IP address of a socket's peer; None at the other end of a unix socket."""
    return str(peer[0]) if isinstance(peer, tuple) else None


def _scheme(ssl_context: ssl.SSLContext | None) -> str:
    return "http" if ssl_context is None else "https"
