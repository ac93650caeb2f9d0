"""HotConf: the facade. It puts the parts together and adds nothing of its own to how a reload travels."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, cast, overload

from pydantic import BaseModel

import hotconf.schema.caches as caches
from hotconf.abc import Attachable, Resource
from hotconf.engine.host import EngineHost
from hotconf.engine.running import Running
from hotconf.errors import ConfigError, NotLoaded, NotRunning, SchemaError
from hotconf.reload.audit import AuditLog
from hotconf.reload.candidate import CandidateBuilder
from hotconf.reload.holder import Holder
from hotconf.reload.last_good import LastGood, place_of
from hotconf.reload.override import Override
from hotconf.reload.proxy import SettingsProxy
from hotconf.reload.reloader import Reloader
from hotconf.reload.report import Status
from hotconf.reload.request import Confirm, Patch, Rehearse, ReloadRequest, Rollback, refuse_reentry
from hotconf.reload.subscribers import LatestChange, Subscribers, Subscription
from hotconf.schema.fields import check_schema, resolve_path
from hotconf.schema.settings import Options
from hotconf.sources.construct import Constructor
from hotconf.sources.reader import ReadLimits, working_folder
from hotconf.sources.stack import Stack, compose, several

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import Self, TypeAlias

    from hotconf.abc import Candidate, Observer, Source, Subscriber
    from hotconf.reload.history import Generation
    from hotconf.reload.snapshot import Snapshot
    from hotconf.schema.explain import Explanation, Origins
    from hotconf.values.change import Change
    from hotconf.values.keypath import KeyPath
    from hotconf.values.report import Fault, Report

    AnySource: TypeAlias = Source | str | os.PathLike[str]

S = TypeVar("S", bound=BaseModel)
R = TypeVar("R")
F = TypeVar("F", bound="Callable[..., Any] | Subscriber[Any]")

log = logging.getLogger("hotconf")


class HotConf(Holder[S]):
    """A live configuration: the settings of one class, read from many sources, replaced as a whole.

    Constructing reads nothing. `current` and `snapshot` may be read from any thread or task after the first load.

    Args:
        schema: Any BaseSettings or BaseModel class, unchanged.
        files: Paths or sources, later above earlier, all above the defaults.
        sources: Paths or sources, later above earlier, all above `files`. What the class itself declares (environment,
            dotenv, secrets, its own sources) is above them.
        init: Values for the constructor of the class, at the place that its sources give them.
        options: How hotconf behaves.
        settings_options: Constructor options of pydantic-settings, such as `{"_env_file": "prod.env"}`.

    Raises:
        SchemaError: The class cannot be used.
        ValueError: An option names a file that is a source too.
    """

    def __init__(  # noqa: PLR0917 - in the order in which they are needed
        self,
        schema: type[S],
        files: Iterable[AnySource] = (),
        sources: Iterable[AnySource] = (),
        init: Mapping[str, Any] | None = None,
        options: Options | None = None,
        settings_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _check(schema)
        weakref.finalize(self, caches.forget).atexit = False
        self.schema = schema
        self.options = options or Options()
        self._constructor = Constructor(schema, init, settings_options)
        self._given = [*several(files), *several(sources)]
        self._subscribers = Subscribers()
        self._started: list[Running[Any]] = []
        self._put_together()
        self._follow_forks()
        self._attach(self._given)

    def __repr__(self) -> str:
        generation = self.snapshot.generation if self.loaded else 0
        return f"<HotConf {self.schema.__name__} {self._host.state} generation={generation}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: it runs in this process alone. Raises TypeError."""
        raise TypeError("a HotConf cannot be pickled or copied: take `current`, its settings, instead")

    def amend(self, files: Iterable[AnySource] = (), **options: Any) -> None:
        """Put files above those and the sources that were given, and change options by name.

        For a program that learns of them after construction, for example from its command line.

        Raises:
            RuntimeError: The configuration was loaded or is running.
        """
        if self.loaded or self._host.state != "new":
            raise RuntimeError("files and options can be amended only before the first load")
        self.options = Options(**{**dict(self.options), **options})
        added = several(files)
        self._given.extend(added)
        observers = tuple(observer for observer in self._reloader.reports.observers if observer is not self.audit)
        self._put_together()
        self._reloader.reports.observers += observers
        self._attach(added)

    def _attach(self, sources: Iterable[AnySource]) -> None:
        for source in sources:
            if isinstance(source, Attachable):
                source.attach(self)

    def _put_together(self) -> None:
        schema, options = self.schema, self.options
        limits = ReadLimits(options.size_limit, options.settle, options.max_wait)
        sources = compose(self._constructor, self._given, options)
        self._stack = Stack.of(schema, sources, limits, options.read_timeout)
        self._reloader = Reloader(
            CandidateBuilder(
                self._constructor,
                options.guard,
                options.on_restart_required,
                working_folder() / options.digest_key_file if options.digest_key_file is not None else None,
                options.unknown,
            ),
            self._stack,
            holder=self,
            subscribers=self._subscribers,
            options=options,
        )
        if options.last_good is True:
            self._last_good: LastGood | None = LastGood(place_of(schema), schema, makes_folder=True)
        else:
            self._last_good = LastGood(options.last_good, schema) if options.last_good is not None else None
        self._host = EngineHost(self, self._reloader, self._stack, self._last_good, options)
        self.audit = AuditLog(options.audit_log) if options.audit_log is not None else None
        if self.audit is not None:
            self.observe(self.audit)

    def load(self) -> Report:
        """Read the sources once, blocking, and put the settings into force: for scripts, and before anything runs.

        Subscribers and resources take no part; they do when `running` starts.

        Returns:
            The report, applied or unchanged.

        Raises:
            ConfigError: The configuration was rejected. It holds the report with every fault.
            ReentrantReload: The caller is part of a reload.
        """
        refuse_reentry(self)
        if self._host.engine is not None:
            report = self.reload_blocking()
        else:
            report = self._host.load(ReloadRequest(("load",), raises=True)).result()
        if report.outcome == "rejected":
            raise ConfigError(report)
        return report

    def proxy(self) -> S:
        """Return an object that looks up each attribute in the settings in force, for modules that hold settings.

        It loads the configuration when it is first used before anything else has. A look-up costs about fifteen times
        what one in `current` costs, and two of one request may see two generations: prefer `current` and `pin`.

        Returns:
            What `isinstance` takes for settings of the class.
        """

        def current() -> S:
            try:
                return self.current
            except NotLoaded:
                self.load()
                return self.current

        return cast("S", SettingsProxy(self.schema, current))

    def running(
        self, signals: Iterable[str] | None = None, after_fork: Literal["resume", "keep"] | None = None
    ) -> Running[Self]:
        """Return a context manager, sync or async, inside which the configuration is live.

        `async with` runs in the current event loop, `with` in a thread of its own. Entering raises ConfigError when the
        first reload is rejected. On exit the signal handlers of before are back. It may be entered again, from any
        thread or loop: the configuration is live until the last exit.

        Args:
            signals: The signals that reload: ("HUP",) or (). None routes SIGHUP in the main thread, and elsewhere logs
                that it does not.
            after_fork: What becomes of the configuration in a forked child. "resume": it goes on live in a thread, with
                resources of its own, from the first read of the settings on. "keep": it keeps the settings. None
                resumes for `with` and keeps for `async with`.
        """
        return Running(self, self._host, signals, after_fork)

    def start(self) -> None:
        """Enter `running()` without a block, in a thread. Each call counts and takes a `stop`.

        Raises:
            ConfigError: The first reload was rejected.
        """
        running = self.running()
        running.__enter__()
        self._started.append(running)

    def stop(self) -> None:
        """Leave what `start` entered. A call too many does nothing."""
        if self._started:
            self._started.pop().__exit__(None, None, None)

    async def reload(self, *, force: bool = False, trigger: str = "call", dry_run: bool = False) -> Report:
        """Reload, and return the report of a reload that started after this call. Works in any event loop.

        A bad file raises nothing. Cancelling the wait does not cancel the reload.

        Args:
            force: Overrule the guard and a held rollback.
            trigger: What the report calls the reason.
            dry_run: Run validation and prepare hooks, roll them back, report the result, apply nothing.

        Raises:
            ReentrantReload: Awaited inside prepare, commit or a resource.
            Draining: The process drains.
            NotRunning: The process was forked from one where the configuration is live.
        """
        return await self._host.run(ReloadRequest((trigger,), force, dry_run=dry_run))

    async def rehearse(self, within: AbstractContextManager[None], *, trigger: str = "rehearsal") -> Report:
        """Make a dry run whose sources are read within a context, and return its report. Nothing is applied.

        For a source that knows what it may say next: within the context it says that. Validation, prepare hooks and
        resources take part as in any reload, and are rolled back.

        Args:
            within: Entered in the task that reads the sources, so that it can set a context variable.
            trigger: What the report calls the reason.

        Raises:
            HotconfError: Whatever `reload` raises.
        """
        return await self._host.run(ReloadRequest((trigger,), operation=Rehearse(within), dry_run=True))

    def reload_blocking(self, timeout: float | None = None, *, force: bool = False) -> Report:
        """Do what `reload` does, for threads.

        Raises:
            TimeoutError: `timeout` seconds have passed; the reload goes on.
            RuntimeError: Called in the event loop that would have to reload.
        """
        refuse_reentry(self)
        if self._host.is_on_its_loop:
            raise RuntimeError("reload_blocking() would block the loop that has to reload: await reload() instead")
        return self._host.ask(ReloadRequest(("call",), force)).result(timeout)

    async def rollback(self, generation: int | None = None, *, trigger: str = "rollback") -> Report:
        """Go back to a generation of the history, None for the one before the running one. It gets a new number.

        Subscribers and resources take part as in any reload. The rollback is held until the sources change or a reload
        is forced.

        Raises:
            UnknownGeneration: The history has no such generation.
            HotconfError: Whatever `reload` raises.
        """
        return await self._host.run(ReloadRequest((trigger,), operation=Rollback(generation)))

    async def patch(
        self,
        values: Mapping[str, Any],
        *,
        confirm: float | None = None,
        expect: Callable[[Snapshot[S]], bool] | None = None,
        trigger: str = "patch",
        dry_run: bool = False,
    ) -> Report:
        """Merge a patch (RFC 7396) into the overlay, and reload.

        Args:
            values: By the names of settings. None takes a value back; secrets are refused.
            confirm: Seconds after which the patch is taken back unless `confirm` is called. Until then no file has it,
                and a restart forgets it.
            expect: Called with the snapshot in force when it is the patch's turn; False refuses the patch.
            trigger: What the report calls the reason.
            dry_run: Report what the patch would do, apply nothing.

        Raises:
            NoOverlay: `Options.overlay` names no file.
            Unconfirmed: Another patch waits to be confirmed.
            RollbackHeld: A rollback is held, which the patch would end.
            Stale: `expect` returned False.
            NotRunning: `confirm` is given and no engine runs.
            TypeError: `values` are no mapping.
            ValueError: `confirm` is no finite time.
            HotconfError: Whatever `reload` raises.
        """
        if confirm is not None and self._host.engine is None:
            raise NotRunning
        operation = Patch(values, confirm, expect)
        return await self._host.run(ReloadRequest((trigger,), operation=operation, dry_run=dry_run))

    async def confirm(self, *, trigger: str = "confirm") -> Report:
        """Write the patch that waits to be confirmed into the overlay, on top of its file as it is by then.

        Raises:
            NothingToConfirm: No patch waits.
            HotconfError: Whatever `reload` raises.
        """
        return await self._host.run(ReloadRequest((trigger,), operation=Confirm()))

    @property
    def unconfirmed(self) -> float | None:
        """The seconds until a patch that waits to be confirmed is taken back; None where none waits."""
        pending = self._reloader.editor.pending
        return None if pending is None else max(0.0, pending.deadline - time.monotonic())

    @property
    def history(self) -> tuple[Generation[S], ...]:
        """The last generations, oldest first; the last one is running."""
        return tuple(self._reloader.history)

    def request_reload(self, trigger: str = "call") -> None:
        """Ask for a reload and return, from any thread and from within a reload. Raises NotRunning or Draining."""
        self._host.queue.put(trigger)

    @property
    def origins(self) -> Origins:
        """The places of the values in force by now: lines may have moved since the snapshot. Raises NotLoaded."""
        if self._reloader.running is None:
            raise NotLoaded
        return self._reloader.running.origins

    @property
    def unknown_keys(self) -> tuple[Fault, ...]:
        """The keys of files that no field reads, in what is in force; none where `Options.unknown` is "ignore"."""
        return self._reloader.running.unknown if self._reloader.running is not None else ()

    def explain(self, path: str) -> Explanation:
        """Return which source supplied a value, and which values it shadows. Secrets are masked.

        Raises:
            KeyError: The settings in force have no such path.
            NotLoaded: Nothing was loaded yet.
        """
        return self.origins.explain(path)

    @overload
    def on_change(self, function: F, /, *, initial: bool = False) -> F: ...
    @overload
    def on_change(self, /, *paths: str, initial: bool = False) -> Callable[[F], F]: ...
    def on_change(self, /, *paths: Any, initial: bool = False) -> Any:
        """Call a function with each Change after the swap, where it touches one of the dotted paths, or always.

        With `initial` it is also called with the settings in force when an engine starts, or at once where one runs;
        `change.old` is None then. A sync function runs on the engine's loop and must be quick. An async one runs as a
        task, one at a time, and gets only the latest change when it is slow. The first generation is no change.
        `unsubscribe` takes it back.

        Raises:
            SchemaError: The class has no such path.
        """

        def add(subscription: Subscription) -> None:
            self._subscribers.add_listener(subscription, initial=initial)
            if initial:
                self._host.call_soon(functools.partial(self._reloader.notify_initial, subscription))

        return self._register(add, paths)

    async def changes(self, /, *paths: str) -> AsyncIterator[Change[S]]:
        """Yield each Change that touches one of the dotted paths, or any, until the engine stops: `async for`.

        It listens from its first step on; what changes between the call and that step is not told.
        A slow reader gets the latest only: changes that came meanwhile are joined into one. Works in any event loop.

        Raises:
            SchemaError: The class has no such path.
            NotRunning: No engine runs.
        """
        stream = LatestChange(tuple(resolve_path(self.schema, path) for path in paths))
        self._host.resume()
        if self._host.engine is None:
            raise NotRunning
        self._subscribers.add_stream(stream)
        try:
            while (change := await stream.take()) is not None:
                yield change
        finally:
            self._subscribers.remove(stream.put)

    @overload
    def prepare(self, function: F, /) -> F: ...
    @overload
    def prepare(self, /, *paths: str) -> Callable[[F], F]: ...
    def prepare(self, /, *paths: Any) -> Any:
        """Call a function with each Change before the swap. It rejects the reload by raising Refuse.

        It may return a Prepared, of which exactly one of commit and rollback is called. It is called for the paths of
        `on_change`, and when `running` starts with every path.

        Raises:
            SchemaError: The class has no such path.
        """
        return self._register(self._subscribers.add_prepare, paths)

    def resource(
        self, /, *paths: str
    ) -> Callable[[Callable[[Candidate[S]], AbstractAsyncContextManager[R] | AbstractContextManager[R]]], Resource[R]]:
        """Make a context manager a resource: `snap[pool]` is the object that it gave for the settings of a snapshot.

        It is called with a Candidate when `running` starts, and again before the swap whenever one of the dotted paths
        changes, or anything where there are no paths. What it raises rejects the reload. It exits in the task in which
        it was entered: after the last lease of its snapshots or `Options.retire_after` seconds later, and when the
        engine stops. Register before entering `running`.

        Raises:
            SchemaError: The class has no such path, or the function is a generator and no context manager.
        """
        resolved = tuple(resolve_path(self.schema, path) for path in paths)

        def register(
            factory: Callable[[Candidate[S]], AbstractAsyncContextManager[R] | AbstractContextManager[R]],
        ) -> Resource[R]:
            resource = Resource(factory, resolved)
            self._subscribers.add_prepare(resource)
            return resource

        return register

    def override(self, **values: Any) -> Override:
        """Return a context manager and decorator inside which some settings differ: for tests.

        Entering and leaving are two reloads: resources are rebuilt, subscribers take part, and every reader in any
        thread sees the values. Where no engine runs, it loads by itself. Overrides nest, and a reload inside one keeps
        it on top.

        Enter it with `async with` in the event loop in which the configuration is live, with `with` anywhere else. On
        that loop `with` works only where nothing has to be awaited.

        Args:
            values: Merged above every source, keys by name or alias.

        Raises:
            ConfigError: When entered, for values that do not validate or that a participant refuses.
            OperationRefused: When entered by `with` on the engine's loop, and something has to be awaited.
        """
        return Override(self._host, self.schema, values)

    def unsubscribe(self, registered: object) -> None:
        """Take back every registration of a function, subscriber or resource.

        Safe from any thread and from within it.
        """
        self._subscribers.remove(registered)

    def observe(self, observer: Observer) -> None:
        """Call an observer for every reload from now on: when it begins, and with its report."""
        self._reloader.reports.observers += (observer,)

    @property
    def status(self) -> Status:
        """How the configuration stands now."""
        snapshot, running = self.snapshot if self.loaded else None, self._reloader.running
        reports = self._reloader.reports
        last = self.reports[-1:]
        return Status(
            state=self._host.state,
            generation=snapshot.generation if snapshot else 0,
            digest=snapshot.digest if snapshot else None,
            loaded_at=snapshot.loaded_at if snapshot else None,
            last_reload=last[0] if last else None,
            consecutive_failures=reports.failures,
            sources=tuple(state.status for state in self._stack.states),
            watching=self._watching(),
            pending_restart=running.pending if running else (),
            held=self._reloader.held,
            degraded=self._degraded(),
            revisions=running.readings.revisions if running else {},
            leased=self.leased,
            uptime=time.monotonic() - self._host.started,
        )

    @property
    def recovered(self) -> str | None:
        """Why the last known good is in force, since the sources were broken at the start; None where it is not."""
        return self._reloader.recovered or None

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports of the last reloads, oldest first."""
        return tuple(self._reloader.reports.reports)

    def begin_drain(self) -> None:
        """Freeze the configuration: every trigger is refused from now on. For the service that drains the process."""
        self._host.freeze()

    def _degraded(self) -> tuple[str, ...]:
        stale = [f"source {state.source.name} is stale" for state in self._stack.states if state.state == "stale"]
        rejected = ["the last reload was rejected"] if self._reloader.reports.failures else []
        dead = [f"{name} has ended by itself" for name in self._reloader.resources.dead]
        recovered = [self._reloader.recovered] if self._reloader.recovered else []
        limit = self.options.lease_warning
        overdue = self.overdue(limit) if limit is not None else []
        leaks = [f"generation {n} is leased by {lease.owner} for more than {limit:g} s" for n, lease in overdue]
        last_good = self._last_good
        unsaved = [f"the last known good {last_good.error}"] if last_good is not None and last_good.error else []
        unwritten = [f"the audit log {self.audit.error}"] if self.audit is not None and self.audit.error else []
        orphaned = ["not live in this forked process: enter running() in it"] if self._host.orphaned else []
        engine = self._host.engine
        ended = ["reloads have ended by themselves"] if engine is not None and engine.has_failed else []
        half = self._reloader.reports.commit_errors
        own = (*orphaned, *ended, *recovered, *rejected, *half)
        return (*own, *stale, *dead, *unsaved, *unwritten, *dict.fromkeys(leaks))

    def _register(self, add: Callable[[Subscription], object], paths: Sequence[Any]) -> Any:
        if len(paths) == 1 and not isinstance(paths[0], str):
            add(_subscription(paths[0]))
            return paths[0]
        resolved = tuple(resolve_path(self.schema, path) for path in paths)

        def register(function: F) -> F:
            add(_subscription(function, resolved))
            return function

        return register

    def _watching(self) -> Mapping[str, Any]:
        engine = self._host.engine
        watcher = engine.watcher if engine else None
        if watcher is None:
            return {"kind": "none", "reason": self._why_nothing_is_watched() if engine else None}
        return {"kind": watcher.kind, "reason": watcher.reason}

    def _why_nothing_is_watched(self) -> str:
        if not self.options.watch:
            return "Options(watch=False)"
        if any(self._stack.paths()):
            return "the watcher ended with an error, see the log"
        return "no source names a file; a source of your own can, with a method paths()"

    def _leave_parent(self) -> None:
        """Go on in a forked child: with the settings, and without what only the parent's threads and loop can run."""
        super()._leave_parent()
        self._subscribers = self._subscribers.afresh()
        self._stack = self._stack.afresh()
        self._reloader.leave_parent(self._subscribers, self._stack)
        if self._host.leave_parent(self._stack) and self.loaded:
            # Not now: a child that only runs another program, or enters `running` anew, needs neither of the two.
            self._on_next_read(self._say_orphaned if self._host.orphaned else self._host.resume)

    def _say_orphaned(self) -> None:
        log.warning(
            "process %d was forked from one where the configuration is live; here it stays at generation %d: "
            "enter running() in this process to have it reload",
            os.getpid(),
            self.snapshot.generation,
        )


def _subscription(registered: Any, paths: tuple[KeyPath, ...] = ()) -> Subscription:
    """Return the registration of a function, or of an object that keeps the Subscriber protocol."""
    if hasattr(registered, "prepare"):
        return Subscription(registered.prepare, paths, name=str(getattr(registered, "name", "")))
    if not callable(registered):
        raise TypeError(f"{registered!r} is neither a function nor a Subscriber, which has a prepare method")
    if inspect.isgeneratorfunction(registered) or inspect.isasyncgenfunction(registered):
        raise TypeError(f"{registered.__qualname__} yields, so nothing in it would ever run: is it a resource?")
    return Subscription(registered, paths)


def _check(model: type[BaseModel]) -> None:
    try:
        check_schema(model)
    except NameError as error:
        raise SchemaError(f"{model.__name__} refers to a type that is not defined yet: {error}") from error
