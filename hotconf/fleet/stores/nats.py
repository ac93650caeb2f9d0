"""NATS: plan and documents are keys of a JetStream bucket; reports are messages that no server stores.

Followers hear of a change on the subject on which the bucket republishes what it has committed: that costs the server
half of what a watch of its own costs, and knows no gap of a quarter of a minute after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

from hotconf.fleet.store import LEASE, Conflict, Entry, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from typing import Self

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.kv import KeyValue

_CONNECT = 3
_PING = 5
"""Seconds: to connect, and between two pings. A connection whose server does not answer two of them ends."""

_CHECK = 30.0
"""Seconds without news after which a follower looks for itself."""

_QUIET = 0.5
_LISTEN = 3.0
"""A listing of reports is complete when none has come for `_QUIET` seconds, or after `_LISTEN`."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NatsStore:
    """Servers of NATS 2.9 or newer with JetStream. Needs the extra `hotconf[nats]`. The bucket is `hotconf_FLEET`.

    Args:
        url: `nats://HOST:PORT[,HOST:PORT]`, or `tls`.

    Raises:
        StoreError: The URL holds a password, or the extra is not installed.
    """

    def __init__(self, url: str) -> None:
        scheme, _, hosts = url.partition("://")
        if not hosts or "@" in hosts:
            raise StoreError(f"{scheme}:", "a store is nats://HOST:PORT, without a password")
        try:
            import nats  # noqa: F401 - so that its absence is said here
        except ModuleNotFoundError:
            raise StoreError(url, "needs the extra: pip install 'hotconf[nats]'") from None
        self.url = url
        self.servers = [f"{scheme}://{host.strip('/')}" for host in hosts.split(",")]

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the store of a URL."""
        return cls(url)

    @contextlib.asynccontextmanager
    async def connect(self, fleet: str) -> AsyncIterator[NatsSession]:
        """Open a session for one fleet. Its bucket is made where it is not there.

        Raises:
            StoreError: No server answers, or the name of the fleet cannot be that of a bucket.
        """
        from nats.aio.client import Client

        if not _NAME.fullmatch(fleet):
            raise StoreError(self.url, "the name of a fleet is of letters, digits, - and _ here")
        client, session = Client(), NatsSession(self.url, fleet)
        with session.naming():
            await client.connect(
                self.servers,
                connect_timeout=_CONNECT,
                max_reconnect_attempts=1,
                allow_reconnect=False,  # the caller comes back by itself, and reads anew
                ping_interval=_PING,
                max_outstanding_pings=2,
                closed_cb=session.note_end,
                disconnected_cb=session.note_end,
                error_cb=session.note_error,
            )
        try:
            await session.open(client)
            yield session
        finally:
            with contextlib.suppress(Exception):
                await client.close()


class NatsSession:
    """A session of a NatsStore."""

    _client: Client
    _bucket: KeyValue

    def __init__(self, url: str, fleet: str) -> None:
        self._url = url
        self._fleet = fleet
        self._ended = asyncio.Event()
        self._reported: dict[str, tuple[bytes, float]] = {}

    async def note_end(self) -> None:
        """Note that the connection has ended."""
        self._ended.set()

    async def note_error(self, error: Exception) -> None:
        """Note nothing: what an error means shows where it ends the connection."""

    async def open(self, client: Client) -> None:
        """Bind the bucket, and make it where it is not there."""
        from nats.js.api import KeyValueConfig, RePublish
        from nats.js.errors import BucketNotFoundError

        self._client = client
        name = f"hotconf_{self._fleet}"
        with self.naming():
            stream = client.jetstream(timeout=_CONNECT)
            try:
                self._bucket = await stream.key_value(name)
            except BucketNotFoundError:
                republish = RePublish(src=f"$KV.{name}.>", dest=f"hotconf.{self._fleet}.kv.>")
                # Not `direct`: a replica may answer with what was.
                self._bucket = await stream.create_key_value(
                    KeyValueConfig(bucket=name, history=1, republish=republish, direct=False)
                )

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Name the store in whatever its client raises. A cancellation that the client swallows is raised after all."""
        import nats.errors

        error: Exception | None = None
        try:
            yield
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as raised:
            error = raised
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        if error is not None:
            raise StoreError(self._url, f"{type(error).__name__}: {error}") from None

    async def get(self, key: str) -> Entry | None:
        """Return a value."""
        from nats.js.errors import KeyNotFoundError

        with self.naming():
            try:
                found = await self._bucket.get(_key(key))
            except KeyNotFoundError:
                return None
        return Entry(found.value or b"", found.revision or 0)

    async def put_once(self, key: str, value: bytes) -> None:
        """Write a key that never changes."""
        with contextlib.suppress(Conflict):
            await self.swap(key, value, 0)

    async def swap(self, key: str, value: bytes, expect: int) -> int:
        """Replace a value. Raises Conflict."""
        from nats.js.errors import KeyWrongLastSequenceError

        with self.naming():
            try:
                return await self._bucket.update(_key(key), value, last=expect)
            except KeyWrongLastSequenceError:
                raise Conflict(key) from None

    async def follow(self, key: str) -> AsyncIterator[Entry | None]:
        """Yield a value and its changes."""
        seen: Entry | str | None = "unseen"
        async with self._subscribed(self._subject(f"kv.{_key(key)}")) as messages:
            while True:
                entry = await self.get(key)  # after the subscription: what changes from now on is told
                if entry != seen:
                    seen = entry
                    yield entry
                await self._next(messages, _CHECK)
                while not messages.empty():
                    messages.get_nowait()

    async def names(self, prefix: str) -> Sequence[str]:
        """Return the keys with a prefix."""
        from nats.js.errors import NoKeysError

        with self.naming():
            try:
                keys = await self._bucket.keys()
            except NoKeysError:
                return []
        return sorted(name for name in map(_name, keys) if name.startswith(prefix))

    async def report(self, name: str, value: bytes, lease: float = LEASE) -> None:
        """Publish a report. A census has it published again."""
        is_first = not self._reported
        self._reported[name] = value, lease
        with self.naming():
            if is_first:
                await self._client.subscribe(self._subject("census"), cb=self._answer)
            await self._publish(name, value, lease)

    async def withdraw(self, name: str) -> None:
        """End the lease of a report now."""
        self._reported.pop(name, None)
        with self.naming():
            await self._publish(name, b"", 0.0)
            await self._client.flush(_CONNECT)

    async def _publish(self, name: str, value: bytes, lease: float) -> None:
        message = {"name": name, "value": b64encode(value).decode(), "lease": lease}
        await self._client.publish(self._subject("reports"), json.dumps(message).encode())

    async def _answer(self, _: Msg) -> None:
        for name, (value, lease) in list(self._reported.items()):
            await self._publish(name, value, lease)

    async def reports(self) -> AsyncIterator[Mapping[str, bytes | None]]:
        """Yield reports and their changes. The listing is a census: every instance publishes its report again."""
        known: dict[str, bytes] = {}
        until: dict[str, float] = {}
        async with self._subscribed(self._subject("reports")) as messages:
            with self.naming():
                await self._client.publish(self._subject("census"), b"")
                await self._client.flush(_CONNECT)
            complete_at, is_complete = time.monotonic() + _LISTEN, False
            while True:
                now = time.monotonic()
                next_end = min(until.values(), default=now + 1.0) - now
                patience = max(0.01, min(next_end, 1.0 if is_complete else _QUIET))
                message = await self._next(messages, patience)
                changes: dict[str, bytes | None] = {}
                is_quiet, now = message is None, time.monotonic()
                while message is not None:
                    name, value, lease = _report(message.data)
                    if lease > 0:
                        until[name] = now + lease
                        if known.get(name) != value:
                            changes[name] = known[name] = value
                    elif name in known:
                        until[name] = 0.0
                    message = messages.get_nowait() if not messages.empty() else None
                for name in [name for name, end in until.items() if end <= now]:
                    del until[name]
                    if known.pop(name, None) is not None:
                        changes[name] = None
                if not is_complete and (is_quiet or now > complete_at):
                    is_complete = True
                    yield dict(known)
                elif is_complete and changes:
                    yield changes

    def _subject(self, what: str) -> str:
        return f"hotconf.{self._fleet}.{what}"

    @contextlib.asynccontextmanager
    async def _subscribed(self, subject: str) -> AsyncIterator[asyncio.Queue[Any]]:
        """Subscribe to a subject, whose messages come into a queue."""
        messages: asyncio.Queue[Any] = asyncio.Queue()

        async def take(message: Msg) -> None:
            messages.put_nowait(message)

        with self.naming():
            subscription = await self._client.subscribe(subject, cb=take)
            await self._client.flush(_CONNECT)
        try:
            yield messages
        finally:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()

    async def _next(self, messages: asyncio.Queue[Any], patience: float) -> Any:
        """Return the next message, None where none comes in time. Raises StoreError at the end of the connection."""
        if not messages.empty():
            return messages.get_nowait()
        waits = [asyncio.ensure_future(messages.get()), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(waits, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.is_set():
                raise StoreError(self._url, "the connection was lost")
            return waits[0].result() if waits[0].done() else None
        finally:
            for wait in waits:
                wait.cancel()


def _key(key: str) -> str:
    return key.replace("/", ".")


def _name(key: str) -> str:
    return key.replace(".", "/")


def _report(data: bytes) -> tuple[str, bytes, float]:
    """Return what a message of a report holds. One that holds none names nothing that is known."""
    try:
        found = json.loads(data)
        return str(found["name"]), b64decode(found["value"]), float(found["lease"])
    except (ValueError, LookupError, TypeError):
        return "", b"", 0.0
