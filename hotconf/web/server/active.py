"""Requests in flight: how each is answered, what its connection learns of it, and how it is cut."""

from __future__ import annotations

import asyncio
import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp import hdrs, web

from hotconf.web.problem import Problem
from hotconf.web.server.connection import connection_of, expect_close
from hotconf.web.server.limits import BodyTimeout, answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hotconf.web.server.drain import DrainState

    Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class InFlight:
    """The requests that run on one server, on its event loop. `drain` says how they must end."""

    def __init__(self, drain: DrainState) -> None:
        self._drain = drain
        self._running: dict[asyncio.Task[Any], tuple[web.BaseRequest, float]] = {}
        self._time: Callable[[], float]

    def __len__(self) -> int:
        return len(self._running)

    def attach(self, server: web.Server) -> None:
        """Answer every request of a server that is about to start."""
        # Around the whole application, not as one of its middlewares: those belong to the user's object, which may be
        # frozen already and may be served again by someone else.
        server.request_handler = functools.partial(self._answer, server.request_handler)
        self._time = asyncio.get_running_loop().time

    def announce_end(self) -> None:
        """Have those that run end their connections. To be called once the drain is at its last words."""
        for request, _ in self._running.values():
            self._announce_end(request)

    def cancel(self) -> None:
        """Cancel all. Where no headers were sent yet, the client is answered 503 if the drain is cutting."""
        for task in tuple(self._running):
            task.cancel()

    def names(self) -> tuple[str, ...]:
        """Return a name for each, with its age: `GET /slow (12.3 s)`."""
        now = asyncio.get_running_loop().time()
        return tuple(_describe(request, now - since) for request, since in self._running.values())

    def connections(self) -> set[object]:
        """Return the connections on which they run."""
        return {request.protocol for request, _ in self._running.values()}

    # Answering

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
        except (web.HTTPExpectationFailed, UnicodeEncodeError) as error:
            # Raised before any middleware of the application; the second one where what was expected is no UTF-8.
            if isinstance(error, UnicodeEncodeError) and not _is_odd_expectation(request):
                raise
            response = answer(HTTPStatus.EXPECTATION_FAILED)
        except web.HTTPException as refusal:
            self._end_after(request, refusal)
            raise
        except asyncio.CancelledError:
            # With the headers on the wire the only honest end is a broken one: the connection closes unfinished.
            if not self._drain.cutting or request.writer.output_size:
                raise
            task.uncancel()
            response = _unavailable()
        self._end_after(request, response)
        return response

    def _refusal(self, request: web.BaseRequest) -> web.StreamResponse | None:
        return _unavailable() if self._drain.cutting else connection_of(request).refusal(request)

    def _register(self, request: web.BaseRequest) -> asyncio.Task[Any]:
        task = _current_task()
        # A plain tuple, of the request and when it began: this runs once a request.
        self._running[task] = request, self._time()
        task.add_done_callback(self._answered)
        self._drain.mark(request)
        connection_of(request).begin(request)
        if self._drain.last_words:
            self._announce_end(request)
        return task

    def _answered(self, task: asyncio.Task[Any]) -> None:
        request, _ = self._running.pop(task)
        connection_of(request).end(request)

    # Ending

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
        return self._drain.last_words and not connection_of(request).has_queued()


def _is_odd_expectation(request: web.BaseRequest) -> bool:
    return not request.headers.get(hdrs.EXPECT, "").isascii()


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
