"""The reload: one trip from reading the sources to the swap, and what follows it.

The file is read from the top: everything that can fail comes first, and one line divides it from the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import datetime as dt
import functools
import itertools
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import hotconf.keypath as keypath
from hotconf.change import Change
from hotconf.draft import Draft, Rejected, Rules, everything
from hotconf.edit import Edit, Editor
from hotconf.errand import Errand, Patch, Recover, Rollback
from hotconf.errors import ConfigError, LastGoodUnusable, NotLoaded, ReentrantReload, SourceError
from hotconf.explain import Origins
from hotconf.history import History
from hotconf.keys import canonical
from hotconf.last_good import boot_layers
from hotconf.layer import Reading
from hotconf.redact import trail
from hotconf.report import Fault, Report
from hotconf.resources import Resources
from hotconf.schema import mutable
from hotconf.snapshot import Snapshot
from hotconf.subscribers import PrepareFailed, Subscription, asked_to_stop, commit, prepare, rollback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hotconf.abc import Editable, Observer, Prepared
    from hotconf.errand import Operation, Phase
    from hotconf.holder import Holder, Lease
    from hotconf.keypath import KeyPath
    from hotconf.last_good import LastGood
    from hotconf.layer import Layer
    from hotconf.report import Outcome, PendingRestart
    from hotconf.resources import Assembly
    from hotconf.stack import Stack
    from hotconf.subscribers import Subscribers

S = TypeVar("S")

log = logging.getLogger("hotconf")

_inside: contextvars.ContextVar[Trip | None] = contextvars.ContextVar("hotconf_reload", default=None)


def utcnow() -> dt.datetime:
    """Return the wall clock in UTC. The only place that reads it."""
    return dt.datetime.now(dt.UTC)


@dataclass(slots=True, eq=False)
class Trip:
    """One reload under way."""

    errand: Errand
    owner: object
    started_at: dt.datetime = field(default_factory=utcnow)
    started: float = field(default_factory=time.monotonic)
    open: bool = True
    note: str = ""
    edit: Edit | None = None
    away: Sequence[Reading] | None = None  # what must not come back by itself
    overrides: tuple[Layer, ...] = ()


_REPORTS = 100
"""Reports that are kept: enough to see how it came about, few enough to forget about."""


_CHANGES = 50_000
"""Paths whose last change is remembered. Beyond, everything counts as changed: some watchers wake up for nothing."""


def refuse_reentry(holder: object) -> None:
    """Raise ReentrantReload where the caller is itself part of a reload, which would wait for itself."""
    trip = _inside.get()
    if trip is not None and trip.open and trip.owner is holder:
        raise ReentrantReload


class Reloader(Generic[S]):
    """Runs reloads, one at a time. The only writer of its holder."""

    def __init__(
        self,
        rules: Rules,
        stack: Stack,
        *,
        holder: Holder[S],
        subscribers: Subscribers,
        prepare_timeout: float | None = None,
        retire_after: float | None = None,
        overlay: Editable | None = None,
        last_good: LastGood | None = None,
        history: int = 20,
    ) -> None:
        self._rules = rules
        self._stack = stack
        self._holder = holder
        self._subscribers = subscribers
        self._prepare_timeout = prepare_timeout
        self._ids = itertools.count(1)
        self._news: tuple[Change[S], tuple[KeyPath, ...]] | None = None
        self._running: Draft[S] | None = None
        self._origins: tuple[Draft[S], Origins] | None = None
        self._held: Sequence[Reading] | None = None
        self.editor = Editor(overlay)
        self.resources = Resources(holder, retire_after)
        self.last_good = last_good
        self.recovered = ""
        self._saved = 0
        self.history: History[S] = History(history)
        self.reports: deque[Report] = deque(maxlen=_REPORTS)
        self.failures = 0
        self.commit_errors: tuple[str, ...] = ()
        self.overrides: tuple[Layer, ...] = ()
        self.observers: tuple[Observer, ...] = ()

    async def reload(self, errand: Errand) -> Report:
        """Make one trip and return its report. Cancelled, it changes nothing.

        Raises nothing else but OperationRefused, where the operation asks for something that is not there.
        """
        self._check(errand.operation)
        trip = Trip(errand, self._holder)
        token = _inside.set(trip)
        if not errand.dry_run:
            self._each_observer("reload_began", errand.triggers)
        try:
            report = await self._travel(trip)
        except Rejected as rejection:
            report = self._report(trip, "rejected", stage=rejection.stage, faults=rejection.faults)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            unforeseen = "a reload failed in an unforeseen way; what was running stays in force\n%s"
            log.error(unforeseen, trail(error))  # noqa: TRY400 - not its text
            fault = Fault("", f"unforeseen {type(error).__name__}, see the log")
            report = self._report(trip, "rejected", stage="read", faults=[fault])
        finally:
            trip.open = False
            if trip.edit is not None:
                self.editor.discard(trip.edit)
            _inside.reset(token)
        self._record(trip, report)
        return report

    async def boot(self, errand: Errand) -> Report:
        """Make the first trip. Where the sources are broken, start from the last known good, if there is one.

        Then the reports have both: the rejected one with its faults, and the one that is returned.
        """
        report = await self.reload(errand)
        if report.outcome != "rejected" or report.stage == "prepare" or self._holder.loaded:
            return report
        if self.last_good is None or errand.operation is not None:
            return report
        try:
            copy = await asyncio.to_thread(self.last_good.read)
        except LastGoodUnusable as error:
            return dataclasses.replace(report, faults=(*report.faults, Fault("", str(error))))
        live = [layer for state in self._stack.states if state.state != "failed" for layer in state.layers or ()]
        recover = Recover(boot_layers(self._rules.model, copy, live), _RECOVERED.format(copy=copy))
        recovered = await self.reload(dataclasses.replace(errand, operation=recover))
        if recovered.outcome == "rejected":
            faults = (*report.faults, *copy.missing(recover.layers[1:]), *recovered.faults)
            return dataclasses.replace(report, faults=faults)
        log.error("%s; the sources are broken: %s", self.recovered, "; ".join(map(str, report.faults)))
        return recovered

    def override(self, layer: Layer) -> Callable[[], None]:
        """Lay a layer above all sources, at once, and return what takes it back. Raises ConfigError."""
        layer = canonical(self._rules.model, layer)
        draft, snapshot = self._running, self._holder.snapshot if self._holder.loaded else None
        self._lay((*self.overrides, layer))
        laid = self._running

        def restore() -> None:
            rest = tuple(entry for entry in self.overrides if entry is not layer)
            self.overrides = rest  # also where the rest does not validate: then the next good reload ends it
            if (
                snapshot is None
                or self._running is not laid
                or self._holder.snapshot.resources is not snapshot.resources
            ):
                self._lay(rest)  # something was reloaded, or stopped, meanwhile
            else:
                self._holder._publish(snapshot)  # noqa: SLF001 - as in a reload
                self._running = draft

        return restore

    def _lay(self, overrides: tuple[Layer, ...]) -> None:
        if self._running is not None:
            try:
                draft = self._rules.overridden(self._running, overrides)
            except Rejected as rejection:
                trip = Trip(Errand(("override",)), self._holder)
                report = self._report(trip, "rejected", stage=rejection.stage, faults=rejection.faults)
                raise ConfigError(report) from None
            self._holder._publish(self._overridden(draft))  # noqa: SLF001
            self._running = draft
        self.overrides = overrides

    def _overridden(self, draft: Draft[S]) -> Snapshot[S]:
        # Of the same generation: it goes as it came, and numbers only ever grow.
        views = draft.views(self._rules.model)
        return dataclasses.replace(self._holder.snapshot, settings=draft.settings, **views)

    async def remember(self) -> None:
        """Write the last known good, if anything new was applied. What waits to be confirmed is not good yet."""
        draft, generation = self._running, self._generation
        if self.last_good is None or draft is None or generation == self._saved:
            return
        if self.editor.deadline is None and not self.recovered and not self.overrides:
            when = self._holder.snapshot.loaded_at
            await asyncio.to_thread(self.last_good.write, draft.merged.values, generation=generation, when=when)
            self._saved = generation if self.last_good.error is None else 0

    def _record(self, trip: Trip, report: Report) -> None:
        """Let everybody know. What a dry run found concerns nobody but who asked."""
        _log(report, trip.errand.phase)
        if report.dry_run:
            return
        self.reports.append(report)
        if report.outcome == "rejected":
            self.failures += 1
        elif not self.recovered:
            self.failures = 0
        self._each_observer("reload_ended", report)

    def _each_observer(self, method: str, argument: object) -> None:
        for observer in self.observers:
            try:
                getattr(observer, method)(argument)
            except Exception:
                log.exception("%s raised", type(observer).__name__)

    @property
    def origins(self) -> Origins:
        """Where the values in force come from by now: they may have moved without changing. Raises NotLoaded."""
        if self._running is None:
            raise NotLoaded
        if self._origins is None or self._origins[0] is not self._running:
            self._origins = self._running, Origins(self._rules.model, self._running.merged, self._holder.current)
        return self._origins[1]

    @property
    def pending(self) -> tuple[PendingRestart, ...]:
        """What only a restart can change."""
        return self._running.pending if self._running is not None else ()

    def overdue(self, seconds: float) -> list[tuple[int, Lease[S]]]:
        """Return the leases of replaced snapshots that have been held for longer, each with its generation."""
        return self._holder.overdue(seconds)

    def tell(self) -> None:
        """Tell the listeners what the last reload changed. For after its waiters have their report."""
        news, self._news = self._news, None
        if news is not None:
            self._subscribers.tell(*news)

    async def settle(self, *, timeout: float) -> None:
        """Wait for listeners that are still at work, `timeout` seconds at most."""
        await self._subscribers.settle(timeout=timeout)

    async def close(self, *, timeout: float) -> None:
        """Close every resource, `timeout` seconds in all. The settings stay readable, without resources."""
        if self._holder.loaded and self._holder.snapshot.resources:
            self._holder._publish(dataclasses.replace(self._holder.snapshot, resources={}))  # noqa: SLF001
        await self.resources.close(timeout=timeout)

    async def _travel(self, trip: Trip) -> Report:
        readings = await self._gather(trip)
        draft = await self._draft(trip, readings)
        concerned = everything(draft.settings) if trip.errand.phase == "start" else draft.changed
        change = self._change(draft, concerned)
        assembly = self.resources.assemble(draft.settings, self._subscribers.resources)
        prepared = await self._prepare(trip.errand, change, draft, assembly)
        if trip.errand.dry_run:
            await rollback(prepared, change, timeout=self._prepare_timeout)
            return self._report_on(trip, draft)
        await self._write(trip, change, prepared)
        # ──────────────── nothing below this line can fail, and nothing below it awaits ────────────────
        self._hold(trip, readings)
        self._swap(trip, draft, assembly)
        if self.overrides is not trip.overrides:  # one began or ended meanwhile
            with contextlib.suppress(ConfigError):
                self._lay(self.overrides)
        report = self._report_on(trip, draft, commit_errors=commit(prepared, change))
        if draft.changed or prepared:
            self.commit_errors = report.commit_errors
        if draft.changed:
            self.history.add(self._holder.snapshot, report, readings)
        return report

    def _check(self, operation: Operation | None) -> None:
        """Raise OperationRefused for an operation that is not possible as things are."""
        self.editor.check(operation, self._holder.snapshot if self._holder.loaded else None)
        if isinstance(operation, Rollback):
            self.history.find(operation.generation)

    async def _gather(self, trip: Trip) -> Sequence[Reading]:
        """Return what to build from: what the sources say now, or said when a generation was new, or with an edit."""
        operation = trip.errand.operation
        if isinstance(operation, Rollback):
            target = self.history.find(operation.generation)
            trip.note = f"rolled back to generation {target.generation}"
            trip.away = await self._rolled_away_from()
            return target.readings
        if isinstance(operation, Recover):
            trip.note = operation.note
            # One more than there are sources: nothing that they say later is to be compared with it.
            return [
                Reading(tuple(operation.layers), guarded=False),
                *(Reading((), guarded=False) for _ in self._stack.states),
            ]
        if operation is None:
            return self._held_back(trip, await self._read())
        running = self._running.readings if self._running is not None else ()
        held = self._held is not None
        # What is not confirmed is put into force or taken back whatever the other sources have come to say meanwhile;
        # and a patch on what was rolled back to must not bring back what it was rolled away from.
        readings = await self._read() if isinstance(operation, Patch) and not held else running
        layer = next(iter(running[-1].layers), None) if running else None  # the last known good is not from it
        trip.edit = await self.editor.begin(operation, layer, held=held)
        return [*readings[:-1], trip.edit.reading]

    async def _read(self) -> Sequence[Reading]:
        try:
            return await self._stack.read()
        except SourceError as error:
            raise Rejected("read", error.faults) from None

    async def _write(self, trip: Trip, change: Change[S], prepared: list[tuple[Subscription, Prepared]]) -> None:
        """Write what was edited. The last step that can fail."""
        if trip.edit is None:
            return
        try:
            await self.editor.write(trip.edit)
        except BaseException:
            await rollback(prepared, change, timeout=self._prepare_timeout)
            raise

    async def _draft(self, trip: Trip, readings: Sequence[Reading]) -> Draft[S]:
        # In a thread, so that no reader waits for it. Whoever names a generation means to lose what came after it.
        force = trip.errand.force or trip.errand.operation is not None
        trip.overrides = self.overrides
        return await asyncio.to_thread(
            self._rules.draft, readings, self._running, force=force, overrides=trip.overrides
        )

    def _held_back(self, trip: Trip, readings: Sequence[Reading]) -> Sequence[Reading]:
        """Return what is running instead, while the sources say what was rolled away from and nobody insists."""
        held, running = self._held, self._running
        if held is None or running is None or trip.errand.force:
            return readings
        if not same_content(held, [self._rules.canonical(reading) for reading in readings]):
            return readings
        trip.away, trip.note = held, _HELD.format(self._generation)
        return running.readings

    async def _rolled_away_from(self) -> Sequence[Reading]:
        """Return what must not come back by itself, as the sources say it without a patch that was not confirmed."""
        away = self._held or (self._running.readings if self._running is not None else ())
        overlay = await self.editor.without_unconfirmed()
        return away if overlay is None else [*away[:-1], overlay]

    def _hold(self, trip: Trip, readings: Sequence[Reading]) -> None:
        """Remember what must not come back by itself, and what waits to be confirmed."""
        operation = trip.errand.operation
        self.recovered = trip.note if isinstance(operation, Recover) else ""
        if trip.edit is None:
            self._held = None if trip.away is None or same_content(trip.away, readings) else trip.away
        elif self._held is not None:
            self._held = [*self._held[:-1], trip.edit.file]
        if operation is not None:
            self.editor.settle(trip.edit)

    async def _prepare(
        self, errand: Errand, change: Change[S], draft: Draft[S], assembly: Assembly
    ) -> list[tuple[Subscription, Prepared]]:
        """Ask everybody concerned, in order. If anybody refuses, or this is cancelled, those who agreed are undone."""
        done: list[tuple[Subscription, Prepared]] = []
        try:
            for subscription in self._concerned(errand, draft, assembly):
                state = await prepare(subscription, change, timeout=self._prepare_timeout)
                if state is not None:
                    done.append((subscription, state))
                if asked_to_stop():  # and the subscriber swallowed it
                    raise asyncio.CancelledError  # noqa: TRY301 - what was prepared is undone below
        except BaseException as error:
            await rollback(done, change, timeout=self._prepare_timeout)
            if isinstance(error, PrepareFailed):
                self._refuse(draft, error.fault)
            raise
        return done

    def _concerned(self, errand: Errand, draft: Draft[S], assembly: Assembly) -> Iterator[Subscription]:
        """Yield who must agree, a resource as whoever builds it; one depends on what was built before it."""
        paths = everything(draft.settings) if errand.phase == "start" else draft.changed
        if errand.phase == "load" or not paths:
            return
        for participant in self._subscribers.preparing:
            if isinstance(participant, Subscription):
                if participant.wants(paths):
                    yield participant
            elif assembly.wants(participant, draft.changed):
                yield Subscription(functools.partial(assembly.build, participant), name=f"resource {participant.name}")

    def _refuse(self, draft: Draft[S], fault: Fault) -> NoReturn:
        shown = draft.merged.values, draft.settings
        raise Rejected("prepare", self._rules.discreet([fault], *shown, running=self._running))

    def _swap(self, trip: Trip, draft: Draft[S], assembly: Assembly) -> None:
        if draft.changed or assembly.changed:
            change = self._change(draft, draft.changed)
            before = self._holder._publish(self._seal(draft, assembly))  # noqa: SLF001 - the one place that may
            self.resources.adopt(assembly, self._generation)
            if before is None and (parts := mutable(self._rules.model)):
                log.warning(_MUTABLE, ", ".join(parts))
            if before is not None and draft.changed and trip.errand.phase != "load":
                self._news = (change, draft.changed)
        self._running = draft if draft.changed else draft.kept(self._holder.current)

    def _seal(self, draft: Draft[S], assembly: Assembly) -> Snapshot[S]:
        if not draft.changed:  # only what is built from it is new
            return dataclasses.replace(self._holder.snapshot, resources=assembly.values)
        generation = self._generation + 1
        return Snapshot(
            draft.settings,
            generation,
            utcnow(),
            changes=self._changes(draft),
            resources=assembly.values,
            **draft.views(self._rules.model),
        )

    def _changes(self, draft: Draft[S]) -> dict[KeyPath, int]:
        """Return in which generation each path last changed; all of it in the first, or when there are too many."""
        generation = self._generation + 1
        known = self._holder.snapshot.changes if self._holder.loaded else {}
        if not known or len(known) + len(draft.changed) > _CHANGES:
            return {(): generation}
        return {**known, **dict.fromkeys(draft.changed, generation)}

    def _change(self, draft: Draft[S], changed: Sequence[KeyPath]) -> Change[S]:
        paths = tuple(keypath.render(path) for path in changed)
        old = self._holder.current if self._holder.loaded else None
        return Change(old, draft.settings, paths, self._generation + bool(draft.changed))

    def _report_on(self, trip: Trip, draft: Draft[S], *, commit_errors: tuple[str, ...] = ()) -> Report:
        return self._report(
            trip,
            "applied" if draft.changed else "unchanged",
            changed=tuple(keypath.render(path) for path in draft.changed),
            pending_restart=draft.pending,
            commit_errors=commit_errors,
            mutated=tuple(keypath.render(path) for path in draft.mutated),
            note=trip.note,
        )

    def _report(self, trip: Trip, outcome: Outcome, **details: Any) -> Report:
        errand, duration = trip.errand, time.monotonic() - trip.started
        return Report(
            next(self._ids),
            outcome,
            errand.triggers,
            self._generation,
            trip.started_at,
            duration,
            dry_run=errand.dry_run,
            **details,
        )

    @property
    def _generation(self) -> int:
        return self._holder.snapshot.generation if self._holder.loaded else 0


_MUTABLE = (
    "the program can change these settings in place, past every reload: %s; give the classes "
    "model_config = {'frozen': True}. What it changes is found and undone by the next reload"
)
_RECOVERED = "started from the last known good, generation {copy.generation} of {copy.written_at:%F %T} UTC"

_HELD = (
    "generation {} was rolled back to and is held, since the sources hold what was rolled away from: "
    "change them, or force the reload"
)


def same_content(before: Sequence[Reading], after: Sequence[Reading]) -> bool:
    """Whether the sources say the same as before, byte for byte where they can tell."""
    pairs = [[layer for reading in readings for layer in reading.layers] for readings in (before, after)]
    return len(pairs[0]) == len(pairs[1]) and all(map(_same_layer, *pairs))


def _same_layer(before: Layer, after: Layer) -> bool:
    if before is after:
        return True
    known = before.revision or after.revision
    same = before.revision == after.revision if known else before.values == after.values
    return before.source == after.source and same


def _log(report: Report, phase: Phase) -> None:
    level = logging.WARNING if report.outcome == "rejected" or report.commit_errors or report.mutated else logging.INFO
    if report.outcome == "rejected" and phase == "start":
        level = logging.DEBUG  # raised as a ConfigError with the same faults: once is enough
    log.log(level, "%s", report, extra={"hotconf": report.as_dict()})
