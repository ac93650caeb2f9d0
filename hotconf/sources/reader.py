"""Reading one file, and only when nobody is still writing it.

A half-written file may well be valid. On Linux a read lease tells whether anybody has the file open for writing,
however slow they are; where a lease is refused (another owner, some file systems) the file must stand still instead.
Content that was accepted before needs neither: it is running already.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias, TypeVar, cast

import hotconf.formats as formats
from hotconf.errors import FormatError, SourceBusy, SourceError
from hotconf.formats import Located
from hotconf.sources.mounts import Mounts
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault

try:
    import fcntl
except ImportError:  # no leases here: files must stand still
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from hotconf.values.layer import OriginKind

T = TypeVar("T")

Protection: TypeAlias = Literal["lease", "settle"]

SIZE_LIMIT = 4 * 1024 * 1024
SETTLE = 0.05
MAX_WAIT = 2.0

_RETRY = 0.02  # seconds between two looks at a file that somebody is writing
BUSY_RETRY = 0.2  # and after we gave up waiting for it

SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing about a file. They pass, and no event tells when."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How large a file may be, in bytes, how long it must stand still, and how long to wait for it, in seconds."""

    size_limit: int = SIZE_LIMIT
    settle: float = SETTLE
    max_wait: float = MAX_WAIT


class FileReader:
    """Reads one file again and again. Unchanged bytes return the very layer of last time.

    `protection` says what guards against a half-written file: a "lease", or that the file must "settle"; None before
    the first read. One read at a time.
    """

    def __init__(self, path: Path, name: str, patience: ReadLimits, *, kind: OriginKind = "file") -> None:
        self.path = path
        self.name = name
        self._kind: OriginKind = kind
        self.protection: Protection | None = None
        self._patience = patience
        self._accepted: tuple[bytes, Layer] | None = None
        self._stamp: object = None  # of the last look: a file that was written again in between has not stood still

    async def layer(self) -> Layer:
        """Return what the file holds. Raises SourceError, SourceBusy while it is being written, FileNotFoundError."""
        return await self._settled(self._layer)

    async def contents(self) -> bytes:
        """Return the bytes, for a file that somebody else parses. Raises as `layer` does."""
        return await self._settled(self._contents)

    async def until_quiet(self) -> None:
        """Return when a file that was busy may be read again, or is gone."""
        while True:
            await asyncio.sleep(max(BUSY_RETRY, self._patience.settle))
            try:
                if await asyncio.to_thread(self._attempt) is not None or self.protection == "settle":
                    return
            except SourceBusy:
                continue
            except (OSError, SourceError):
                return

    async def _settled(self, use: Callable[[bytes], T]) -> T:
        """Return what `use` makes of the content, in the thread that read it: another one is dear to reach."""
        deadline = time.monotonic() + self._patience.max_wait
        seen: object = None
        while True:
            seen, used = await asyncio.to_thread(self._look, use, seen)
            if used is not None:
                return used
            if time.monotonic() >= deadline:
                self._give_up()
            await asyncio.sleep(_RETRY if self.protection == "lease" else self._patience.settle)

    def _look(self, use: Callable[[bytes], T], seen: object) -> tuple[object, T | None]:
        """Return what the file looks like and, unless it may be a half, what `use` makes of it."""
        data = self._attempt()
        look = data, self._stamp
        if data is not None and (self.protection == "lease" or look == seen or self._is_accepted(data)):
            return look, use(data)
        return look, None

    def _layer(self, data: bytes) -> Layer:
        accepted = self._accepted
        if accepted is None or accepted[0] != data:
            self._accepted = accepted = (data, self._parse(data))
        return accepted[1]

    def _contents(self, data: bytes) -> bytes:
        self._accepted = (data, Layer(self.name, {}))
        return data

    def _is_accepted(self, data: bytes) -> bool:
        return self._accepted is not None and self._accepted[0] == data

    def _attempt(self) -> bytes | None:
        """Return the content, None where somebody has the file open for writing. Without a lease it may be a half."""
        try:
            # Without O_NONBLOCK, opening a FIFO that nobody writes to would hang.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ENXIO:
                self._refuse("is a socket, not a file")
            self._fail("opened", error)
        try:
            return self._read(descriptor)
        except OSError as error:
            self._fail("read", error)
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> bytes | None:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            self._refuse(f"is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a file")
        quiet = nobody_writes(descriptor)
        self.protection = "settle" if quiet is None else "lease"
        data = self._bytes(descriptor)
        if quiet is False:
            return data if self._is_accepted(data) else None  # somebody may hold a file open and write nothing
        status = os.fstat(descriptor)
        self._stamp = status.st_ino, status.st_size, status.st_mtime_ns
        # A writer may have come and gone during the read. If it is gone, a second read has what it left.
        if quiet and not (nobody_writes(descriptor) and self._bytes(descriptor) == data):
            return None
        return data

    def _bytes(self, descriptor: int) -> bytes:
        limit = self._patience.size_limit
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, min(size, limit) + 1, 0)
        while len(data) <= limit and (more := os.pread(descriptor, limit + 1 - len(data), len(data))):
            data += more
        if len(data) > limit:
            self._refuse(f"is larger than {limit} bytes")
        return data

    def _parse(self, data: bytes) -> Layer:
        try:
            kind = formats.format_of(self.path.name)
            values = formats.parse(kind, data)
        except FormatError as error:
            self._refuse(error.reason, error.line, error.column)
        return Layer(self.name, values, Located(self.name, kind, data, kind=self._kind), revision=str(hash(data)))

    def _refuse(self, message: str, line: int | None = None, column: int | None = None) -> NoReturn:
        raise SourceError([Fault("", message, Origin(self._kind, self.name, line, column))]) from None

    def _fail(self, done: str, error: OSError) -> NoReturn:
        message = f"cannot be {done}: {error.strerror}"
        if error.errno in SCARCE:
            self._put_off(f"{message}; it is tried again as soon as that is over")
        self._refuse(message)

    def _give_up(self) -> NoReturn:
        self._put_off(
            f"is still being written after {self._patience.max_wait:g} s; it is read as soon as its writer is done"
        )

    def _put_off(self, message: str) -> NoReturn:
        raise SourceBusy([Fault("", message, Origin(self._kind, self.name))]) from None


async def every(reads: Iterable[Awaitable[T]]) -> list[T]:
    """Return the results of several reads at once. Raises one SourceError with the faults of all of them.

    It is a SourceBusy where any of them is: then another try is worth it.
    """
    results = await asyncio.gather(*reads, return_exceptions=True)
    errors = [result for result in results if isinstance(result, SourceError)]
    if errors:
        busy = any(isinstance(error, SourceBusy) for error in errors)
        raise (SourceBusy if busy else SourceError)(fault for error in errors for fault in error.faults)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[T]", results)


def weakest(readers: Iterable[FileReader]) -> Protection | None:
    """Return the weakest protection of several files; None where none was read."""
    found = {reader.protection for reader in readers} - {None}
    return "settle" if "settle" in found else next(iter(found), None)


def nobody_writes(descriptor: int) -> bool | None:
    """Whether no process has the file open for writing; None where the system does not say.

    The kernel grants a read lease only then. It is given back at once: while it is held, whoever opens the file for
    writing has to wait for us.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        # A lease that is broken sends SIGIO, which kills. SIGURG is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        # EAGAIN: somebody writes it. Anything else: it is not ours to ask, or the file system has no leases. Network
        # file systems say EAGAIN where the server has made no promise, whoever writes.
        busy = error.errno == errno.EAGAIN and Mounts.read().remote([os.fstat(descriptor).st_dev]) is None
        return False if busy else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True
