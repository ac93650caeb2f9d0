"""NATS: one key of a JetStream bucket that holds a document, or all keys below a prefix.

Changes come over a plain subscription to the subject on which the bucket republishes what it has committed. A consumer
for each follower, as the watch of a key-value client has it, would cost the server twice as much, and is silent for a
quarter of a minute after the server was restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from errno import ECONNRESET
from typing import TYPE_CHECKING, Literal

from hotconf.errors import RevisionConflict
from hotconf.sources.patience import within
from hotconf.sources.remote import Remote, Secret, Tls, reason_of, servers_of

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.api import RawStreamMsg, StreamInfo

    from hotconf.values.layer import Layer

log = logging.getLogger("hotconf")

_CONNECT = 5.0
_ANSWER = 3
_PING = 20
"""Seconds: to connect, for an answer, and between two pings; a connection without two answers is closed."""

_LAG = 1.0
"""Seconds for which a replica may be behind a hint. After that the leader is asked."""

_POLL = 2.0
"""Seconds between two questions where the bucket does not republish, or is not there."""

_READS = 5
"""How often the keys of a tree are read that change meanwhile."""

_BUCKET = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"[-/_=.a-zA-Z0-9]+")
_DENIED = re.compile("(authorization|permissions) violation|authentication", re.IGNORECASE)
_DELETED = ("DEL", "PURGE")


class _Connection:
    """A connection that is never mended: when it ends, whatever waits for it wakes up."""

    def __init__(self) -> None:
        from nats.aio.client import Client

        self.client: Client = Client()
        self.news = asyncio.Event()
        self.error: Exception | None = None
        self.info: StreamInfo | None = None

    async def note_error(self, error: Exception) -> None:
        self.error = error
        self.news.set()

    async def note_end(self) -> None:
        self.news.set()


class Nats(Remote):
    """A document in one key of a bucket of NATS JetStream 2.9 or newer, or the tree of all keys below a prefix.

    Needs the extra `hotconf[nats]`. The bucket should republish; `hotconf put` makes one that does. Any other is
    polled every two seconds.

    Args:
        servers: `nats://HOST:PORT` or `tls://HOST:PORT`, several with commas or as a list.
        bucket: The bucket.
        key: The key of the document. Its suffix tells the format, unless `format` does.
        prefix: Instead of a key: with `shop/` the key `shop/db/pool_size` is `db.pool_size`; with `shop.` dots stand
            between the parts. Values are text, as in the environment.
        username: The user, whose password is in `password_file`. All files are read at each connection.
        token_file: A file with a token, instead of a user.
        credentials_file: A file of NATS with a JWT and its key, instead of both.
        format: As in Remote, like `required`, `outage`, `max_stale`, `cache` and `quiet`, 0.1 for a prefix.
        ca_file: The authorities that are trusted instead of the system's.
        cert_file: The certificate to show to the server.
        key_file: Its key.

    Raises:
        ValueError: There is neither a key nor a prefix, or both; a name is none of NATS; a server is no URL, or holds a
            password.
        ModuleNotFoundError: The extra is not installed.
    """

    kind = "nats"

    def __init__(
        self,
        servers: str | Sequence[str],
        bucket: str,
        key: str | None = None,
        *,
        prefix: str | None = None,
        username: str | None = None,
        password_file: str | os.PathLike[str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        credentials_file: str | os.PathLike[str] | None = None,
        format: str | None = None,  # noqa: A002 - the word for it
        required: bool = True,
        outage: Literal["keep", "reject"] = "keep",
        max_stale: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        quiet: float | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        try:
            import nats  # noqa: F401 - so that its absence is said here
        except ModuleNotFoundError:
            raise ModuleNotFoundError("sources.Nats needs the extra: pip install 'hotconf[nats]'") from None
        if bool(key) == bool(prefix):
            raise ValueError("name a key or a prefix of NATS")
        self._is_tree = key is None
        self._separator = "." if (prefix or "").endswith(".") else "/"
        self._key = key or (prefix or "").rstrip("./") + self._separator
        if not _BUCKET.fullmatch(bucket) or not _KEY.fullmatch(self._key):
            raise ValueError("a bucket is of letters, digits, - and _; a key may have / = and . too")
        quiet = (0.1 if self._is_tree else 0.0) if quiet is None else quiet
        super().__init__(
            f"nats:{bucket}/{self._key}", key, format=format, required=required, outage=outage, max_stale=max_stale,
            cache=cache, quiet=quiet,
        )  # fmt: skip
        self._servers = servers_of(servers, ("nats", "tls"), "nats://HOST:PORT")
        self._bucket = bucket
        self._stream = f"KV_{bucket}"
        self._username = username
        self._password = Secret(password_file)
        self._token = Secret(token_file)
        self._credentials = credentials_file
        self._tls = Tls(ca_file, cert_file, key_file)
        self._connection: _Connection | None = None
        self._connecting: asyncio.Lock | None = None
        self._hinted = 0
        self._seen: dict[str, int] | None = None

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        """Keep one connection for as long as an engine runs."""
        self._was_read, self._connecting, self._connection = asyncio.Event(), asyncio.Lock(), None
        try:
            yield
        finally:
            self._was_read = self._connecting = None
            await self._close()

    async def read(self) -> Layer:
        """Return what the bucket holds now, at least as new as the last hint.

        Raises:
            SourceError: It cannot be understood, or a required key is absent.
            SourceUnreachable: The server is out of reach, or denies access.
        """
        try:
            found = await within(None, self._found())  # its client may swallow a cancellation
        finally:
            if self._was_read is not None:
                self._was_read.set()
        if found is None:
            self._seen = None
            return self._absent(f"the bucket {self._bucket} does not exist")
        self._seen = {key: sequence for key, (sequence, _) in found.items()}
        if not found:
            return self._absent("holds no key" if self._is_tree else "does not exist")
        newest = str(max(self._seen.values()))
        if not self._is_tree:
            return self._document(found[self._key][1], newest)
        values = {key.removeprefix(self._key): value for key, (_, value) in found.items()}
        return self._tree(values, f"{newest}/{len(values)}", self._separator)

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield for each change after the last read, also for those that were made while nothing was subscribed."""
        from nats.errors import Error

        await self._first_read()
        async with self._reached() as connection:
            subject = await self._republished(connection)
            if subject is None:
                async for _ in self._polled(connection):
                    yield
                return
            subscription = await connection.client.subscribe(subject, cb=self._note_message)
            try:
                await connection.client.flush(timeout=_ANSWER)
                if await self.outdated():
                    yield
                while True:
                    await connection.news.wait()
                    connection.news.clear()
                    if connection.error is not None or not connection.client.is_connected:
                        raise self._unreachable(_words(connection.error or ConnectionResetError(ECONNRESET, "")))
                    yield
            finally:
                with contextlib.suppress(Error):  # the connection has ended
                    await subscription.unsubscribe()

    async def outdated(self) -> bool:
        """Return whether the bucket holds other revisions than were read last. Raises SourceUnreachable."""
        found = await self._found()
        now = None if found is None else {key: sequence for key, (sequence, _) in found.items()}
        return now != self._seen

    async def put(self, data: bytes, *, if_revision: str | None = None) -> str:
        """Write the document, and return its revision. A bucket that is not there is made, and republishes.

        Args:
            data: The document.
            if_revision: Write only if this is the revision of what is there, "0" for nothing.

        Raises:
            RevisionConflict: It is another one.
            SourceUnreachable: The server is out of reach, or denies access. It may have written.
        """
        from nats.js.api import KeyValueConfig, RePublish
        from nats.js.errors import BucketNotFoundError, KeyWrongLastSequenceError

        async with self._reached() as connection:
            jetstream = connection.client.jetstream(timeout=_ANSWER)
            try:
                bucket = await jetstream.key_value(self._bucket)
            except BucketNotFoundError:
                republish = RePublish(src=f"$KV.{self._bucket}.>", dest=f"hotconf.{self._bucket}.>")
                config = KeyValueConfig(bucket=self._bucket, republish=republish, direct=True)
                bucket = await jetstream.create_key_value(config)
            try:
                if if_revision is None:
                    return str(await bucket.put(self._key, data))
                if if_revision == "0":
                    return str(await bucket.create(self._key, data))
                expected = int(if_revision) if if_revision.isdecimal() else -1
                return str(await bucket.update(self._key, data, last=expected))
            except KeyWrongLastSequenceError:
                raise RevisionConflict(self.name, if_revision or "") from None

    async def _found(self) -> dict[str, tuple[int, bytes]] | None:
        """Return the keys that are there, each with its sequence and value; None where there is no bucket."""
        from nats.errors import NoRespondersError

        async with self._reached() as connection:
            for is_last in (False, True):
                info = connection.info = connection.info or await self._info(connection)
                if info is None:
                    return None
                try:
                    return await (self._keys(connection) if self._is_tree else self._one(connection, info))
                except NoRespondersError:  # the bucket that was there has been deleted, or its leader is away
                    connection.info = None
                    if is_last:
                        raise
        raise AssertionError  # the second attempt returns or raises

    async def _one(self, connection: _Connection, info: StreamInfo) -> dict[str, tuple[int, bytes]]:
        """Return the key. A replica that answers may be behind the hint: it is asked until it has that sequence."""
        deadline = time.monotonic() + _LAG
        is_direct = bool(info.config.allow_direct)
        while True:
            message = await self._message(connection, self._key, is_direct=is_direct)
            sequence = message.seq or 0 if message is not None else 0
            if not is_direct or sequence >= self._hinted:
                break
            is_direct = time.monotonic() < deadline
            await asyncio.sleep(0.005)
        self._hinted = 0
        return _values({self._key: message})

    async def _keys(self, connection: _Connection) -> dict[str, tuple[int, bytes]]:
        """Return all keys below the prefix, as they are at one time unless they change without end."""
        start = f"$KV.{self._bucket}."
        jetstream = connection.client.jetstream(timeout=_ANSWER)
        messages: dict[str, RawStreamMsg | None] = {}
        for _ in range(_READS):
            info = await jetstream.stream_info(self._stream, subjects_filter=f"{start}>")
            names = [subject.removeprefix(start) for subject in info.state.subjects or {}]
            names = [name for name in names if name.startswith(self._key)]
            read = [self._message(connection, name, is_direct=False) for name in names]
            messages = dict(zip(names, await asyncio.gather(*read), strict=True))
            if (await jetstream.stream_info(self._stream)).state.last_seq == info.state.last_seq:
                break
        return _values(messages)

    async def _message(self, connection: _Connection, key: str, *, is_direct: bool) -> RawStreamMsg | None:
        from nats.js.errors import NotFoundError

        jetstream = connection.client.jetstream(timeout=_ANSWER)
        try:
            return await jetstream.get_last_msg(self._stream, f"$KV.{self._bucket}.{key}", direct=is_direct)
        except NotFoundError:
            return None

    async def _info(self, connection: _Connection) -> StreamInfo | None:
        from nats.js.errors import NotFoundError

        try:
            return await connection.client.jetstream(timeout=_ANSWER).stream_info(self._stream)
        except NotFoundError:
            return None

    async def _republished(self, connection: _Connection) -> str | None:
        """Return the subject on which the bucket says what it has committed; None where it does not."""
        info = connection.info = connection.info or await self._info(connection)
        if info is None:
            self.polls = f"the bucket {self._bucket} does not exist"
            return None
        republish = info.config.republish
        source, target = (republish.src or ">", republish.dest or "") if republish is not None else ("", "")
        subject = f"$KV.{self._bucket}.{'>' if self._is_tree else self._key}"
        if source.endswith(">") and target.endswith(">") and subject.startswith(source[:-1]):
            self.polls = None
            return target[:-1] + subject[len(source) - 1 :]
        if self.polls is None:
            log.warning("source %s is polled: its bucket does not republish what it stores", self.name)
        self.polls = "polled: its bucket does not republish what it stores"
        return None

    async def _polled(self, connection: _Connection) -> AsyncIterator[None]:
        """Yield for each change that is found by asking, until the bucket republishes."""
        while True:
            await asyncio.sleep(_POLL * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            connection.info = None
            if await self.outdated():
                yield
            if await self._republished(connection) is not None:
                return

    async def _note_message(self, message: Msg) -> None:
        """Wake the watch up for a message about what was not read yet."""
        headers = message.headers or {}
        sequence = int(headers.get("Nats-Sequence", 0))
        key = headers.get("Nats-Subject", "").removeprefix(f"$KV.{self._bucket}.")
        connection = self._connection
        concerns = key.startswith(self._key) if self._is_tree else key == self._key
        if connection is not None and concerns and (self._seen or {}).get(key) != sequence:
            self._hinted = sequence
            connection.news.set()

    @contextlib.asynccontextmanager
    async def _reached(self) -> AsyncIterator[_Connection]:
        """Give the connection that is open, or one for this time."""
        from nats.errors import Error

        try:
            if self._connecting is None:
                alone = await self._open()
                try:
                    yield alone
                finally:
                    await alone.client.close()
                return
            async with self._connecting:
                connection = self._connection
                if connection is None or connection.error is not None or not connection.client.is_connected:
                    await self._close()
                    connection = self._connection = await self._open()
            yield connection
        except (Error, OSError) as error:
            told = self._connection.error if self._connection is not None else None
            raise self._unreachable(_words(told or error)) from None

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.client.close()

    async def _open(self) -> _Connection:
        connection = _Connection()
        secure = self._tls.is_given or any(server.startswith("tls:") for server in self._servers)
        try:
            async with asyncio.timeout(_CONNECT):
                await connection.client.connect(
                    list(self._servers),
                    error_cb=connection.note_error,
                    closed_cb=connection.note_end,
                    # The engine comes back at random times, with files that it reads anew; this client would not.
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_PING,
                    tls=await self._tls.context() if secure else None,
                    user=self._username,
                    password=await self._password.read(),
                    token=await self._token.read(),
                    user_credentials=None if self._credentials is None else str(self._credentials),
                )
        except BaseException as error:
            with contextlib.suppress(Exception):
                await connection.client.close()
            if not isinstance(error, Exception):
                raise  # cancelled
            if isinstance(error, ModuleNotFoundError):
                self._refuse("credentials_file needs a package: pip install nkeys")
            raise self._unreachable(_words(connection.error or error)) from None
        connection.error = None  # of servers that were tried before this one
        connection.news.clear()
        return connection


def _values(messages: dict[str, RawStreamMsg | None]) -> dict[str, tuple[int, bytes]]:
    """Return the values of messages, without those that say that a key was deleted."""
    found = {key: message for key, message in messages.items() if message is not None}
    return {
        key: (message.seq or 0, message.data or b"")
        for key, message in found.items()
        if (message.headers or {}).get("KV-Operation") not in _DELETED
        and "Nats-Marker-Reason" not in (message.headers or {})
    }


def _words(error: BaseException) -> str:
    from nats.errors import Error, NoRespondersError

    text = str(error).removeprefix("nats: ").strip("'")
    if isinstance(error, Error) and _DENIED.search(text):
        return f"forbidden: {text}"
    if isinstance(error, NoRespondersError):
        return "JetStream does not respond"
    if isinstance(error, Error) and not isinstance(error, TimeoutError):
        return text or type(error).__name__
    return reason_of(error)
