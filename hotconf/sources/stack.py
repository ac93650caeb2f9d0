"""The stack: every source of one configuration, the weakest first, and the state of each of them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - the OpenAPI document reads these annotations
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from pydantic_settings import BaseSettings
from typing_extensions import TypedDict

from hotconf.abc import Checkable, Hinting, Source, WatchedFiles
from hotconf.errors import SourceBusy, SourceError, SourceUnreachable
from hotconf.schema.keys import with_canonical_keys
from hotconf.sources.cache import SourceCache
from hotconf.sources.content import ContentFiles
from hotconf.sources.dotenv import Dotenv
from hotconf.sources.file import File
from hotconf.sources.memory import program_layer
from hotconf.sources.overlay import Overlay
from hotconf.sources.patience import Overdue, within
from hotconf.sources.pydantic import SettingsSources
from hotconf.sources.reader import ReadLimits, StillWritten, content_revision, stamp_of
from hotconf.values.layer import Layer, Origin, Readings, SourceReading
from hotconf.values.report import Fault
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from hotconf.schema.settings import Options
    from hotconf.sources.construct import Constructor

    Needs: TypeAlias = "dict[SourceState, Sequence[Sequence[Layer]]]"
    Errors: TypeAlias = "dict[SourceState, BaseException | None]"

T = TypeVar("T")

_READS = 3
"""How often one read of the stack reads a source whose files are replaced meanwhile."""

OUTAGES = (OSError, TimeoutError, SourceUnreachable)
"""Errors of a source that is out of reach: what it held may still be right."""

ReadState: TypeAlias = Literal["unread", "fresh", "stale", "failed"]


class SourceStatus(TypedDict):
    """The state of one source, as the status of a configuration shows it.

    `revision` is that of what it holds, as far as it was read; `read_at` when it was last read without a failure.
    `following` says since when it tells of changes, or why it does not; None for one that never does. `failures` counts
    those in a row. `age` is 0 while the source is in reach, else the seconds since it was, None before it ever was.
    """

    name: str
    kind: str
    required: bool
    state: ReadState
    protection: str | None
    error: str | None
    revision: str | None
    read_at: datetime | None
    following: datetime | str | None
    failures: int
    age: float | None


def compose(constructor: Constructor, sources: Sequence[Any], options: Options) -> list[Source]:
    """Return every source of a configuration, the weakest first.

    Args:
        constructor: Constructs the settings, and knows which sources their class has itself.
        sources: Paths and sources that the program has given.
        options: May add an overlay.

    Raises:
        TypeError: Something that was given is neither a path nor a Source.
        ValueError: hotconf would write over a file that is read, or write two things to one file.
    """
    model = constructor.model
    stack: list[Source] = [_as_source(source, constructor, options) for source in sources]
    files = (path for source in stack if isinstance(source, (File, Dotenv)) for path in source.paths())
    taken = {os.path.abspath(path): "a source" for path in files}  # noqa: PTH100 - a/../b is b
    for name in ("overlay", "last_good", "audit_log"):
        path = getattr(options, name)
        other = name if path in (None, True) else taken.setdefault(os.path.abspath(path), name)  # noqa: PTH100 - the same
        if other != name:
            raise ValueError(f"{name}: {path} is {other} already: it would be written over, so name another file")
    if constructor.init and not issubclass(model, BaseSettings):  # a BaseSettings class decides where they stand
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


def _as_source(source: Any, constructor: Constructor, options: Options) -> Source:
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        source = File(source, size_limit=options.size_limit, settle=options.settle, max_wait=options.max_wait)
    if isinstance(source, File) and source.is_dotenv and issubclass(constructor.model, BaseSettings):
        return Dotenv(source, constructor.model, constructor.options)
    if isinstance(source, type) or not isinstance(source, Source):
        raise TypeError(f"{source!r} is neither a path nor a Source, which has a name, required and an async read()")
    return source


class InitValues:
    """The values that HotConf was given for a class without sources of its own."""

    name = kind = "init"
    required = True

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._layer = program_layer("init", values, kind="init")

    async def read(self) -> Layer:
        """Return the values."""
        return self._layer


def several(paths: Any) -> Sequence[Any]:
    """Return one path, or several, as a sequence. A path that is a string is not the sequence of its characters."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


