"""A store within the process, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hotconf.fleet.store import LEASE, Conflict, Entry, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import Self

_LOOK = 0.02
"""Seconds between two looks of a follower."""


@dataclass(slots=True)
class _Contents:
    entries: dict[str, Entry] = field(default_factory=dict)
    reports: dict[str, tuple[bytes, float]] = field(default_factory=dict)


class MemoryStore:
    """A store that the sessions of one process share. Safe from any thread.

    Attributes:
        failing: While it is true, the store is out of reach: sessions end, and no new one begins.
    """

    _by_url: ClassVar[dict[str, Self]] = {}

    def __init__(self, url: str = "memory:") -> None:
        self.url = url
        self.failing = False
        self.lock = threading.Lock()
        self.fleets: dict[str, _Contents] = defaultdict(_Contents)

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the store of this process that a URL names."""
        return cls._by_url.setdefault(url, cls(url))

    @contextlib.asynccontextmanager
    async def connect(self, fleet: str) -> AsyncIterator[MemorySession]:
        """Open a session for one fleet. Raises StoreError while the store is failing."""
        session = MemorySession(self, fleet)
        session.check()
        yield session


class MemorySession:
    """A session of a MemoryStore."""

    def __init__(self, store: MemoryStore, fleet: str) -> None:
        self._store = store
        self._contents = store.fleets[fleet]

    def check(self) -> None:
        """Raise StoreError while the store is failing."""
        if self._store.failing:
            raise StoreError(self._store.url, "out of reach")

    async def get(self, key: str) -> Entry | None:
        """Return a value."""
        self.check()
        return self._contents.entries.get(key)

    async def put_once(self, key: str, value: bytes) -> None:
        """Write a key that never changes."""
        self.check()
        with self._store.lock:
            self._contents.entries.setdefault(key, Entry(value, 1))

    async def swap(self, key: str, value: bytes, expect: int) -> int:
        """Replace a value. Raises Conflict."""
        self.check()
        with self._store.lock:
            present = self._contents.entries.get(key)
            if (present.version if present is not None else 0) != expect:
                raise Conflict(key)
            self._contents.entries[key] = Entry(value, expect + 1)
        return expect + 1

    async def follow(self, key: str) -> AsyncIterator[Entry | None]:
        """Yield a value and its changes."""
        seen: Entry | str | None = "unseen"
        while True:
            entry = await self.get(key)
            if entry != seen:
                seen = entry
                yield entry
            await asyncio.sleep(_LOOK)

    async def names(self, prefix: str) -> Sequence[str]:
        """Return the keys with a prefix."""
        self.check()
        return sorted(key for key in tuple(self._contents.entries) if key.startswith(prefix))

    async def report(self, name: str, value: bytes, lease: float = LEASE) -> None:
        """Write a report."""
        self.check()
        self._contents.reports[name] = value, time.monotonic() + lease

    async def withdraw(self, name: str) -> None:
        """Remove a report."""
        self.check()
        self._contents.reports.pop(name, None)

    async def reports(self) -> AsyncIterator[Mapping[str, bytes | None]]:
        """Yield reports and their changes."""
        seen: dict[str, bytes] | None = None
        while True:
            self.check()
            now = time.monotonic()
            found = {name: value for name, (value, until) in tuple(self._contents.reports.items()) if until > now}
            if seen is None:
                yield found
            elif changes := changed(seen, found):
                yield changes
            seen = found
            await asyncio.sleep(_LOOK)


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """Return what has changed between two listings; None for what is gone."""
    gone: dict[str, bytes | None] = dict.fromkeys(before.keys() - after.keys())
    return gone | {name: value for name, value in after.items() if before.get(name) != value}
