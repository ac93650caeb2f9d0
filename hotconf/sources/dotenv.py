"""A dotenv file that HotConf was given: it means to the settings what the class's own `env_file` would."""

from __future__ import annotations

import inspect
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any, Protocol

from dotenv import dotenv_values
from pydantic_settings import DotEnvSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

import hotconf.formats as formats
from hotconf.abc import Settling, Source, WatchedFiles
from hotconf.errors import FormatError, SourceError
from hotconf.schema.redact import secret_texts
from hotconf.sources.failure import failure
from hotconf.sources.lookups import Document
from hotconf.sources.provenance import Lines, Variables
from hotconf.sources.reader import once_written
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydantic_settings import BaseSettings

    from hotconf.sources.reader import ReadLimits


class _File(Source, WatchedFiles, Settling, Protocol):
    """The file that is read, whatever else it is."""

    path: Path
    limits: ReadLimits

    @property
    def protection(self) -> str | None: ...

    def contents(self) -> bytes | None: ...


class Dotenv:
    """Reads a dotenv file as a settings class reads its own: prefix, delimiter, case, encoding, `${NAME}`.

    Args:
        file: The file.
        model: The settings class.
        options: Its constructor options; those of a dotenv file count here too.
    """

    kind = "dotenv"

    def __init__(self, file: _File, model: type[BaseSettings], options: Mapping[str, Any] | None = None) -> None:
        self.name = file.name
        self.required = file.required
        self._file = file
        self._model = model
        known = inspect.signature(DotEnvSettingsSource).parameters.keys() - {"env_file", "settings_cls", "_init_state"}
        self._options = {name: (options or {})[f"_{name}"] for name in known if f"_{name}" in (options or {})}
        self._last: tuple[bytes | None, Layer] | None = None

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
        return await once_written(self.read_blocking, self._file.limits.max_wait)

    def read_blocking(self) -> Layer:
        """Do what `read` does, in the thread of the caller. Raises StillWritten too."""
        data = self._file.contents()
        # `${NAME}` is looked up in the environment as well, which may be another by now.
        if self._last is None or self._last[0] != data or b"$" in (data or b""):
            if data is None:
                layer = Layer(self.name, {}, {(): Origin("dotenv", self.name)}, "absent")
            else:
                layer = layer_of(self.name, self._file.path, data, self._model, self._options)
            if self._last is None or self._last[0] != data or self._last[1].values != layer.values:
                self._last = (data, layer)
        return self._last[1]

    async def until_quiet(self) -> None:
        """Return when a file that was refused as still being written may be read again."""
        await self._file.until_quiet()


def layer_of(name: str, path: Path, data: bytes, model: type[BaseSettings], options: Mapping[str, Any]) -> Layer:
    """Return what the variables of a dotenv file mean to a settings class.

    Args:
        name: What the file is called.
        path: Where it is.
        data: What it holds.
        model: The class.
        options: The options of DotEnvSettingsSource that differ from the class's own.

    Raises:
        SourceError: The text is no dotenv file, or a variable has no value for its field.
    """
    source = DotEnvSettingsSource(model, env_file=None, **options)
    document = Document(name, path, "dotenv", source.env_file_encoding)
    text = document.text({path: data})
    place = Origin("dotenv", name)
    if text is None:
        raise SourceError([Fault("", f"is not text in {source.env_file_encoding}", place)])
    try:
        formats.parse("dotenv", text)
    except FormatError as error:
        raise SourceError([Fault("", error.reason, replace(place, line=error.line, column=error.column))]) from None
    variables = dotenv_values(stream=StringIO(text.decode("utf-8-sig")))
    rules = source.case_sensitive, source.env_ignore_empty, source.env_parse_none_str
    source.env_vars = parse_env_vars(variables, *rules)
    lines = Lines(source, [document], {path: data})
    try:
        said = source()
    except Exception as error:
        origins = Variables(source, {}, source.env_vars, lines)
        fault = failure(error, origins, place, secret_texts(model, variables))
        raise SourceError([fault]) from error
    return Layer(name, said, Variables(source, said, source.env_vars, lines))
