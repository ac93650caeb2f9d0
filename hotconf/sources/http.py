"""HTTP: the configuration of another hotconf, followed by its stream, or any URL, asked at an interval."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import hotconf.values.keypath as keypath
from hotconf.sources.frames import Frames
from hotconf.sources.reader import SIZE_LIMIT, content_revision
from hotconf.sources.remote import Remote, Secret, Tls, reason_of
from hotconf.values.layer import Layer, Origin
from hotconf.values.secrets import MASK
from hotconf.values.times import check_seconds

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    import aiohttp

_CONNECT = 5.0
_SILENCE = 10.0
"""Seconds: to connect, and without a byte of a response."""

_QUIET_STREAM = 45.0
"""Seconds without a heartbeat of a stream, three of them by default, after which its server is asked anew."""

_TYPES = {"application/json": "json", "application/toml": "toml", "application/yaml": "yaml", "text/yaml": "yaml"}
_GENERATION = "Hotconf-Generation"


@dataclass(frozen=True, slots=True)
class _Document:
    """A document as it was received, with what to ask for the next one by. `data` is None where there is none."""

    data: bytes | None
    format: str = ""
    etag: str | None = None
    modified: str | None = None
    is_hotconf: bool = False


class Http(Remote):
    """The document at a URL, TOML, JSON or YAML by the URL's suffix, `format` or the type of the response.

    A URL whose response says that it is another hotconf, such as `https://config.example/config/database`, is followed
    by its stream. Secrets are masked there, so they are left out here. Any other URL is asked again at an interval, by
    its ETag or time of modification.

    Args:
        url: `http://…` or `https://…`. Without a path it is another hotconf.
        interval: Seconds between two questions to a server without a stream, give or take a tenth.
        token_file: A file with the bearer token to send. It is read for each request.
        redirects: Whether redirects are followed. The token is not sent to another host.
        size_limit: Bytes. A larger document is refused.
        format: As in Remote, like `required`, `outage`, `max_stale` and `cache`.
        ca_file: The authorities that are trusted instead of the system's.
        cert_file: The certificate to show to the server, read again when it has changed.
        key_file: Its key.

    Raises:
        ValueError: The URL is none, or holds a password.
    """

    kind = "http"

    def __init__(
        self,
        url: str,
        *,
        interval: float = 30.0,
        token_file: str | os.PathLike[str] | None = None,
        redirects: bool = False,
        size_limit: int = SIZE_LIMIT,
        format: str | None = None,  # noqa: A002 - the word for it
        required: bool = True,
        outage: Literal["keep", "reject"] = "keep",
        max_stale: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        from yarl import URL

        try:
            self._url = URL(url)
        except ValueError:
            raise ValueError("a URL must be http://HOST/PATH or https://HOST/PATH") from None
        if self._url.user or self._url.password:
            raise ValueError("a URL must not hold a password, which would end up in logs: use token_file")
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError("a URL must be http://HOST/PATH or https://HOST/PATH")
        if self._url.path == "/" and format is None:
            self._url = self._url.with_path("/config")
        name = str(self._url.with_query(None).with_fragment(None))
        super().__init__(
            name, None, required=required, outage=outage, max_stale=max_stale, cache=cache
        )  # fmt: skip
        self._given_format = format
        self._interval = check_seconds("interval", interval)
        self._redirects = redirects
        self._size_limit = size_limit
        self._token = Secret(token_file)
        self._tls = Tls(ca_file, cert_file, key_file)
        self._session: aiohttp.ClientSession | None = None
        self._received = _Document(None)
        self._returned: _Document | None = None

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        """Keep one connection for as long as an engine runs."""
        self._was_read = asyncio.Event()
        async with _session() as session:
            self._session = session
            try:
                yield
            finally:
                self._session = self._was_read = None

    async def read(self) -> Layer:
        """Return what the URL holds now.

        Raises:
            SourceError: It cannot be understood, or there is nothing.
            SourceUnreachable: The server is out of reach, or denies access.
        """
        try:
            await self._fetch()
            received = self._returned = self._received
            return self._layer(received)
        finally:
            if self._was_read is not None:
                self._was_read.set()

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield when another document is there than was read last."""
        await self._first_read()
        while True:
            if self._received.is_hotconf:
                async for _ in self._streamed():
                    yield
            else:
                await asyncio.sleep(self._interval * random.uniform(0.9, 1.1))  # noqa: S311 - no secret
            if await self.outdated():
                yield

    async def outdated(self) -> bool:
        """Return whether another document is there than was read last. Raises as `read`, but not for the text."""
        await self._fetch()
        return self._returned is None or self._received.data != self._returned.data

    def _layer(self, received: _Document) -> Layer:
        if received.data is None:
            return self._absent()
        revision = (received.etag or "").removeprefix("W/").strip('"') or content_revision(received.data)
        self._format = received.format
        if not self._format:
            self._refuse("neither the URL nor the type of the response tells the format: give format=", revision)
        if not received.is_hotconf:
            return self._document(received.data, revision)
        try:
            values = json.loads(received.data)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            self._refuse("is not a document with keys", revision)
        return Layer(self.name, _unmasked(values), {(): Origin("remote", self.name)}, revision)

    async def _fetch(self) -> None:
        """Ask for the document, unless what was received last is still it."""
        last = self._received
        asked = {"If-None-Match": last.etag, "If-Modified-Since": last.modified if last.etag is None else None}
        headers = {name: value for name, value in asked.items() if value is not None and last.data is not None}
        async with self._request(self._url, {**headers, "Accept": "application/json, */*;q=0.5"}) as response:
            if response.status == 304:
                return
            if response.status in (404, 410):
                self._received = _Document(None)
                return
            if 300 <= response.status < 400:
                self._refuse(f"redirects ({response.status}), which is followed only with redirects=True")
            self._check(response)
            data = b""
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > self._size_limit:
                    self._refuse(f"is larger than {self._size_limit} bytes")
            told = response.headers.get
            kind = self._given_format or _suffix(self._url.name) or _TYPES.get(response.content_type, "")
            self._received = _Document(data, kind, told("ETag"), told("Last-Modified"), _GENERATION in response.headers)

    async def _streamed(self) -> AsyncIterator[None]:
        """Yield for each state in the stream of another hotconf that is not the one that was read last."""
        prefix, _, part = self._url.path.partition("/config")
        path = keypath.render(tuple(key for key in part.split("/") if key))
        url = self._url.with_path(f"{prefix}/events").with_query({"path": path} if path else {})
        etag = (self._received.etag or "").strip('"')
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": etag} if etag else {})}
        async with self._request(url, headers, silence=_QUIET_STREAM) as response:
            self._check(response)
            frames = Frames()
            while True:
                try:
                    chunk = await response.content.readany()
                except TimeoutError:  # ask whether the server lives
                    return
                if not chunk:
                    raise self._unreachable("its stream has ended")
                for kind, token, _ in frames.feed(chunk):
                    if kind == "config" and token != (self._received.etag or "").strip('"'):
                        yield

    @contextlib.asynccontextmanager
    async def _request(
        self, url: Any, headers: Mapping[str, str], *, silence: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT, sock_read=silence or _SILENCE)
        try:
            async with contextlib.AsyncExitStack() as stack:
                session = self._session
                if session is None:
                    session = await stack.enter_async_context(_session())
                token = await self._token.read()
                sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
                secure = await self._tls.context() if url.scheme == "https" else True
                get = session.get(url, headers=sent, timeout=timeout, ssl=secure, allow_redirects=self._redirects)
                yield await stack.enter_async_context(get)
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(reason_of(error)) from None

    def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            return
        known = {401: "unauthorized (401)", 403: "forbidden (403)"}
        raise self._unreachable(known.get(response.status, f"the server responded with {response.status}"))


def _session() -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


def _suffix(name: str) -> str:
    import hotconf.formats as formats
    from hotconf.errors import FormatError

    with contextlib.suppress(FormatError):
        return formats.format_of(name)
    return ""


def _unmasked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without those that are masked, and without the lists that hold one: items have no names."""
    kept = ((key, _unmasked(value) if isinstance(value, dict) else value) for key, value in values.items())
    return {key: value for key, value in kept if isinstance(value, dict) or not _holds_mask(value)}


def _holds_mask(value: Any) -> bool:
    if isinstance(value, str):
        return MASK in value
    return any(
        map(_holds_mask, value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    )
