"""Limits: who may come in, how much they may send, and how long they may take. And what those hear who may not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from hotconf.values.times import check_seconds
from hotconf.web.problem import CONTENT_TYPE, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_RETRY_AFTER = "1"
_GOODBYE_TIME = 0.5
_MOST_GOODBYES = 128
_DISCARD_SIZE = 65536
_DISCARD_READS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on clients; times in seconds, sizes in bytes. None: no bound. Raises ValueError for what is no time.

    - `connections`: open at once, TLS handshakes included. One more is answered 503 with `Retry-After`, before a byte
      of it is read, since a good client or a balancer can go elsewhere; with TLS, where an answer would cost the
      handshake, it is closed.
    - `per_address`: the same for one IP address. One more is closed without a word: an answer would serve a flood.
      Clients behind one proxy share its address. Connections to a socket file have none.
    - `handshake_timeout`: for a TLS handshake.
    - `header_timeout`: for a request's head, from its first byte on; for the first one from the connection on. Then
      408, or no word where not a byte came: a browser that connected ahead would take it for an answer.
    - `body_timeout`: without a byte of a body that is waited for. Then reading it raises BodyTimeout, which is answered
      408 unless the handler catches it.
    - `idle_timeout`: between two requests. The default is aiohttp's: longer than any proxy's, which must close first.
    - `header_size`: of a request's first line and headers together. Then 431, as for more than 128 headers.
    - `body_size`: of a body as the handler reads it, in place of the application's `client_max_size`, which holds where
      this is None. Then 413: at once for a declared length, else where reading passes the bound.
    """

    connections: int | None = None
    per_address: int | None = None
    handshake_timeout: float = 10.0
    header_timeout: float | None = 30.0
    body_timeout: float | None = 60.0
    idle_timeout: float | None = 3630.0
    header_size: int = 32 * 1024
    body_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("handshake_timeout", "header_timeout", "body_timeout", "idle_timeout"):
            value = getattr(self, name)
            if value is not None:
                check_seconds(name, value)


REASONS = (
    "connections",
    "per_address",
    "handshake_timeout",
    "header_timeout",
    "body_timeout",
    "header_size",
    "body_size",
)
"""What a client can be refused for, in the words of Limits. An idle connection that is closed was not refused."""


class BodyTimeout(TimeoutError):  # noqa: N818 - as TimeoutError's own name would be without its end
    """The client stopped sending its body. Raised where the body is read."""


class Seat:
    """One connection's place among those that are counted, from its accept on. Leaving twice is leaving once."""

    __slots__ = ("_door", "_host")

    def __init__(self, door: Door, host: str | None) -> None:
        self._host = host
        self._door: Door | None = door
        door.taken[host] += 1

    def leave(self) -> None:
        """Make room for another."""
        door, self._door = self._door, None
        if door is not None:
            door.taken[self._host] -= 1
            if not door.taken[self._host]:
                del door.taken[self._host]


class Door:
    """Counts who is in and who was refused, for one server; on its event loop.

    `limits` is asked for each connection and each request, so that it may change its answer; it must not raise.
    `taken` holds the seats by IP address, None for all local clients.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self.limits = limits
        self.taken: Counter[str | None] = Counter()
        self._refused = dict.fromkeys(REASONS, 0)
        self.refused: Mapping[str, int] = MappingProxyType(self._refused)
        self._goodbyes: dict[socket.socket, asyncio.TimerHandle] = {}

    def refusal(self, host: str | None) -> str | None:
        """Return the reason why one more connection from there may not come in; None: it may."""
        limits = self.limits()
        if host is not None and _is_reached(limits.per_address, self.taken[host]):
            return "per_address"
        return "connections" if _is_reached(limits.connections, self.taken.total()) else None

    def count(self, reason: str) -> None:
        """Count one refusal. `reason` is one of REASONS."""
        self._refused[reason] += 1

    def turn_away(self, sock: socket.socket) -> None:
        """Answer 503 on an accepted socket and close it. Never waits."""
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.send(raw_answer(HTTPStatus.SERVICE_UNAVAILABLE))
            sock.shutdown(socket.SHUT_WR)
        if len(self._goodbyes) < _MOST_GOODBYES:
            # Closed at once it would be reset by the request that is on its way, and the client not see the answer.
            later = asyncio.get_running_loop().call_later
            self._goodbyes[sock] = later(_GOODBYE_TIME, self._let_go, sock)
        else:
            _close(sock)

    def close(self) -> None:
        """Close what is still being turned away."""
        for sock, timer in tuple(self._goodbyes.items()):
            timer.cancel()
            self._let_go(sock)

    def _let_go(self, sock: socket.socket) -> None:
        del self._goodbyes[sock]
        _close(sock)


def answer(status: HTTPStatus) -> web.Response:
    """Return the answer to a request that broke a limit or a rule of HTTP. It is the last on its connection."""
    response = _problem(status).response()
    response.force_close()
    return response


def raw_answer(status: HTTPStatus) -> bytes:
    """Return the same as bytes, for a client whose request was not read, or not to its end."""
    problem = _problem(status)
    text = problem.text()
    headers = {
        hdrs.CONTENT_TYPE: f"{CONTENT_TYPE}; charset=utf-8",
        hdrs.CONTENT_LENGTH: str(len(text)),
        hdrs.CONNECTION: "close",
        **problem.headers,
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", text]).encode("ascii")


def _problem(status: HTTPStatus) -> Problem:
    headers: dict[str, str] = {hdrs.RETRY_AFTER: _RETRY_AFTER} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Problem(status, _ADVICE[status], headers=headers)


_ADVICE = {
    HTTPStatus.BAD_REQUEST: "this cannot be read as a request of HTTP, or its body not as its headers say",
    HTTPStatus.REQUEST_TIMEOUT: "the rest of the request did not come in time: send it again",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is larger than this server takes",
    HTTPStatus.EXPECTATION_FAILED: "nothing is understood in Expect but 100-continue: leave it out",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "first line and headers are larger than this server takes",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "HTTP/1.1 and HTTP/1.0 are spoken here",
    HTTPStatus.SERVICE_UNAVAILABLE: "too many clients are connected: come back after a while",
}


def _is_reached(limit: int | None, count: int) -> bool:
    return limit is not None and count >= limit


def _close(sock: socket.socket) -> None:
    """Close after discarding what came in: with unread bytes the kernel would send a reset instead of an end."""
    with contextlib.suppress(OSError):
        for _ in range(_DISCARD_READS):
            if not sock.recv(_DISCARD_SIZE):
                break
    sock.close()