@dataclass(slots=True, eq=False)
class SourceState:
    """One source, and how its last read went.

    `stale` means that the layers of an earlier read stand in for it; `busy`, that one of its files is being written, or
    that the process is out of descriptors or memory. `revision` is the version of what the last read found, understood
    or not. `following` says since when the source tells of changes, or why it does not.
    """

    source: Source
    read_timeout: float | None = None
    cache: SourceCache | None = None
    state: ReadState = "unread"
    error: str | None = None
    busy: bool = False
    layers: Sequence[Layer] | None = None
    revision: str = ""
    read_at: datetime | None = None
    following: datetime | str | None = None
    failures: int = 0
    _in_reach: float = 0.0
    # Asked once: a check of a runtime protocol takes longer than anything else in a small reload.
    is_followed: bool = field(init=False)
    _is_watched: bool = field(init=False)
    reads_blocking: bool = field(init=False)
    # The layers of the last read, each with its canonical one.
    canonical: tuple[tuple[Layer, Layer], ...] = ()

    def __post_init__(self) -> None:
        self._is_watched = isinstance(self.source, WatchedFiles)
        self.is_followed = isinstance(self.source, Hinting)
        # A subclass with a `read` of its own is read by that.
        classes, names = type(self.source).__mro__, ("read", "read_blocking")
        own, blocking = (next((cls for cls in classes if name in vars(cls)), None) for name in names)
        self.reads_blocking = own is blocking and "read" not in getattr(self.source, "__dict__", ())

    def paths(self) -> Iterable[Path]:
        """Return the files and folders that should be watched now. Raises what the source raises."""
        return cast("WatchedFiles", self.source).paths() if self._is_watched else ()

    async def read(self, *others: Sequence[Layer]) -> None:
        """Read the source. One that is out of reach may keep the layers of its last read.

        `others` are the layers of the weaker and of the stronger sources, for a source that reads after them.

        Raises:
            SourceError: It cannot be read or understood.
        """
        with self._recording():
            self._keep(await within(self.read_timeout, cast("Any", self.source).read(*others)))

    def read_blocking(self, *others: Sequence[Layer]) -> bool:
        """Do what `read` does in the thread of the caller. Return whether it did: a source may have to be awaited."""
        if not self.reads_blocking:
            return False
        with self._recording():
            try:
                self._keep(cast("Any", self.source).read_blocking(*others))
            except StillWritten:
                return False
        return True

    @contextlib.contextmanager
    def _recording(self) -> Iterator[None]:
        """Record how a read goes. Raises SourceError where it failed and nothing stands in for it."""
        try:
            yield
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a panic in an extension's Rust is no Exception
            if isinstance(error, SystemExit) and not error.code:
                raise  # exit code 0, for example after --help
            faults = self.failed(error)
            if isinstance(error, OUTAGES):
                if self.layers is None and self.cache is not None:
                    faults = (*faults, *self._take_from(self.cache))
                if self.layers is not None and self.keeps:
                    self.state = "stale"
                    return
            self.revision = getattr(error, "revision", "")
            raise SourceError(faults) from error

    def _keep(self, read: Layer | Sequence[Layer]) -> None:
        layers: Sequence[Layer] = read if isinstance(read, (list, tuple)) else [cast("Layer", read)]
        for layer in layers:
            held: object = getattr(layer, "values", None)
            if not isinstance(held, Mapping):
                message = "cannot be read: what it returned is not a Layer that holds a mapping"
                raise SourceError([Fault("", message, Origin("source", self.source.name))])
        self.layers, self.revision = layers, _joined([layer.revision for layer in layers])
        self.state, self.error, self.busy, self.failures = "fresh", None, False, 0
        self.read_at, self._in_reach = utcnow(), time.monotonic()

    def _take_from(self, cache: SourceCache) -> Sequence[Fault]:
        """Start with what the cache has. Return why that cannot be, nothing where it can."""
        try:
            layer, written_at = cache.read()
        except SourceError as error:
            return error.faults
        self.layers, self.revision, self.read_at = (layer,), layer.revision, written_at
        self._in_reach = time.monotonic() - max(0.0, (utcnow() - written_at).total_seconds())
        return ()

    def confirm(self) -> None:
        """Note that the source is in reach, and still has what was read last."""
        self._in_reach = time.monotonic()
        if self.state == "stale":
            self.state, self.error, self.failures = "fresh", None, 0

    def waits_for(self, triggers: Collection[str]) -> bool:
        """Whether it is out of reach, and will say itself when that is over."""
        says = isinstance(self.following, str) or (self.is_followed and isinstance(self.source, Checkable))
        return self.state == "stale" and says and self.source.name not in triggers and self.keeps

    @property
    def keeps(self) -> bool:
        """Whether what was read last may stand in for a source that is out of reach."""
        limit = getattr(self.source, "max_stale", None)
        outage = getattr(self.source, "outage", "reject" if self.source.required else "keep")
        return outage == "keep" and (limit is None or time.monotonic() - self._in_reach <= limit)

    def lost(self, error: BaseException) -> None:
        """Note that the source does not tell of changes any more, and whether it is out of reach."""
        state, layers = self.state, self.layers
        self.following = "; ".join(map(str, self.failed(error)))
        out_of_reach = isinstance(error, OUTAGES) and layers is not None and self.keeps
        self.state = "stale" if out_of_reach else state
        self.error = self.following if out_of_reach else None

    def failed(self, error: BaseException) -> Sequence[Fault]:
        """Note a failure, and return its faults."""
        if isinstance(error, SourceError):
            faults: Sequence[Fault] = error.faults
        else:
            # Not the error's own text, which may quote a token. A source that has more to say raises SourceError.
            number = error.errno if isinstance(error, OSError) else None
            kind = str(error) if isinstance(error, Overdue) else type(error).__name__
            what = f"{kind}: {os.strerror(number)}" if number else kind
            faults = [Fault("", f"cannot be read: {what}", Origin("source", self.source.name))]
        self.state, self.error, self.busy = "failed", "; ".join(map(str, faults)), isinstance(error, SourceBusy)
        self.failures += 1
        return faults

    def reading(self, model: type[BaseModel]) -> SourceReading:
        """Return what was read last, with canonical keys. What a class declares for itself may come and go.

        A layer that an earlier read returned too keeps its canonical one.
        """
        known = {id(read): canonical for read, canonical in self.canonical}
        self.canonical = tuple(
            (layer, known.get(id(layer)) or with_canonical_keys(model, layer)) for layer in self.layers or ()
        )
        layers = tuple(canonical for _, canonical in self.canonical)
        guarded = self.source.required and getattr(self.source, "guarded", True)
        files: frozenset[str] = getattr(self.source, "files", frozenset())
        return SourceReading(layers, guarded, files, self.source.name, self.revision)

    @property
    def status(self) -> SourceStatus:
        """The state as the status of the configuration shows it."""
        age = None if self.read_at is None else time.monotonic() - self._in_reach
        return {
            "name": self.source.name,
            "kind": getattr(self.source, "kind", "source"),
            "required": self.source.required,
            "state": self.state,
            "protection": getattr(self.source, "protection", None),
            "error": self.error,
            "revision": self.revision or None,
            "read_at": self.read_at,
            "following": getattr(self.source, "polls", None) or self.following,
            "failures": self.failures,
            "age": 0.0 if self.state == "fresh" else age,
        }


