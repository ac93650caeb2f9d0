"""The stack: every source of one configuration, the weakest first, and how each of them fares."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from pydantic_settings import BaseSettings
from typing_extensions import TypedDict

from hotconf.abc import Source, WatchedFiles
from hotconf.errors import SourceBusy, SourceError
from hotconf.schema.keys import accepts_several_keys, with_canonical_keys
from hotconf.sources.dotenv import Dotenv
from hotconf.sources.file import File
from hotconf.sources.memory import program_layer
from hotconf.sources.overlay import Overlay
from hotconf.sources.pydantic import SettingsSources
from hotconf.sources.reader import ReadLimits
from hotconf.values.layer import Layer, Origin, Readings, SourceReading
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from hotconf.schema.settings import Options
    from hotconf.sources.construct import Constructor


_MORE_READS = 2

ReadState: TypeAlias = Literal["unread", "fresh", "stale", "failed"]


class SourceStatus(TypedDict):
    """How one source fares, as the status of a configuration shows it."""

    name: str
    kind: str
    required: bool
    state: ReadState
    protection: str | None
    error: str | None


def compose(constructor: Constructor, sources: Sequence[Any], options: Options) -> list[Source]:
    """Return every source, the weakest first. Raises ValueError for a file that options would have us overwrite."""
    model = constructor.model
    stack: list[Source] = [_as_source(source, constructor, options) for source in sources]
    _refuse_to_overwrite(stack, options)
    if constructor.init and not issubclass(model, BaseSettings):  # which puts it where the class wants it
        stack.append(InitValues(constructor.init))
    if issubclass(model, BaseSettings) or constructor.calls_constructors:
        stack.append(SettingsSources(constructor, ReadLimits(sys.maxsize, options.settle, options.max_wait)))
    if options.overlay is not None:
        stack.append(
            Overlay(
                options.overlay,
                model,
                size_limit=options.size_limit,
                settle=options.settle,
                max_wait=options.max_wait,
            )
        )
    return stack


def _refuse_to_overwrite(sources: Iterable[Source], options: Options) -> None:
    files = (source for source in sources if isinstance(source, (File, Dotenv)))
    taken = {os.path.abspath(path): "a source" for file in files for path in file.paths()}  # noqa: PTH100 - a/../b is b
    for name in ("overlay", "last_good", "audit_log"):
        path = getattr(options, name)
        other = name if path is None else taken.setdefault(os.path.abspath(path), name)  # noqa: PTH100 - the same
        if other != name:
            raise ValueError(f"{name}: {path} is {other} already: it would be written over, so name another file")


def _as_source(source: Any, constructor: Constructor, options: Options) -> Source:
    model = constructor.model
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        source = File(source, size_limit=options.size_limit, settle=options.settle, max_wait=options.max_wait)
    if isinstance(source, File) and source.is_dotenv and issubclass(model, BaseSettings):
        return Dotenv(source, model, constructor.options)
    if isinstance(source, type) or not isinstance(source, Source):
        raise TypeError(f"{source!r} is neither a path nor a Source, which has a name, required and an async read()")
    return source


class InitValues:
    """The values that HotConf was given for a class that has no sources of its own."""

    name = kind = "init"
    required = True

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._layer = program_layer("init", values, kind="init")

    async def read(self) -> Layer:
        """Return the values."""
        return self._layer


def several(paths: Any) -> Sequence[Any]:
    """Return what was given as a sequence: a lone path is an iterable of its characters, and never meant so."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


