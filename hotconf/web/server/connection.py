"""One client's connection: aiohttp's, with time limits on reading a request. All that is used of aiohttp's insides.

Private are `_waiter`, `_messages`, `_request_count` (of RequestHandler), `_message`, `_version`, `_client_max_size`
(BaseRequest), `_exception` (StreamReader) and `_kwargs` (Server). They are touched in this file only.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fcntl
import sys
import termios
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from hotconf.web.server.limits import BodyTimeout, answer, raw_answer

if TYPE_CHECKING:
    import socket
    from asyncio.trsock import TransportSocket

    from hotconf.web.server.limits import Door, Seat

# aiohttp's own keep-alive timer closes a connection also in the middle of a head. Ours stands in for it.
_NEVER = 365 * 86400.0
_RECHECK_INTERVAL = 0.1
_GOODBYE_TIME = 0.5

# aiohttp has no class for these, only words.
_TOO_MANY_HEADERS = "Too many headers"
_ODD_VERSION = "Bad status line:\n  Invalid HTTP version:"


class _Phase(enum.Enum):
    """What a connection is at. Only `BODY` and those before it wait for the client to send something."""

    OPENED = "no byte came yet"
    HEAD = "a head has begun"
    IDLE = "between two requests"
    BODY = "a request runs, whose body has not come to its end"
    HANDLING = "a request runs that is read, or not worth waiting for"
    LEAVING = "the last word is said"
    LOST = "closed"


class Connection(web.RequestHandler):
    """Serves one client. `door` has the limits, read afresh at every step; `seat` is given up at the end.

    The server calls `begin` and `end` around each request. The size of a single header line is bounded by the limit
    that was in force when the client connected.
    """

    __slots__ = (
        "_alarm",
        "_door",
        "_due",
        "_leavers_matter",
        "_phase",
        "_received",
        "_running",
        "_seat",
        "_time",
        "half_closed",
    )

    def __init__(self, server: web.Server, *, door: Door, seat: Seat) -> None:
        loop = asyncio.get_running_loop()
        size = door.limits().header_size
        # As the server itself would build it: with what the application and the runner chose.
        options = {**getattr(server, "_kwargs", {}), "max_line_size": size, "max_field_size": size}
        super().__init__(server, loop=loop, **{**options, "keepalive_timeout": _NEVER})
        self._door = door
        self._seat = seat
        self._time = loop.time
        self._leavers_matter = server.handler_cancellation
        self.half_closed = False
        self._phase = _Phase.OPENED
        self._running: web.BaseRequest | None = None
        self._received = 0
        self._due: float | None = None
        self._alarm: asyncio.TimerHandle | None = None

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport over: from now on the first request is awaited."""
        super().connection_made(transport)
        self._enter(_Phase.OPENED, self._door.limits().header_timeout)

    def data_received(self, data: bytes) -> None:
        """Parse, and see what is still missing. Without data: aiohttp reads on after a pause of its own.

        Then too a body's time begins anew: the client could not send until now.
        """
        if self._phase is _Phase.LEAVING:
            return
        if data and self._awaits_head():
            data = self._read_head(data)
            if not data:
                return
        super().data_received(data)
        if self._phase is _Phase.BODY:
            self._body_grew()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's own never keeps a connection
        """Keep the connection open for a client that sends no more and is still to be answered. False: it is closed.

        A client that has gone looks the same. Hence nobody is kept whose request has no end yet, who is being sent a
        stream, or whose handler is to be cancelled when it leaves. Who waits for long must look at `half_closed`.
        """
        self.half_closed = not self._leavers_matter and self.ssl_context is None and self._owes_an_answer()
        return self.half_closed

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give up the seat, unless a handler still works for the client that left: `end` does it then."""
        super().connection_lost(exc)
        self._enter(_Phase.LOST, None)
        if self._alarm is not None:
            self._alarm.cancel()
        if self._running is None:
            self._seat.leave()

    # What the server tells

    def begin(self, request: web.BaseRequest) -> None:
        """Note that a request runs."""
        self._running = request
        if request.content.is_eof():
            self._enter(_Phase.HANDLING, None)
        else:
            self._enter(_Phase.BODY, self._door.limits().body_timeout)
            if self.half_closed:
                self._break_body(web.RequestPayloadError("the client closed before the end of its body"))

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Return the answer to a request that is too large, or of a version of HTTP that is not spoken here.

        No handler need see it. Bounds what any other may read.
        """
        if request._version.major != 1:  # noqa: SLF001 - see the module
            self._enter(_Phase.HANDLING, None)
            request._version = HttpVersion11  # noqa: SLF001 - the answer takes it over, and must be in one that is
            return answer(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        limits = self._door.limits()
        if _head_size(request) > limits.header_size:
            return self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_size")
        if limits.body_size is not None and request.body_exists:
            request._client_max_size = limits.body_size  # noqa: SLF001 - see the module
            if max(request.content_length or 0, request.content.total_bytes) > limits.body_size:
                return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_size")
        return None

    def end(self, request: web.BaseRequest) -> None:
        """Note that a request is answered. The next one may have begun before."""
        if self._running is not request:
            return
        self._running = None
        if self._phase is _Phase.LOST:
            self._seat.leave()
        else:
            self._received = 0
            self._enter(_Phase.IDLE, self._door.limits().idle_timeout)
            if self.half_closed:
                # Later: a request behind this one may have been taken up by now, and not begun.
                asyncio.get_running_loop().call_soon(self._close_if_done)

    def _close_if_done(self) -> None:
        if self._awaits_head():
            self.force_close()

    def settle_body(self, request: web.BaseRequest) -> bool:
        """Tell whether reading the body was given up, at the end of its request. If so this must be its last answer."""
        error = request.content.exception()
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            # aiohttp reads on for a moment what is too much, so that the answer arrives and not a reset.
            request.content._exception = None  # noqa: SLF001 - see the module
            return True
        return isinstance(error, BodyTimeout | web.RequestPayloadError)

    def is_idle(self) -> bool:
        """Whether nothing runs on it, waits to be read, or waits to be sent."""
        transport = self.transport
        if transport is None or not self._is_waiting():
            return False
        return not unread(transport.get_extra_info("socket")) and not unsent(transport)

    def has_queued(self) -> bool:
        """Whether a further request was read behind the one that runs."""
        return bool(getattr(self, "_messages", ()))

    def _owes_an_answer(self) -> bool:
        """Whether a request has come to its end, whose answer is not on its way as a stream."""
        if self._phase in (_Phase.BODY, _Phase.LEAVING):
            return False
        if self._running is None:
            return not self._awaits_head()
        writer = self._running.writer
        return not writer.output_size or writer.length is not None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be parsed or handled. What cannot be parsed is not quoted: it may hold a token."""
        if isinstance(exc, LineTooLong) or _says(exc, _TOO_MANY_HEADERS):
            return self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_size")
        if isinstance(exc, HttpProcessingError):
            self._enter(_Phase.HANDLING, None)
            odd = _says(exc, _ODD_VERSION)
            return answer(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED if odd else HTTPStatus.BAD_REQUEST)
        return super().handle_error(request, status, exc, message)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error of ours. What a client sends wrong, or not to its end, is none: anybody could fill the log."""
        error = kw.get("exc_info")
        sent_wrong = isinstance(error, HttpProcessingError | web.RequestPayloadError)
        if not sent_wrong and (self._running is None or error is not self._running.content.exception()):
            super().log_exception(*args, **kw)

    # Growing

    def _read_head(self, data: bytes) -> bytes:
        """Parse as much as a head may have, and return the rest if that was enough.

        What is too much never meets the parser, whose refusal would close before its client has read it.
        """
        room = max(0, self._door.limits().header_size - self._received)
        super().data_received(data[:room])
        if not self._awaits_head():
            return data[room:]
        self._received += len(data)
        self._head_grew(is_full=len(data) > room)
        return b""

    def _head_grew(self, *, is_full: bool) -> None:
        if is_full:
            self._leave(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_size")
        elif self._phase is _Phase.IDLE:
            self._enter(_Phase.HEAD, self._door.limits().header_timeout)
        else:
            self._phase = _Phase.HEAD  # the time of a first head runs since the connection was made

    def _body_grew(self) -> None:
        assert self._running is not None, "a body belongs to a request"  # noqa: S101 - for the type checker
        limits = self._door.limits()
        content = self._running.content
        if limits.body_size is not None and content.total_bytes > limits.body_size:
            self._fail_body(_too_large(limits.body_size, content.total_bytes), "body_size")
        elif content.is_eof():
            self._enter(_Phase.HANDLING, None)
        elif self.has_queued():
            # Behind a body without an end aiohttp queues nothing but what it could not parse: that end cannot come.
            self._break_body(web.RequestPayloadError("the body is not as its headers say"))
        else:
            self._enter(_Phase.BODY, limits.body_timeout)

    # Time

    def _enter(self, phase: _Phase, seconds: float | None) -> None:
        """Be in that phase for at most so long. LOST is the last."""
        if self._phase is _Phase.LOST:
            return
        self._phase = phase
        self._due = None if seconds is None else self._time() + seconds
        # An alarm that is set for too early a moment looks again by itself: most requests move none.
        if self._due is not None and (self._alarm is None or self._due < self._alarm.when()):
            self._set_alarm(self._due)

    def _set_alarm(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._due is None:
            return
        if self._time() < self._due:
            self._set_alarm(self._due)
        else:
            self._run_out()

    def _run_out(self) -> None:
        if self._phase is _Phase.BODY:
            self._body_ran_out()
        elif self._phase is _Phase.LEAVING:
            self.force_close()
        elif self._phase is _Phase.HEAD and self._is_waiting():
            self._leave(HTTPStatus.REQUEST_TIMEOUT, "header_timeout")
        elif self.is_idle():
            if self._phase is _Phase.OPENED:
                self._door.count("header_timeout")
            self.force_close()
        else:
            # An answer is still being sent, or a request arrived this moment.
            self._enter(self._phase, _RECHECK_INTERVAL)

    def _body_ran_out(self) -> None:
        if self.transport is not None and self.transport.is_reading():
            self._fail_body(BodyTimeout("the client stopped sending its body"), "body_timeout")
        else:
            # The handler is slow, not the client: what it has sent fills the buffer.
            self._enter(_Phase.BODY, self._door.limits().body_timeout)

    # Refusing

    def _fail_body(self, error: Exception, reason: str) -> None:
        self._door.count(reason)
        self._break_body(error)

    def _break_body(self, error: Exception) -> None:
        assert self._running is not None, "a body belongs to a request"  # noqa: S101 - for the type checker
        self._running.content.set_exception(error)
        self._enter(_Phase.HANDLING, None)

    def _refuse(self, status: HTTPStatus, reason: str) -> web.Response:
        self._door.count(reason)
        self._enter(_Phase.HANDLING, None)
        return answer(status)

    def _leave(self, status: HTTPStatus, reason: str) -> None:
        """Answer half a head. Nothing runs here, so that no other answer can be cut in two."""
        self._door.count(reason)
        if self.transport is not None:
            self.transport.write(raw_answer(status))
        self._enter(_Phase.LEAVING, _GOODBYE_TIME)

    def _awaits_head(self) -> bool:
        """Whether what came is a part of a head: nothing runs, and no request that was read is about to."""
        # Over TLS the first bytes may come with the handshake's last, before the task is at its first wait.
        return self._running is None and (self._is_waiting() or not getattr(self, "_request_count", 1))

    def _is_waiting(self) -> bool:
        """Whether its task waits for a request. aiohttp's own keep-alive timer asks the same."""
        waiter = getattr(self, "_waiter", None)
        return waiter is not None and not waiter.done()


def connection_of(request: web.BaseRequest) -> Connection:
    """Return the connection on which a request came to our server."""
    return cast("Connection", request.protocol)


def expect_close(request: web.BaseRequest) -> None:
    """Treat the request as if its client had sent `Connection: close`.

    Response.force_close() does the same, but a handler that sends its answer itself has sent the headers by the time
    we see it.
    """
    message = getattr(request, "_message", None)
    if message is not None:
        request._message = message._replace(should_close=True)  # noqa: SLF001 - see the module


def unread(sock: socket.socket | TransportSocket) -> int:
    """Return the number of bytes that arrived and were not read yet; 0 for a closed socket."""
    with contextlib.suppress(OSError, ValueError):
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
    return 0


def unsent(transport: asyncio.WriteTransport | None) -> int:
    """Return the number of bytes that wait to be sent; 0 for a closed transport."""
    with contextlib.suppress(AttributeError):  # asyncio's for TLS, once closed, has nothing left to ask
        return 0 if transport is None else transport.get_write_buffer_size()
    return 0


def _head_size(request: web.BaseRequest) -> int:
    """Return the least number of bytes that first line and headers took, as near as the parsed form tells."""
    first = len(request.method) + len(request.raw_path) + len("  HTTP/1.1\r\n")
    return first + sum(len(name) + len(value) + 3 for name, value in request.raw_headers)


def _says(error: BaseException | None, words: str) -> bool:
    return isinstance(error, HttpProcessingError) and error.message.startswith(words)


def _too_large(limit: int, size: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=size)
