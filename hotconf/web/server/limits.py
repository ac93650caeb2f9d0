"""Limits on clients, the count of those in and of those refused, and the answers that refuse them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import resource
import socket
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from hotconf.values.times import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONTENT_TYPE = "application/problem+json"

_REJECTED_TIME = 0.5
_MOST_REJECTED = 32
_RESERVE = 64
_DISCARD_SIZE = 65536
_DISCARD_READS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on clients. Times are in seconds, sizes in bytes. None means no bound.

    Args:
        connections: Connections open at once, TLS handshakes included. A further one is answered 503 with
            `Retry-After` before a byte of it is read, so that a client or balancer can try another server. With TLS it
            is closed instead, because an answer would cost a handshake. Also without this bound connections leave an
            eighth of the descriptors of the process, and at least 64, to everything else.
        per_address: The same for one IP address. A further one is closed without an answer, which would serve a flood.
            Clients behind one proxy share its address. Connections to a socket file have none.
        handshake_timeout: Time for a TLS handshake.
        header_timeout: Time for the head of a request, from its first byte; for the first request from the connection.
            Then 408, or a close without an answer if no byte came: a browser that connects ahead of its first request
            would take the answer for that of the request.
        body_timeout: Time without a byte of a body that a request still lacks. Then reading it raises BodyTimeout,
            which is answered 408 unless the handler catches it.
        body_rate: Bytes per second that a body which has come for a minute must have on average. Then the same. What a
            chunked body has beside its data does not count, and neither does time in which the handler does not read.
        send_timeout: Time without a byte of a response that the client takes. Then the connection is aborted.
        idle_timeout: Time between two requests. The default is aiohttp's. It is longer than that of common proxies,
            which must close first.
        header_size: Size of request line and headers together. Then 431, as for more than 128 headers.
        body_size: Size of a body as the handler reads it, in place of the application's `client_max_size`, which
            holds where this is None. Then 413: at once for a declared length, else when reading passes the bound.

    Raises:
        ValueError: A time is negative, not finite or not a number; or a rate is no number above 0.
    """

    connections: int | None = None
    per_address: int | None = None
    handshake_timeout: float = 10.0
    header_timeout: float | None = 30.0
    body_timeout: float | None = 60.0
    body_rate: float | None = 240.0
    send_timeout: float | None = 60.0
    idle_timeout: float | None = 3630.0
    header_size: int = 32 * 1024
    body_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("handshake_timeout", "header_timeout", "body_timeout", "send_timeout", "idle_timeout"):
            value = getattr(self, name)
            if value is not None:
                check_seconds(name, value)
        if self.body_rate is not None and not 0 < self.body_rate < math.inf:
            raise ValueError("body_rate must be a finite number above 0")


REASONS = (
    "connections",
    "per_address",
    "handshake_timeout",
    "header_timeout",
    "body_timeout",
    "body_rate",
    "send_timeout",
    "header_size",
    "body_size",
)
"""The limits for which a client can be refused. Closing an idle connection is no refusal."""


class BodyTimeout(TimeoutError):
    """The client stopped sending its body. Raised where the body is read."""


