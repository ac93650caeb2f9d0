"""The settings class's own sources: environment, dotenv, secrets, command line, and whatever it adds.

They are made anew for every read, by the class's own constructor, and asked in the class's order. What each said is a
layer. So is what the sources of settings classes within the settings said, each at the place of its class.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
)
from pydantic_settings.sources import DefaultSettingsSource

import hotconf.formats as formats
import hotconf.sources.lookups as lookups
from hotconf.errors import FormatError, SourceError
from hotconf.schema.fields import fields_of, models_within, shape_below, unwrapped
from hotconf.schema.keys import with_canonical_keys
from hotconf.schema.redact import secret_texts
from hotconf.sources.failure import failure, place_of_failure
from hotconf.sources.provenance import may_fall_silent, name_of, origins_of
from hotconf.sources.reader import FileReader, ReadLimits, once_written, read_all, weakest, working_folder
from hotconf.values.layer import DEFAULT, Layer, Nested, Origin, Places
from hotconf.values.merge import ABSENT, copied, lookup, same
from hotconf.values.report import Fault
from hotconf.values.times import file_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from hotconf.schema.shape import Shape
    from hotconf.sources.construct import Asked, ClassReading, Constructor, Record
    from hotconf.values.keypath import KeyPath

_SETTINGS = ("env_file", *lookups.CONFIG_FILES, "secrets_dir")
_UNKNOWN = object()


class SettingsSources:
    """The sources that a settings class declares, read together because a later one may look at an earlier.

    Where the class constructs other settings classes, `reads_last` is true: theirs may depend on what all others said.
    """

    kind = "settings"
    required = True
    guarded = False  # all of them together; what each of them says is guarded by itself

    def __init__(self, constructor: Constructor, limits: ReadLimits | None = None) -> None:
        self.name = f"sources of {constructor.model.__name__}"
        self.reads_last = constructor.calls_constructors
        self._constructor = constructor
        self._limits = limits or ReadLimits()
        self._folder = working_folder()
        self._declared = list(_declared(constructor, self._folder))
        self._asked: list[Any] = []  # the sources that were asked last
        self._found: list[Path] = []  # what they read
        self._readers: dict[Path, FileReader] = {}
        self._stamps: dict[Path, tuple[int, ...]] = {}
        self._last: tuple[object, Sequence[Layer]] = (None, ())  # what the sources went by, and the layers
        self.files: frozenset[str] = frozenset()

    @property
    def protection(self) -> str | None:
        """The weakest protection of the files that were read: "lease" or "settle"; None without any."""
        return weakest(self._readers.values())

    def paths(self) -> Iterable[Path]:
        """Return the files and folders that the class names and, once they were asked, those that its sources read."""
        return dict.fromkeys((*self._declared, *self._found))

    async def read(self, below: Sequence[Layer] = (), above: Sequence[Layer] = ()) -> Sequence[Layer]:
        """Return a layer for each source, the weakest first.

        Args:
            below: What the weaker sources of the configuration said.
            above: What the stronger ones said.

        Raises:
            SourceError: A source failed, or cannot be made; SourceBusy while a file is written.
        """
        return await once_written(functools.partial(self.read_blocking, below, above), self._limits.max_wait)

    def read_blocking(self, below: Sequence[Layer] = (), above: Sequence[Layer] = ()) -> Sequence[Layer]:
        """Do what `read` does, in the thread of the caller. Raises StillWritten too."""
        environment, before = dict(os.environ), self._contents()
        if self._last[0] == (environment, before) and self._depend_on_nothing_else():
            return self._last[1]  # the very same layers: what follows has nothing to do
        # Which of the files in a folder count is known only from the sources.
        folders = [path for path in self._declared if path.is_dir()] if not self._asked else []
        stamps = {file: _stamp(file) for folder in folders for file in lookups.files_below(folder)}
        while True:
            began = file_clock()
            read = self._ask(below, above)
            # The sources open their files without asking who writes them: what they read is what was there all along.
            after = self._contents()
            news = (path for path, data in after.items() if before.get(path) != data)
            if all(path not in before and _is_unmoved(path, stamps.get(path), began) for path in news):
                break
            before, stamps = after, {}
        if isinstance(read, BaseException):
            raise SourceError(self._unmade(read, after)) from read
        held = {str(path) for path, data in after.items() if data.strip()}
        self.files = frozenset(held | {path for path in self.files - held if _holds(path)})
        layers = self._layers(read, after, below, above)
        self._last = (environment, after), layers
        return layers

    async def until_quiet(self) -> None:
        """Return when the files that were busy may be read again."""
        await asyncio.gather(*(reader.until_quiet() for reader in self._readers.values()))

    def moved(self) -> bool:
        """Whether a file has changed since the last read. Blocks."""
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())

    def _contents(self) -> Mapping[Path, bytes]:
        """Return what the files hold while no process writes them. One that is absent is the business of its source."""
        secrets = (path for source in self._asked for path in lookups.secret_files(source, self._folder))
        self._stamps = {path: _stamp(path) for path in dict.fromkeys((*self.paths(), *secrets))}
        paths = [path for path in self._stamps if path.is_file()]
        self._readers = {path: self._readers.get(path) or FileReader(path, str(path), self._limits) for path in paths}
        return dict(zip(paths, read_all(reader.contents for reader in self._readers.values()), strict=True))

    def _depend_on_nothing_else(self) -> bool:
        """Whether what the sources that were asked last say depends on the environment and on files alone."""
        if self._constructor.calls_constructors:  # code that may give them anything
            return False
        rules = vars(BaseSettings)["settings_customise_sources"].__func__
        own = getattr(self._constructor.model, "settings_customise_sources", None)
        return getattr(own, "__func__", None) is rules and all(
            type(source) in {InitSettingsSource, EnvSettingsSource, DotEnvSettingsSource}
            or (type(source) is SecretsSettingsSource and source.secrets_dir is None)
            or (type(source) is DefaultSettingsSource and not source.nested_model_default_partial_update)
            for source in self._asked
        )

    def _ask(self, below: Sequence[Layer], above: Sequence[Layer]) -> ClassReading | BaseException:
        """Ask every source, and learn which files they read. Return what making a source raised."""

        def combine(own: Record | None) -> Mapping[str, Any]:
            said = self._own_layers(own, {}) if own is not None else []
            layers = [with_canonical_keys(self._constructor.model, layer) for layer in (*below, *said, *above)]
            return dict(copied(self._constructor.merge(layers).given))

        try:
            read = self._constructor.read(combine)
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and not error.code:
                raise  # --help was asked for, and given
            self._found = self._watched(self._asked or _sources_in(error.__traceback__))
            return error
        self._asked = [asked.source for record in _records(read) for asked in record.sources]
        self._found = self._watched(self._asked)
        return read

    def _watched(self, sources: Iterable[Any]) -> list[Path]:
        return [path for source in sources for path in lookups.watched(source, self._folder)]

    def _layers(
        self, read: ClassReading, contents: Mapping[Path, bytes], below: Sequence[Layer], above: Sequence[Layer]
    ) -> Sequence[Layer]:
        faults = [fault for _, error in read.errors for fault in self._unmade(error, contents)]
        records = list(_records(read))
        said = [(record.cls, asked.said) for record in records for asked in record.sources]
        failed = any(asked.error is not None for record in records for asked in record.sources)
        secrets = {text for cls, values in said for text in secret_texts(cls, values)} if failed else set()
        for record in records:
            for asked in record.sources:
                faults += self._faults(asked, contents, secrets)
        if faults:
            raise SourceError(faults)
        own = self._own_layers(read.own, contents) if read.own is not None else []
        if not read.called:
            return own
        layers = [with_canonical_keys(self._constructor.model, layer) for layer in (*below, *own, *above)]
        given = self._constructor.merge(layers).given
        settings = read.settings if read.settings is not None else _UNKNOWN
        placed = list(_placed(self._constructor.model, given, settings, read))
        nested = [layer for path, record, made in placed for layer in self._nested(path, record, contents, made=made)]
        lost = [record for record in read.called if all(record is not known for _, known, _ in placed)]
        return [*own, *nested, *(Layer(record.cls.__name__, {}, nested=Nested(None, False, record)) for record in lost)]

    def _own_layers(self, record: Record, contents: Mapping[Path, bytes]) -> list[Layer]:
        return [
            self._layer(asked, contents)
            for asked in reversed(record.sources)
            if not isinstance(asked.source, DefaultSettingsSource)
        ]

    def _layer(self, asked: Asked, contents: Mapping[Path, bytes]) -> Layer:
        origins = origins_of(asked, self._folder, contents)
        return Layer(name_of(asked.source), asked.said, origins, guarded=not may_fall_silent(asked.source))

    def _nested(self, path: KeyPath, record: Record, contents: Mapping[Path, bytes], *, made: bool) -> Iterator[Layer]:
        """Yield the layers of a nested class. `made` tells that code gave its constructor the values that it got."""
        kinds = [type(asked.source) for asked in record.sources]
        given = kinds.index(InitSettingsSource) if InitSettingsSource in kinds else len(kinds)
        for index, asked in reversed(list(enumerate(record.sources))):
            if kinds[index] is DefaultSettingsSource or (index == given and not made):
                continue
            layer = with_canonical_keys(record.cls, self._layer(asked, contents))
            values: dict[Any, Any] = dict(layer.values)
            for key in reversed(path):
                values = {key: values}
            places = {path: DEFAULT} if index == given else _Below(path, layer.origins)
            yield replace(layer, values=values, origins=places, nested=Nested(path, index < given, record))

    def _faults(self, asked: Asked, contents: Mapping[Path, bytes], secrets: Iterable[str]) -> Iterator[Fault]:
        """Yield what is wrong with what a source read or said."""
        source = asked.source
        if isinstance(source, DotEnvSettingsSource):
            # pydantic-settings would pass over the lines that it cannot read.
            yield from _text_faults(source, self._folder, contents)
        if asked.error is not None:
            place = place_of_failure(source, asked.error, self._folder)
            yield failure(asked.error, origins_of(asked, self._folder, contents), place, secrets)

    def _unmade(self, error: BaseException, contents: Mapping[Path, bytes]) -> list[Fault]:
        """Return why a source could not be made. Some read their files then; ours tell where a text is wrong."""
        if isinstance(error, SystemExit):
            message = "is not what the settings accept, see the usage above"
            return [Fault("", message, Origin("cli", "command line"))]
        place = Origin("source", self.name)
        for source in list(_sources_in(error.__traceback__))[-1:]:
            faults = list(_text_faults(source, self._folder, contents))
            if faults:
                return faults
            place = place_of_failure(source, error, self._folder)
        return [failure(error, {}, place, ())]


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what tells one state of a file from another; nothing where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _holds(path: str) -> bool:
    """Whether a file that is not read any more holds something all the same."""
    try:
        return bool(Path(path).read_bytes().strip())
    except OSError:
        return False


def _is_unmoved(path: Path, before: object, began: int) -> bool:
    """Whether a file is as it was before a time, when its stamp may not have been taken."""
    stamp = _stamp(path)
    return stamp == before or max(stamp[-2:], default=began) < began


def _declared(constructor: Constructor, folder: Path) -> Iterator[Path]:
    """Yield the files and folders that the configuration of a class names, and of the settings classes within it."""
    given = {key.removeprefix("_"): value for key, value in constructor.options.items()}
    for path, model in models_within(constructor.model):
        if not issubclass(model, BaseSettings):
            continue
        config: Mapping[str, Any] = {**model.model_config, **({} if path else given)}
        for key in _SETTINGS:
            files = lookups.listed(config.get(key))
            yield from (found for file in files if isinstance(found := lookups.path_of(file, folder), Path))


def _records(read: ClassReading) -> Iterator[Record]:
    yield from ([read.own] if read.own is not None else [])
    yield from read.called


def _sources_in(trace: TracebackType | None) -> Iterator[PydanticBaseSettingsSource]:
    """Yield the sources whose code an exception came through, the innermost last."""
    while trace is not None:
        source = trace.tb_frame.f_locals.get("self")
        if isinstance(source, PydanticBaseSettingsSource):
            yield source
        trace = trace.tb_next


def _text_faults(source: Any, folder: Path, contents: Mapping[Path, bytes]) -> Iterator[Fault]:
    for document in lookups.documents(source, folder):
        data = document.text(contents)
        try:
            formats.parse(document.format, data if data is not None else b"{}")
        except FormatError as error:
            yield Fault("", error.reason, Origin("file", document.name, error.line, error.column))


class _Below(Places):
    """Origins of a nested class's source: those that the source has, below the path of the class."""

    def __init__(self, path: KeyPath, origins: Mapping[KeyPath, Origin]) -> None:
        self._path = path
        self._origins = origins

    def __getitem__(self, path: KeyPath) -> Origin:
        length = len(self._path)
        if path[:length] != self._path:
            raise KeyError(path)
        return self._origins[path[length:]]


