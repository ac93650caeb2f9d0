"""A dotenv file that HotConf was given: its variables mean to the settings what the environment's would."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_settings import DotEnvSettingsSource

from hotconf.abc import Settling, Source, WatchedFiles
from hotconf.errors import SourceError
from hotconf.sources.variables import Variables, unreadable
from hotconf.values.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pydantic_settings import BaseSettings


class _File(Source, WatchedFiles, Settling, Protocol):
    """The file that is read, whatever else it is."""

    @property
    def protection(self) -> str | None: ...

    async def read(self) -> Layer: ...


class Dotenv:
    """Reads a dotenv file by the names that a settings class gives its variables: prefix, delimiter, case.

    Values are taken as they stand: `${NAME}` is not expanded.
    """

    kind = "dotenv"

    def __init__(self, file: _File, model: type[BaseSettings]) -> None:
        self.name = file.name
        self.required = file.required
        self._file = file
        self._model = model
        self._last: tuple[Layer, Layer] | None = None

    def __repr__(self) -> str:
        return f"Dotenv({self.name!r})"

    @property
    def protection(self) -> str | None:
        """What guards against a half-written file."""
        return self._file.protection

    def paths(self) -> Iterable[Path]:
        """Return the one path to watch."""
        return self._file.paths()

    async def read(self) -> Layer:
        """Return the settings that the variables stand for. Raises SourceError."""
        layer = await self._file.read()
        if self._last is None or self._last[0] is not layer:
            # In a thread: pydantic-settings looks at every field for every variable that it does not know.
            self._last = (layer, await asyncio.to_thread(self._as_settings, layer))
        return self._last[1]

    async def until_quiet(self) -> None:
        """Return when a file that was refused as still being written may be read again."""
        await self._file.until_quiet()

    def _as_settings(self, layer: Layer) -> Layer:
        source = DotEnvSettingsSource(self._model, env_file=None)
        fold: Any = str if source.case_sensitive else str.lower
        source.env_vars = {fold(name): value for name, value in layer.values.items()}
        origins = {str(name): layer.origins[(name,)] for name in layer.values}
        named = Variables(self._model, source, origins)
        try:
            return Layer(layer.source, source(), named, layer.revision)
        except Exception as error:
            raise SourceError([unreadable(error, named, self.name)]) from error
