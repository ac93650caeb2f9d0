"""The settings class's own sources: environment, dotenv, secrets, command line, and whatever it adds.

They are built anew for every read, through the class's public hook `settings_customise_sources`, and asked in its
order. Each becomes a layer; which variable or file a value came from is worked out when somebody asks.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsError,
)
from pydantic_settings.sources import DefaultSettingsSource

from hotconf import formats
from hotconf.errors import FormatError, SourceError
from hotconf.formats.located import Located
from hotconf.keypath import KeyPath
from hotconf.layer import Layer
from hotconf.merge import merge
from hotconf.origin import Origin
from hotconf.report import Fault
from hotconf.variables import Variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_FILE_KEYS = ("env_file", "secrets_dir", "toml_file", "json_file", "yaml_file")


class OwnSources:
    """The sources that a BaseSettings class declares, read together because a later one may look at an earlier."""

    kind = "settings"
    required = True
    guarded = False  # a variable that is gone was taken away by somebody

    def __init__(self, model: type[BaseSettings]) -> None:
        self.name = f"sources of {model.__name__}"
        self._model = model
        self._folder = Path.cwd()
        self._found: list[Path] = []  # named by the sources themselves, known once they were built

    def paths(self) -> Iterable[Path]:
        """Return the files and folders that the class's configuration names."""
        config: Mapping[str, Any] = self._model.model_config
        declared = (path for key in _FILE_KEYS for path in _listed(config.get(key)))
        yield from dict.fromkeys(self._folder / path.expanduser() for path in (*declared, *self._found))

    async def read_all(self) -> Sequence[Layer]:
        """Return a layer for each source, the weakest first."""
        return await asyncio.to_thread(self._read_all)

    def _read_all(self) -> Sequence[Layer]:
        state: Mapping[str, Any] = {}
        layers, faults = list[Layer](), list[Fault]()
        sources = self._sources()
        self._found = [path for source in sources for path in _paths_of(source)]
        for source in sources:
            try:
                layer = self._read(source, state)
            except SourceError as error:
                faults += error.faults
                continue
            state = merge([layer, Layer("stronger", state)]).values
            layers.append(layer)
        if faults:
            raise SourceError(faults)
        return layers[::-1]

    def _sources(self) -> Sequence[PydanticBaseSettingsSource]:
        try:
            return _sources(self._model)
        except SystemExit as error:
            if not error.code:  # --help was asked for, and given
                raise
            message = "is not what the settings accept, see the usage above"
            raise SourceError([Fault("", message, Origin("cli", "command line"))]) from None
        except Exception as error:
            # Some sources read their files when they are made. Ours tell where a text is wrong, and quote nothing.
            faults = [fault for path in self.paths() for fault in _text_faults(path)]
            faults = faults or [Fault("", f"cannot be read: {type(error).__name__}", Origin("source", self.name))]
            raise SourceError(faults) from error

    def _read(self, source: PydanticBaseSettingsSource, state: Mapping[str, Any]) -> Layer:
        name = _name(source)
        if isinstance(source, DotEnvSettingsSource) and source.env_file_encoding is None:
            faults = [fault for path in _listed(source.env_file) for fault in _text_faults(path.expanduser())]
            if faults:  # pydantic-settings would pass over the lines that it cannot read
                raise SourceError(faults)
        origins = _origins(self._model, source)
        hand_over = getattr(source, "_set_current_state", None)
        if hand_over is not None:  # a source may look at what the stronger ones said
            hand_over(dict(state))
        try:
            values: object = source()
        except Exception as error:
            raise SourceError([_fault(error, name, origins)]) from error
        if not isinstance(values, Mapping):
            message = f"returned {type(values).__name__} where a mapping is needed"
            raise SourceError([Fault("", message, Origin("source", name))])
        return Layer(name, values, origins)


def _sources(model: type[BaseSettings]) -> Sequence[PydanticBaseSettingsSource]:
    """Return the sources of a class, the strongest first."""
    sources = model.settings_customise_sources(
        model,
        init_settings=InitSettingsSource(model, init_kwargs={}),
        env_settings=EnvSettingsSource(model),
        dotenv_settings=DotEnvSettingsSource(model),
        file_secret_settings=SecretsSettingsSource(model),
    )
    arguments = model.model_config.get("cli_parse_args")
    if arguments and not any(isinstance(source, CliSettingsSource) for source in sources):
        cli: CliSettingsSource[Any] = CliSettingsSource(model, cli_parse_args=arguments)
        sources = (cli, *sources)
    return sources


