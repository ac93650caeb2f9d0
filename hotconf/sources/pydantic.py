"""The settings class's own sources: environment, dotenv, secrets, command line, and whatever it adds.

They are built anew for every read, through the class's public hook `settings_customise_sources`, and asked in its
order. Each becomes a layer; which variable or file a value came from is worked out when somebody asks.
"""

from __future__ import annotations

import asyncio
import itertools
import os
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
)
from pydantic_settings.sources import DefaultSettingsSource

import hotconf.formats as formats
from hotconf.errors import FormatError, SourceError
from hotconf.formats import Located
from hotconf.sources.reader import FileReader, ReadLimits, every, weakest
from hotconf.sources.variables import Variables, unreadable
from hotconf.values.keypath import KeyPath
from hotconf.values.layer import Layer, Origin
from hotconf.values.merge import merge
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_FORMATS = {"env_file": "dotenv", "toml_file": "toml", "json_file": "json", "yaml_file": "yaml"}


class SettingsSources:
    """The sources that a BaseSettings class declares, read together because a later one may look at an earlier."""

    kind = "settings"
    required = True
    guarded = False  # a variable that is gone was taken away by somebody

    def __init__(self, model: type[BaseSettings], patience: ReadLimits | None = None) -> None:
        self.name = f"sources of {model.__name__}"
        self._model = model
        self._patience = patience or ReadLimits()
        self._folder = _working_folder()
        self._found: list[Path] = []  # named by the sources themselves, known once they were built
        self._secrets: list[Path] = []  # the files in the folders among them that a value may come from
        self._looked = False
        self._readers: dict[Path, FileReader] = {}

    @property
    def protection(self) -> str | None:
        """The weakest protection of the files that were read: "lease" or "settle"; None without any."""
        return weakest(self._readers.values())

    def paths(self) -> Iterable[Path]:
        """Return the files and folders that the class's configuration names."""
        config: Mapping[str, Any] = self._model.model_config
        declared = (path for key in (*_FORMATS, "secrets_dir") for path in _listed(config.get(key)))
        yield from dict.fromkeys(self._folder / path.expanduser() for path in (*declared, *self._found))

    async def read(self) -> Sequence[Layer]:
        """Return a layer for each source, the weakest first. Raises SourceError, SourceBusy while a file is written."""
        before = await self._contents()
        if not self._looked:  # else the secrets would be news after the first read, and every source be asked again
            await asyncio.to_thread(self._look)
            before = await self._contents()
        while True:
            layers = await asyncio.to_thread(self._read_all)
            # The sources open their files without asking who writes them: what they read is what was there all along.
            after = await self._contents()
            if after == before:
                return layers
            before = after

    async def until_quiet(self) -> None:
        """Return when the files that were busy may be read again."""
        await asyncio.gather(*(reader.until_quiet() for reader in self._readers.values()))

    async def _contents(self) -> Mapping[Path, bytes]:
        """Return what the files hold that nobody is writing. One that is absent is the business of its source."""
        paths = await asyncio.to_thread(_files, [*self.paths(), *self._secrets]) if any(self.paths()) else []
        self._readers = {path: self._readers.get(path) or FileReader(path, str(path), self._patience) for path in paths}
        return dict(zip(paths, await every(reader.contents() for reader in self._readers.values()), strict=True))

    def _read_all(self) -> Sequence[Layer]:
        state: Mapping[str, Any] = {}
        layers, faults = list[Layer](), list[Fault]()
        for source in self._look():
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

    def _look(self) -> Sequence[PydanticBaseSettingsSource]:
        """Make the sources, and learn which files they read."""
        sources = self._sources()
        self._found = [path for source in sources for path in _paths_of(source)]
        self._secrets = [path for source in sources for path in _secrets_of(self._model, source)]
        self._looked = True
        return sources

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
            faults = [fault for path, kind in self._declared() for fault in _text_faults(path, kind)]
            faults = faults or [Fault("", f"cannot be read: {type(error).__name__}", Origin("source", self.name))]
            raise SourceError(faults) from error

    def _declared(self) -> Iterator[tuple[Path, str]]:
        """Yield the files that the class's configuration names, with their formats, whatever their names say."""
        config: Mapping[str, Any] = self._model.model_config
        for key, kind in _FORMATS.items():
            yield from ((self._folder / path.expanduser(), kind) for path in _listed(config.get(key)))

    def _read(self, source: PydanticBaseSettingsSource, state: Mapping[str, Any]) -> Layer:
        name = _name(source)
        if isinstance(source, DotEnvSettingsSource) and source.env_file_encoding is None:
            faults = [fault for path in _listed(source.env_file) for fault in _text_faults(path.expanduser(), "dotenv")]
            if faults:  # pydantic-settings would pass over the lines that it cannot read
                raise SourceError(faults)
        origins = _origins(self._model, source)
        hand_over = getattr(source, "_set_current_state", None)
        if hand_over is not None:  # a source may look at what the stronger ones said
            hand_over(dict(state))
        try:
            values: object = source()
        except Exception as error:
            raise SourceError([unreadable(error, origins, name)]) from error
        if not isinstance(values, Mapping):
            message = f"returned {type(values).__name__} where a mapping is needed"
            raise SourceError([Fault("", message, Origin("source", name))])
        return Layer(name, values, origins)


def _working_folder() -> Path:
    """Return where relative paths start. Where that folder was deleted they name nothing, and stay as they are."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path()


def _files(paths: Iterable[Path]) -> list[Path]:
    return [path for path in dict.fromkeys(paths) if path.exists() and not path.is_dir()]


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


def _secrets_of(model: type[BaseSettings], source: PydanticBaseSettingsSource) -> Iterator[Path]:
    """Yield the files in a secrets folder that hold, or would hold, the value of a field."""
    if isinstance(source, SecretsSettingsSource):
        origins = _secret_origins(source)
        names = Variables(model, source, origins)
        found = (names.get((field,)) for field in model.model_fields)
        yield from (Path(origin.source) for origin in found if origin is not None)


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


def _origins(model: type, source: PydanticBaseSettingsSource) -> Mapping[KeyPath, Origin]:
    if isinstance(source, CliSettingsSource):
        return _Named(_flag)
    if isinstance(source, DotEnvSettingsSource):
        return Variables(model, source, _dotenv_origins(source))
    if isinstance(source, EnvSettingsSource):
        found = {name: Origin("env", name) for name in os.environ}
        return Variables(model, source, found)
    if isinstance(source, SecretsSettingsSource):
        return Variables(model, source, _secret_origins(source))
    for key, kind in _FORMATS.items():
        files = _listed(getattr(source, f"{key}_path", None))
        if len(files) == 1:
            return _file_origins(files[0], kind)
    return {(): Origin("source", _name(source))}


def _flag(path: KeyPath) -> Origin:
    # A list is one argument, whatever lies in it.
    names = itertools.takewhile(lambda key: isinstance(key, str), path)
    return Origin("cli", f"--{'.'.join(map(str, names))}")


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


def _file_origins(path: Path, kind: str) -> Mapping[KeyPath, Origin]:
    try:
        data = path.expanduser().read_bytes()
        formats.parse(kind, data)
    except (OSError, FormatError):
        return {(): Origin("file", str(path))}
    return Located(str(path), kind, data)


def _text_faults(path: Path, kind: str) -> Iterator[Fault]:
    try:
        formats.parse(kind, path.read_bytes())
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