class ConnectionSlot:
    """The place of one connection in the count of a limiter, from its accept on."""

    __slots__ = ("_host", "_limiter")

    def __init__(self, limiter: ConnectionLimiter, host: str | None) -> None:
        self._host = host
        self._limiter: ConnectionLimiter | None = limiter
        limiter.taken[host] += 1

    def release(self) -> None:
        """Make room for another connection. A second call has no effect."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.taken[self._host] -= 1
            if not limiter.taken[self._host]:
                del limiter.taken[self._host]


class ConnectionLimiter:
    """Counts the connections and the refusals of one server, on its event loop.

    Args:
        limits: Called for each connection and each request, so that its result may change. It must not raise.

    `taken` holds the number of slots by IP address, under None those of all local clients.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self.limits = limits
        self.taken: Counter[str | None] = Counter()
        self._refused = dict.fromkeys(REASONS, 0)
        self.refused: Mapping[str, int] = MappingProxyType(self._refused)
        self._rejected: dict[socket.socket, asyncio.TimerHandle] = {}

    def exceeded(self, host: str | None, *, descriptor: int) -> str | None:
        """Return the limit that one more connection from this address would exceed; None if there is room."""
        limits = self.limits()
        if host is not None and limits.per_address is not None and self.taken[host] >= limits.per_address:
            return "per_address"
        full = limits.connections is not None and self.taken.total() >= limits.connections
        # The kernel gives the lowest number that is free, so that it tells how many descriptors the process has.
        return "connections" if full or descriptor >= _descriptors_for_connections() else None

    def count(self, reason: str) -> None:
        """Count one refusal. `reason` is one of REASONS."""
        self._refused[reason] += 1

    def reject(self, sock: socket.socket) -> None:
        """Answer 503 on an accepted socket and close it. Never waits."""
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.send(raw_refusal(HTTPStatus.SERVICE_UNAVAILABLE))
            sock.shutdown(socket.SHUT_WR)
        if len(self._rejected) < _MOST_REJECTED:
            # Closed at once it would be reset by the request that is on its way, and the client would not see the 503.
            later = asyncio.get_running_loop().call_later
            self._rejected[sock] = later(_REJECTED_TIME, self._close_rejected, sock)
        else:
            _close(sock)

    def close(self) -> None:
        """Close the rejected sockets that are still open."""
        for sock, timer in tuple(self._rejected.items()):
            timer.cancel()
            self._close_rejected(sock)

    def _close_rejected(self, sock: socket.socket) -> None:
        del self._rejected[sock]
        _close(sock)


def _descriptors_for_connections() -> float:
    """Return how many descriptors connections may take. The rest is for the files that the process reads and writes."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if most == resource.RLIM_INFINITY else most - max(_RESERVE, most // 8)


def _close(sock: socket.socket) -> None:
    """Discard what came in and close: with unread bytes the kernel would send a reset instead of an end."""
    with contextlib.suppress(OSError):
        for _ in range(_DISCARD_READS):
            if not sock.recv(_DISCARD_SIZE):
                break
    sock.close()


_DETAILS = {
    HTTPStatus.BAD_REQUEST: "malformed HTTP request",
    HTTPStatus.REQUEST_TIMEOUT: "the rest of the request did not arrive in time; send it again",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is larger than this server allows",
    HTTPStatus.EXPECTATION_FAILED: "Expect allows only 100-continue",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "request line and headers are larger than this server allows",
    HTTPStatus.INTERNAL_SERVER_ERROR: "the server failed, and its log says why",
    HTTPStatus.GATEWAY_TIMEOUT: "the server took too long for this request",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "only HTTP/1.1 and HTTP/1.0 are supported",
    HTTPStatus.SERVICE_UNAVAILABLE: "too many connections; try again later",
}


def refusal(status: HTTPStatus, detail: str | None = None) -> web.Response:
    """Return the response that refuses a request: a problem document (RFC 9457)."""
    body, headers = _problem(status, detail)
    return web.Response(status=status.value, text=body, content_type=_CONTENT_TYPE, charset="utf-8", headers=headers)


def raw_refusal(status: HTTPStatus) -> bytes:
    """Return the same as bytes that end a connection, for a client whose request was not read, or not to its end."""
    body, headers = _problem(status)
    headers = {
        hdrs.CONTENT_TYPE: f"{_CONTENT_TYPE}; charset=utf-8",
        hdrs.CONTENT_LENGTH: str(len(body)),
        hdrs.CONNECTION: "close",
        **headers,
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", body]).encode("ascii")


def _problem(status: HTTPStatus, detail: str | None = None) -> tuple[str, dict[str, str]]:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail or _DETAILS[status],
        "faults": [],  # as in the problem documents of the configuration service: clients read one kind of document
    }
    return json.dumps(document), {hdrs.RETRY_AFTER: "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