def default_objects(model: type[BaseSettings]) -> Mapping[str, Any]:
    """Return the default objects of a class as values, if it wants them changed in part: the weakest layer of all."""
    return DefaultSettingsSource(model)()


def _paths_of(source: PydanticBaseSettingsSource) -> Iterator[Path]:
    """Yield the files and folders that a source says it reads."""
    for name in ("env_file", "secrets_dir", "toml_file_path", "json_file_path", "yaml_file_path"):
        for path in _listed(getattr(source, name, None)):
            yield path.expanduser()


def _listed(paths: Any) -> list[Path]:
    if paths is None:
        return []
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return [Path(path) for path in several]


def _name(source: PydanticBaseSettingsSource) -> str:
    if isinstance(source, DotEnvSettingsSource):
        return "dotenv"
    if isinstance(source, CliSettingsSource):
        return "command line"
    if isinstance(source, EnvSettingsSource):
        return "environment"
    return "secrets" if isinstance(source, SecretsSettingsSource) else type(source).__name__


def _fault(error: Exception, name: str, origins: Mapping[KeyPath, Origin]) -> Fault:
    named = re.search(r'field "([^"]+)"', str(error)) if isinstance(error, SettingsError) else None
    if named is None:
        return Fault("", f"cannot be read: {type(error).__name__}", Origin("source", name))
    below = origins.unparsed(named[1]) if isinstance(origins, Variables) else None
    origin = origins.get((named[1],)) or below or Origin("source", name)
    return Fault(named[1], "is not the JSON that a value of this type needs", origin)


def _origins(model: type, source: PydanticBaseSettingsSource) -> Mapping[KeyPath, Origin]:
    if isinstance(source, CliSettingsSource):
        return _Named(lambda path: Origin("cli", f"--{'.'.join(str(key) for key in path)}"))
    if isinstance(source, DotEnvSettingsSource):
        return Variables(model, source, _dotenv_origins(source))
    if isinstance(source, EnvSettingsSource):
        found = {name: Origin("env", name) for name in os.environ}
        return Variables(model, source, found)
    if isinstance(source, SecretsSettingsSource):
        return Variables(model, source, _secret_origins(source))
    for key in _FILE_KEYS[2:]:
        files = _listed(getattr(source, f"{key}_path", None))
        if len(files) == 1:
            return _file_origins(files[0])
    return {(): Origin("source", _name(source))}


class _Named(Mapping[KeyPath, Origin]):
    """Origins that follow from the path alone."""

    def __init__(self, name: Any) -> None:
        self._name = name

    def __getitem__(self, path: KeyPath) -> Origin:
        if not path:
            raise KeyError(path)
        origin: Origin = self._name(path)
        return origin

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _file_origins(path: Path) -> Mapping[KeyPath, Origin]:
    try:
        text_format, data = formats.format_of(path.name), path.expanduser().read_bytes()
        formats.parse(text_format, data)
    except (OSError, FormatError):
        return {(): Origin("file", str(path))}
    return Located(str(path), text_format, data)


def _text_faults(path: Path) -> Iterator[Fault]:
    try:
        formats.parse(formats.format_of(path.name), path.read_bytes())
    except FormatError as error:
        yield Fault("", error.reason, Origin("file", str(path), error.line, error.column))
    except OSError:
        return  # absent, or a folder: whoever reads it says so


def _dotenv_origins(source: DotEnvSettingsSource) -> dict[str, Origin]:
    found: dict[str, Origin] = {}
    for path in _listed(source.env_file):
        try:
            data = path.expanduser().read_bytes()
            formats.parse("dotenv", data)
            positions = formats.locate("dotenv", data)
        except (OSError, FormatError):
            continue
        for (name,), (line, column) in positions.items():
            found[str(name)] = Origin("dotenv", str(path), line, column)
    return found


def _secret_origins(source: SecretsSettingsSource) -> dict[str, Origin]:
    folders = [path.expanduser() for path in _listed(source.secrets_dir)]
    files = itertools.chain.from_iterable(folder.iterdir() for folder in folders if folder.is_dir())
    return {file.name: Origin("secrets", str(file)) for file in files}
