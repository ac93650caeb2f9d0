"""The reload, from reading the sources to the swap and what follows it.

Read `Reloader._reload` from the top: every step that can reject comes first, and one line divides it from the rest.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import hotconf.values.keypath as keypath
from hotconf.errors import OperationRefused, Rejected, SourceError
from hotconf.reload.candidate import CandidateBuilder, every_path, rendered
from hotconf.reload.edit import OverlayEditor
from hotconf.reload.history import HeldRollback, History
from hotconf.reload.holder import keep_for_ever
from hotconf.reload.report import ReportLog
from hotconf.reload.request import (
    BeginOverride,
    EndOverride,
    OverlayOperation,
    Patch,
    Rehearse,
    Resume,
    Rollback,
    StartFromLastGood,
    under_way,
)
from hotconf.reload.resources import Resources
from hotconf.reload.snapshot import Snapshot
from hotconf.reload.subscribers import Subscription, being_cancelled, commit, prepare, rollback
from hotconf.schema.fields import mutable
from hotconf.schema.redact import traceback_without_message
from hotconf.values.change import Change
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from hotconf.abc import Prepared
    from hotconf.reload.candidate import Candidate
    from hotconf.reload.edit import OverlayEdit, PendingPatch
    from hotconf.reload.guard import Expected
    from hotconf.reload.holder import Holder, Lease
    from hotconf.reload.report import StartedReport
    from hotconf.reload.request import Operation, ReloadRequest
    from hotconf.reload.resources import Assembly
    from hotconf.reload.subscribers import Subscribers
    from hotconf.schema.settings import Options
    from hotconf.sources.stack import Stack
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer, Readings
    from hotconf.values.report import Report, Stage

S = TypeVar("S")
T = TypeVar("T")

log = logging.getLogger("hotconf")

_MOST_UNKNOWN_KEYS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a reload builds from, and what holds once that is in force.

    `rolled_back_from` must not come back without a change or force, `pending` waits to be confirmed, `edit` is what is
    done to the overlay.
    """

    readings: Readings
    note: str = ""
    rolled_back_from: Readings | None = None
    pending: PendingPatch | None = None
    edit: OverlayEdit | None = None