def _placed(
    model: type, given: Mapping[str, Any], settings: Any, read: ClassReading
) -> Iterator[tuple[KeyPath, Record, bool]]:
    """Yield the records of nested constructors with their places, and whether code gave them their values.

    Args:
        model: The class of the settings.
        given: What its constructor was given.
        settings: What it made; _UNKNOWN where that failed.
        read: The read that has the records.
    """
    for field in fields_of(model).values():
        places = field.input_paths or ((field.name,),)
        place = next((place for place in places if lookup(given, place) is not ABSENT), places[0])
        value = lookup(given, place)
        is_made = field.info.default_factory is not None or read.defaults.get((model, field.name), False)
        if value is ABSENT and settings is _UNKNOWN and not is_made:
            continue
        inner = getattr(settings, field.name, None) if settings is not _UNKNOWN else _UNKNOWN
        for path, record, made in _placed_below(field.shape, value, inner, read):
            yield (*place, *path), record, made


def _placed_below(
    shape: Shape, value: Any, settings: Any, read: ClassReading
) -> Iterator[tuple[KeyPath, Record, bool]]:
    shape = unwrapped(shape)
    if isinstance(value, Mapping) or value is ABSENT:
        models = shape.models
        if settings is not _UNKNOWN:
            kind: type = type(settings)
            models = (kind,) if fields_of(kind) else ()
        for model in models:
            record = _matching(model, value, read.called)
            if record is not None:
                yield (), record, value is ABSENT
                yield from _placed(model, record.values, settings, read)
                return
        if value is not ABSENT or settings is not _UNKNOWN:
            for model in models:
                yield from _placed(model, {} if value is ABSENT else value, settings, read)
        pairs: Iterable[tuple[Any, Any]] = value.items() if value is not ABSENT and shape.values is not None else ()
    else:
        pairs = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in pairs:
        below = shape_below(shape, key if isinstance(key, int) else str(key))
        for path, record, made in _placed_below(below, item, _item(settings, key), read):
            yield (key, *path), record, made


def _item(settings: Any, key: Any) -> Any:
    try:
        return settings[key]
    except (LookupError, TypeError):
        return _UNKNOWN


def _matching(model: type, value: Any, records: Sequence[Record]) -> Record | None:
    """Return the record of a constructor that was given a value; of one that code called, the only one there is."""
    alike = [record for record in records if record.cls is model]
    exact = [record for record in alike if value is not ABSENT and same(record.given, value)]
    return exact[0] if exact else alike[0] if len(alike) == 1 else None