@dataclass(slots=True, eq=False)
class Stack:
    """The sources of a settings class in the order in which they are merged, the overlay last if there is one.

    One read at a time. One that is cancelled may still be under way in its thread, and the next one waits for it.
    """

    model: type[BaseModel]
    states: tuple[SourceState, ...]
    contents: ContentFiles
    read_timeout: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _under_way: tuple[Errors, SourceState] | None = field(default=None, init=False)

    @classmethod
    def of(
        cls,
        model: type[BaseModel],
        sources: Sequence[Source],
        limits: ReadLimits | None = None,
        read_timeout: float | None = None,
    ) -> Stack:
        """Build a stack, the weakest source first."""
        states = tuple(_state(source, model, read_timeout) for source in sources)
        return cls(model, states, ContentFiles(limits or ReadLimits()), read_timeout)

    def afresh(self) -> Stack:
        """Return the same sources, unread, for a forked child: what a thread of the parent reads is nothing to it.

        They are not made again, since the working directory may be another by now.
        """
        states = tuple(_state(state.source, self.model, self.read_timeout) for state in self.states)
        return Stack(self.model, states, self.contents, self.read_timeout)

    @property
    def revisions(self) -> Mapping[str, str]:
        """The revision that the last read found in each source, understood or not, by the source's name."""
        return {state.source.name: state.revision for state in self.states if state.revision}

    async def save_caches(self) -> None:
        """Keep what was read last on disk, for the sources that want that. For after it was applied."""
        for state in self.states:
            if state.cache is not None and state.state == "fresh":
                await asyncio.to_thread(state.cache.write, state.canonical[0][1], state.revision)

    @property
    def overlay(self) -> Overlay | None:
        """The source that patches are written to, None where there is none."""
        return next((state.source for state in self.states if isinstance(state.source, Overlay)), None)

    async def read(self, use: Callable[[Readings], T], triggers: Collection[str] = ()) -> T:
        """Read every source, and return what `use` makes of the readings, in the thread that read the files.

        A hop between threads costs more than a small reload. So one thread reads all sources that can be read in a
        thread, the files above all, and goes on with `use`. The loop awaits the others, all at once.

        Where `triggers` are file changes and hints of other sources only, a source that is known to be out of reach is
        not waited for: its own hint tells when it is back.

        Several files are read as they were at one time: a source of which one was replaced meanwhile is read again. For
        files that are replaced all the time this ends after a few reads; the watcher then asks for another reload.

        Raises:
            SourceError: Every fault of every source.
        """
        hints = {"file", *(state.source.name for state in self.states)}
        only_hints = bool(triggers) and hints.issuperset(triggers)
        errors: Errors = {state: None for state in self.states if only_hints and state.waits_for(triggers)}
        steps = self._read(errors, use)
        while True:
            context, loop = contextvars.copy_context(), asyncio.get_running_loop()
            step = loop.run_in_executor(None, context.run, self._advance, steps)
            try:
                await asyncio.wait((step,), timeout=self.read_timeout)
                stuck = self._under_way
                if not step.done() and stuck is not None:  # from now on it is awaited by itself, for as long
                    stuck[1].reads_blocking, self._lock, self._under_way = False, threading.Lock(), None
                    return await self.read(use, triggers)
                awaited, result = await step
            finally:
                step.cancel()
            if awaited is None:
                return cast("T", result)
            reads = (state.read(*others) for state, others in awaited.items())
            errors.update(zip(awaited, await asyncio.gather(*reads, return_exceptions=True), strict=True))

    def _advance(self, steps: Generator[Needs, None, T]) -> tuple[Needs | None, T | None]:
        """Go on with a read. Return what has to be awaited before the next step; None at the end, with the result."""
        with self._lock:
            try:
                return next(steps), None
            except StopIteration as end:
                return None, end.value

    def _read(self, errors: Errors, use: Callable[[Readings], T]) -> Generator[Needs, None, T]:
        """Read all sources in the thread of the caller. Yield those that have to be awaited, with what they need."""
        last = [state for state in self.states if getattr(state.source, "reads_last", False)]
        before, late = self._stamps(), tuple(state for state in self.states if state not in errors)
        for _ in range(_READS):
            yield from self._ask({state: () for state in late if state not in last}, errors)
            for state in last:
                index = self.states.index(state)
                below, above = (
                    [layer for other in part if errors[other] is None for layer in other.layers or ()]
                    for part in (self.states[:index], self.states[index + 1 :])
                )
                yield from self._ask({state: (below, above)}, errors)
            after = self._stamps()
            late = tuple(state for state in self.states if _differ(before.get(state, {}), after.get(state, {})))
            if not late:
                break
            before = after
        faults = list[Fault]()
        for state, error in errors.items():
            if isinstance(error, SourceError):
                faults += error.faults
            elif isinstance(error, asyncio.CancelledError):  # by the source itself: a failure like any other
                faults += state.failed(error)
            elif error is not None:
                raise error
        if faults:
            raise SourceError(faults)
        return use(self._readings())

    def _ask(self, needs: Needs, errors: Errors) -> Iterator[Needs]:
        """Read each source, with the layers of others that it needs."""
        awaited: Needs = {}
        for state, others in needs.items():
            self._under_way = mine = errors, state
            try:
                if not state.read_blocking(*others):
                    awaited[state] = others
                errors[state] = None
            except BaseException as error:  # noqa: BLE001 - raised when all were asked
                errors[state] = error
            if self._under_way is not mine:
                raise TimeoutError  # it was given up, and another read has taken its place
            self._under_way = None
        if awaited:
            yield awaited

    def _stamps(self) -> Mapping[SourceState, Mapping[Path, object]]:
        """Return what tells one version of each source's files from another; nothing for less than two files."""
        paths: dict[SourceState, Sequence[Path]] = {}
        for state in self.states:
            with contextlib.suppress(Exception):  # a source's own fault; its read goes on
                paths[state] = list(state.paths())
        if sum(map(len, paths.values())) < 2:
            return {}
        return {state: {path: stamp_of(path) for path in found} for state, found in paths.items()}

    def _readings(self) -> Readings:
        overlay = next((state for state in self.states if isinstance(state.source, Overlay)), None)
        sources = tuple(state.reading(self.model) for state in self.states if state is not overlay)
        return Readings(sources, overlay.reading(self.model).layers[0] if overlay is not None else None)

    def moved(self) -> bool:
        """Whether files that a source told of only when it was read have changed since. Blocks."""
        sources = [state.source for state in self.states if isinstance(state.source, SettingsSources)]
        return self.contents.moved() or any(source.moved() for source in sources)

    def paths(self) -> Iterator[Path]:
        """Yield every file and folder that should be watched now."""
        for state in self.states:
            yield from state.paths()
        yield from self.contents.paths()


def _state(source: Source, model: type[BaseModel], read_timeout: float | None) -> SourceState:
    path = getattr(source, "cache", None)
    return SourceState(source, read_timeout, None if path is None else SourceCache(path, source.name, model))


def _joined(revisions: Sequence[str]) -> str:
    """Return one revision for several layers, empty where one of them has none."""
    if len(revisions) == 1 or not all(revisions):
        return revisions[0] if len(revisions) == 1 else ""
    return content_revision("\n".join(revisions).encode())


def _differ(before: Mapping[Path, object], after: Mapping[Path, object]) -> bool:
    """Whether a file has changed. A file that its source named only after the read is not known to have changed."""
    return any(after.get(path, stamp) != stamp for path, stamp in before.items())
