"""An aiohttp application behind an accept loop of its own, drained without losing an accepted request.

The order of a drain is the point of this file. Accept what the kernel has queued, then close the listeners: closing
first would reset clients that consider themselves connected. Tell long-lived handlers and the application, and close
the WebSockets that neither of them closes. Let idle connections linger, with `Connection: close` in each response: a
client may be sending at this moment. Only then close what is idle, wait for what runs, and at the deadline cancel, by
name, what still does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.log import access_logger

from hotconf.values.times import check_seconds
from hotconf.web.server.acceptor import Acceptor, Listener
from hotconf.web.server.connection import Connection, serve_connections
from hotconf.web.server.drain import CLOSE_TIMEOUT, DrainState
from hotconf.web.server.limits import ConnectionLimiter, Limits
from hotconf.web.server.sockets import bind_tcp, bind_unix, place_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hotconf.web.server.limits import ConnectionSlot

log = logging.getLogger(__name__)

_CHECK_INTERVAL = 0.02
_STALL_INTERVAL = 5.0
_DRAINING_STALL_TIME = 2.0
_CALM_CHECKS = 3
_REPORT_INTERVAL = 5.0
_FLUSH_TIMEOUT = 1.0
_CLEANUP_TIMEOUT = 0.5

_DEFAULT_LIMITS = Limits()


class Server:
    """Serves one application on a TCP address or a socket file, and drains.

    Its life is start, begin_drain, drain, stop, all on the thread of the event loop. A stopped server may start again.
    `name` is for logs. Once `start` has returned, `port`, `addresses`, `url` and `name` tell what was bound.

    Args:
        app: The application.
        host: The address or host name. An empty one means all interfaces.
        port: The port, or a function that returns it, which is called at each start: the settings that say it are not
            loaded earlier. With 0 the kernel chooses one.
        unix_socket: The path of a socket file, with mode 0600, in place of `host` and `port`.
        ssl_context: For TLS: a context, or a function that returns the one for each new connection, so that a renewed
            certificate is used. If it raises at the start, the start fails. Later the last context stays in use, and
            the log says why. A function with a parameter gets the snapshot of the service's configuration; it is called
            before that snapshot is in force, and if it raises, the reload is rejected.
        reuse_port: Whether several processes may bind the same port.
        backlog: The length of the kernel's queue of connections.
        idle_linger: Seconds in a drain for which an idle connection is still answered.
        close_timeout: Seconds that the client of a stream, a WebSocket or TLS has to read the last message, and to
            answer the close.
        access_log: Whether to write the log `aiohttp.access`.
        handler_cancellation: Whether to cancel the handler of a client that leaves.
        limits: Bounds on clients, or a function that returns them, which is called for each connection and request.

    Raises:
        ValueError: A time is negative, not finite or not a number.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str = "127.0.0.1",
        port: int | Callable[[], int] = 8080,
        unix_socket: str | Path | None = None,
        ssl_context: ssl.SSLContext | Callable[..., ssl.SSLContext] | None = None,
        reuse_port: bool = False,
        backlog: int = 128,
        idle_linger: float = 0.3,
        close_timeout: float = CLOSE_TIMEOUT,
        access_log: bool = False,
        handler_cancellation: bool = False,
        limits: Limits | Callable[[], Limits] = _DEFAULT_LIMITS,
    ) -> None:
        self.host = host
        self.port = 0 if callable(port) else port
        self.unix_socket = None if unix_socket is None else Path(unix_socket)
        self._app = app
        self._scheme = "http" if ssl_context is None else "https"
        self._reuse_port = reuse_port
        self._backlog = backlog
        self._idle_linger = check_seconds("idle_linger", idle_linger)
        self._access_log = access_log
        self._handler_cancellation = handler_cancellation
        self._limiter = ConnectionLimiter(limits if callable(limits) else lambda: limits)
        self._requested_port = port if callable(port) else lambda: port
        self._runner: _Runner | None = None
        self._ending: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._listeners: list[Listener] = []
        self._drain = DrainState(check_seconds("close_timeout", close_timeout))
        self._tls = None if ssl_context is None else _Tls(ssl_context)
        self._acceptor = Acceptor(self._limiter, self._connect, ssl_context=self._tls, close_timeout=close_timeout)
        place = place_of((self.host, self.port) if self.unix_socket is None else str(self.unix_socket))
        self.name = f"{self._scheme} {place}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """What is bound, as text: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/app.sock`. Empty when not listening."""
        return tuple(listener.place for listener in self._listeners)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end. For a socket file: `http://unix:/run/app.sock:`."""
        if self.unix_socket is not None:
            return f"{self._scheme}://unix:{self.unix_socket}:"
        return f"{self._scheme}://{place_of((self.host, self.port))}"

    @property
    def refused(self) -> Mapping[str, int]:
        """How often clients were refused since the server was made, by the limit. Every limit has a count."""
        return self._limiter.refused

    @property
    def draining(self) -> asyncio.Event:
        """Set when long-lived handlers must end, each in its own task."""
        return self._drain.draining

    def attach(self, conf: Any) -> None:
        """Take the snapshots of a configuration for an `ssl_context` that is a function of them.

        `Service.add` calls it. Call it before the configuration is live.
        """
        if self._tls is not None:
            self._tls.attach(conf)

    async def start(self) -> None:
        """Bind, run the start-up of the application, then accept.

        On any failure, cancellation included, everything that was started is undone.

        Raises:
            OSError: The address cannot be bound. Its `strerror` names the address.
        """
        self._drain.reset()
        try:
            if self._tls is not None:
                self._tls.begin()
            self._listeners = [Listener(sock, accepted=self._acceptor.accept) for sock in await self._bind()]
            self._runner = _Runner(
                self._app,
                handle_signals=False,
                access_log=access_logger if self._access_log else None,
                handler_cancellation=self._handler_cancellation,
                shutdown_timeout=_CLEANUP_TIMEOUT,
            )
            await self._runner.setup()
            serve_connections(_serving(self._runner))
            for listener in self._listeners:
                listener.start(self._backlog)
            self._abort_stalled()
        except BaseException:
            await self.stop()
            raise
        self.name = f"{self._scheme} {', '.join(self.addresses)}"

    def begin_drain(self) -> None:
        """Send `Connection: close` in every response from now on. The server still accepts and serves."""
        self._drain.closing = True

    async def drain(self, *, deadline: float) -> tuple[str, ...]:
        """Stop accepting and finish what was accepted. Ends at most about a second after the deadline.

        The application's `on_shutdown` runs as soon as nothing more is accepted, beside the requests in flight.

        Args:
            deadline: When to cancel what still runs, in the time of the event loop.

        Returns:
            The names of what was cancelled, such as `GET /slow (12.3 s)`.
        """
        self.begin_drain()
        lingers_until = min(asyncio.get_running_loop().time() + self._idle_linger, deadline)
        with self._step("backlog"):
            for listener in self._listeners:
                await listener.drain(until=lingers_until)
            self._close_listeners()
        self._drain.draining.set()
        for connection in self._connections():
            connection.hurry()
        self._ending = asyncio.create_task(self._end_long_lived())
        with self._step("idle linger"):
            is_done = await self._wait_idle(until=lingers_until)
        if is_done:
            return ()
        with self._step("requests in flight"):
            is_done = await self._wait_idle(until=deadline, tidy=self._close_idle)
        if is_done:
            return ()
        with self._step("cancelling"):
            return await self._cancel()

    async def stop(self) -> None:
        """Close what is left and run the clean-up of the application. May be called at any time, and again."""
        self._drain.draining.set()
        if self._ending is not None:
            self._ending.cancel()
        if self._sweep is not None:
            self._sweep.cancel()
        self._close_listeners()
        self._acceptor.close()
        self._limiter.close()
        transports = self._transports()
        # Cleared first: a hook that raises must not run again when stop is called once more.
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                await runner.cleanup()
            finally:
                _abort(transports)

    # Connections

    async def _bind(self) -> list[socket.socket]:
        if self.unix_socket is not None:
            return [bind_unix(self.unix_socket)]
        bound = await bind_tcp(self.host, self._requested_port(), reuse_port=self._reuse_port)
        self.port = bound[0].getsockname()[1]
        return bound

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _connect(self, slot: ConnectionSlot) -> Connection:
        return Connection(_serving(self._runner), limiter=self._limiter, slot=slot, drain=self._drain)

    def _connections(self) -> list[Connection]:
        """Return the open connections, and those whose client has left a handler that still runs."""
        serving = None if self._runner is None else self._runner.server
        return [] if serving is None else cast("list[Connection]", serving.connections)

    def _running(self) -> list[Connection]:
        return [connection for connection in self._connections() if connection.is_running()]

    def _abort_stalled(self) -> None:
        """Abort the connections whose client takes nothing of what is sent to it, now and from time to time."""
        limit = self._limiter.limits().send_timeout
        if limit is not None:
            for connection in self._connections():
                if connection.stalled() > limit:
                    self._limiter.count("send_timeout")
                    connection.abort()
        interval = _STALL_INTERVAL if limit is None else max(0.05, min(limit / 5, _STALL_INTERVAL))
        self._sweep = asyncio.get_running_loop().call_later(interval, self._abort_stalled)

    def _transports(self) -> list[asyncio.Transport]:
        """Return them all. To be called before closing: a connection that is told to close forgets its transport."""
        return [connection.transport for connection in self._connections() if connection.transport is not None]

    # The drain

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """Log the time that a step takes."""
        time = asyncio.get_running_loop().time
        started = time()
        yield
        log.info("drain: %s: %s took %.2f s", self.name, name, time() - started)

    async def _end_long_lived(self) -> None:
        """Run the application's `on_shutdown`, and close the WebSockets that it leaves open.

        They are closed after `close_timeout` if it takes longer: it may wait for clients that do not reply.
        """
        timer = asyncio.get_running_loop().call_later(self._drain.close_timeout, self._end_websockets)
        try:
            if self._runner is not None:
                await self._runner.shutdown()
        except (Exception, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            log.exception("%s: on_shutdown of the application raised", self.name)
        finally:
            timer.cancel()
            self._end_websockets()

    def _end_websockets(self) -> None:
        for connection in self._connections():
            connection.end_websocket()

    async def _wait_idle(self, *, until: float, tidy: Callable[[], None] = lambda: None) -> bool:
        """Wait until no connection is open and `on_shutdown` has returned, and call `tidy` now and then.

        Return False if the time was over first.
        """
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
                counts = len(self._running()), len(self._connections())
                log.info("%s: draining; requests in flight: %d, connections open: %d", self.name, *counts)
            is_ending = self._ending is not None and not self._ending.done()
            calm = 0 if self._acceptor or self._connections() or is_ending else calm + 1
        return True

    def _close_idle(self) -> None:
        self._acceptor.close_stalled()
        for connection in self._connections():
            connection.close_idle()
            if connection.stalled() > _DRAINING_STALL_TIME:
                log.info("%s: closed a connection whose client stopped reading", self.name)
                connection.abort()

    async def _cancel(self) -> tuple[str, ...]:
        """Cancel what still runs. Responses have a moment to be sent, then every transport is aborted."""
        self._drain.cancelling = True
        self._close_idle()
        transports = self._transports()
        connections = self._connections()
        names = tuple(name for connection in connections if (name := connection.unfinished()))
        if self._ending is not None and not self._ending.done():
            self._ending.cancel()
            names += ("on_shutdown of the application",)
        for connection in connections:
            connection.cancel()
        flushed_by = asyncio.get_running_loop().time() + _FLUSH_TIMEOUT
        # A client that stopped in its upload has its 503 by now: the rest of its body is not waited for.
        await self._wait_idle(until=flushed_by, tidy=self._close_idle)
        _abort(transports)
        return names


class _Tls:
    """The TLS context for the next connection: always the same one, or what a function returns.

    A function of the snapshot becomes a resource of the configuration: a context that cannot be built rejects the
    reload, and settings and certificate change together.
    """

    def __init__(self, given: ssl.SSLContext | Callable[..., ssl.SSLContext]) -> None:
        self._make: Callable[..., ssl.SSLContext] = given if callable(given) else lambda: given
        self._of_snapshot = callable(given) and _needs_argument(given)
        self._last: ssl.SSLContext | None = None
        self._fault = ""

    def attach(self, conf: Any) -> None:
        if not self._of_snapshot:
            return
        make = self._make

        @contextlib.contextmanager
        @functools.wraps(make)
        def context(candidate: Any) -> Iterator[ssl.SSLContext]:
            yield _checked(make(candidate))

        resource = conf.resource()(context)
        self._make, self._of_snapshot = lambda: conf.snapshot[resource], False

    def begin(self) -> None:
        """Make the first context. Raises what the function raises."""
        if self._of_snapshot:
            raise ValueError(
                "ssl_context is a function of the snapshot: add the server to a Service with a configuration"
            )
        self._last = _checked(self._make())

    def __call__(self) -> ssl.SSLContext:
        try:
            self._last = _checked(self._make())
            self._fault = ""
        except Exception as error:
            if str(error) != self._fault:
                log.exception("ssl_context raised; the last context stays in use")
            self._fault = str(error)
        assert self._last is not None, "a server has started"  # noqa: S101 - for the type checker
        return self._last


def _needs_argument(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # a builtin tells nothing
        return False
    return False


def _checked(context: ssl.SSLContext) -> ssl.SSLContext:
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"ssl_context returned {type(context).__name__} and no SSLContext")
    return context


class _Runner(web.AppRunner):
    """Runs the application's `on_shutdown` once: when the drain begins, or in `cleanup` where there was none."""

    __slots__ = ("_has_shut_down",)

    async def setup(self) -> None:
        """Start the application."""
        self._has_shut_down = False
        await super().setup()

    async def shutdown(self) -> None:
        """Run `on_shutdown`, the first time."""
        if not self._has_shut_down:
            self._has_shut_down = True
            await super().shutdown()


def _serving(runner: web.AppRunner | None) -> web.Server:
    if runner is None or runner.server is None:
        raise ConnectionAbortedError("the server has stopped")
    return runner.server


def _abort(transports: Iterable[asyncio.Transport]) -> None:
    """Close without sending what is left: a client that does not read would hold it open. Closed ones are left."""
    for transport in transports:
        transport.abort()
