"""etcd: the plan is one key, followed by a watch; the report of an instance is a key under the instance's lease."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from typing import TYPE_CHECKING

from hotconf.fleet.store import LEASE, Conflict, Entry, StoreError
from hotconf.sources.etcd_gateway import EtcdError, Gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
    from typing import Self

    from hotconf.sources.etcd_gateway import Watched

_CHECK = 30.0
"""Seconds without news after which a follower looks for itself: its watch may be dead without a word."""


class EtcdStore:
    """A cluster of etcd 3.4 or newer, over its JSON gateway. Keys begin with `hotconf/FLEET/`.

    Args:
        url: `etcd://HOST:PORT[,HOST:PORT]`, or `etcds` for TLS.

    Raises:
        StoreError: The URL names no endpoint, or holds a password.
    """

    def __init__(self, url: str) -> None:
        scheme, _, endpoints = url.partition("://")
        self._endpoints = [
            f"{'https' if scheme == 'etcds' else 'http'}://{endpoint.strip('/')}" for endpoint in endpoints.split(",")
        ]
        try:
            Gateway(self._endpoints)
        except ValueError as error:
            raise StoreError(f"{scheme}:", str(error)) from None
        self.url = url

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the store of a URL."""
        return cls(url)

    @contextlib.asynccontextmanager
    async def connect(self, fleet: str) -> AsyncIterator[EtcdSession]:
        """Open a session for one fleet. Raises StoreError where no endpoint answers."""
        async with Gateway(self._endpoints) as gateway:
            session = EtcdSession(gateway, self.url, f"hotconf/{fleet}/")
            await session.get("plan")
            yield session


class EtcdSession:
    """A session of an EtcdStore."""

    def __init__(self, gateway: Gateway, url: str, prefix: str) -> None:
        self._gateway = gateway
        self._url = url
        self._prefix = prefix
        self._reported: dict[str, tuple[bytes, int]] = {}

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except EtcdError as error:
            raise StoreError(self._url, error.reason) from None

    async def get(self, key: str) -> Entry | None:
        """Return a value."""
        with self._naming():
            found = await self._gateway.range(self._prefix + key)
        return Entry(found.keys[0].value, found.keys[0].mod_revision) if found.keys else None

    async def put_once(self, key: str, value: bytes) -> None:
        """Write a key that never changes."""
        with self._naming():
            await self._gateway.swap(self._prefix + key, value, expect=0)

    async def swap(self, key: str, value: bytes, expect: int) -> int:
        """Replace a value. Raises Conflict."""
        with self._naming():
            version = await self._gateway.swap(self._prefix + key, value, expect=expect)
        if version is None:
            raise Conflict(key)
        return version

    async def follow(self, key: str) -> AsyncIterator[Entry | None]:
        """Yield a value and its changes."""
        seen: Entry | str | None = "unseen"
        while True:  # once more after a compaction, or where the watch said nothing for long
            with self._naming():
                found = await self._gateway.range(self._prefix + key)
            entry = Entry(found.keys[0].value, found.keys[0].mod_revision) if found.keys else None
            if entry != seen:
                seen = entry
                yield entry
            async with contextlib.aclosing(self._watch(key, start=found.revision + 1)) as messages:
                async for message in messages:
                    for change in message.put:
                        seen = Entry(change.value, change.mod_revision)
                        yield seen
                    if message.deleted:
                        seen = None
                        yield None

    async def names(self, prefix: str) -> Sequence[str]:
        """Return the keys with a prefix."""
        with self._naming():
            found = await self._gateway.range(self._prefix + prefix, prefix=True, keys_only=True)
        return sorted(found_key.key.removeprefix(self._prefix) for found_key in found.keys)

    async def report(self, name: str, value: bytes, lease: float = LEASE) -> None:
        """Write a report under a lease. To repeat it renews the lease only."""
        before, number = self._reported.get(name, (b"", 0))
        with self._naming():
            # A put does not renew a lease, so that takes a request of its own.
            if not number or not await self._gateway.keep_alive(number):
                before, number = b"", await self._gateway.grant(max(1, math.ceil(lease)))
            if before != value:
                await self._gateway.put(f"{self._prefix}report/{name}", value, lease=number)
        self._reported[name] = value, number

    async def withdraw(self, name: str) -> None:
        """Remove a report."""
        self._reported.pop(name, None)
        with self._naming():
            await self._gateway.delete(f"{self._prefix}report/{name}")

    async def reports(self) -> AsyncIterator[Mapping[str, bytes | None]]:
        """Yield reports and their changes."""
        place = f"{self._prefix}report/"
        known: dict[str, bytes] | None = None
        while True:
            with self._naming():
                found = await self._gateway.range(place, prefix=True)
            listed = {key.key.removeprefix(place): key.value for key in found.keys}
            changes: dict[str, bytes | None] = {
                name: value for name, value in listed.items() if known is None or known.get(name) != value
            }
            changes |= dict.fromkeys((known or {}).keys() - listed.keys())
            if changes or known is None:
                yield changes
            known = listed
            async with contextlib.aclosing(self._watch("report/", prefix=True, start=found.revision + 1)) as messages:
                async for message in messages:
                    changes = {change.key.removeprefix(place): change.value for change in message.put}
                    changes |= {change.key.removeprefix(place): None for change in message.deleted}
                    known.update({change.key.removeprefix(place): change.value for change in message.put})
                    for change in message.deleted:
                        known.pop(change.key.removeprefix(place), None)
                    if changes:
                        yield changes

    async def _watch(self, key: str, *, start: int, prefix: bool = False) -> AsyncGenerator[Watched, None]:
        """Yield the messages of a watch, until it is silent for so long that a look is due."""
        watch = self._gateway.watch(self._prefix + key, prefix=prefix, start=start)
        patience = _CHECK * random.uniform(0.8, 1.2)  # noqa: S311 - not all at once
        async with contextlib.aclosing(watch):
            while True:
                try:
                    async with asyncio.timeout(patience):
                        with self._naming():
                            message = await anext(watch)
                except (TimeoutError, StopAsyncIteration):
                    return
                yield message
