"""Redis: one key that holds a document. A channel beside it says when it has changed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal

from hotconf.errors import RevisionConflict
from hotconf.sources.patience import within
from hotconf.sources.reader import content_revision
from hotconf.sources.remote import Remote, Secret, Tls, reason_of, servers_of

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator

    from redis.asyncio import Redis as Client

    from hotconf.values.layer import Layer

_CONNECT = 2.0
_ANSWER = 3.0
_SILENCE = 10.0
"""Seconds: to connect, for an answer, and without a message until the server is asked whether it is there."""


class Redis(Remote):
    """A document in one key of Redis 6 or newer, or of a server that speaks like it.

    Needs the extra `hotconf[redis]`. A change is noticed at once where the writer also publishes to the channel
    `hotconf:KEY`, in the same transaction, as `hotconf put` does; another one within about a minute.

    Args:
        url: `redis://HOST:PORT/DB`, or `rediss://…` for TLS.
        key: The key of the document. Its suffix tells the format, unless `format` does.
        username: The user, whose password is in `password_file`; without a user it is the password of the server. The
            file is read at each connection.
        format: As in Remote, like `required`, `outage`, `max_stale` and `cache`.
        ca_file: The authorities that are trusted instead of the system's.
        cert_file: The certificate to show to the server.
        key_file: Its key.

    Raises:
        ValueError: The URL is none, or holds a password.
        ModuleNotFoundError: The extra is not installed.
    """

    kind = "redis"

    def __init__(
        self,
        url: str,
        key: str,
        *,
        username: str | None = None,
        password_file: str | os.PathLike[str] | None = None,
        format: str | None = None,  # noqa: A002 - the word for it
        required: bool = True,
        outage: Literal["keep", "reject"] = "keep",
        max_stale: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        try:
            import redis  # noqa: F401 - so that its absence is said here
        except ModuleNotFoundError:
            raise ModuleNotFoundError("sources.Redis needs the extra: pip install 'hotconf[redis]'") from None
        super().__init__(
            f"redis:{key}", key, format=format, required=required, outage=outage, max_stale=max_stale, cache=cache
        )
        (self._url,) = servers_of([url], ("redis", "rediss"), "redis://HOST:PORT/DB")
        self._key = key
        self._channel = f"hotconf:{key}"
        self._username = username
        self._password = Secret(password_file)
        self._files = {"ssl_ca_certs": ca_file, "ssl_certfile": cert_file, "ssl_keyfile": key_file}
        self._client: Client | None = None
        self._is_live = False
        self._seen: bytes | None = None

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        """Keep connections for as long as an engine runs."""
        self._was_read, self._is_live, self._client = asyncio.Event(), True, None
        try:
            yield
        finally:
            self._was_read, self._is_live = None, False
            await self._close()

    async def read(self) -> Layer:
        """Return what the key holds now.

        Raises:
            SourceError: It cannot be understood, or a required key is absent.
            SourceUnreachable: The server is out of reach, or denies access.
        """
        try:
            self._seen = data = await within(None, self._data())  # its client may swallow a cancellation
        finally:
            if self._was_read is not None:
                self._was_read.set()
        return self._absent() if data is None else self._document(data, content_revision(data))

    async def _data(self) -> bytes | None:
        async with self._reached() as client:
            data: bytes | None = await client.get(self._key)  # type: ignore[assignment]  # nothing decodes it
            return data

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield for each message of the channel, and where the key was changed while nothing was subscribed."""
        await self._first_read()
        async with self._reached() as client, client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(self._channel)
            if await self.outdated():
                yield
            is_asked = False
            while True:
                message = await channel.get_message(timeout=_SILENCE if not is_asked else _ANSWER)
                if message is None and not is_asked:  # a connection of which only one end is left is silent
                    await channel.ping()
                elif message is None:
                    raise TimeoutError
                elif message["type"] == "message":
                    yield
                is_asked = message is None

    async def outdated(self) -> bool:
        """Return whether the key holds something else than was read last. Raises SourceUnreachable."""
        return await self._data() != self._seen

    async def put(self, data: bytes, *, if_revision: str | None = None) -> str:
        """Write the document and publish to its channel, in one transaction, and return its revision.

        Args:
            data: The document.
            if_revision: Must be None: Redis counts no revisions.

        Raises:
            RevisionConflict: A revision is expected.
            SourceUnreachable: The server is out of reach, or denies access. It may have written.
        """
        if if_revision is not None:
            raise RevisionConflict(self.name, if_revision)
        async with self._reached() as client, client.pipeline(transaction=True) as transaction:
            transaction.set(self._key, data)
            transaction.publish(self._channel, b"")
            await transaction.execute()
        return content_revision(data)

    @contextlib.asynccontextmanager
    async def _reached(self) -> AsyncIterator[Client]:
        """Give the client that is open, or one for this time. After an error the next one reads all files anew."""
        from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

        client = self._client
        try:
            if client is None:
                client = await self._new_client()
                if self._is_live:
                    self._client = client
            yield client
        except (RedisError, OSError) as error:
            await self._close()
            if isinstance(error, (AuthenticationError, NoPermissionError)):
                raise self._unreachable(f"forbidden: {error}") from None
            raise self._unreachable(_words(error)) from None
        finally:
            if client is not None and client is not self._client:
                with contextlib.suppress(Exception):
                    await client.aclose()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # its connection is broken already
                await client.aclose()

    async def _new_client(self) -> Client:
        from redis.asyncio import Redis as Client
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        secure: dict[str, Any] = {}
        if self._url.startswith("rediss:"):
            secure = {name: str(path) for name, path in self._files.items() if path is not None}
            await Tls(*self._files.values()).context()  # to name a file that cannot be read
        password = await self._password.read()
        return Client.from_url(
            self._url,
            username=self._username,
            password=password,
            socket_connect_timeout=_CONNECT,
            socket_timeout=_ANSWER,
            retry=Retry(NoBackoff(), 0),
            **secure,
        )


def _words(error: BaseException) -> str:
    from redis.exceptions import ConnectionError as ConnectionLost, ResponseError, TimeoutError as TooLate

    if isinstance(error, TooLate):
        return "no response in time"
    if isinstance(error, ConnectionLost):
        cause = error.__cause__ or error.__context__
        return reason_of(cause) if isinstance(cause, OSError) else "the connection ended"
    return str(error) if isinstance(error, ResponseError) else reason_of(error)
