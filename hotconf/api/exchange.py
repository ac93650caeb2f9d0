"""What a face and a handler exchange: requests, responses, streams, and problem documents (RFC 9457)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from hotconf.errors import HotconfError, OperationRefused, Stale, UnknownGeneration

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping

GENERATION = "Hotconf-Generation"
PROBLEM = "application/problem+json"
JSON = "application/json"


class Request(Protocol):
    """One request. Each face wraps the request of its framework in a class that keeps this protocol."""

    @property
    def method(self) -> str:
        """The method, in upper case."""

    @property
    def path(self) -> str:
        """The whole path as it was sent, percent-encoded."""

    @property
    def tail(self) -> str:
        """The part of the path that the endpoint's placeholder stands for, percent-encoded; empty without one."""

    @property
    def query(self) -> str:
        """The query string as it was sent, without the question mark."""

    def header(self, name: str) -> str | None:
        """Return a header, the values of several lines joined by commas; None without it."""

    async def read(self) -> bytes:
        """Return the body, its Content-Encoding undone."""

    @property
    def peer(self) -> str:
        """The client's address, for the audit log."""

    @property
    def token(self) -> str | None:
        """The name of the token that the request showed, for the audit log; None where none was asked for."""

    @property
    def draining(self) -> asyncio.Event | None:
        """Set when the host begins to shut down: streams and parked requests end. None where it does not say so."""

    def is_gone(self) -> bool:
        """Whether the client has left, or can no longer be told from one that has."""

    def release_snapshot(self) -> None:
        """End the lease of the snapshot that the request is pinned to, if it is: the request is about to wait."""


class Channel(Protocol):
    """The connection to the client of a stream. A write is not awaited: one slow client must not delay the others."""

    @property
    def unsent(self) -> int:
        """The number of bytes that wait to be sent."""

    def write(self, data: bytes) -> None:
        """Send bytes, or nothing where the connection is closing."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. It may be sent any number of times."""

    body: bytes = b""
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Stream(Protocol):
    """A response that lasts. A face sends its headers, opens it, waits for its end, and closes it whatever happens."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""

    @property
    def last(self) -> bytes:
        """The end of the body, for a client that is still there."""

    def open(self, channel: Channel) -> asyncio.Future[None]:
        """Begin to send. The future that is returned ends with the stream."""

    def close(self) -> None:
        """End to send."""


class Problem(Exception):
    """A refusal. `members` are further members of the document, such as `faults`."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    @classmethod
    def of(cls, error: HotconfError) -> Problem:
        """Return the problem that answers an error of the configuration. Where the engine is not running: 503."""
        status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)
        if status is None:
            return cls(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "1"})
        return cls(status, str(error))

    @classmethod
    def not_found(cls) -> Problem:
        """Return the problem that answers a path without an endpoint."""
        return cls(HTTPStatus.NOT_FOUND, "nothing is served at this path: /openapi.json lists what is")

    @classmethod
    def not_allowed(cls, methods: Iterable[str]) -> Problem:
        """Return the problem that answers a method which its path does not have."""
        allowed = ", ".join(sorted(methods))
        return cls(HTTPStatus.METHOD_NOT_ALLOWED, f"allowed here: {allowed}", headers={"Allow": allowed})

    def response(self) -> Response:
        """Return the problem document."""
        document = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "faults": [],
            **self.members,
        }
        headers = {"Content-Type": f"{PROBLEM}; charset=utf-8", **self.headers}
        return Response(encoded(document), self.status, headers)


_STATUSES = {
    UnknownGeneration: HTTPStatus.NOT_FOUND,
    Stale: HTTPStatus.PRECONDITION_FAILED,
    OperationRefused: HTTPStatus.CONFLICT,
}


def json_response(
    value: Any, *, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON document that no cache keeps. Bytes are a document that is encoded already."""
    body = value if isinstance(value, bytes) else encoded(value)
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {}), "Content-Type": JSON})


def encoded(value: Any) -> bytes:
    """Return JSON, which ends with a line feed."""
    # A lone surrogate, from a file name or a variable that is not UTF-8, becomes JSON's own escape for it.
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
