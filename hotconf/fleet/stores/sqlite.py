"""SQLite: a fleet on one machine, without a server. All its processes open one file.

Followers look at `PRAGMA data_version`, which is memory that the processes share, and read only when it has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hotconf.fleet.store import LEASE, Conflict, Entry, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from typing import Self

R = TypeVar("R")

_LOOK = 0.05
"""Seconds between two looks of a follower."""

_BUSY = 5.0
"""Seconds that a write waits for others."""

_FORGOTTEN = 3600.0
"""Seconds after which a report whose lease is over is removed."""

_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"}
    | {"smb2", "smb3", "smbfs", "sshfs", "s3fs", "gcsfuse", "davfs", "davfs2", "juicefs"}
)
"""File systems that several machines may mount at once. WAL needs memory that all its processes share."""

_SCHEMA = """
create table if not exists entries (
    fleet text, key text, value blob not null, version integer not null, primary key (fleet, key)
) without rowid;
create table if not exists reports (
    fleet text, name text, value blob not null, until real not null, change integer not null, primary key (fleet, name)
) without rowid;
create index if not exists reports_by_change on reports (fleet, change);
"""


class SqliteStore:
    """A SQLite file on a local disk. It is made when the first session opens it.

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.url = f"sqlite:{path}"
        self.path = Path(path).absolute()

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the store of `sqlite:PATH`. Raises StoreError."""
        path = url.partition(":")[2]
        if not path:
            raise StoreError(url, "a store is sqlite:PATH")
        return cls(path)

    @contextlib.asynccontextmanager
    async def connect(self, fleet: str) -> AsyncIterator[SqliteSession]:
        """Open a session for one fleet.

        Raises:
            StoreError: The file cannot be opened, or lies on a network file system.
        """
        session = SqliteSession(self, fleet)
        try:
            await session.open()
            yield session
        finally:
            await session.close()


class SqliteSession:
    """A session of a SqliteStore: one connection that works, in threads, and one that looks for changes."""

    def __init__(self, store: SqliteStore, fleet: str) -> None:
        self._store = store
        self._fleet = fleet
        self._lock = asyncio.Lock()
        self._worker: sqlite3.Connection | None = None
        self._looker: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, and make it where it is not there. Raises StoreError."""

        def connect() -> None:
            kind = file_system_of(self._store.path)
            if kind in _NETWORK:
                raise StoreError(self._store.url, f"is on {kind}, and SQLite serves one machine: use etcd or NATS")
            self._worker = self._connection()
            self._worker.execute("pragma journal_mode = wal")
            self._worker.executescript(_SCHEMA)
            # The plan must not go back after a power cut, so each commit waits for the disk.
            self._worker.execute("pragma synchronous = full")
            self._worker.execute("delete from reports where until < ?", (time.monotonic() - _FORGOTTEN,))
            self._looker = self._connection()

        await self._naming(connect)

    async def close(self) -> None:
        """Close both connections, once no thread works with them."""
        async with self._lock:
            for connection in (self._worker, self._looker):
                if connection is not None:
                    connection.close()

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._store.path, timeout=_BUSY, isolation_level=None, check_same_thread=False)

    async def _naming(self, work: Callable[[], R]) -> R:
        """Run a function in a thread, one at a time, and name the file in its errors."""
        async with self._lock:
            task = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])  # the connection is in use until then
                raise
            except (sqlite3.Error, OSError) as error:
                raise StoreError(self._store.url, str(error)) from None

    async def _execute(self, statement: str, *values: Any) -> tuple[list[Any], int]:
        """Run one statement. Return its rows, and how many it changed."""

        def work() -> tuple[list[Any], int]:
            assert self._worker is not None  # noqa: S101 - opened before anything else
            cursor = self._worker.execute(statement, values)
            return cursor.fetchall(), cursor.rowcount

        return await self._naming(work)

    async def get(self, key: str) -> Entry | None:
        """Return a value."""
        rows, _ = await self._execute(
            "select value, version from entries where fleet = ? and key = ?", self._fleet, key
        )
        return Entry(*rows[0]) if rows else None

    async def put_once(self, key: str, value: bytes) -> None:
        """Write a key that never changes."""
        await self._execute("insert or ignore into entries values (?, ?, ?, 1)", self._fleet, key, value)

    async def swap(self, key: str, value: bytes, expect: int) -> int:
        """Replace a value. Raises Conflict."""
        if expect:
            change = "update entries set value = ?, version = version + 1 where fleet = ? and key = ? and version = ?"
            _, count = await self._execute(change, value, self._fleet, key, expect)
        else:
            _, count = await self._execute("insert or ignore into entries values (?, ?, ?, 1)", self._fleet, key, value)
        if not count:
            raise Conflict(key)
        return expect + 1

    async def follow(self, key: str) -> AsyncIterator[Entry | None]:
        """Yield a value and its changes."""
        seen: Entry | str | None = "unseen"
        async for _ in self._looks():
            entry = await self.get(key)
            if entry != seen:
                seen = entry
                yield entry

    async def names(self, prefix: str) -> Sequence[str]:
        """Return the keys with a prefix."""
        query = "select key from entries where fleet = ? and substr(key, 1, ?) = ? order by key"
        rows, _ = await self._execute(query, self._fleet, len(prefix), prefix)
        return [key for (key,) in rows]

    async def report(self, name: str, value: bytes, lease: float = LEASE) -> None:
        """Write a report. Its lease is in the machine's monotonic clock, which all processes share."""
        change = "(select coalesce(max(change), 0) + 1 from reports where fleet = ?1)"
        statement = f"insert or replace into reports values (?1, ?2, ?3, ?4, {change})"  # noqa: S608 - a constant
        await self._execute(statement, self._fleet, name, value, time.monotonic() + lease)

    async def withdraw(self, name: str) -> None:
        """Remove a report: its lease ends now."""
        await self.report(name, b"", 0.0)

    async def reports(self) -> AsyncIterator[Mapping[str, bytes | None]]:
        """Yield reports and their changes."""
        query = "select name, value, until, change from reports where fleet = ? and change > ? order by change"
        last, leases, known, is_first = 0, dict[str, float](), dict[str, bytes](), True
        async for is_changed in self._looks(idle=True):
            found: dict[str, bytes | None] = {}
            rows = (await self._execute(query, self._fleet, last))[0] if is_changed else ()
            now = time.monotonic()
            for name, value, until, change in rows:
                last = change
                leases[name] = until if until < now + 10 * _FORGOTTEN else 0.0  # of an earlier boot of the machine
                if known.get(name) != value and leases[name] > now:
                    found[name] = known[name] = value
            for name in [name for name, until in leases.items() if until <= now]:
                del leases[name]
                if known.pop(name, None) is not None:
                    found[name] = None
            if found or is_first:
                yield found
            is_first = False

    async def _looks(self, *, idle: bool = False) -> AsyncIterator[bool]:
        """Yield at once, and whenever another connection has changed the file; with `idle` also when none has."""
        seen = None
        while True:
            assert self._looker is not None  # noqa: S101 - opened before anything else
            try:
                version = self._looker.execute("pragma data_version").fetchone()
            except sqlite3.Error as error:
                raise StoreError(self._store.url, str(error)) from None
            if idle or version != seen:
                is_changed, seen = version != seen, version
                yield is_changed
            await asyncio.sleep(_LOOK)


@functools.cache
def _mounts() -> list[tuple[Path, str]]:
    """Return the mount points of this process with their file systems, the deepest first."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        place = before.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        found.append((Path(place), after.split()[0].removeprefix("fuse.")))
    return sorted(found, key=lambda mount: len(mount[0].parts), reverse=True)


def file_system_of(path: Path) -> str | None:
    """Return the kind of the file system that a file is or would be on; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    real = path.resolve()
    return next((kind for place, kind in _mounts() if real.is_relative_to(place)), None)
