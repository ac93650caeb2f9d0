"""Files: one in the format that its name tells, or a folder of them."""

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
    every,
    weakest,
)
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUFFIXES = (".toml", ".yaml", ".yml", ".json")


class File:
    """A TOML, YAML, JSON or dotenv file.

    `required=False` lets the file be absent; one that is there and cannot be read or understood rejects a reload either
    way. A file over `size_limit` bytes is refused. Where nothing tells whether somebody still writes it, the file must
    stand still for `settle` seconds; one that is written for longer than `max_wait` seconds is refused until its writer
    is done. Unchanged bytes are not parsed again.
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
        self._reader = FileReader(self.path, self.name, ReadLimits(size_limit, settle, max_wait))

    def __repr__(self) -> str:
        return f"File({self.name!r}{'' if self.required else ', required=False'})"

    @property
    def is_dotenv(self) -> bool:
        """Whether its name says that it holds variables, and not keys."""
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
        """Return what the file holds now. Raises SourceError with the place where it cannot be understood."""
        try:
            return await self._reader.layer()
        except FileNotFoundError:
            return self._absent()

    async def until_quiet(self) -> None:
        """Return when a file that was refused as still being written may be read again."""
        await self._reader.until_quiet()

    def _absent(self) -> Layer:
        place = Origin("file", self.name)
        dangling = self.path.is_symlink()
        if self.required or dangling:
            raise SourceError([Fault("", "is a link to nothing" if dangling else "does not exist", place)])
        return Layer(self.name, {}, {(): place}, "absent")


class Dir:
    """Merges the `*.toml`, `*.yaml`, `*.yml` and `*.json` files of a folder; a later name stands above an earlier one.

    Hidden files, other files and sub-folders are passed over. `required=False` lets the folder be absent. Options are
    those of File.
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
        self._patience = ReadLimits(size_limit, settle, max_wait)
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
        """Return a layer for each file. Raises SourceError with the faults of all of them."""
        readers = await asyncio.to_thread(self._find)
        self._readers = {reader.path.name: reader for reader in readers}
        try:
            return await every(map(_read, readers))
        except FileNotFoundError:
            return await self.read()  # one went away after we saw its name

    async def until_quiet(self) -> None:
        """Return when the files that were busy may be read again. The folder itself may be tried again soon."""
        await asyncio.gather(asyncio.sleep(BUSY_RETRY), *(reader.until_quiet() for reader in self._readers.values()))

    def _find(self) -> list[FileReader]:
        try:
            names = sorted(entry.name for entry in os.scandir(self.path) if _counts(entry.name))
            files = [name for name in names if not (self.path / name).is_dir()]
        except FileNotFoundError:
            if self.required or self.path.is_symlink():
                raise _error(self.name, "does not exist") from None
            return []
        except OSError as error:
            kind = SourceBusy if error.errno in SCARCE else SourceError
            raise _error(self.name, f"cannot be listed: {error.strerror}", kind) from None
        return [self._readers.get(name) or self._reader(name) for name in files]

    def _reader(self, name: str) -> FileReader:
        return FileReader(self.path / name, os.path.join(self.name, name), self._patience)  # noqa: PTH118 - as given


async def _read(reader: FileReader) -> Layer:
    try:
        return await reader.layer()
    except FileNotFoundError:
        if reader.path.is_symlink():
            raise _error(reader.name, "is a link to nothing") from None
        raise


def _error(name: str, message: str, kind: type[SourceError] = SourceError) -> SourceError:
    return kind([Fault("", message, Origin("file", name))])


def _counts(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")
