"""Ready answers: encoded once, and written as they are to everybody who asks.

A response of aiohttp collects its headers anew for each request, which costs more than all the rest of a cached read.
Used of its insides, in this file only: `_headers`, `_body`, `_state`, `_status`, `_reason`, `_keep_alive`, `_eof_sent`,
`_body_length`, `_zlib_executor` and `_zlib_executor_size` of responses.
"""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, web
from aiohttp.compression_utils import MAX_SYNC_CHUNK_SIZE
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.abc import AbstractStreamWriter


class Ready:
    """One answer to GET for any number of clients. Without a body where its status has none.

    `holds` tells whether it is still what would be answered. One without it is never repeated unasked.
    """

    __slots__ = ("_date", "_encoded", "body", "headers", "holds", "repeats", "status")

    def __init__(
        self,
        status: HTTPStatus,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        holds: Callable[[], bool] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.repeats = holds is not None
        self.holds = holds or _never
        self._encoded = b""
        self._date = ""

    def response(self, *, repeats: bool = True) -> ReadyResponse:
        """Return the answer to one request. Without `repeats`, the next one that asks the same is handled again."""
        return ReadyResponse(self, repeats=repeats and self.repeats)

    def encoded(self) -> bytes:
        """Return the whole answer of HTTP/1.1, on a connection that stays open."""
        date = rfc822_formatted_time()
        if date is not self._date:  # a new text every second
            self._encoded, self._date = self._encode(date), date
        return self._encoded

    def _encode(self, date: str) -> bytes:
        length = {} if self.status is HTTPStatus.NOT_MODIFIED else {"Content-Length": str(len(self.body))}
        headers = {**self.headers, **length, "Date": date, "Server": SERVER_SOFTWARE}
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *map(": ".join, headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class ReadyResponse(web.Response):
    """What a handler returns for a `Ready`: an ordinary response to every middleware and signal.

    The encoded bytes go out where nobody touched it and the client speaks HTTP/1.1 on a connection that stays open.
    In every other case it is prepared as any response is.
    """

    _zlib_executor = None
    _zlib_executor_size = MAX_SYNC_CHUNK_SIZE

    def __init__(self, ready: Ready, *, repeats: bool) -> None:
        # The base class would begin with headers. Here these come into being when somebody asks for them.
        self.ready = ready
        self.repeats = repeats
        self._status = ready.status.value
        self._reason = ready.status.phrase
        self._body = ready.body or None
        self._sent: Callable[[Ready], object] = _nobody

    @functools.cached_property
    def _state(self) -> dict[Any, Any]:  # type: ignore[override]  # a plain attribute in the base class
        return {}

    @functools.cached_property
    def _headers(self) -> CIMultiDict[str]:  # type: ignore[override]  # a plain attribute in the base class
        return CIMultiDict(self.ready.headers)

    def when_sent(self, callback: Callable[[Ready], object]) -> None:
        """Call a function when the encoded bytes go out, and not where it became an answer of its own."""
        self._sent = callback

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send all of it, or only the headers where it is an answer like any other."""
        if vars(self).keys() != _UNTOUCHED or not _is_usual(request):
            return await super().prepare(request)
        writer = request.writer
        self._sent(self.ready)  # before anything is awaited: a drain that begins meanwhile must find it, to forget it
        await writer.write(self.ready.encoded())
        self._keep_alive = True
        self._body_length = writer.output_size
        self._eof_sent = True
        await writer.drain()
        return None

    def set_status(self, status: int, reason: str | None = None) -> None:
        """Make it an answer of its own, with another status."""
        self._headers  # noqa: B018 - being asked for, they are there: it is touched
        super().set_status(status, reason)


_UNTOUCHED = {"ready", "repeats", "_status", "_reason", "_body", "_sent"}
"""What a response has to which nobody gave headers, cookies, a body, an encoding or an end of its connection."""


def _is_usual(request: web.BaseRequest) -> bool:
    if request.method != "GET" or request.version != HttpVersion11 or not request.keep_alive:
        return False
    return not (isinstance(request, web.Request) and any(app.on_response_prepare for app in request.match_info.apps))


def _nobody(_ready: Ready) -> None:
    pass


def _never() -> bool:
    return False
