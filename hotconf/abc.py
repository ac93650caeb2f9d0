"""Protocols that users implement. Nothing here runs.

Each protocol is small on purpose: reading a source, watching it, taking part in a reload and serving are separate.
Beside them are the types that factories of resources are annotated with: each takes a Candidate and becomes a Resource.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from hotconf.errors import SchemaError
from hotconf.values.keypath import touches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from hotconf.values.change import Change
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer
    from hotconf.values.report import Report

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
class Source(Protocol):
    """Supplies values. Only reading is required of it.

    It may have three more attributes. `outage` is what a read does that finds it out of reach: "keep" what it held
    before, the default for an optional source, or "reject" the reload. `max_stale` are the seconds for which that is
    kept, None without limit. `quiet` are the seconds without a further hint that the engine waits for before it reads,
    for values that belong together and are written one after the other.
    """

    @property
    def name(self) -> str:
        """The name that operators see; unique among the sources of one configuration."""
        ...

    @property
    def required(self) -> bool:
        """Whether its absence rejects a reload. An optional source may be absent; a malformed one always rejects."""
        ...

    async def read(self) -> Layer | Sequence[Layer]:
        """Return everything that the source holds now. Called by one reload at a time.

        One that takes longer than `Options.read_timeout` is cancelled, and counts as out of reach.

        Several layers, the weakest first, are for what can only be read together, such as the files of a folder.

        MUST raise when the source cannot be read or understood, and MUST NOT return an empty layer instead. An optional
        source that is absent returns a layer without values. May return the same layer object as last time when nothing
        has changed, which saves the work that follows.

        Raises:
            SourceError: The source cannot be read. It is the best error to raise: it names the place.
            SourceBusy: The source cannot be read for the moment.
            SourceUnreachable: The source is out of reach, as with an OSError or TimeoutError, but with its own words.
        """
        ...


@runtime_checkable
class Settling(Protocol):
    """A source that may raise SourceBusy and can tell when to try again."""

    async def until_quiet(self) -> None:
        """Return when the source may be read again. May be cancelled."""
        ...


@runtime_checkable
class WatchedFiles(Protocol):
    """A source that reads files or folders. They are watched for it."""

    def paths(self) -> Iterable[Path]:
        """Return the files and folders whose change should cause a reload. Asked again whenever one has changed.

        `folder/*.toml` stands for the files of a folder with that suffix.
        """
        ...


@runtime_checkable
class Hinting(Protocol):
    """A source that can tell when it may have changed.

    The engine enters `changes` before the first read, and again, after a growing random pause, whenever it has ended or
    raised. An OSError, TimeoutError or SourceUnreachable that it raises marks the source as out of reach until the next
    read that succeeds. After each later entry the engine reads once: what changed in between is not lost.
    """

    def changes(self) -> AsyncIterator[object]:
        """Yield any object for each possible change. It is only a hint: what counts is what `read` returns.

        The next read MUST be at least as new as the change of which the hint tells. A source may keep to itself what
        does not concern it. One that needs time to set its watch yields once when it is set.
        """
        ...


@runtime_checkable
class Checkable(Protocol):
    """A source that can tell cheaply, without its watch, whether its last read is outdated: in case the watch is dead.

    The engine asks about once a minute. True causes a read and a new watch; an error, what an error of `changes` does.
    """

    async def outdated(self) -> bool:
        """Return whether the source holds another revision than its last read returned."""
        ...


@runtime_checkable
class Connected(Protocol):
    """A source that keeps something open, such as a connection, for as long as an engine runs."""

    def connect(self) -> AbstractAsyncContextManager[object]:
        """Return a context manager, which the engine enters in its loop before the first read, and leaves at its end.

        Entering MUST NOT wait for a remote: `read` connects. A read outside, such as that of `load`, connects for
        itself. Another engine may enter it again in another loop, after a fork without having left it.
        """
        ...


@runtime_checkable
class Attachable(Protocol):
    """A source that has to know the configuration that reads it: to observe its reloads, or to rehearse one."""

    def attach(self, conf: Any) -> None:
        """Note the HotConf. Called once, when it is made; nothing is read yet."""
        ...


class Prepared(Protocol):
    """Returned by prepare. Exactly one of its two methods is called, once."""

    def commit(self) -> None:
        """Put the prepared state into force. Called right after the swap; must be quick and cannot await."""
        ...

    def rollback(self) -> Awaitable[None] | None:
        """Undo what prepare did. Called in reverse order when another subscriber refused."""
        ...


class Subscriber(Protocol[S]):
    """Takes part in a reload as an object. A subscriber that raises from prepare has cleaned up after itself."""

    name: str

    async def prepare(self, change: Change[S]) -> Prepared | None:
        """Get ready for a candidate.

        Raises:
            Refuse: The candidate must not be applied. The reason is shown to the operator.
        """
        ...


class Observer(Protocol):
    """Is told of every reload, on the engine's loop. Must be quick, and must not raise."""

    def reload_began(self, triggers: Sequence[str]) -> None:
        """Note that a reload has begun, and what triggered it."""
        ...

    def reload_ended(self, report: Report) -> None:
        """Note the report of a reload. Not called for one that the end of the engine cancelled."""
        ...


class Server(Protocol):
    """Something that serves until it is told to drain. Driven by a Service, always in this order.

    `start` raises OSError where an address cannot be bound and leaves nothing half started. `begin_drain` is called at
    the first signal: the server goes on serving, but tells clients to leave. `drain` stops accepting and waits for the
    requests in flight until `deadline` (the loop's clock, seconds), then closes those that remain and returns their
    names. `stop` is always called last, also after a start that failed.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - the class docstring states the contract

    async def start(self) -> None: ...  # noqa: D102
    def begin_drain(self) -> None: ...  # noqa: D102
    async def drain(self, *, deadline: float) -> tuple[str, ...]: ...  # noqa: D102
    async def stop(self) -> None: ...  # noqa: D102


class Resource(Generic[R_co]):
    """The key of a resource: `snap[key]` is the object that belongs to a snapshot. Made by `HotConf.resource`.

    `factory` takes a Candidate and returns a context manager, sync or async.
    """

    __slots__ = ("factory", "name", "paths")

    def __init__(
        self,
        factory: Callable[[Candidate[Any]], AbstractAsyncContextManager[R_co] | AbstractContextManager[R_co]],
        paths: tuple[KeyPath, ...] = (),
    ) -> None:
        self.factory = factory
        self.paths = paths
        self.name: str = getattr(factory, "__qualname__", None) or type(factory).__name__
        if inspect.isgeneratorfunction(factory) or inspect.isasyncgenfunction(factory):
            decorator = "asynccontextmanager" if inspect.isasyncgenfunction(factory) else "contextmanager"
            raise SchemaError(f"{self.name} yields but is no context manager: put @{decorator} below @resource")

    def __repr__(self) -> str:
        return f"<resource {self.name}>"

    def wants(self, changed: Iterable[KeyPath]) -> bool:
        """Whether a change at, below or above any of its paths took place."""
        return any(not self.paths or any(touches(path, wanted) for wanted in self.paths) for path in changed)


class Candidate(Protocol[S_co]):
    """A candidate as the factory of a resource sees it: settings that are not running yet, and earlier resources."""

    @property
    def settings(self) -> S_co:
        """The settings to build from."""
        ...

    def __getitem__(self, resource: Resource[R]) -> R:
        """Return the object of a resource that was registered earlier.

        The resource under construction is built again whenever that one is.

        Raises:
            NotBuilt: the other resource is registered later, or was unsubscribed.
        """
        ...
