"""One file, in the format that its name says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hotconf.formats as formats
from hotconf.errors import FormatError, SourceError
from hotconf.sources.reader import MAX_WAIT, SETTLE, SIZE_LIMIT, FileReader, ReadLimits
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable


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