class Reloader(Generic[S]):
    """Runs reloads, one at a time.

    `running` is the candidate in force, None before the first load: the snapshot's, or a later one of equal values.
    `recovered` says why the last known good is in force, empty where it is not.
    """

    def __init__(
        self,
        builder: CandidateBuilder,
        stack: Stack,
        *,
        holder: Holder[S],
        subscribers: Subscribers,
        options: Options,
    ) -> None:
        self._builder = builder
        self._stack = stack
        self._holder = holder
        self._subscribers = subscribers
        self._prepare_timeout = options.prepare_timeout
        self._retire_after = options.retire_after
        self._rolled_back_from: Readings | None = None
        self._overrides: tuple[Layer, ...] = ()
        self._expected: Expected | None = None
        self._known_unknowns: set[tuple[str, str | None]] = set()
        self._untold: tuple[Change[S], tuple[KeyPath, ...]] | None = None
        self.running: Candidate[S] | None = None
        self.recovered = ""
        self.editor = OverlayEditor(stack.overlay)
        self.resources = Resources(holder, options.retire_after)
        self.history: History[S] = History(options.history)
        self.reports = ReportLog()

    @property
    def snapshot(self) -> Snapshot[S] | None:
        """What readers see, None before the first load."""
        return self._holder.snapshot if self._holder.loaded else None

    @property
    def generation(self) -> int:
        """The number of what is in force, 0 before the first load."""
        return self._holder.snapshot.generation if self._holder.loaded else 0

    @property
    def is_overridden(self) -> bool:
        """Whether an override has not ended yet."""
        return bool(self._overrides)

    @property
    def held(self) -> HeldRollback | None:
        """The rollback that is held, None where none is."""
        return HeldRollback(self.generation) if self._rolled_back_from is not None else None

    async def reload(self, request: ReloadRequest) -> Report:
        """Run one reload and return its report. Cancelled, it changes nothing.

        Raises:
            OperationRefused: the present state does not allow the operation. No other error is raised.
        """
        if isinstance(request.operation, OverlayOperation):
            self.editor.check(request.operation, self.snapshot, self.held)
        if isinstance(request.operation, Rollback):
            self.history.find(request.operation.generation)
        try:
            with under_way(self._holder):
                report = await self._reload(request, self.reports.begin(request))
        finally:
            if isinstance(request.operation, EndOverride):  # also where what lies beneath is not valid
                self.drop_override(request.operation)
        self.reports.add(report, request, recovered=bool(self.recovered))
        if report.outcome != "rejected" and request.operation is None and not (request.dry_run or request.inline):
            await self._stack.save_caches()
        return report

    async def _reload(self, request: ReloadRequest, started: StartedReport) -> Report:
        edit: OverlayEdit | None = None
        try:
            if request.operation is None:
                # In the thread that reads the files: to go on in another would cost as much as a small reload.
                use = functools.partial(self._build_from_sources, request, started)
                plan, candidate = await self._read(use, request.triggers)
            else:
                plan = await self._plan(request.operation)
                edit = plan.edit
                build = functools.partial(self._build, request, started, plan)
                # In a thread, so that no reader waits for it.
                candidate = build() if request.inline else await asyncio.to_thread(build)
            candidate = await self._with_contents(request, candidate)
            started.stage = "prepare"
            change = self._change(candidate, starts=request.phase == "start")
            concerned = every_path(candidate.settings) if request.phase == "start" else candidate.changed
            assembly = self.resources.assemble(candidate.settings, self._subscribers.resources)
            prepared = await self._prepare(request, candidate, change, concerned, assembly, edit)
            if request.dry_run:
                await rollback(prepared, change, timeout=self._prepare_timeout)
                return self._report(started, plan, candidate)
        except Rejected as rejection:
            # In a thread: it locates every key of the patched overlay.
            faults = rejection.faults if edit is None else await asyncio.to_thread(edit.blamed, rejection.faults)
            return self._rejected(started, rejection.stage, faults)
        except OperationRefused:
            raise
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            unforeseen = "a reload failed with an unexpected error; what was running stays in force\n%s"
            log.error(unforeseen, traceback_without_message(error))  # noqa: TRY400 - not its text
            faults = (Fault("", f"unexpected {type(error).__name__}, see the log"),)
            return self._rejected(started, started.stage, faults)
        finally:
            if edit is not None:
                edit.discard()
        # ──────────── whatever can reject a reload happens above this line, and nothing below it awaits ────────────
        self._rolled_back_from, self.editor.pending = plan.rolled_back_from, plan.pending
        if isinstance(request.operation, BeginOverride):
            self._overrides = plan.readings.overrides
        self.recovered = plan.note if isinstance(request.operation, StartFromLastGood) else ""
        self._expected = request.expected or self._expected
        self._swap(request, candidate, assembly, change)
        self._stack.contents.keep(file for file, _ in candidate.content_files.values())
        commit_errors = commit(prepared, change)
        report = self._report(started, plan, candidate, commit_errors=commit_errors)
        if candidate.changed or prepared:
            self.reports.commit_errors = report.commit_errors
        if candidate.changed:
            self.history.add(self._holder.snapshot, report, dataclasses.replace(plan.readings, overrides=()))
        return report

    def _builder_for(self, request: ReloadRequest) -> CandidateBuilder:
        match request.operation:
            case Patch(values=values):
                return self._builder.for_patch(values)
        return self._builder

    def _build_from_sources(
        self, request: ReloadRequest, started: StartedReport, readings: Readings
    ) -> tuple[Plan, Candidate[S]]:
        """Build from what the sources say now, unless a rollback from the same is held."""
        left = self._rolled_back_from
        if left is not None and not request.force and left.say_the_same_as(readings):
            plan = Plan(self._running_readings or readings, str(self.held), left, self.editor.pending)
        else:
            plan = Plan(self.editor.with_pending(readings), pending=self.editor.pending)
        return plan, self._build(request, started, plan)

    def _build(self, request: ReloadRequest, started: StartedReport, plan: Plan) -> Candidate[S]:
        started.stage, started.revisions = "validate", plan.readings.revisions
        # A caller that names a generation or an override means to lose what it replaces.
        force = request.force or not isinstance(request.operation, Patch | Rehearse | None)
        expected = None if force else request.expected or self._expected
        return self._builder_for(request).build(
            plan.readings, self.running, force=force, afresh=request.force, expected=expected
        )

    async def _plan(self, operation: Operation) -> Plan:
        """Return what an operation builds from: what the sources said in an earlier generation, or say with an edit."""
        pending = self.editor.pending
        match operation:
            case Rehearse(within=within):
                with within:
                    readings = await self._known_readings(now=True)
                    return Plan(await asyncio.to_thread(self.editor.with_pending, readings), pending=pending)
            case Rollback(generation=generation):
                target = self.history.find(generation)
                readings = self.editor.without_unconfirmed(target.readings)
                readings = dataclasses.replace(readings, overrides=self._overrides)
                left = self._rolled_back_from or self._running_readings
                away = None if left is None or left.say_the_same_as(readings) else left
                return Plan(readings, f"rolled back to generation {target.generation}", away)
            case StartFromLastGood(readings=readings, note=note):
                return Plan(readings, note)
            case Resume():
                # Also with an override whose end was rejected: that still runs.
                same = self.running.readings if self.running is not None else await self._known_readings()
                return Plan(same, "", self._rolled_back_from, pending)
            case BeginOverride() | EndOverride():
                # Of what is running where there is anything: sources that are broken just now are none of its business.
                below = await self._known_readings()
                readings = dataclasses.replace(below, overrides=self._overrides_after(operation))
                return Plan(readings, "", self._rolled_back_from, pending)
            case _:
                # A patch builds on what the sources say by now. A confirmation and its timeout change the overlay
                # alone, whatever the other sources say meanwhile.
                readings = await self._known_readings(now=isinstance(operation, Patch))
                readings, edit = await self.editor.begin(operation, readings)
                return Plan(readings, pending=edit.pending, edit=edit)

    @property
    def _running_readings(self) -> Readings | None:
        if self.running is None:
            return None
        # An override whose end was rejected still runs, and must not be built upon.
        return dataclasses.replace(self.running.readings, overrides=self._overrides)

    async def _read(self, use: Callable[[Readings], T], triggers: Collection[str] = ()) -> T:
        """Return what `use` makes of what the sources say now, in the thread that reads them."""
        overrides = self._overrides

        def with_overrides(readings: Readings) -> T:
            return use(dataclasses.replace(readings, overrides=overrides) if overrides else readings)

        try:
            return await self._stack.read(with_overrides, triggers)
        except SourceError as error:
            raise Rejected(error.faults, "read") from None

    async def _known_readings(self, *, now: bool = False) -> Readings:
        """Return what is running was built from; what the sources say where nothing runs, or with `now`."""
        known = None if now else self._running_readings
        return known if known is not None else await self._read(lambda readings: readings)

    def drop_override(self, operation: EndOverride) -> None:
        """Build without the layer of an override from the next reload on."""
        self._overrides = self._overrides_after(operation)

    def _overrides_after(self, operation: BeginOverride | EndOverride) -> tuple[Layer, ...]:
        rest = tuple(layer for layer in self._overrides if layer is not operation.layer)
        return (*rest, operation.layer) if isinstance(operation, BeginOverride) else rest

    async def _with_contents(self, request: ReloadRequest, candidate: Candidate[S]) -> Candidate[S]:
        """Read the files that the settings name and whose content counts."""
        files, running = candidate.content_files, self.running
        before = running.contents if running is not None else {}
        if not files and not before:
            return candidate
        if isinstance(request.operation, Resume):
            return candidate.with_contents(before, running)
        if request.inline:
            if running is None or {path: file for path, (file, _) in files.items()} != {
                path: file for path, (file, _) in running.content_files.items()
            }:
                raise OperationRefused("a file whose content counts has to be awaited: use `async with`")
            return candidate.with_contents(before, running)
        try:
            contents = await self._stack.contents.read(files)
        except SourceError as error:
            raise Rejected(error.faults, "read") from None
        emptied = [path for path, content in contents.items() if not content and before.get(path)]
        if emptied and not request.force:
            message = "is empty, and held something; if that is meant, force the reload"
            places = [(keypath.render(path), *files[path]) for path in emptied]
            raise Rejected(
                [Fault(path, f"the file {file} {message}", origin) for path, file, origin in places], "guard"
            )
        return candidate.with_contents(contents, running)

    async def _prepare(  # noqa: PLR0917 - all that one reload has found out by then
        self,
        request: ReloadRequest,
        candidate: Candidate[S],
        change: Change[S],
        concerned: tuple[KeyPath, ...],
        assembly: Assembly,
        edit: OverlayEdit | None,
    ) -> list[tuple[Subscription, Prepared]]:
        """Ask every participant concerned, in order, and write the overlay last.

        If one refuses, the disk does, or this is cancelled, roll back those that agreed.
        """
        done: list[tuple[Subscription, Prepared]] = []
        try:
            for subscription in self._participants(request, candidate, concerned, assembly):
                if request.inline and inspect.iscoroutinefunction(inspect.unwrap(subscription.function)):
                    raise OperationRefused(f"{subscription.name} has to be awaited: use `async with`")  # noqa: TRY301
                state = await prepare(subscription, change, timeout=self._prepare_timeout)
                if state is not None:
                    done.append((subscription, state))
                if being_cancelled():  # and the subscriber swallowed it
                    raise asyncio.CancelledError  # noqa: TRY301 - what was prepared is undone below
            if edit is not None and not request.dry_run:
                await self.editor.write(edit)
        except BaseException as error:
            await rollback(done, change, timeout=self._prepare_timeout)
            if isinstance(error, Rejected):
                shown = candidate.merged.values, candidate.settings
                faults = self._builder_for(request).scrubbed(error.faults, *shown, running=self.running)
                raise Rejected(faults, error.stage) from None
            raise
        return done

    def _participants(
        self, request: ReloadRequest, candidate: Candidate[S], concerned: tuple[KeyPath, ...], assembly: Assembly
    ) -> Iterator[Subscription]:
        """Yield each participant concerned. A resource is one, and may depend on what was built before it."""
        if request.phase == "load" or not concerned:
            return
        for participant in self._subscribers.preparing:
            if isinstance(participant, Subscription):
                if participant.wants(concerned):
                    yield participant
            elif assembly.wants(participant, candidate.changed):
                yield Subscription(functools.partial(assembly.build, participant), name=f"resource {participant.name}")

    def _swap(self, request: ReloadRequest, candidate: Candidate[S], assembly: Assembly, change: Change[S]) -> None:
        before = self.snapshot
        if before is not None and not candidate.changed and candidate is not self.running:
            # The values are the running ones, so readers keep their objects; origins may have moved.
            candidate = candidate.with_settings(before.settings)
        self.running = candidate
        self._log_unknown_keys(candidate)
        if before is not None and not candidate.changed and not assembly.changed:
            return
        if before is not None and not candidate.changed:
            snapshot = dataclasses.replace(before, resources=assembly.values)
        else:
            snapshot = Snapshot.after(before, candidate, assembly.values)
        self._holder._publish(snapshot)  # noqa: SLF001 - the one place that swaps
        self.resources.adopt(assembly, snapshot.generation)
        if before is None:
            _advise_to_freeze(self._builder.model)
        elif candidate.changed and request.phase != "load":
            self._untold = dataclasses.replace(change, paths=candidate.changed_names), candidate.changed

    def _log_unknown_keys(self, candidate: Candidate[S]) -> None:
        """Log each unknown key once, for as long as a file holds it."""
        found = {(fault.path, fault.source): fault for fault in candidate.unknown}
        new = [fault for key, fault in found.items() if key not in self._known_unknowns]
        self._known_unknowns = set(found)
        for fault in new[:_MOST_UNKNOWN_KEYS]:
            log.warning("%s", fault)
        if len(new) > _MOST_UNKNOWN_KEYS:
            log.warning("and %d more unknown keys", len(new) - _MOST_UNKNOWN_KEYS)

    def _change(self, candidate: Candidate[S], *, starts: bool) -> Change[S]:
        before = self.snapshot
        old = before.settings if before is not None else None
        paths = rendered(every_path(candidate.settings)) if starts else candidate.changed_names
        return Change(old, candidate.settings, paths, self.generation + bool(candidate.changed))

    def _rejected(self, started: StartedReport, stage: Stage, faults: Sequence[Fault]) -> Report:
        revisions = self._stack.revisions if started.revisions is None else started.revisions
        return started.end("rejected", generation=self.generation, stage=stage, faults=faults, revisions=revisions)

    def _report(
        self, started: StartedReport, plan: Plan, candidate: Candidate[S], *, commit_errors: tuple[str, ...] = ()
    ) -> Report:
        return started.end(
            "applied" if candidate.changed else "unchanged",
            generation=self.generation,
            changed=candidate.changed_names,
            pending_restart=candidate.pending,
            commit_errors=commit_errors,
            note=plan.note,
            revisions=plan.readings.revisions,
        )

    def notify_listeners(self) -> None:
        """Tell the on_change subscribers what the last reload changed. For after its waiters have their report."""
        untold, self._untold = self._untold, None
        if untold is not None:
            self._subscribers.tell(*untold)

    def notify_initial(self, only: Subscription | None = None) -> None:
        """Tell the settings in force to the on_change subscribers that want them at the start, or to one of them."""
        snapshot = self.snapshot
        if snapshot is not None:
            paths = rendered(every_path(snapshot.settings))
            self._subscribers.tell_initial(Change(None, snapshot.settings, paths, snapshot.generation), only)

    async def wait_for_listeners(self, *, timeout: float) -> None:
        """Wait for on_change subscribers that are still at work, `timeout` seconds at most."""
        await self._subscribers.finish(timeout=timeout)

    def end_changes(self) -> None:
        """End the readers of changes, since no engine runs any more."""
        self._subscribers.end_streams()

    def overdue_leases(self, seconds: float) -> list[tuple[int, Lease[S]]]:
        """Return the leases of replaced snapshots that have been held for longer, each with its generation."""
        return self._holder.overdue(seconds)

    def forget(self) -> None:
        """Go back to the state before the first load. For an override that made it."""
        self.running = None
        self._holder._unpublish()  # noqa: SLF001

    async def close(self, *, timeout: float) -> None:
        """Close every resource, `timeout` seconds in all. The settings stay readable, without resources."""
        snapshot = self.snapshot
        if snapshot is not None and snapshot.resources:
            self._holder._publish(dataclasses.replace(snapshot, resources={}))  # noqa: SLF001
        await self.resources.close(timeout=timeout)

    def leave_parent(self, subscribers: Subscribers, stack: Stack) -> None:
        """Go on in a forked child, with sources that read nothing yet and without the parent's resources."""
        self._subscribers, self._stack = subscribers, stack
        keep_for_ever(self.resources)
        snapshot = self.snapshot
        if snapshot is not None and snapshot.resources:
            self._holder._publish(dataclasses.replace(snapshot, resources={}))  # noqa: SLF001
        self.resources = Resources(self._holder, self._retire_after)


_advised: weakref.WeakSet[type] = weakref.WeakSet()


def _advise_to_freeze(model: type) -> None:
    """Say once per process and class that its settings can be changed in place."""
    if model not in _advised and (parts := mutable(model)):
        _advised.add(model)
        log.info(
            "the program can change these settings in place: %s. model_config = {'frozen': True} prevents that; leave "
            "the class as it is where a validator assigns to fields",
            ", ".join(parts),
        )
