"""A client of the configuration service: single requests, and the stream of one part."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from yarl import URL

import hotconf.values.keypath as keypath
from hotconf.errors import HotconfError
from hotconf.sources.frames import Frames

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from types import TracebackType

    from hotconf.values.keypath import KeyPath

_CONNECT = 5.0
_ANSWER = 30.0
_SILENCE = 120.0
"""Seconds: to connect, for a response, and without a byte in a stream."""

_LARGEST = 64 << 20
"""Bytes of a response."""

_VERDICTS = (HTTPStatus.OK, HTTPStatus.UNPROCESSABLE_ENTITY)

_RETRIES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to reconnect to a stream; the last one repeats."""


class Unreachable(HotconfError):
    """A service did not respond, for a `reason`."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot reach {self.url}: {self.reason}"


class Declined(HotconfError):
    """A service responded with something else than the requested document.

    `status` is the status code, `detail` says what to do, `faults` are the texts of the faults that were found.
    """

    def __init__(self, url: str, status: int, detail: str, faults: Sequence[str] = ()) -> None:
        super().__init__(url, status, detail, faults)
        self.url = url
        self.status = status
        self.detail = detail
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join([f"{self.url}: {self.detail}", *(f"  {fault}" for fault in self.faults)])


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: the document, and its ETag where it has one."""

    document: Any
    etag: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """One state of a followed part. `data` is the data of an event of `/events`."""

    token: str
    data: Mapping[str, Any]

    @property
    def gone(self) -> bool:
        """Whether the part does not exist in this state."""
        return bool(self.data.get("gone"))


class Client:
    """A client of one service, to be entered with `async with`. Every request raises Unreachable and Declined.

    Args:
        url: `http://…` or `https://…`, with the prefix of the endpoints if there is one, or `unix:/path/of/socket`.
        token: The bearer token that the service requires.

    Raises:
        ValueError: The URL is not one of these, or holds a password.
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self.url = url
        self._socket, self._base = _place(url)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self._socket) if self._socket else aiohttp.TCPConnector()
        # A compressed response may be of any size once it is inflated.
        headers = {**self._headers, "Accept-Encoding": "identity"}
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, *members: str) -> Reply:
        """Return the document at a path such as `status` or `explain/a%2Fb`. It must have these members."""
        async with self._request("GET", path, total=_ANSWER) as response:
            document = await self._document(response)
            if response.status != HTTPStatus.OK or not all(member in document for member in members):
                raise self._declined(response, document)
            return Reply(document, response.headers.get("ETag"))

    async def text(self, path: str, media_type: str) -> str | None:
        """Return a document in another notation than JSON, None where the service does not write it in that one."""
        async with self._request("GET", path, headers={"Accept": media_type}, total=_ANSWER) as response:
            if response.status != HTTPStatus.OK or response.content_type != media_type:
                return None
            return (await self._body(response)).decode("utf-8", "replace")

    async def report(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        etag: str | None = None,
    ) -> dict[str, Any]:
        """Send a command, wait for its report without a time limit, and return it, also when it was rejected."""
        headers = {"If-Match": etag} if etag else {}
        async with self._request(method, path, query=query, body=body, headers=headers) as response:
            document = await self._document(response)
            rejected = response.status == HTTPStatus.UNPROCESSABLE_ENTITY
            report = document.get("report") if rejected else document
            if response.status not in _VERDICTS or not isinstance(report, dict) or "outcome" not in report:
                raise self._declined(response, document)
            return {**report, "faults": document.get("faults", [])}

    async def follow(self, path: KeyPath = ()) -> AsyncGenerator[Event | Unreachable, None]:
        """Yield the state of a part now and after each change, without end.

        A lost connection yields one Unreachable and is retried until the service is back. A state that equals the last
        one is not yielded again. Only a first attempt that fails raises Unreachable.
        """
        last: Event | None = None
        failures = tries = 0
        while True:
            try:
                async for event in self._stream(path, last.token if last else None):
                    failures = tries = 0
                    if last is None or (event.data["value"], event.gone) != (last.data["value"], last.gone):
                        yield event
                    last = event
            except (Unreachable, Declined) as error:
                failures += 1
                lost = self._lost(error, known=last is not None)
                if failures == 1:
                    yield lost
            await asyncio.sleep(_RETRIES[min(tries, len(_RETRIES) - 1)])
            tries += 1

    def _lost(self, error: Unreachable | Declined, *, known: bool) -> Unreachable:
        """Return the reason to retry a stream. Raises the error where a retry cannot help."""
        busy = isinstance(error, Declined) and error.status in (503, 502, 504)
        if not known or not (busy or isinstance(error, Unreachable)):
            raise error
        return error if isinstance(error, Unreachable) else Unreachable(error.url, error.detail)

    async def _stream(self, path: KeyPath, token: str | None) -> AsyncIterator[Event]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": token} if token else {})}
        query = {"path": keypath.render(path)} if path else {}
        async with self._request("GET", "events", query=query, headers=headers, silence=_SILENCE) as response:
            if response.status != HTTPStatus.OK or response.content_type != "text/event-stream":
                raise self._declined(response, await self._document(response))
            frames = Frames()
            with self._errors():
                async for chunk in response.content.iter_any():
                    for kind, found, data in frames.feed(chunk):
                        if kind == "config":
                            yield Event(found, json.loads(data))

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        total: float | None = None,
        silence: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=total, connect=_CONNECT, sock_read=silence)
        url = self._base.joinpath(*path.split("/"), encoded=True).with_query(query or {})
        with self._errors():
            response = await self._session.request(
                method, url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            )
        async with response:
            yield response

    async def _document(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        """Return the JSON object of a response; an empty one where the body is something else."""
        data = await self._body(response)
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if response.status == HTTPStatus.OK and not isinstance(document, dict):
            raise self._declined(response, {})
        return document if isinstance(document, dict) else {}

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        data = bytearray()
        with self._errors():
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > _LARGEST:
                    raise ValueError(f"the response is larger than {_LARGEST} bytes")
        return bytes(data)

    def _declined(self, response: aiohttp.ClientResponse, document: Mapping[str, Any]) -> Declined:
        detail = document.get("detail")
        if response.status in _VERDICTS and not detail:
            detail = "the response is not one of a hotconf service"
        text = detail if isinstance(detail, str) and detail else f"responded with {response.status} {response.reason}"
        return Declined(self.url, response.status, text, _texts(document.get("faults")))

    @contextlib.contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unreachable(self.url, _reason(error)) from error


def _place(url: str) -> tuple[str | None, URL]:
    """Return the socket file, if the URL names one, and the URL that every request begins with."""
    for prefix in ("http://unix:", "unix:"):
        if url.startswith(prefix):
            path = url.removeprefix(prefix).rstrip(":")
            if not path:
                raise ValueError(f"{url} names no socket file")
            return path, URL("http://localhost/")
    base = URL(url)
    if base.user or base.password:
        raise ValueError("a URL must not hold a password, which would end up in logs: use a token file")
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError(f"{url} is not a URL: write http://HOST:PORT or unix:/PATH")
    return None, base.with_query(None).with_fragment(None)


def _texts(faults: Any) -> list[str]:
    entries = faults if isinstance(faults, list) else []
    return [str(entry["text"]) for entry in entries if isinstance(entry, dict) and "text" in entry]


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no response in time"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno:
        return (
            os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        )  # below 0: an error of the name service
    return str(error) or type(error).__name__
