"""Files: one in the format that its name tells, or a folder of them, `conf.d`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import hotconf.formats as formats
from hotconf.errors import FormatError, SourceBusy, SourceError
from hotconf.sources.reader import (
    BUSY_RETRY,
    MAX_WAIT,
    SCARCE,
    SETTLE,
    SIZE_LIMIT,
    FileReader,
    ReadLimits,
    once_written,
    read_all,
    weakest,
)
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUFFIXES = (".toml", ".yaml", ".yml", ".json")

_LISTINGS = 100
"""How often one read lists a folder from which files are being removed."""


class File:
    """A TOML, YAML, JSON or dotenv file. Unchanged bytes are not parsed again.

    A file that is still being written is not read. Where the system cannot tell whether it is, the file must be stable
    for `settle` seconds.

    Args:
        path: The file. A relative path starts where the process stands now.
        required: False lets the file be absent. A file that is there and cannot be read or understood rejects a reload
            in both cases.
        size_limit: Bytes. A larger file is refused.
        settle: Seconds.
        max_wait: Seconds to wait for the writer of a file. After that the file is refused until its writer is done.
    """

    kind = "file"

    def __init__(
        self,
        path: str | os.PathLike[str],
        required: bool = True,  # noqa: FBT001, FBT002 - File(path, required) is the public form
        *,
        size_limit: int = SIZE_LIMIT,
        settle: float = SETTLE,
        max_wait: float = MAX_WAIT,
    ) -> None:
        self.name = os.fspath(path)
        self.required = required
        self.path = Path(path).absolute()
        self.limits = ReadLimits(size_limit, settle, max_wait)
        self._reader = FileReader(self.path, self.name, self.limits)
        self._absent = Layer(self.name, {}, {(): Origin("file", self.name)}, "absent")

    def __repr__(self) -> str:
        return f"File({self.name!r}{'' if self.required else ', required=False'})"

    @property
    def is_dotenv(self) -> bool:
        """Whether its name tells that it holds variables, and not keys."""
        try:
            return formats.format_of(self.path.name) == "dotenv"
        except FormatError:
            return False

    @property
    def protection(self) -> str | None:
        """What guards against a half-written file: "lease" or "settle"; None before the first read."""
        return self._reader.protection

    def paths(self) -> Iterable[Path]:
        """Return the one path to watch."""
        return (self.path,)

    async def read(self) -> Layer:
        """Return what the file holds now.

        Raises:
            SourceError: It cannot be read or understood; the fault has the place.
        """
        return await once_written(self.read_blocking, self.limits.max_wait)

    def read_blocking(self) -> Layer:
        """Do what `read` does, in the thread of the caller. Raises StillWritten too."""
        try:
            return self._reader.layer()
        except FileNotFoundError:
            self._check_absence()
            return self._absent

    def contents(self) -> bytes | None:
        """Return the bytes, for a file that another source parses; None for an optional file that is absent.

        Blocks, and raises as `read_blocking` does.
        """
        try:
            return self._reader.contents()
        except FileNotFoundError:
            self._check_absence()
            return None

    def _check_absence(self) -> None:
        if self.required:
            raise SourceError([Fault("", "does not exist", Origin("file", self.name))]) from None

    async def until_quiet(self) -> None:
        """Return when a file that was refused as still being written may be read again."""
        await self._reader.until_quiet()


class Dir:
    """A folder whose `*.toml`, `*.yaml`, `*.yml` and `*.json` files are merged in the order of their names.

    A later name stands above an earlier one. Hidden files, other files and sub-folders are ignored.

    Args:
        path: The folder. A relative path starts where the process stands now.
        required: False lets the folder be absent.
        size_limit: As in File, for each file.
        settle: As in File.
        max_wait: As in File.
    """

    kind = "folder"

    def __init__(
        self,
        path: str | os.PathLike[str],
        required: bool = True,  # noqa: FBT001, FBT002 - Dir(path, required) is the public form, as in File
        *,
        size_limit: int = SIZE_LIMIT,
        settle: float = SETTLE,
        max_wait: float = MAX_WAIT,
    ) -> None:
        self.name = os.fspath(path)
        self.required = required
        self.path = Path(path).absolute()
        self._limits = ReadLimits(size_limit, settle, max_wait)
        self._readers: dict[str, FileReader] = {}

    def __repr__(self) -> str:
        return f"Dir({self.name!r}{'' if self.required else ', required=False'})"

    @property
    def protection(self) -> str | None:
        """The weakest protection of the files that were read: "lease" or "settle"."""
        return weakest(self._readers.values())

    def paths(self) -> Iterable[Path]:
        """Return patterns, for files that come and go, and every file that was read."""
        patterns = (self.path / f"*{suffix}" for suffix in SUFFIXES)
        return [*patterns, *(reader.path for reader in list(self._readers.values()))]

    async def read(self) -> Sequence[Layer]:
        """Return a layer for each file, the weakest first.

        Raises:
            SourceError: The faults of all files that cannot be read or understood.
        """
        return await once_written(self.read_blocking, self._limits.max_wait)

    def read_blocking(self) -> Sequence[Layer]:
        """Do what `read` does, in the thread of the caller. Raises StillWritten too."""
        for _ in range(_LISTINGS):
            self._readers = {name: self._readers.get(name) or self._reader(name) for name in self._names()}
            try:
                return read_all(reader.layer for reader in self._readers.values())
            except FileNotFoundError:  # a file was removed after the folder was listed
                continue
        raise SourceBusy([Fault("", "its files are removed as soon as they are listed", Origin("file", self.name))])

    async def until_quiet(self) -> None:
        """Return when the files that were busy may be read again. The folder itself may be listed again soon."""
        await asyncio.gather(asyncio.sleep(BUSY_RETRY), *(reader.until_quiet() for reader in self._readers.values()))

    def _names(self) -> list[str]:
        """Return the names of the files to read, in their order."""
        try:
            with os.scandir(self.path) as entries:
                return sorted(entry.name for entry in entries if entry.name.endswith(SUFFIXES) and _is_read(entry))
        except FileNotFoundError:
            if self.required or self.path.is_symlink():
                raise SourceError([Fault("", "does not exist", Origin("file", self.name))]) from None
            return []
        except OSError as error:
            kind = SourceBusy if error.errno in SCARCE else SourceError
            raise kind([Fault("", f"cannot be listed: {error.strerror}", Origin("file", self.name))]) from None

    def _reader(self, name: str) -> FileReader:
        return FileReader(self.path / name, os.path.join(self.name, name), self._limits)  # noqa: PTH118 - as given


def _is_read(entry: os.DirEntry[str]) -> bool:
    # Links in a circle are no folder, and asking the entry would raise.
    is_folder = Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()
    return not is_folder and not entry.name.startswith(".")