@dataclass(slots=True, eq=False)
class SourceState:
    """How one source fared when it was last read.

    `stale` means that an earlier layer of it stands; `busy`, that somebody is still writing it.
    """

    source: Source
    state: ReadState = "unread"
    error: str | None = None
    busy: bool = False
    layers: Sequence[Layer] | None = None
    # Asked once: what keeps a protocol takes longer to find out than anything else that a small reload does.
    _is_watched: bool = field(init=False)
    _spelled: Sequence[Layer] = ()
    _spelled_from: Sequence[Layer] = ()

    def __post_init__(self) -> None:
        self._is_watched = isinstance(self.source, WatchedFiles)

    def paths(self) -> Iterable[Path]:
        """Return the files and folders that should be watched now. Raises what the source raises."""
        return cast("WatchedFiles", self.source).paths() if self._is_watched else ()

    async def _layers(self, others: tuple[Sequence[Layer], Sequence[Layer]] | None) -> Sequence[Layer]:
        read = await (self.source.read() if others is None else cast("SettingsSources", self.source).read(*others))
        layers: Sequence[Layer] = read if isinstance(read, (list, tuple)) else [cast("Layer", read)]
        for layer in layers:
            held: object = getattr(layer, "values", None)
            if not isinstance(held, Mapping):
                message = "cannot be read: what it returned is not a Layer that holds a mapping"
                raise SourceError([Fault("", message, Origin("source", self.source.name))])
        return layers

    async def read(self, others: tuple[Sequence[Layer], Sequence[Layer]] | None = None) -> Sequence[Layer]:
        """Read the source. Raises SourceError; an optional source that is out of reach keeps its last layers.

        `others` are the layers of the weaker and of the stronger sources, for a source that reads after them.
        """
        try:
            self.layers = await self._layers(others)
        except (OSError, TimeoutError) as error:
            self._failed(error)
            if self.source.required or self.layers is None:
                raise SourceError(self._faults(error)) from error
            self.state = "stale"
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a panic in an extension's Rust is no Exception
            if isinstance(error, SystemExit) and not error.code:
                raise  # a wish, such as --help fulfilled, and no failure
            self._failed(error)
            raise SourceError(self._faults(error)) from error
        else:
            self.state, self.error, self.busy = "fresh", None, False
        return self.layers

    def spell(self, model: type[BaseModel]) -> None:
        """Give the layers canonical keys. A layer that the source returned before keeps its canonical one."""
        known = dict(zip(map(id, self._spelled_from), self._spelled, strict=True))
        read = self.layers or ()
        self._spelled = [known.get(id(layer)) or with_canonical_keys(model, layer) for layer in read]
        self._spelled_from = read

    def reading(self) -> SourceReading:
        """Return what was read last, with canonical keys. What a class declares for itself may come and go."""
        layers = self._spelled if self._spelled_from is self.layers else self.layers or ()
        guarded = self.source.required and getattr(self.source, "guarded", True)
        return SourceReading(tuple(layers), guarded=guarded, files=getattr(self.source, "files", frozenset()))

    @property
    def status(self) -> SourceStatus:
        """The state as the status of the configuration shows it."""
        return {
            "name": self.source.name,
            "kind": getattr(self.source, "kind", "source"),
            "required": self.source.required,
            "state": self.state,
            "protection": getattr(self.source, "protection", None),
            "error": self.error,
        }

    def cancelled(self, error: asyncio.CancelledError) -> Sequence[Fault]:
        """Return the faults of a read that something else cancelled: a failure like any other."""
        self._failed(error)
        return self._faults(error)

    def _failed(self, error: BaseException) -> None:
        self.state, self.error = "failed", "; ".join(str(fault) for fault in self._faults(error))
        self.busy = isinstance(error, SourceBusy)

    def _faults(self, error: BaseException) -> Sequence[Fault]:
        if isinstance(error, SourceError):
            return error.faults
        return [Fault("", f"cannot be read: {_name(error)}", Origin("source", self.source.name))]


def _name(error: BaseException) -> str:
    """Return what an error is, without its text, which may quote a token. Who has more to say raises SourceError."""
    number = error.errno if isinstance(error, OSError) else None
    return f"{type(error).__name__}{f': {os.strerror(number)}' if number else ''}"


def _paths(state: SourceState) -> Sequence[Path]:
    try:
        return list(state.paths())
    except Exception:  # noqa: BLE001 - a source's own fault, and reading it goes on
        return ()


