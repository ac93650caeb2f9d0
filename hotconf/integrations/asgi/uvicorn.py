"""uvicorn in a `Service`: SIGHUP, exit codes and systemd as for any server, and a drain that loses no request.

The order of the drain is that of `hotconf.web.server.server`: accept what the kernel has queued, close the listeners,
end what lasts, answer idle connections with `Connection: close` for a moment, then close them. uvicorn's own shutdown
closes first, and resets what was on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotconf.integrations.asgi.config import DRAINING
from hotconf.values.times import check_seconds
from hotconf.web.server.acceptor import Listener
from hotconf.web.server.sockets import bind_tcp, bind_unix, place_of, unread

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn

    from hotconf.integrations.asgi.pin import ASGIApp, Message, Receive, Scope, Send

_CHECK_INTERVAL = 0.02
_CALM_CHECKS = 3
_FLUSH_TIMEOUT = 1.0

_NOT_HERE = frozenset({"fd", "uds", "workers", "reload", "limit_max_requests", "timeout_graceful_shutdown"})
"""Options of uvicorn for what a `Service` does itself, or cannot do."""


class UvicornServer:
    """Serves an ASGI application with uvicorn's protocols as a server of a `Service`, and drains.

    A WebSocket that is open when the drain begins gets uvicorn's close, 1012. The lifespan of the application begins
    with `start` and ends with `stop`, after the last request. Once `start` has returned, `port`, `addresses` and `url`
    tell what was bound.

    Args:
        app: The application, or its import string.
        host: The address or host name. An empty one means all interfaces.
        port: The port, or a function that returns it, which is called at each start: the settings that say it are not
            loaded earlier. With 0 the kernel chooses one.
        unix_socket: The path of a socket file, with mode 0600, in place of `host` and `port`.
        idle_linger: Seconds in a drain for which an idle connection is still answered.
        **uvicorn_options: Options of `uvicorn.Config`, such as `ssl_certfile`, `ws` or `timeout_keep_alive`. Unless
            given, `log_config` is None, so that the logging of the program holds, and `access_log` is False.

    Raises:
        ImportError: uvicorn is not installed.
        ValueError: `idle_linger` is no time, or an option is one that the `Service` stands for, such as `workers`.
    """

    def __init__(
        self,
        app: ASGIApp | str,
        *,
        host: str = "127.0.0.1",
        port: int | Callable[[], int] = 8000,
        unix_socket: str | Path | None = None,
        idle_linger: float = 0.3,
        **uvicorn_options: Any,
    ) -> None:
        try:
            import uvicorn
        except ImportError:
            raise ImportError("UvicornServer needs the extra: pip install 'hotconf[uvicorn]'") from None
        if refused := sorted(_NOT_HERE & uvicorn_options.keys()):
            raise ValueError(f"{', '.join(refused)}: not an option here: the Service has ways of its own")
        self.host = host
        self.port = 0 if callable(port) else port
        self.unix_socket = None if unix_socket is None else Path(unix_socket)
        self.name = "uvicorn"
        self._requested_port = port if callable(port) else lambda: port
        self._idle_linger = check_seconds("idle_linger", idle_linger)
        self._config = uvicorn.Config(app, **{"log_config": None, "access_log": False, **uvicorn_options})
        self._draining = asyncio.Event()
        self._closes = False
        self._running: dict[asyncio.Task[Any], tuple[str, float]] = {}
        self._listeners: list[Listener] = []
        self._connecting: set[asyncio.Task[Any]] = set()
        self._server: uvicorn.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """What is bound, as text: `127.0.0.1:8000`, `unix:/run/app.sock`. Empty when not listening."""
        return tuple(listener.place for listener in self._listeners)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end. For a socket file: `http://unix:/run/app.sock:`."""
        scheme = "https" if self._config.is_ssl else "http"
        if self.unix_socket is not None:
            return f"{scheme}://unix:{self.unix_socket}:"
        return f"{scheme}://{place_of((self.host, self.port))}"

    async def start(self) -> None:
        """Bind, start the lifespan of the application, then accept. On any failure everything is undone.

        Raises:
            OSError: The address cannot be bound. Its `strerror` names the address.
            RuntimeError: The lifespan of the application failed. uvicorn has logged why.
        """
        import uvicorn

        self._draining, self._closes = asyncio.Event(), False
        try:
            if self.unix_socket is not None:
                sockets = [bind_unix(self.unix_socket)]
            else:
                sockets = await bind_tcp(self.host, self._requested_port(), reuse_port=False)
                self.port = sockets[0].getsockname()[1]
            self._listeners = [Listener(sock, accepted=self._accept) for sock in sockets]
            if not self._config.loaded:
                self._config.load()
                self._app: ASGIApp = self._config.loaded_app
                self._config.loaded_app = self._serve
            self._server = uvicorn.Server(self._config)
            self._server.lifespan = self._config.lifespan_class(self._config)
            try:
                await self._server.startup(sockets=[])
            except SystemExit:
                self._server = None
                raise RuntimeError(
                    "the lifespan of the application failed: the log of uvicorn has the reason"
                ) from None
            self._ticking = asyncio.create_task(self._server.main_loop(), name="hotconf-uvicorn")
            for listener in self._listeners:
                listener.start(self._config.backlog)
        except BaseException:
            await self.stop()
            raise
        self.name = f"uvicorn {', '.join(self.addresses)}"

    def begin_drain(self) -> None:
        """Send `Connection: close` in every response from now on. The server still accepts and serves."""
        self._closes = True

    async def drain(self, *, deadline: float) -> tuple[str, ...]:
        """Stop accepting and finish what was accepted. Ends at most about a second after the deadline.

        Args:
            deadline: When to cancel what still runs, in the time of the event loop.

        Returns:
            The names of what was cancelled, such as `GET /slow (12.3 s)`.
        """
        self.begin_drain()
        lingers_until = min(asyncio.get_running_loop().time() + self._idle_linger, deadline)
        for listener in self._listeners:
            await listener.drain(until=lingers_until)
        self._listeners = []
        self._draining.set()
        websocket: object = self._config.ws_protocol_class
        for connection in self._connections():
            if type(connection) is websocket:
                connection.shutdown()
        if await self._wait_idle(until=lingers_until) or await self._wait_idle(until=deadline, tidy=self._close_idle):
            return ()
        cut = tuple(f"{name} ({time.monotonic() - began:.1f} s)" for name, began in self._running.values())
        for task in self._running:
            task.cancel()
        await self._wait_idle(until=asyncio.get_running_loop().time() + _FLUSH_TIMEOUT, tidy=self._close_idle)
        return cut

    async def stop(self) -> None:
        """Close what is left, and end the lifespan of the application. May be called at any time, and again."""
        self._draining.set()
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        for task in self._connecting:
            task.cancel()
        for connection in self._connections():
            connection.transport.abort()
        server, self._server = self._server, None
        if self._ticking is not None:
            self._ticking.cancel()
        if server is not None:
            await server.lifespan.shutdown()

    # Connections

    def _accept(self, sock: Any, _peer: object) -> None:
        sock.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._connect(sock))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, sock: Any) -> None:
        config, server, loop = self._config, self._server, asyncio.get_running_loop()
        if server is None:
            sock.close()
            return
        options: dict[str, Any] = {
            "config": config,
            "server_state": server.server_state,
            "app_state": server.lifespan.state,
        }
        with contextlib.suppress(OSError):  # a handshake that fails, or a client that has left
            await loop.connect_accepted_socket(lambda: config.http_protocol_class(**options), sock, ssl=config.ssl)

    def _connections(self) -> list[Any]:
        return [] if self._server is None else list(self._server.server_state.connections)

    def _close_idle(self) -> None:
        """Close each connection without a request and without unread bytes; the others close after their response."""
        for connection in self._connections():
            if not unread(connection.transport.get_extra_info("socket")):
                connection.shutdown()

    async def _wait_idle(self, *, until: float, tidy: Callable[[], None] = lambda: None) -> bool:
        """Wait until no connection is left. Return False if the time was over first."""
        now = asyncio.get_running_loop().time
        calm = 0
        while calm < _CALM_CHECKS:
            if now() >= until:
                return False
            await asyncio.sleep(min(_CHECK_INTERVAL, until - now()))
            tidy()
            calm = 0 if self._connecting or self._connections() or self._running else calm + 1
        return True

    # Requests

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application. What it has to know of the drain is in the scope, the client's part in the headers."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope["extensions"] = {**(scope.get("extensions") or {}), DRAINING: self._draining}

        closes_connections = scope.get("http_version", "1.1") < "2"  # HTTP/2 has no such header

        async def send_closing(message: Message) -> None:
            if closes_connections and self._closes and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._running[task] = f"{scope.get('method', 'WebSocket')} {scope['path']}", time.monotonic()
        try:
            await self._app(scope, receive, send_closing)
        finally:
            del self._running[task]
