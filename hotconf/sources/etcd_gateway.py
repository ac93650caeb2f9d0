"""A client of etcd's JSON gateway: reads, writes, transactions, leases and watches, over several endpoints.

It knows nothing of sources. `Etcd` and the fleet's store are built on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hotconf.errors import HotconfError
from hotconf.sources.remote import Secret, Tls, reason_of, servers_of

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import aiohttp

_CONNECT = 2.0

UNAUTHENTICATED = 16
PERMISSION_DENIED = 7
_UNAVAILABLE = (14, 4)  # no leader; deadline exceeded
_NEEDS_TOKEN = ("user name is empty", "invalid auth token", "revision of auth store is old")


class EtcdError(HotconfError):
    """etcd did not do what it was asked.

    `code` is the gRPC code of its answer, None where no endpoint could be reached or responded in time.
    """

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value, at the revision that wrote it last. A deleted one has neither value nor lease."""

    key: str
    value: bytes
    mod_revision: int
    create_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a read found at one revision of the store. `cluster` tells one store from another."""

    revision: int
    cluster: str
    keys: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """One message of a watch: `created` is the first. `deleted` are the keys that are gone.

    `compacted` is not 0 where the changes that were asked for are forgotten: read everything, and watch from there.
    """

    revision: int
    cluster: str
    created: bool
    compacted: int
    put: tuple[KeyValue, ...]
    deleted: tuple[KeyValue, ...]


class Gateway:
    """A client of one cluster, to be entered with `async with` in the event loop that uses it.

    A request goes to the endpoint that answered last, and to the others where that is out of reach. Every method raises
    EtcdError.

    Args:
        endpoints: `https://HOST:PORT`, several with commas or as a list. Without a scheme it is http, or https where a
            file of TLS is given.
        username: The user, whose password is in `password_file`. The file is read at each authentication.
        ca_file: As in Tls, like `cert_file` and `key_file`.
        timeout: Seconds for a request at one endpoint.

    Raises:
        ValueError: An endpoint is no URL, or holds a password.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        username: str | None = None,
        password_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        timeout: float = 3.0,
    ) -> None:
        self._tls = Tls(ca_file, cert_file, key_file)
        schemes = ("https", "http") if self._tls.is_given else ("http", "https")
        self.endpoints = servers_of(endpoints, schemes, "http://HOST:PORT or https://HOST:PORT")
        if not self.endpoints:
            raise ValueError("etcd needs an endpoint, such as http://127.0.0.1:2379")
        if (username is None) != (password_file is None):
            raise ValueError("username and password_file belong together")
        random.shuffle(self.endpoints)  # not all clients to the first member
        self._username = username
        self._password = Secret(password_file)
        self._timeout = timeout
        self._token: str | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def is_open(self) -> bool:
        """Whether it was entered."""
        return self._session is not None

    @property
    def is_secure(self) -> bool:
        """Whether the connection is TLS."""
        return self.endpoints[0].startswith("https:")

    async def range(self, key: str, *, prefix: bool = False, keys_only: bool = False) -> Found:
        """Return a key, or all keys that begin with it, as they are at one revision."""
        answer = await self.call("kv/range", {**_span(key, prefix=prefix), "keys_only": keys_only})
        header = answer["header"]
        return Found(int(header["revision"]), header["cluster_id"], tuple(map(_key_value, answer.get("kvs", ()))))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write a key, and return the revision. The lease is not renewed by that."""
        answer = await self.call("kv/put", {"key": _text(key), "value": _text(value), "lease": str(lease)}, again=False)
        return int(answer["header"]["revision"])

    async def delete(self, key: str) -> None:
        """Delete a key, which may be absent."""
        await self.call("kv/deleterange", {"key": _text(key)}, again=False)

    async def swap(self, key: str, value: bytes, *, expect: int, lease: int = 0) -> int | None:
        """Write a key if its last revision is the expected one, 0 for "not there". Return the new one; None if not."""
        compare = {"key": _text(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(expect)}
        put = {"request_put": {"key": _text(key), "value": _text(value), "lease": str(lease)}}
        answer = await self.call("kv/txn", {"compare": [compare], "success": [put]}, again=False)
        return int(answer["header"]["revision"]) if answer.get("succeeded") else None

    async def grant(self, seconds: int) -> int:
        """Return a new lease, which keeps keys for so long after it was last kept alive."""
        return int((await self.call("lease/grant", {"TTL": str(seconds)}, again=False))["ID"])

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease, and return the seconds it has; 0 where it has ended."""
        answer = await self.call("lease/keepalive", {"ID": str(lease)})
        return int(answer["result"].get("TTL", 0))

    async def revoke(self, lease: int) -> None:
        """End a lease, and delete its keys."""
        await self.call("lease/revoke", {"ID": str(lease)}, again=False)

    async def version(self) -> tuple[int, ...]:
        """Return the version of the server."""
        answer = await self.call("maintenance/status", {})
        return tuple(int(part) for part in str(answer["version"]).split("-")[0].split("."))

    async def watch(self, key: str, *, prefix: bool = False, start: int = 0) -> AsyncGenerator[Watched, None]:
        """Yield what becomes of a key, or of all that begin with it, from a revision on, 0 for from now on.

        Ends only with an EtcdError, or where the messages were compacted. A revision of the future yields nothing but
        the first message: compare its revision.
        """
        request = {**_span(key, prefix=prefix), "start_revision": str(start)}
        async with self._stream("watch", {"create_request": request}) as messages:
            async for result in messages:
                header, events = result["header"], result.get("events", ())
                kinds = ([], [])  # type: tuple[list[KeyValue], list[KeyValue]]
                for event in events:
                    kinds[event.get("type") == "DELETE"].append(_key_value(event["kv"]))
                compacted = int(result.get("compact_revision", 0))
                if result.get("canceled") and not compacted:
                    raise EtcdError(str(result.get("cancel_reason") or "permission denied"), PERMISSION_DENIED)
                is_first = bool(result.get("created"))
                put, deleted = map(tuple, kinds)
                yield Watched(int(header.get("revision", 0)), header["cluster_id"], is_first, compacted, put, deleted)
                if compacted:
                    return

    async def call(self, path: str, body: Mapping[str, Any], *, again: bool = True) -> dict[str, Any]:
        """Return the answer to one request, such as `kv/range`.

        Args:
            path: Below `/v3/`.
            body: As the gateway documents it: bytes in base64, 64-bit numbers as text.
            again: Whether the request may be sent to another endpoint after it may have reached one.
        """
        for attempt in (1, 2):
            token = await self._authenticated()
            try:
                return await self._somewhere(path, body, token, again=again)
            except EtcdError as error:
                if attempt == 2 or not self._is_about_the_token(error, token):
                    raise
        raise AssertionError  # the second attempt returns or raises

    def _is_about_the_token(self, error: EtcdError, token: str | None) -> bool:
        """Whether to authenticate again, once: on the error, and not by the clock. Forgets that token then."""
        stale = error.code == UNAUTHENTICATED or any(text in error.reason for text in _NEEDS_TOKEN)
        if stale and self._username is not None and self._token == token:
            self._token = None
        return stale and self._username is not None

    async def _authenticated(self) -> str | None:
        if self._username is None or self._token is not None:
            return self._token
        try:
            password = await self._password.read()
        except OSError as error:
            raise EtcdError(f"the password file cannot be read: {error.strerror or error}") from None
        try:
            answer = await self._somewhere("auth/authenticate", {"name": self._username, "password": password}, None)
        except EtcdError as error:
            if "authentication is not enabled" in error.reason:
                return None
            raise
        self._token = str(answer["token"])
        return self._token

    async def _somewhere(
        self, path: str, body: Mapping[str, Any], token: str | None, *, again: bool = True
    ) -> dict[str, Any]:
        """Return the answer of the first endpoint that gives one, which is asked first from then on."""
        import aiohttp

        error = EtcdError("no endpoint")
        for endpoint in list(self.endpoints):
            try:
                async with self._post(endpoint, path, body, token, self._timeout) as response:
                    answer: dict[str, Any] = json.loads(await response.read())
                    _raise_refusal(answer, response.status)
                    return answer
            except (aiohttp.ClientError, OSError, ValueError) as failure:
                error = EtcdError(f"{endpoint}: {reason_of(failure)}")
                may_have_arrived = not isinstance(
                    failure, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
                )
            except EtcdError as refusal:
                if refusal.code not in _UNAVAILABLE:
                    raise
                error, may_have_arrived = EtcdError(refusal.reason), True
            self.endpoints.append(self.endpoints.pop(self.endpoints.index(endpoint)))
            if may_have_arrived and not again:
                break
        raise error

    @contextlib.asynccontextmanager
    async def _post(
        self, endpoint: str, path: str, body: Mapping[str, Any], token: str | None, total: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        if self._session is None:
            raise RuntimeError("enter the gateway first: async with")
        timeout = aiohttp.ClientTimeout(total=total, connect=min(_CONNECT, self._timeout))
        headers = {"Authorization": token} if token else {}
        secure = await self._tls.context() if endpoint.startswith("https:") else True
        async with self._session.post(
            f"{endpoint}/v3/{path}", json=body, headers=headers, timeout=timeout, ssl=secure, allow_redirects=False
        ) as response:
            yield response

    @contextlib.asynccontextmanager
    async def _stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[AsyncGenerator[dict[str, Any], None]]:
        """Open a stream, and give its messages. The first one must come in time; a later one may take for ever."""
        import aiohttp

        token = await self._authenticated()
        endpoint = self.endpoints[0]
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(self._timeout):
                    response = await stack.enter_async_context(self._post(endpoint, path, body, token, None))
                    messages = _messages(response)
                    first = await anext(messages)
                yield _chained(first, messages)
        except (aiohttp.ClientError, OSError, ValueError, StopAsyncIteration) as failure:
            self.endpoints.append(self.endpoints.pop(0))
            raise EtcdError(f"{endpoint}: {reason_of(failure)}") from None
        except EtcdError as error:
            self._is_about_the_token(error, token)
            raise


async def _chained(
    first: dict[str, Any], rest: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[dict[str, Any], None]:
    yield first
    async for message in rest:
        yield message
    raise ConnectionResetError  # a watch has no end of its own


async def _messages(response: aiohttp.ClientResponse) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the results of a stream of JSON lines, of any length."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                message = json.loads(line)
                _raise_refusal(message, response.status)
                yield message["result"]
    if rest.strip():
        _raise_refusal(json.loads(rest), response.status)


def _raise_refusal(answer: Mapping[str, Any], status: int) -> None:
    error = answer.get("error")
    if error is None and status < 400:
        return
    told = error if isinstance(error, dict) else answer
    reason = str(told.get("message") or told.get("error") or f"responded with {status}")
    raise EtcdError(reason.removeprefix("etcdserver: "), int(told.get("code") or told.get("grpc_code") or 2))


def _span(key: str, *, prefix: bool) -> dict[str, str]:
    """Return a key, or the span of all keys that begin with it."""
    if not prefix:
        return {"key": _text(key)}
    data = key.encode()
    end = data[:-1] + bytes([data[-1] + 1]) if data else b"\0"  # UTF-8 has no byte 255
    return {"key": _text(data or b"\0"), "range_end": _text(end)}


def _key_value(found: Mapping[str, str]) -> KeyValue:
    value, lease = b64decode(found.get("value", "")), int(found.get("lease", 0))
    revisions = int(found.get("mod_revision", 0)), int(found.get("create_revision", 0))
    return KeyValue(b64decode(found["key"]).decode("utf-8", "replace"), value, *revisions, lease)


def _text(value: str | bytes) -> str:
    return b64encode(value.encode() if isinstance(value, str) else value).decode()