def _stamped(paths: Mapping[SourceState, Sequence[Path]]) -> Mapping[SourceState, Mapping[Path, object]]:
    return {state: {path: _stamp(path) for path in found} for state, found in paths.items()}


def _differ(before: Mapping[Path, object], after: Mapping[Path, object]) -> bool:
    """Whether a file has changed. One that a source told of only when it was read is not known to have."""
    return any(after.get(path, stamp) != stamp for path, stamp in before.items())


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The sources of a settings class in the order in which they are merged, the overlay last if there is one."""

    model: type[BaseModel]
    states: tuple[SourceState, ...]

    @classmethod
    def of(cls, model: type[BaseModel], sources: Sequence[Source]) -> Stack:
        """Build a stack, the weakest source first."""
        return cls(model, tuple(SourceState(source) for source in sources))

    @property
    def overlay(self) -> Overlay | None:
        """The source that patches are written to, None where there is none."""
        return next((state.source for state in self.states if isinstance(state.source, Overlay)), None)

    async def read(self) -> Readings:
        """Read every source at once. Raises one SourceError with every fault of every source.

        Several files are read as they were at one time: a source of which one was replaced meanwhile is read again. On
        files that never rest that is given up after a few times; whoever watches them asks again.
        """
        before, late, results = await self._stamps(), self.states, dict[SourceState, Any]()
        for _ in range(1 + _MORE_READS):
            await self._read_into(results, late)
            after = await self._stamps()
            late = tuple(state for state in self.states if _differ(before.get(state, {}), after.get(state, {})))
            if not late:
                break
            before = after
        return await self._readings(results)

    async def _read_into(self, results: dict[SourceState, Any], states: Sequence[SourceState]) -> None:
        """Read sources at once, and then the one that constructs settings from what all the others said."""
        last = [state for state in self.states if getattr(state.source, "reads_last", False)]
        first = [state for state in states if state not in last]
        read = await asyncio.gather(*(state.read() for state in first), return_exceptions=True)
        results.update(zip(first, read, strict=True))
        for state in last:
            index = self.states.index(state)
            below, above = (
                [layer for other in part if isinstance(results[other], Sequence) for layer in results[other]]
                for part in (self.states[:index], self.states[index + 1 :])
            )
            (results[state],) = await asyncio.gather(state.read((below, above)), return_exceptions=True)

    async def _stamps(self) -> Mapping[SourceState, Mapping[Path, object]]:
        """Return what tells one version of each source's files from another; nothing for less than two files."""
        paths = {state: _paths(state) for state in self.states}
        return await asyncio.to_thread(_stamped, paths) if sum(map(len, paths.values())) > 1 else {}

    def moved(self) -> bool:
        """Whether files that a source told of only when it was read have changed since. Blocks."""
        return any(state.source.moved() for state in self.states if isinstance(state.source, SettingsSources))

    def paths(self) -> Iterator[Path]:
        """Yield every file and folder that should be watched now."""
        for state in self.states:
            yield from state.paths()

    async def _readings(self, results: Mapping[SourceState, Any]) -> Readings:
        """Return what came of reading each source. Raises what a read raised, of SourceErrors one with all faults."""
        faults = list[Fault]()
        for state, result in results.items():
            if isinstance(result, asyncio.CancelledError):
                faults += state.cancelled(result)
            elif isinstance(result, SourceError):
                faults += result.faults
            elif isinstance(result, BaseException):
                raise result
        if faults:
            raise SourceError(faults)
        if accepts_several_keys(self.model):
            await asyncio.to_thread(self._spell)  # large layers take long to walk, and readers go on meanwhile
        readings = {state: state.reading() for state in self.states}
        overlay = next((state for state in self.states if isinstance(state.source, Overlay)), None)
        sources = tuple(reading for state, reading in readings.items() if state is not overlay)
        return Readings(sources, readings[overlay].layers[0] if overlay is not None else None)

    def _spell(self) -> None:
        for state in self.states:
            state.spell(self.model)
