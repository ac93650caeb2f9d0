"""One client's connection: aiohttp's, with limits on reading a request, and told how far the drain is.

This is the only file that uses private names of aiohttp (tests/web/server/test_private_names.py lists them):

- `Server._kwargs`: the options that application and runner chose for each connection. Only aiohttp's own class of
  connections gets them otherwise.
- `RequestHandler._messages`: the requests that were read behind the one that runs. A drain answers them before it
  closes, and a body without an end has none behind it but what could not be parsed.
- `Application._make_request`, with its parameter `_cls`: for requests of a class of this file.
- `BaseRequest._prepare_hook`: to know the WebSocket that answers a request, and close it in a drain. The public
  `on_response_prepare` is frozen where the application is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from aiohttp import (
    EMPTY_PAYLOAD,
    ClientConnectionError,
    ClientConnectionResetError,
    HttpVersion11,
    hdrs,
    web,
)
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from hotconf.web.server.drain import OpenWebSocket
from hotconf.web.server.limits import BodyTimeout, raw_refusal, refusal
from hotconf.web.server.sockets import host_of, is_reset, undelivered, unread, unsent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage

    from hotconf.web.server.drain import DrainState
    from hotconf.web.server.limits import ConnectionLimiter, ConnectionSlot, Limits

    Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    RequestFactory: TypeAlias = Callable[
        [RawRequestMessage, StreamReader, web.RequestHandler, AbstractStreamWriter, asyncio.Task[None]],
        web.BaseRequest,
    ]

# aiohttp's keep-alive timer closes a connection also in the middle of a head. The timer of this class replaces it.
_NEVER = 365 * 86400.0
_RECHECK_INTERVAL = 0.1
_CLOSING_TIME = 0.5
_DISCARDING_TIME = 10.0
_RATE_PERIOD = 60.0
_HALF_CLOSED_TIME = 5.0
_HALF_CLOSED_INTERVAL = 0.5
_DRAINING_BODY_TIME = 5.0

# aiohttp has no exceptions for these, only texts. The tests of the answers fail when a text changes.
_TOO_MANY_HEADERS = "Too many headers"
_UNKNOWN_VERSION = "Bad status line:\n  Invalid HTTP version:"

_INCOMPLETE = (web.HTTPRequestEntityTooLarge, web.RequestPayloadError, BodyTimeout)
"""What reading a body raises if its rest is not read: no further request can follow on the connection."""


Phase: TypeAlias = Literal[
    "opened",  # no byte came yet
    "head",  # a head has begun
    "idle",  # between two requests
    "body",  # a request runs, whose body is not complete
    "handling",  # a request runs, whose body is complete or not waited for
    "closing",  # the last response is sent
    "lost",  # closed
]
"""What a connection does. `body` and the phases before it wait for the client to send something."""


class Connection(web.RequestHandler):
    """Serves one client.

    The limits are read afresh at every step. Only the size of a single header line is bounded by the limit in force
    when the client connected.

    Args:
        server: aiohttp's server, to which `serve_connections` was applied.
        limiter: Has the limits, and counts the refusals.
        slot: Released at the end of the connection, or of the handler that outlives it.
        drain: Says which response is the last, and whether a cancelled handler is answered 503.
    """

    __slots__ = (
        "_began",
        "_body_size",
        "_cancels_handler",
        "_discarding",
        "_due",
        "_has_pipelined",
        "_is_full",
        "_limiter",
        "_payload",
        "_phase",
        "_rate_due",
        "_received",
        "_refusal",
        "_request",
        "_slot",
        "_stalled_since",
        "_time",
        "_timer",
        "_undelivered",
        "_websocket",
        "drain",
        "half_closed",
    )

    def __init__(
        self, server: web.Server, *, limiter: ConnectionLimiter, slot: ConnectionSlot, drain: DrainState
    ) -> None:
        loop = asyncio.get_running_loop()
        size = limiter.limits().header_size
        sizes = {"max_line_size": size, "max_field_size": size}
        super().__init__(server, loop=loop, **{**server._kwargs, **sizes, "keepalive_timeout": _NEVER})  # noqa: SLF001
        self._limiter = limiter
        self._slot = slot
        self.drain = drain
        self._time = loop.time
        self._cancels_handler = server.handler_cancellation
        self.half_closed = False
        self._phase = "opened"
        self._received = 0
        self._has_pipelined = False
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The request that runs: from the moment in which aiohttp takes it up until its response is written. Its task is
        # set a little later, and never if it could not be parsed. The payload is kept after its end: aiohttp reads the
        # rest of it before it takes up the next request.
        self._request: web.BaseRequest | None = None
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._refusal: web.Response | None = None
        self._websocket: OpenWebSocket | None = None
        self._began = 0.0
        self._body_size = 0
        self._is_full = False
        self._rate_due = math.inf
        # Set while the rest of a body is dropped behind its response: when this has to end, and told when it has.
        self._discarding: tuple[float, asyncio.Future[None]] | None = None
        self._undelivered = 0
        self._stalled_since = 0.0

    # Events of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._enter("opened", self._limiter.limits().header_timeout)

    def data_received(self, data: bytes) -> None:
        """Parse, and see what is still missing. aiohttp calls it without data when the handler has read something.

        After a pause of the reading the time of a body begins anew: the client could not send until now.
        """
        if self._phase == "closing":
            if self._discarding is not None:
                self._enter("closing", min(_CLOSING_TIME, self._discarding[0] - self._time()))
            return
        if data and self._is_waiting():
            # The parser must not see a head that is too large: it would close before the client has read the refusal.
            room = max(0, self._limiter.limits().header_size - self._received)
            super().data_received(data[:room])
            if not self._messages and self._is_waiting():
                self._head_grew(len(data), room)
                return
            data = data[room:]
            if not data:
                return
        self._has_pipelined = True
        super().data_received(data)
        if self._phase == "body":
            self._body_grew(resumed=not data and self._is_full)
        if not data:
            self._is_full = False

    def pause_reading(self) -> None:
        """Note that the client cannot send, because the handler does not read."""
        self._is_full = True
        super().pause_reading()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's own never keeps a connection
        """Keep the connection of a client that sends no more, for some seconds, if it has an answer to come.

        False closes it. A client that has gone looks the same. So it is closed where the request has no end yet, a
        stream is being sent, another protocol follows, or the handler is to be cancelled when its client leaves.
        """
        if self._phase in ("body", "closing"):
            owes_answer = False
        elif self._request is None:
            owes_answer = not self._is_waiting()
        elif hdrs.UPGRADE in self._request.headers:
            owes_answer = False
        else:
            writer = self._request.writer
            owes_answer = not writer.output_size or writer.length is not None
        self.half_closed = owes_answer and not self._cancels_handler and self.ssl_context is None
        if self.half_closed:
            self._await_gone(self._time() + _HALF_CLOSED_TIME)
        return self.half_closed

    def _await_gone(self, until: float) -> None:
        """Close when the client has reset the connection, its response has not begun in time, or it is a WebSocket.

        Nothing else tells that it left: a half-closed connection is not read. What is sent to it will tell.
        """
        if self.transport is None:
            return
        is_late = self._time() >= until and (self._request is None or not self._request.writer.output_size)
        if is_late or self._websocket is not None or is_reset(self.transport.get_extra_info("socket")):
            self.force_close()
        else:
            asyncio.get_running_loop().call_later(_HALF_CLOSED_INTERVAL, self._await_gone, until)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the slot, unless a handler still works for the client: then its end does."""
        super().connection_lost(exc)
        self._enter("lost", None)
        if self._timer is not None:
            self._timer.cancel()
        if self._discarding is not None and not self._discarding[1].done():
            self._discarding[1].set_result(None)
        if self._request is None:
            if not self._payload.is_eof():
                self._payload.set_exception(_dropped())  # aiohttp would wait ten seconds for the rest of it
            self._slot.release()

    async def start(self) -> None:
        """Answer one request after another. A handler whose client has left ends here too."""
        try:
            await super().start()
        finally:
            self._request = self._websocket = None
            if self._phase == "lost":
                self._slot.release()

    # One request

    def begin(
        self,
        make_request: RequestFactory,
        message: RawRequestMessage,
        payload: StreamReader,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """Make the request that was read, and decide whether it is refused. From here on it runs."""
        limits = self._limiter.limits()
        is_known = message.version.major == 1
        if not is_known:
            message = message._replace(version=HttpVersion11)
        request = make_request(message, payload, self, writer, task)
        if limits.body_size is not None and request.body_exists:
            request = request.clone(client_max_size=limits.body_size)
        self._request, self._payload, self._refusal = request, payload, None
        self._began = self._time()
        if not is_known:
            self._refusal = self._refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        elif self._has_pipelined and _head_size(message) > limits.header_size:
            self._refusal = self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_size")
        elif limits.body_size is not None and max(request.content_length or 0, payload.total_bytes) > limits.body_size:
            self._refusal = self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_size")
        elif payload.is_eof():
            self._phase, self._due = "handling", None
        else:
            self._body_size = payload.total_bytes
            self._await_body(limits, resumed=True)
            if self.half_closed:
                self._break_body(web.RequestPayloadError("the client closed before the end of its body"))
        return request

    async def answer(self, handle: Handler, request: web.BaseRequest) -> web.StreamResponse:
        """Return the response to the request that runs: what the application answers, or a refusal."""
        refused = _shutting_down() if self.drain.cancelling else self._refusal
        try:
            return await handle(request) if refused is None else refused
        except (BodyTimeout, web.RequestPayloadError) as error:
            if request.writer.output_size:
                raise
            late = isinstance(error, BodyTimeout)
            return self._refuse(HTTPStatus.REQUEST_TIMEOUT if late else HTTPStatus.BAD_REQUEST)
        except (web.HTTPExpectationFailed, UnicodeEncodeError) as error:
            # aiohttp raises them before any middleware, the second one where the header is not ASCII.
            if isinstance(error, UnicodeEncodeError) and request.headers.get(hdrs.EXPECT, "").isascii():
                raise
            return self._refuse(HTTPStatus.EXPECTATION_FAILED)
        except asyncio.CancelledError:
            # Once the headers are sent, the client must see that the response is not complete: the connection closes.
            task = asyncio.current_task()
            if not self.drain.cancelling or request.writer.output_size or task is None:
                raise
            task.uncancel()
            return _shutting_down()

    def is_last(self) -> bool:
        """Whether the connection closes behind the request that runs: in a drain, if no other was read behind it."""
        return self.drain.closing and not self._messages

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response. With its last byte the request ends, and the connection waits for the next one.

        It closes if the body of the request was not read to its end and cannot be skipped.
        """
        payload = self._payload
        if not payload.is_eof() or payload.exception() is not None:
            await self._end_body(request, resp)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.drain.informed.discard(self)
            self._request = self._websocket = None
            self._received = 0
            if payload.is_eof():
                self._enter("idle", self._limiter.limits().idle_timeout)
            if self.half_closed:
                # Later, because aiohttp may take up the request behind this one first.
                asyncio.get_running_loop().call_soon(self._close_if_waiting)

    async def _end_body(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Decide what becomes of a body that was broken off or is not complete, before its response is sent."""
        error = self._payload.exception()
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            # So that aiohttp reads the rest of the body for a moment, and the client reads the response and no reset.
            self._payload.set_exception(None)  # type: ignore[arg-type]
        is_encoded = self._is_encoded(request)
        if (is_encoded or isinstance(error, _INCOMPLETE)) and isinstance(response, web.StreamResponse):
            response.force_close()
            if is_encoded:
                await self._send_and_discard(request, response)

    async def _send_and_discard(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Send a response, and drop the rest of a compressed body: aiohttp would inflate it to read it to its end.

        The client reads the response and no reset, as far as it stops sending soon.
        """
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write_eof()
        if self.transport is not None and self._phase != "lost":
            ended = asyncio.get_running_loop().create_future()
            self._discarding = self._time() + _DISCARDING_TIME, ended
            self._enter("closing", _CLOSING_TIME)
            self.transport.resume_reading()
            await ended
        self._payload.set_exception(_dropped())

    def _is_encoded(self, request: web.BaseRequest) -> bool:
        """Whether the rest of a body would have to be inflated."""
        return hdrs.CONTENT_ENCODING in request.headers and not self._payload.is_eof()

    def prepared(self, response: web.StreamResponse, request: web.BaseRequest) -> None:
        """Note a response whose headers are about to be sent."""
        if isinstance(response, web.WebSocketResponse):
            self._websocket = OpenWebSocket(response, request, self.drain)

    def _close_if_waiting(self) -> None:
        if self._is_waiting():
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that cannot be parsed or handled. It is not quoted: it may hold a token."""
        if not isinstance(exc, HttpProcessingError):
            if self._is_encoded(request):
                self._payload.set_exception(_dropped())
            response = super().handle_error(request, status, exc, message)
            return response if self.debug else self._refuse(HTTPStatus(status))
        if isinstance(exc, LineTooLong) or exc.message.startswith(_TOO_MANY_HEADERS):
            return self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_size")
        is_known = not exc.message.startswith(_UNKNOWN_VERSION)
        return self._refuse(HTTPStatus.BAD_REQUEST if is_known else HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error, unless the client caused it by what it sent or by leaving: any client could fill the log."""
        error = kw.get("exc_info")
        sent_wrong = isinstance(error, HttpProcessingError | web.RequestPayloadError)
        # Raised by the writers of aiohttp alone: a reset of the handler's database is another error, and is logged.
        is_closed = (
            self.transport is None or self.transport.is_closing() or (self._websocket and self._websocket.closed)
        )
        has_left = type(error) in (ClientConnectionError, ClientConnectionResetError) and is_closed
        # What aiohttp raises where a body is read whose client has left. Its words tell it from other errors.
        is_unread = self._phase == "lost" and not self._payload.is_eof()
        left_in_body = is_unread and type(error) is ConnectionResetError and error.args == ("Connection lost",)
        if not (sent_wrong or has_left or left_in_body) and (error is None or error is not self._payload.exception()):
            super().log_exception(*args, **kw)

    # The drain

    def is_running(self) -> bool:
        """Whether a handler runs, also one whose client has left."""
        return self._request is not None

    def hurry(self) -> None:
        """Wait only for some seconds for a body that a request still lacks: the drain has begun."""
        if self._phase == "body":
            left = _DRAINING_BODY_TIME if self._due is None else self._due - self._time()
            self._enter("body", min(left, _DRAINING_BODY_TIME))

    def close_idle(self) -> None:
        """Close, unless a request runs, waits to be read, or has a response that waits to be sent.

        The rest of a body whose request was answered is not waited for.
        """
        if self._request is None and not self._messages and self._is_quiet():
            if not self._payload.is_eof():
                self._payload.set_exception(_dropped())
            # close() would end only the connection's task and leave its transport open; force_close() ends both.
            self.force_close()

    def _is_quiet(self) -> bool:
        """Whether the connection is open, and no byte waits in either direction."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        return not unread(transport.get_extra_info("socket")) and not unsent(transport)

    def stalled(self) -> float:
        """Return for how many seconds the client has taken no byte of what waits for it, as far as this was called."""
        waiting, now = 0 if self.transport is None else undelivered(self.transport), self._time()
        if not waiting:
            self._undelivered = 0
            return 0.0
        if waiting != self._undelivered:
            self._undelivered, self._stalled_since = waiting, now
        return now - self._stalled_since

    def abort(self) -> None:
        """Close without sending what is left. A handler that writes gets ConnectionError."""
        if self.transport is not None:
            self.transport.abort()

    def _is_waiting(self) -> bool:
        """Whether what comes next is part of a head: no request runs, is queued, or has a body left to read."""
        if self.transport is None or self.transport.is_closing():
            return False
        return self._request is None and not self._messages and self._payload.is_eof()

    def end_websocket(self) -> None:
        """Close the WebSocket of this connection, if it is one and its handler does not close it itself."""
        if self._websocket is not None:
            self._websocket.end()

    def unfinished(self) -> str | None:
        """Return a name for what is not finished: a request with its age, or a response that is still being sent."""
        if self._request is not None:
            # The raw path: percent-encoded, so that no request can write a line of its own into a log. And no query,
            # which may hold secrets.
            request, age = self._request, self._time() - self._began
            return f"{request.method} {request.rel_url.raw_path} ({age:.1f} s)"
        return f"response to {host_of(self.peername) or 'a local client'}" if unsent(self.transport) else None

    def cancel(self) -> None:
        """Cancel the handler. Where no headers were sent yet, the client is answered 503 if the drain is cancelling."""
        if self._request is not None:
            # That of the connection, which hands it on to the task of the handler and goes on with its response.
            self._request.task.cancel()

    # Sizes

    def _head_grew(self, size: int, room: int) -> None:
        """Note bytes of a head that is not complete, of which the parser got as many as there was room for."""
        self._received += size
        if size > room:
            self._reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_size")
        elif self._phase == "idle":
            self._enter("head", self._limiter.limits().header_timeout)
        else:
            self._phase = "head"  # the time of a first head runs since the connection was made

    def _body_grew(self, *, resumed: bool) -> None:
        limits = self._limiter.limits()
        size = self._payload.total_bytes
        if limits.body_size is not None and size > limits.body_size:
            self._limiter.count("body_size")
            self._break_body(web.HTTPRequestEntityTooLarge(max_size=limits.body_size, actual_size=size))
        elif self._payload.is_eof():
            if self._request is None:  # aiohttp skipped the rest of a body behind its response
                self._enter("idle", limits.idle_timeout)
            else:
                self._enter("handling", None)
        elif self._messages:
            # Behind a body without an end aiohttp queues only what it could not parse: that end cannot come.
            self._break_body(web.RequestPayloadError("the body is not as its headers say"))
        elif resumed or size > self._body_size:
            self._await_body(limits, resumed=resumed)
            self._body_size = size

    # Time

    def _await_body(self, limits: Limits, *, resumed: bool) -> None:
        """Wait for the rest of a body, with the time that its last bytes have earned.

        A client that could not send, since the handler did not read, begins anew.
        """
        now, grown = self._time(), self._payload.total_bytes - self._body_size
        if limits.body_rate is None:
            self._rate_due = math.inf
        else:
            due = now + _RATE_PERIOD if resumed else self._rate_due + grown / limits.body_rate
            self._rate_due = min(due, now + _RATE_PERIOD)
        timeout = math.inf if limits.body_timeout is None else limits.body_timeout
        if self.drain.draining.is_set():
            timeout = min(timeout, _DRAINING_BODY_TIME)
        seconds = min(timeout, self._rate_due - now)
        self._enter("body", None if math.isinf(seconds) else seconds)

    def _enter(self, phase: Phase, seconds: float | None) -> None:
        """Be in a phase for at most some seconds. LOST is the last one."""
        if self._phase == "lost":
            return
        self._phase = phase
        self._due = None if seconds is None else self._time() + seconds
        # A timer that is set for an earlier moment looks again by itself: most requests move none.
        if self._due is not None and (self._timer is None or self._due < self._timer.when()):
            self._set_timer(self._due)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._time() < self._due:
            self._set_timer(self._due)
        else:
            self._on_timeout()

    def _on_timeout(self) -> None:
        if self._phase == "body":
            if self.transport is not None and self.transport.is_reading():
                self._limiter.count("body_rate" if self._time() >= self._rate_due else "body_timeout")
                self._break_body(BodyTimeout("the client stopped sending its body"))
            else:
                # The handler is slow and not the client: what that has sent fills the buffer.
                self._await_body(self._limiter.limits(), resumed=True)
        elif self._phase == "closing":
            self.force_close()
        elif self._phase == "head" and self._is_waiting():
            self._reject(HTTPStatus.REQUEST_TIMEOUT, "header_timeout")
        elif self._is_waiting() and self._is_quiet():
            if self._phase == "opened":
                self._limiter.count("header_timeout")
            self.force_close()
        else:
            # A response is still being sent, or a request arrived this moment.
            self._set_timer(self._time() + _RECHECK_INTERVAL)

    # Refusals

    def _break_body(self, error: Exception) -> None:
        """Have the handler's read of the body raise an error, and wait for no more of it."""
        self._payload.set_exception(error)
        self._enter("handling", None)

    def _refuse(self, status: HTTPStatus, reason: str | None = None) -> web.Response:
        """Return the last response on this connection, to a request that was read."""
        if reason is not None:
            self._limiter.count(reason)
        self._enter("handling", None)
        response = refusal(status)
        response.force_close()
        return response

    def _reject(self, status: HTTPStatus, reason: str) -> None:
        """Answer an incomplete head. No request runs, so that this cuts no other response in two."""
        self._limiter.count(reason)
        if self.transport is not None:
            self.transport.write(raw_refusal(status))
        self._enter("closing", _CLOSING_TIME)


class Request(web.Request):
    """A request of a Connection."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open behind the response. In a drain it does not."""
        # Asked when the headers are made, also for a handler that sends its response itself.
        return super().keep_alive and not cast("Connection", self.protocol).is_last()


class UpgradeRequest(Request):
    """A request for another protocol. It tells its connection which WebSocket answers it. `clone` makes another one."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        cast("Connection", self.protocol).prepared(response, self)


def serve_connections(server: web.Server) -> None:
    """Have the connections of a server make and answer its requests. Each of them must be a Connection."""
    # Around the whole application, not as one of its middlewares: those belong to the user's object, which may be
    # frozen already and may be served by another server too.
    make_request: Any = server.request_factory
    plain, upgrade = (functools.partial(make_request, _cls=kind) for kind in (Request, UpgradeRequest))
    handle = server.request_handler

    def begin(message: Any, payload: Any, connection: Any, writer: Any, task: Any) -> Any:
        return connection.begin(upgrade if message.upgrade else plain, message, payload, writer, task)

    def answer(request: Any) -> Any:
        return request.protocol.answer(handle, request)

    server.request_factory, server.request_handler = begin, answer


def _head_size(message: RawRequestMessage) -> int:
    """Return the least number of bytes that request line and headers took, as near as the parsed form tells."""
    size = len(message.method) + len(message.path) + len("  HTTP/1.1\r\n")
    for name, value in message.raw_headers:
        size += len(name) + len(value) + 3
    return size


def _shutting_down() -> web.Response:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server is shutting down")


def _dropped() -> web.RequestPayloadError:
    return web.RequestPayloadError("the rest of the body was dropped")
