"""Reading one file, and only when no process is still writing it.

A half-written file may be valid. On Linux a read lease tells whether a process has the file open for writing, however
slow it is. Where the kernel refuses a lease (a file of another user, some file systems) the file must not change for a
while instead. Content that was accepted before needs neither: it is in force already.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import signal
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias, TypeVar, cast

import hotconf.formats as formats
from hotconf.errors import FormatError, SourceBusy, SourceError
from hotconf.formats import Located
from hotconf.sources.mounts import Mounts
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault

try:
    import fcntl
except ImportError:  # no leases here: files must be stable
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from hotconf.values.layer import OriginKind

T = TypeVar("T")

Protection: TypeAlias = Literal["lease", "settle"]

SIZE_LIMIT = 4 * 1024 * 1024
SETTLE = 0.05
MAX_WAIT = 2.0

_STEP = 1024 * 1024  # bytes to read at once of a file that grows, or that is larger than it says
_RETRY = 0.02  # seconds between two looks at a file that is being written
BUSY_RETRY = 0.2  # the same after the read was given up

SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of the process and not of a file. They pass, and no event tells when."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How large a file may be, in bytes; how long it must be stable, and how long to wait for that, in seconds."""

    size_limit: int = SIZE_LIMIT
    stable_for: float = SETTLE
    max_wait: float = MAX_WAIT


