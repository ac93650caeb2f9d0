"""Reading one file, and only when no process is still writing it.

A half-written file may be valid. On Linux a read lease tells whether a process has the file open for writing, however
slow it is. Where the kernel refuses a lease (a file of another user, some file systems) the file must not change for a
while instead. Content that was accepted before needs neither: it is in force already.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from hotconf.values.times import file_clock

try:
    import fcntl
except ImportError:  # no leases here: files must be stable
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hotconf.values.layer import OriginKind

T = TypeVar("T")

Protection: TypeAlias = Literal["lease", "settle"]

SIZE_LIMIT = 4 * 1024 * 1024
SETTLE = 0.05
MAX_WAIT = 2.0

_STEP = 1024 * 1024  # bytes to read at once of a file that grows, or that is larger than it says
_RETRY = 0.02  # seconds between two looks at a file that is being written
BUSY_RETRY = 0.2  # the same after the read was given up
_AT_REST = 2_000_000_000  # nanoseconds after which no write can have the time of the last one, on any file system

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


class StillWritten(SourceBusy):
    """A blocking read found a file that may be half written. It may be tried again after `pause` seconds."""

    def __init__(self, faults: Iterable[Fault], pause: float) -> None:
        super().__init__(faults)
        self.pause = pause


async def once_written(read: Callable[[], T], max_wait: float) -> T:
    """Run a blocking read in a thread, again and again while a file is still being written, `max_wait` seconds at most.

    Raises:
        SourceBusy: The time is over.
    """
    deadline = time.monotonic() + max_wait
    while True:
        try:
            return await asyncio.to_thread(read)
        except StillWritten as busy:
            if time.monotonic() >= deadline:
                raise
            pause = busy.pause
        await asyncio.sleep(pause)


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
        self._seen: tuple[object, float] = (None, 0.0)  # what the first of several equal looks saw, and when
        self._at_rest: tuple[object, bytes] | None = None  # what a file holds as long as its identity and times stand

    def layer(self) -> Layer:
        """Return what the file holds. Blocks: call it by `once_written`, or in a thread.

        Raises:
            FileNotFoundError: There is no such file.
            StillWritten: It may be half a file.
            SourceBusy: The process is out of descriptors or memory.
            SourceError: It cannot be read or understood.
        """
        data = self._whole()
        if not self._is_accepted(data):
            self._accepted = (data, self._parsed(data))
        return cast("tuple[bytes, Layer]", self._accepted)[1]

    def contents(self) -> bytes:
        """Return the bytes, for a file that is parsed elsewhere. Blocks, and raises as `layer` does."""
        data = self._whole()
        self._accepted = (data, Layer(self.name, {}))
        return data

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

    def _whole(self) -> bytes:
        """Return the content. Raises StillWritten where it may be half of it."""
        data, now = self._attempt(), time.monotonic()
        if data is not None and (self.protection == "lease" or self._is_accepted(data)):
            return data
        look = data, self._stamp
        if look != self._seen[0]:
            self._seen = (look, now)
        elif data is not None and now - self._seen[1] >= self._limits.stable_for:
            return data
        message = f"is still being written after {self._limits.max_wait:g} s; it is read as soon as its writer is done"
        pause = _RETRY if self.protection == "lease" else self._limits.stable_for
        raise StillWritten([Fault("", message, Origin(self._kind, self.name))], pause)

    def _attempt(self) -> bytes | None:
        """Return the content, None while a process has the file open for writing. Without a lease it may be a half."""
        if self._at_rest is not None:
            with contextlib.suppress(OSError):  # told below
                if self._at_rest[0] == _identity(os.stat(self.path)):  # noqa: PTH116 - half the time
                    return self._at_rest[1]
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
        now = file_clock()
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
        # A file system without leases may be one whose times do not tell either.
        rests = unwritten and max(status.st_mtime_ns, status.st_ctime_ns) + _AT_REST < now
        self._at_rest = (_identity(status), data) if rests else None
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

    def _parsed(self, data: bytes) -> Layer:
        try:
            kind = formats.format_of(self.path.name)
            values = formats.parse(kind, data)
        except FormatError as error:
            self._refuse(error.reason, error.line, error.column)
        return Layer(
            self.name,
            values,
            Located(self.name, kind, data, kind=self._kind),
            # A hash of a short file of nothing but secrets would let them be guessed.
            revision="" if kind == "dotenv" else content_revision(data),
            odd_keys=kind == "yaml" and formats.has_odd_keys(values),
        )

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


def _identity(status: os.stat_result) -> object:
    """Return what changes with each write to a file."""
    return status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_all(reads: Iterable[Callable[[], T]]) -> list[T]:
    """Return the results of several blocking reads.

    Raises:
        SourceError: The faults of all reads that failed; as a SourceBusy where any of them is one, for then another
            attempt is worthwhile, and as StillWritten where a file is being written.
    """
    results, errors = list[T](), list[SourceError]()
    for read in reads:
        try:
            results.append(read())
        except SourceError as error:
            errors.append(error)
    if not errors:
        return results
    faults = [fault for error in errors for fault in error.faults]
    pauses = [error.pause for error in errors if isinstance(error, StillWritten)]
    if pauses:
        raise StillWritten(faults, min(pauses))
    raise (SourceBusy if any(isinstance(error, SourceBusy) for error in errors) else SourceError)(faults)


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
        status = os.stat(path)  # noqa: PTH116 - half the time
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def working_folder() -> Path:
    """Return where relative paths start. Where that folder was deleted they name nothing, and stay as they are."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path()
