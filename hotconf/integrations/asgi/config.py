"""The ASGI face of `hotconf.api`: its endpoints as an application, to run alone or to mount under any prefix."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from hotconf.api.endpoints import BODY_LIMIT, endpoints
from hotconf.api.exchange import Problem, Response
from hotconf.api.parameters import unsupported_encoding
from hotconf.api.safety import Safety, is_loopback
from hotconf.integrations.asgi.pin import release_snapshot
from hotconf.signals import stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hotconf.api.endpoints import Endpoint
    from hotconf.api.exchange import Stream
    from hotconf.api.safety import Grant, Reach
    from hotconf.conf import HotConf
    from hotconf.integrations.asgi.pin import ASGIApp, Receive, Scope, Send

DRAINING = "hotconf.draining"
"""The key in `scope["extensions"]` under which a server of hotconf gives its event of the drain."""

_LAST_SEND = 1.0
"""Seconds that the client of a stream has to take its end."""


def config_app(
    conf: HotConf[Any],
    *,
    safety: Safety | None = None,
    state: Callable[[], str] | None = None,
    heartbeat: float = 15.0,
    max_watchers: int = 10_000,
) -> ASGIApp:
    """Return an ASGI application with every endpoint, to run alone or to mount under any prefix.

    Streams and parked requests end when the server gets SIGINT or SIGTERM in the main thread, or drains in a `Service`:
    ASGI itself tells an application of a shutdown only after its last response.

    Args:
        conf: The configuration.
        safety: Decides which requests are answered. By default those to loopback names, without a token.
        state: Returns the state for `/readyz` and `/status`. By default it is the state of the configuration.
        heartbeat: Seconds between two heartbeats of a stream.
        max_watchers: The largest number of parked requests and streams. Beyond it the response is 503.

    Returns:
        The application. It does not start the configuration: `lifespan(conf)` does, or a `Service`.

    Raises:
        ValueError: `heartbeat` is not a number of seconds, or too small.
    """
    safety = safety or Safety()
    served = endpoints(
        conf, state=state, heartbeat=heartbeat, max_watchers=max_watchers, unauthorized=lambda: safety.unauthorized
    )
    return _ConfigApp(served, safety)


class _ConfigApp:
    def __init__(self, served: Iterable[Endpoint], safety: Safety) -> None:
        self._safety = safety
        self._shutdown = _Shutdown()
        # A place is the path, up to its placeholder. Each placeholder is the second part of its path.
        self._methods: dict[str, dict[str, Endpoint]] = {}
        for endpoint in served:
            methods = self._methods.setdefault(endpoint.path.partition("{")[0], {})
            methods[endpoint.method] = endpoint
            if endpoint.method == "GET" and endpoint.allow_head:
                methods["HEAD"] = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            request = _Request(scope, receive, self._shutdown)
            try:
                await _send(request, await self._answer(request), send)
            except OSError:
                pass  # the client has left
            finally:
                request.close()

    async def _answer(self, request: _Request) -> Response | Stream:
        try:
            endpoint = self._allowed(request)
        except Problem as problem:
            return problem.response()
        return await endpoint.answer(request)

    def _allowed(self, request: _Request) -> Endpoint:
        """Return the endpoint of a request that may pass. Raises Problem for any other request."""
        methods = self._methods.get(request.place, {})
        endpoint = methods.get(request.method)
        request.grant = self._safety.check(
            request.header,
            method=request.method,
            reach=request.reach,
            endpoint=None if endpoint is None else endpoint.path,
            holds_no_data=endpoint is not None and endpoint.holds_no_data,
            peer=request.peer,
        )
        if endpoint is None:
            raise Problem.not_allowed(methods) if methods else Problem.not_found()
        if (request.header("Expect") or "100-continue").lower() != "100-continue":
            raise Problem(HTTPStatus.EXPECTATION_FAILED, "Expect allows only 100-continue")
        return endpoint


class _Request:
    """A request of ASGI, as handlers see it."""

    def __init__(self, scope: Scope, receive: Receive, shutdown: _Shutdown) -> None:
        self._scope = scope
        self._receive = receive
        self._shutdown = shutdown
        self._headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape")
            self._headers[key] = f"{self._headers[key]},{text}" if key in self._headers else text
        self._body: bytes | None = None
        self._leaving: asyncio.Task[None] | None = None
        self.method: str = scope["method"]
        self.path, inner = _paths(scope)
        first, *rest = inner.removeprefix("/").split("/", 1)
        self.place = f"/{unquote(first)}{'/' if rest else ''}"
        self.tail = "".join(rest)
        self.query: str = scope["query_string"].decode("latin-1")
        self.peer = str(scope["client"][0]) if scope.get("client") else "unix socket"
        self.grant: Grant | None = None

    @property
    def reach(self) -> Reach:
        host, port = self._scope.get("server") or ("", 0)
        if port is None:
            return "file"
        return "machine" if is_loopback(host) else "network"

    def header(self, name: str) -> str | None:
        return self._headers.get(name.lower())

    async def read(self) -> bytes:
        if self._body is None:
            decode = _decoder(self._headers.get("content-encoding", "").lower())
            body, more = bytearray(), True
            while more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionAbortedError("the client left before its body came")
                try:
                    body += decode(message.get("body", b""))
                except zlib.error:
                    raise Problem(HTTPStatus.BAD_REQUEST, "the body is not what Content-Encoding says") from None
                if len(body) > BODY_LIMIT:
                    raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {BODY_LIMIT} bytes")
                more = message.get("more_body", False)
            self._body = bytes(body)
        return self._body

    @property
    def lacks_body(self) -> bool:
        """Whether the client waits to be told to send its body, and was not."""
        return self._body is None and "expect" in self._headers and self._scope.get("http_version", "1.1") < "2"

    @property
    def token(self) -> str | None:
        return None if self.grant is None else self.grant.tokens.name

    @property
    def draining(self) -> asyncio.Event:
        event: asyncio.Event | None = (self._scope.get("extensions") or {}).get(DRAINING)
        return event or self._shutdown.heard_by(self)

    def is_gone(self) -> bool:
        if self._leaving is None:  # from here on: a request that does not wait needs no task
            self._leaving = asyncio.create_task(self._leave(), name="hotconf-client")
        return self._leaving.done() or (self.grant is not None and self.grant.is_revoked)

    async def _leave(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def release_snapshot(self) -> None:
        release_snapshot(self._scope)

    def close(self) -> None:
        """End what waits beside the request."""
        self._shutdown.forget(self)
        if self._leaving is not None:
            self._leaving.cancel()


class _Shutdown:
    """The shutdown of a server that does not say so: its signals are listened to while a request waits."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[_Request] = set()

    def heard_by(self, request: _Request) -> asyncio.Event:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._event = loop, asyncio.Event()
        if not self._waiting:
            stop_signals.listen(self._on_stop)
        self._waiting.add(request)
        return self._event

    def forget(self, request: _Request) -> None:
        if request in self._waiting:
            self._waiting.discard(request)
            if not self._waiting:
                stop_signals.ignore(self._on_stop)

    def _on_stop(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._event.set)


