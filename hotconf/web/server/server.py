"""An aiohttp application behind an accept loop of its own, drained without losing an accepted request.

The order of a drain is the point of this file. Accept what the kernel already queued, then close the listeners: closing
first would reset clients that believe themselves connected. Tell long-lived handlers, so that they end from their own
task. Let idle connections linger, each answer saying `Connection: close`: a client may be sending just now. Only then
close what is idle, wait for what runs, and at the deadline cancel, by name, what still does.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aiohttp import web
from aiohttp.log import access_logger

from hotconf.process.service import step
from hotconf.values.times import check_seconds
from hotconf.web.server.acceptor import Arrivals
from hotconf.web.server.active import InFlight
from hotconf.web.server.connection import Connection, unsent
from hotconf.web.server.drain import CLOSE_TIMEOUT, DrainState
from hotconf.web.server.limits import Door, Limits
from hotconf.web.server.listener import Listener, bind_tcp, bind_unix, host_of, place_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping

    from hotconf.web.server.limits import Seat

log = logging.getLogger(__name__)

_CHECK_INTERVAL = 0.02
_CALM_CHECKS = 3
_REPORT_INTERVAL = 5.0
_FLUSH_TIMEOUT = 1.0
_CLEANUP_TIMEOUT = 0.5

_DEFAULT_LIMITS = Limits()


class Server:
    """Serves one `web.Application` on a TCP address or, with `unix_socket`, on a socket file (mode 0600).

    Life: start, begin_drain, drain, stop; all on the event loop's thread. A stopped server may start again. `name` is
    for logs. `port` may be a function, which is asked at the start: the settings that say it are not loaded earlier.
    With port 0 the kernel chooses: `port`, `addresses`, `url` and `name` tell what was bound once start returns. In
    seconds: `idle_linger` is how long an idle connection is still answered in a drain, `close_timeout` how long the
    client of a stream or WebSocket, or of TLS, may take to hear a goodbye and answer it. Off by default: the access log
    (`aiohttp.access`) and `handler_cancellation`, so that a client that leaves cancels no handler. `limits` may be a
    function, which is asked for each connection and each request: what it returns then is obeyed.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str = "127.0.0.1",
        port: int | Callable[[], int] = 8080,
        unix_socket: str | Path | None = None,
        ssl_context: ssl.SSLContext | None = None,
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
        self.name = f"{_scheme(ssl_context)} {self._requested_place()}"
        self._app = app
        self._ssl_context = ssl_context
        self._reuse_port = reuse_port
        self._backlog = backlog
        self._idle_linger = check_seconds("idle_linger", idle_linger)
        self._access_log = access_log
        self._handler_cancellation = handler_cancellation
        self._door = Door(limits if callable(limits) else lambda: limits)
        self._requested_port = port if callable(port) else lambda: port
        self._runner: web.AppRunner | None = None
        self._listeners: list[Listener] = []
        self._drain = DrainState(check_seconds("close_timeout", close_timeout))
        self._in_flight = InFlight(self._drain)
        self._arriving = Arrivals(self._door, self._connect, ssl_context=ssl_context, close_timeout=close_timeout)

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
        return self._drain.draining

    async def start(self) -> None:
        """Bind, run the application's start-up, then accept.

        Raises OSError, its `strerror` naming the address, if that cannot be had. On any failure, cancellation
        included, all that was started is undone.
        """
        self._drain.reset()
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
        self._drain.last_words = True
        self._in_flight.announce_end()

    async def drain(self, *, deadline: float) -> tuple[str, ...]:
        """Stop accepting, finish what was accepted. `deadline` is in the loop's time.

        Returns within a second of the deadline the names of what it cut, `GET /slow (12.3 s)`; empty: nothing.
        """
        self.begin_drain()
        lingers_until = min(asyncio.get_running_loop().time() + self._idle_linger, deadline)
        with step(f"{self.name}: backlog"):
            await self._stop_accepting(until=lingers_until)
        self._drain.draining.set()
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
        self._drain.draining.set()
        self._close_listeners()
        self._arriving.drop()
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
            bound = await bind_tcp(self.host, self._requested_port(), reuse_port=self._reuse_port)
            self.port = bound[0].getsockname()[1]
        return [Listener(sock, accepted=self._arriving.accept) for sock in bound]

    async def _set_up(self) -> None:
        self._runner = web.AppRunner(
            self._app,
            handle_signals=False,
            access_log=access_logger if self._access_log else None,
            handler_cancellation=self._handler_cancellation,
            shutdown_timeout=_CLEANUP_TIMEOUT,
        )
        await self._runner.setup()
        self._in_flight.attach(_serving(self._runner))

    def _connect(self, seat: Seat) -> Connection:
        return Connection(_serving(self._runner), door=self._door, seat=seat)

    # Draining

    async def _stop_accepting(self, *, until: float) -> None:
        for listener in self._listeners:
            await listener.empty(until=until)
        self._close_listeners()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

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
        self._arriving.drop_stalled()
        for connection in self._connections():
            if connection.is_idle():
                # close() would end only the connection's task and leave its transport open; force_close() ends both.
                connection.force_close()

    async def _cut(self) -> tuple[str, ...]:
        """Cancel what still runs. Answers have a moment to leave, then every transport is torn down."""
        self._drain.cutting = True
        self._close_idle()
        transports = self._transports()
        names = self._unfinished()
        self._in_flight.cancel()
        flushed_by = asyncio.get_running_loop().time() + _FLUSH_TIMEOUT
        await self._come_to_rest(until=flushed_by)
        _abort(transports)
        return names

    def _unfinished(self) -> tuple[str, ...]:
        answering = self._in_flight.connections()
        sending = (
            f"response to {host_of(connection.peername) or 'a local client'}"
            for connection in self._connections()
            if connection not in answering and unsent(connection.transport)
        )
        return (*self._in_flight.names(), *sending)

    def _transports(self) -> list[asyncio.Transport]:
        """Return them all. To be asked before closing: a connection told to close forgets its transport."""
        return [connection.transport for connection in self._connections() if connection.transport is not None]

    def _connections(self) -> list[Connection]:
        serving = None if self._runner is None else self._runner.server
        return [] if serving is None else cast("list[Connection]", serving.connections)


def _serving(runner: web.AppRunner | None) -> web.Server:
    if runner is None or runner.server is None:
        raise ConnectionAbortedError("the server has stopped")
    return runner.server


def _abort(transports: Iterable[asyncio.Transport]) -> None:
    """Close without sending what is left, which a client that does not read would hold open. Closed ones: nothing."""
    for transport in transports:
        transport.abort()


def _scheme(ssl_context: ssl.SSLContext | None) -> str:
    return "http" if ssl_context is None else "https"