class FileReader:
    """Reads one file again and again, one read at a time. Unchanged bytes return the layer of the last read.

    `protection` says what guards against a half-written file: a "lease", or that the file must be stable ("settle");
    None before the first read.
    """

    def __init__(self, path: Path, name: str, limits: ReadLimits, *, kind: OriginKind = "file") -> None:
        self.path = path
        self.name = name
        self.protection: Protection | None = None
        self._kind: OriginKind = kind
        self._limits = limits
        self._accepted: tuple[bytes, Layer] | None = None
        self._stamp: object = None  # of the last look: a file that was written again since was not stable

    async def layer(self) -> Layer:
        """Return what the file holds.

        Raises:
            FileNotFoundError: There is no such file.
            SourceBusy: It is still being written, or the process is out of descriptors or memory.
            SourceError: It cannot be read or understood.
        """
        return await self._read(self._as_layer)

    async def contents(self) -> bytes:
        """Return the bytes, for a file that is parsed elsewhere. Raises as `layer` does."""
        return await self._read(self._as_bytes)

    async def until_quiet(self) -> None:
        """Return when a file that was busy may be read again, or is gone."""
        while True:
            await asyncio.sleep(max(BUSY_RETRY, self._limits.stable_for))
            try:
                if await asyncio.to_thread(self._attempt) is not None or self.protection == "settle":
                    return
            except SourceBusy:
                continue
            except (OSError, SourceError):
                return

    async def _read(self, use: Callable[[bytes], T]) -> T:
        """Return what `use` makes of the content, in the thread that read it: a second thread would cost as much."""
        deadline = time.monotonic() + self._limits.max_wait
        seen: object = None
        while True:
            seen, used = await asyncio.to_thread(self._look, use, seen)
            if used is not None:
                return used
            if time.monotonic() >= deadline:
                message = f"is still being written after {self._limits.max_wait:g} s"
                self._refuse(f"{message}; it is read as soon as its writer is done", kind=SourceBusy)
            await asyncio.sleep(_RETRY if self.protection == "lease" else self._limits.stable_for)

    def _look(self, use: Callable[[bytes], T], seen: object) -> tuple[object, T | None]:
        """Return what was seen and, unless it may be half a file, what `use` makes of it."""
        data = self._attempt()
        look = data, self._stamp
        if data is not None and (self.protection == "lease" or look == seen or self._is_accepted(data)):
            return look, use(data)
        return look, None

    def _attempt(self) -> bytes | None:
        """Return the content, None while a process has the file open for writing. Without a lease it may be a half."""
        try:
            # Without O_NONBLOCK, opening a FIFO without a writer would block.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except FileNotFoundError:
            if self.path.is_symlink():
                self._refuse("is a link to nothing")
            raise
        except OSError as error:
            if error.errno == errno.ENXIO:
                self._refuse("is a socket, not a file")
            self._fail("opened", error)
        try:
            return self._read_descriptor(descriptor)
        except OSError as error:
            self._fail("read", error)
        finally:
            os.close(descriptor)

    def _read_descriptor(self, descriptor: int) -> bytes | None:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            self._refuse(f"is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a file")
        unwritten = has_no_writer(descriptor)
        self.protection = "settle" if unwritten is None else "lease"
        data = self._bytes(descriptor)
        if unwritten is False:
            return data if self._is_accepted(data) else None  # a process may hold a file open and write nothing
        status = os.fstat(descriptor)
        self._stamp = status.st_ino, status.st_size, status.st_mtime_ns
        # A writer may have come and gone during the read. Then a second read has what it left.
        if unwritten and not (has_no_writer(descriptor) and self._bytes(descriptor) == data):
            return None
        return data

    def _bytes(self, descriptor: int) -> bytes:
        limit = self._limits.size_limit
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, min(size, limit) + 1, 0)
        while len(data) <= limit and (more := os.pread(descriptor, min(limit + 1 - len(data), _STEP), len(data))):
            data += more
        if len(data) > limit:
            self._refuse(f"is larger than {limit} bytes")
        return data

    def _is_accepted(self, data: bytes) -> bool:
        return self._accepted is not None and self._accepted[0] == data

    def _as_bytes(self, data: bytes) -> bytes:
        self._accepted = (data, Layer(self.name, {}))
        return data

    def _as_layer(self, data: bytes) -> Layer:
        if self._accepted is not None and self._accepted[0] == data:
            return self._accepted[1]
        try:
            kind = formats.format_of(self.path.name)
            values = formats.parse(kind, data)
        except FormatError as error:
            self._refuse(error.reason, error.line, error.column)
        layer = Layer(
            self.name,
            values,
            Located(self.name, kind, data, kind=self._kind),
            # A hash of a short file of nothing but secrets would let them be guessed.
            revision="" if kind == "dotenv" else content_revision(data),
            odd_keys=kind == "yaml" and formats.has_odd_keys(values),
        )
        self._accepted = (data, layer)
        return layer

    def _fail(self, done: str, error: OSError) -> NoReturn:
        message = f"cannot be {done}: {error.strerror}"
        if error.errno in SCARCE:
            self._refuse(f"{message}; it is tried again as soon as that is over", kind=SourceBusy)
        self._refuse(message)

    def _refuse(
        self,
        message: str,
        line: int | None = None,
        column: int | None = None,
        *,
        kind: type[SourceError] = SourceError,
    ) -> NoReturn:
        raise kind([Fault("", message, Origin(self._kind, self.name, line, column))]) from None


def content_revision(data: bytes) -> str:
    """Return the revision of a content that has no other: the same in every process and on every host."""
    return hashlib.sha256(data).hexdigest()


async def read_all(reads: Iterable[Awaitable[T]]) -> list[T]:
    """Return the results of several reads at once.

    Raises:
        SourceError: The faults of all reads that failed; as a SourceBusy where any of them is one, for then another
            attempt is worthwhile.
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


def has_no_writer(descriptor: int) -> bool | None:
    """Whether no process has the file open for writing; None where the system does not tell.

    The kernel grants a read lease only then. The lease is given back at once: while it is held, a process that opens
    the file for writing has to wait.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        # A lease that is broken sends SIGIO, which kills by default. SIGURG is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        # EAGAIN: a process writes it. Other errors: another user's file, or a file system without leases. Network file
        # systems say EAGAIN where the server has made no promise, whether a process writes the file or not.
        busy = error.errno == errno.EAGAIN and Mounts.read().remote([os.fstat(descriptor).st_dev]) is None
        return False if busy else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def stamp_of(path: Path) -> object:
    """Return what tells one version of a file from another without reading it. Blocks."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def working_folder() -> Path:
    """Return where relative paths start. Where that folder was deleted they name nothing, and stay as they are."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path()