class _Channel:
    """The connection of a stream: what is written waits here until the server takes it."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.unsent = 0
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self.unsent += len(data)
        self.news.set()

    async def forward(self, send: Send, ended: asyncio.Future[None]) -> None:
        """Send what is written until the stream has ended."""
        while self._waiting or not ended.done():
            await self.news.wait()
            self.news.clear()
            data, self._waiting = b"".join(self._waiting), []
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                self.unsent -= len(data)


async def _send(request: _Request, answer: Response | Stream, send: Send) -> None:
    """Send a response, or a stream until it ends. A client that does not read its end has a second."""
    if isinstance(answer, Response):
        headers = dict(answer.headers)
        if answer.status is not HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = str(len(answer.body))
        if request.lacks_body:
            headers["Connection"] = "close"  # a client that was not told to go on may leave its body out
        await send(_start(answer.status, headers))
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else answer.body})
        return
    try:
        await send(_start(HTTPStatus.OK, answer.headers))
        channel = _Channel()
        ended = answer.open(channel)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:

                def hurry(_ended: object) -> None:
                    limit.reschedule(loop.time() + _LAST_SEND)
                    channel.news.set()

                ended.add_done_callback(hurry)
                try:
                    await channel.forward(send, ended)
                    await send({"type": "http.response.body", "body": answer.last})
                finally:
                    ended.remove_done_callback(hurry)
    finally:
        answer.close()


def _start(status: HTTPStatus, headers: Mapping[str, str]) -> dict[str, Any]:
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status.value, "headers": encoded}


def _paths(scope: Scope) -> tuple[str, str]:
    """Return the path as it was sent, and the part of it below the place where the application is mounted.

    Frameworks that mount put the place into `root_path` or take it off `path`. `raw_path` is optional, and lacks the
    place where a proxy has taken it off.
    """
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    inner = path[len(root) :] if root and f"{path}/".startswith(f"{root}/") else path
    raw = (scope.get("raw_path") or b"").decode("latin-1").partition("?")[0]
    if raw and not raw.endswith("/"):
        inner = inner.removesuffix("/")  # Litestar adds one
    depth = unquote(raw).removesuffix(inner).count("/")
    below = "/".join(["", *raw.split("/")[depth + 1 :]])
    if unquote(below) != inner:
        return quote(root + inner), quote(inner)
    return raw if depth else quote(root) + raw, below


def _decoder(encoding: str) -> Callable[[bytes], bytes]:
    """Return what undoes a Content-Encoding, for no more bytes than a body may have."""
    if encoding in ("br", "zstd"):
        raise unsupported_encoding()
    if encoding not in ("gzip", "deflate"):
        return bytes
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either of the two, by its first bytes
    return lambda data: inflate.decompress(data, BODY_LIMIT + 1)


async def _live(receive: Receive, send: Send) -> None:
    """Answer the lifespan of an application that runs alone."""
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
