"""One file, in the format that its name says."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hotconf import formats
from hotconf.errors import FormatError, SourceError
from hotconf.keypath import KeyPath
from hotconf.layer import Layer
from hotconf.origin import Origin
from hotconf.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO

    from hotconf.origin import OriginKind, Position

SIZE_LIMIT = 4 * 1024 * 1024

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class File:
    """A TOML, YAML, JSON or dotenv file.

    `required=False` lets the file be absent; one that is there and cannot be read or understood rejects a reload either
    way. A file over `size_limit` bytes is refused. Unchanged bytes are not parsed again.
    """

    kind = "file"

    def __init__(self, path: str | os.PathLike[str], required: bool = True, *, size_limit: int = SIZE_LIMIT) -> None:  # noqa: FBT001, FBT002 - File(path, required) is the public form
        self.name = os.fspath(path)
        self.required = required
        self.path = Path(path).absolute()
        self.size_limit = size_limit
        self._last: tuple[bytes, Layer] | None = None

    def __repr__(self) -> str:
        return f"File({self.name!r}{'' if self.required else ', required=False'})"

    def paths(self) -> Iterable[Path]:
        """Return the one path to watch."""
        return (self.path,)

    async def read(self) -> Layer:
        """Return what the file holds now. Raises SourceError with the place where it cannot be understood."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Layer:
        try:
            data = self._bytes()
        except FileNotFoundError as error:
            if self.required or self.path.is_symlink():
                raise self._fault(self._missing(error)) from None
            return Layer(self.name, {}, {(): Origin("file", self.name)}, "absent")
        except OSError as error:
            raise self._fault(f"cannot be read: {error.strerror}") from None
        if self._last is not None and self._last[0] == data:
            return self._last[1]
        layer = self._parse(data)
        self._last = (data, layer)
        return layer

    def _bytes(self) -> bytes:
        # Without O_NONBLOCK, opening a FIFO that nobody writes to would hang.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise self._fault(f"is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a file")
            data = _read_up_to(file, self.size_limit + 1)
        if len(data) > self.size_limit:
            raise self._fault(f"is larger than {self.size_limit} bytes")
        return data

    def _parse(self, data: bytes) -> Layer:
        try:
            kind = formats.format_of(self.path.name)
            values = formats.parse(kind, data)
        except FormatError as error:
            raise self._fault(error.reason, error.line, error.column) from None
        return Layer(self.name, values, Located(self.name, kind, data), revision=str(hash(data)))

    def _missing(self, error: OSError) -> str:
        if self.path.is_symlink():
            return "is a link to nothing"
        return "does not exist" if error.errno == errno.ENOENT else str(error.strerror)

    def _fault(self, message: str, line: int | None = None, column: int | None = None) -> SourceError:
        return SourceError([Fault("", message, Origin("file", self.name, line, column))])


def _read_up_to(file: FileIO, size: int) -> bytes:
    # A regular file answers in full unless it is longer, or grows while it is read.
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Located(Mapping[KeyPath, Origin]):
    """The origins of a text, found when the first of them is asked for: a clean reload never pays for them."""

    def __init__(self, name: str, kind: str, data: bytes) -> None:
        self._name = name
        self._kind = kind
        self._data = data
        self._origin_kind: OriginKind = "dotenv" if kind == "dotenv" else "file"

    @cached_property
    def _positions(self) -> Mapping[KeyPath, Position]:
        return formats.locate(self._kind, self._data)

    def __getitem__(self, path: KeyPath) -> Origin:
        if not path:
            return Origin(self._origin_kind, self._name)
        position = self._positions[path]
        return Origin(self._origin_kind, self._name, position.line, position.column)

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)
