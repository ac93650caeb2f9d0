"""Files that settings name, and whose content counts: certificates, keys, word lists."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from typing import TYPE_CHECKING

from hotconf.errors import SourceBusy, SourceError
from hotconf.sources.reader import FileReader, ReadLimits, once_written, read_all, stamp_of, working_folder
from hotconf.values.keypath import render
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Origin


class ContentFiles:
    """Reads the content of files as a source reads its own: never half of one. One read at a time.

    A relative path is one below the working directory of construction, as the paths of sources are.

    `busy` is true while one of them is still being written.
    """

    name = "content"

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._folder = working_folder()
        self._readers: dict[Path, FileReader] = {}
        self._stamps: dict[Path, object] = {}
        self.busy = False

    def paths(self) -> Iterator[Path]:
        """Yield the files that were read: they are watched."""
        yield from self._readers

    async def read(self, files: Mapping[KeyPath, tuple[Path, Origin]]) -> dict[KeyPath, str]:
        """Return a digest of the content of each file, by the path of the setting that names it; of an empty one, "".

        Raises:
            SourceError: A file cannot be read. The fault has the setting, the file and the place that names it.
        """
        files = {path: (self._folder / file, origin) for path, (file, origin) in files.items()}
        for file, _ in files.values():
            self._readers.setdefault(file, FileReader(file, str(file), self._limits))
        self.busy = False
        reads = [functools.partial(self._digest, path, *found) for path, found in files.items()]
        try:
            digests = await once_written(lambda: read_all(reads), self._limits.max_wait)
        except SourceBusy:
            self.busy = True
            raise
        return dict(zip(files, digests, strict=True))

    def keep(self, files: Iterable[Path]) -> None:
        """Forget all files but these, which are the ones that the settings in force name."""
        kept = {self._folder / file for file in files}
        self._readers = {file: reader for file, reader in self._readers.items() if file in kept}

    def _digest(self, path: KeyPath, file: Path, origin: Origin) -> str:
        self._stamps[file] = stamp_of(file)
        try:
            data = self._readers[file].contents()
        except FileNotFoundError:
            raise SourceError([Fault(render(path), f"the file {file} does not exist", origin)]) from None
        except SourceError as error:
            error.faults = tuple(
                Fault(render(path), f"the file {file} {fault.message}", origin) for fault in error.faults
            )
            raise
        return hashlib.sha256(data).hexdigest() if data else ""

    def moved(self) -> bool:
        """Whether a file has changed since it was read. Blocks."""
        return any(stamp_of(file) != self._stamps.get(file) for file in tuple(self._readers))

    async def until_quiet(self) -> None:
        """Return when files that were busy may be read again."""
        await asyncio.gather(*(reader.until_quiet() for reader in self._readers.values()))
