"""The reload: one trip from reading the sources to the swap, and what follows it.

The file is read from the top: everything that can fail comes first, and one line divides it from the rest.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import hotconf.values.keypath as keypath
from hotconf.errors import Rejected, SourceError
from hotconf.reload.candidate import Draft, Rules, everything
from hotconf.reload.edit import Editor
from hotconf.reload.history import History
from hotconf.reload.hold import Hold
from hotconf.reload.journal import Journal
from hotconf.reload.override import Overrides
from hotconf.reload.pointer import Pointer
from hotconf.reload.request import Errand, Patch, Recover, Rollback
from hotconf.reload.resources import Resources
from hotconf.reload.status import Held
from hotconf.reload.subscribers import PrepareFailed, Subscription, being_cancelled, commit, prepare, rollback
from hotconf.reload.trip import Trip
from hotconf.schema.fields import mutable
from hotconf.schema.redact import traceback_without_message
from hotconf.values.change import Change
from hotconf.values.layer import SourceReading
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hotconf.abc import Prepared
    from hotconf.reload.holder import Holder, Lease
    from hotconf.reload.request import Edition, Operation
    from hotconf.reload.resources import Assembly
    from hotconf.reload.subscribers import Subscribers
    from hotconf.schema.settings import Options
    from hotconf.sources.stack import Stack
    from hotconf.values.keypath import KeyPath
    from hotconf.values.report import Outcome, Report

S = TypeVar("S")

log = logging.getLogger("hotconf")


class Reloader(Generic[S]):
    """Runs reloads, one at a time. `recovered` says why the last known good is in force; empty where it is not."""

    def __init__(
        self, rules: Rules, stack: Stack, *, holder: Holder[S], subscribers: Subscribers, options: Options
    ) -> None:
        self._rules = rules
        self._stack = stack
        self._holder = holder
        self._subscribers = subscribers
        self._prepare_timeout = options.prepare_timeout
        self._hold = Hold()
        self._news: tuple[Change[S], tuple[KeyPath, ...]] | None = None
        self.recovered = ""
        self.pointer = Pointer(holder, rules.model)
        self.journal = Journal()
        self.overrides = Overrides(rules, self.pointer, self.journal)
        self.editor = Editor(stack.overlay)
        self.resources = Resources(holder, options.retire_after)
        self.history: History[S] = History(options.history)

    async def reload(self, errand: Errand) -> Report:
        """Make one trip and return its report. Cancelled, it changes nothing.

        Raises nothing else but OperationRefused, where the operation asks for something that is not there.
        """
        self._check(errand.operation)
        trip = Trip(errand, self._holder)
        with trip.under_way():
            if not errand.dry_run:
                self.journal.begin(errand.triggers)
            report = await self._outcome(trip)
        self.journal.add(report, errand.phase, recovered=bool(self.recovered))
        return report

    def _check(self, operation: Operation | None) -> None:
        """Raise OperationRefused for an operation that is not possible as things are."""
        self.editor.check(operation, self.pointer.snapshot)
        if isinstance(operation, Rollback):
            self.history.find(operation.generation)

    async def _outcome(self, trip: Trip) -> Report:
        try:
            return await self._travel(trip)
        except Rejected as rejection:
            faults = rejection.faults if trip.edit is None else trip.edit.blamed(rejection.faults)
            return self._report(trip, "rejected", stage=rejection.stage, faults=faults)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            unforeseen = "a reload failed in an unforeseen way; what was running stays in force\n%s"
            log.error(unforeseen, traceback_without_message(error))  # noqa: TRY400 - not its text
            fault = Fault("", f"unforeseen {type(error).__name__}, see the log")
            return self._report(trip, "rejected", stage=trip.stage, faults=[fault])
        finally:
            if trip.edit is not None:
                self.editor.discard(trip.edit)

    async def _travel(self, trip: Trip) -> Report:
        readings = await self._gather(trip)
        trip.stage = "validate"
        draft = await self._draft(trip, readings)
        trip.stage = "prepare"
        concerned = everything(draft.settings) if trip.errand.phase == "start" else draft.changed
        change = self._change(draft, concerned)
        assembly = self.resources.assemble(draft.settings, self._subscribers.resources)
        prepared = await self._prepare(trip.errand, change, draft, assembly)
        if trip.errand.dry_run:
            await rollback(prepared, change, timeout=self._prepare_timeout)
            return self._report_on(trip, draft)
        await self._write(trip, change, prepared)
        # ──────────────── nothing below this line can fail, and nothing below it awaits ────────────────
        self._settle(trip, readings)
        self._swap(trip, draft, assembly)
        self.overrides.renew(trip.overrides)
        report = self._report_on(trip, draft, commit_errors=commit(prepared, change))
        if draft.changed or prepared:
            self.journal.commit_errors = report.commit_errors
        if draft.changed:
            self.history.add(self._holder.snapshot, report, readings)
        return report

    async def _gather(self, trip: Trip) -> Sequence[SourceReading]:
        """Return what to build from: what the sources say now, or said when a generation was new, or with an edit."""
        operation = trip.errand.operation
        if operation is None:
            return self._held_back(trip, await self._read())
        if isinstance(operation, Rollback):
            target = self.history.find(operation.generation)
            trip.note = f"rolled back to generation {target.generation}"
            trip.away = await self._rolled_away_from()
            return self.editor.settled(target.readings)
        if isinstance(operation, Recover):
            trip.note = operation.note
            # One more than there are sources: nothing that they say later is to be compared with it.
            return [
                SourceReading(tuple(operation.layers), guarded=False),
                *(SourceReading((), guarded=False) for _ in self._stack.states),
            ]
        return await self._edited(trip, operation)

    async def _read(self) -> Sequence[SourceReading]:
        try:
            return await self._stack.read()
        except SourceError as error:
            raise Rejected(error.faults, "read") from None

    def _held_back(self, trip: Trip, readings: Sequence[SourceReading]) -> Sequence[SourceReading]:
        """Return what is running instead, while the sources say what was rolled away from and nobody insists."""
        running = self.pointer.draft
        if running is None or trip.errand.force or not self._hold.repels(map(self._rules.canonical, readings)):
            return readings
        trip.away, trip.note = self._hold.away, str(self.held)
        return running.readings

    async def _rolled_away_from(self) -> Sequence[SourceReading]:
        """Return what must not come back by itself, as the sources say it without a patch that was not confirmed."""
        away = self._hold.away or self.pointer.readings
        overlay = await self.editor.without_unconfirmed()
        return away if overlay is None else [*away[:-1], overlay]

    async def _edited(self, trip: Trip, operation: Edition) -> Sequence[SourceReading]:
        running = readings = self.pointer.readings
        trip.away = self._hold.away
        # What is not confirmed is put into force or taken back whatever the other sources have come to say meanwhile;
        # and a patch on what was rolled back to must not bring back what it was rolled away from, but goes on from what
        # somebody has written since.
        if isinstance(operation, Patch):
            said = await self._read()
            if not self._hold.repels(map(self._rules.canonical, said)):
                trip.away, readings = None, said
        layer = next(iter(running[-1].layers), None) if running else None  # the last known good is not from it
        trip.edit = await self.editor.begin(operation, layer, held=trip.away is not None)
        return [*readings[:-1], trip.edit.reading]

    async def _draft(self, trip: Trip, readings: Sequence[SourceReading]) -> Draft[S]:
        # In a thread, so that no reader waits for it. Whoever names a generation means to lose what came after it.
        force = trip.errand.force or trip.errand.operation is not None
        running, trip.overrides = self.pointer.draft, self.overrides.layers
        return await asyncio.to_thread(self._rules.draft, readings, running, force=force, overrides=trip.overrides)

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
                if being_cancelled():  # and the subscriber swallowed it
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
        raise Rejected(self._rules.discreet([fault], *shown, running=self.pointer.draft), "prepare")

    async def _write(self, trip: Trip, change: Change[S], prepared: list[tuple[Subscription, Prepared]]) -> None:
        """Write what was edited. The last step that can fail."""
        if trip.edit is None:
            return
        try:
            await self.editor.write(trip.edit)
        except BaseException:
            await rollback(prepared, change, timeout=self._prepare_timeout)
            raise

    def _settle(self, trip: Trip, readings: Sequence[SourceReading]) -> None:
        """Remember what must not come back by itself, and what waits to be confirmed."""
        operation = trip.errand.operation
        self.recovered = trip.note if isinstance(operation, Recover) else ""
        if trip.edit is None or trip.away is None:
            self._hold.settle(trip.away, readings)
        else:
            self._hold.amend(trip.edit.file)
        if operation is not None:
            self.editor.settle(trip.edit)

    def _swap(self, trip: Trip, draft: Draft[S], assembly: Assembly) -> None:
        if not draft.changed and not assembly.changed:
            self.pointer.keep(draft)
            return
        change = self._change(draft, draft.changed)
        before = self.pointer.swap(draft, assembly.values)
        self.resources.adopt(assembly, self.pointer.generation)
        if before is None and (parts := mutable(self._rules.model)):
            log.warning(_MUTABLE, ", ".join(parts))
        if before is not None and draft.changed and trip.errand.phase != "load":
            self._news = (change, draft.changed)

    def _change(self, draft: Draft[S], changed: Sequence[KeyPath]) -> Change[S]:
        paths = tuple(keypath.render(path) for path in changed)
        before = self.pointer.snapshot
        old = before.settings if before is not None else None
        return Change(old, draft.settings, paths, self.pointer.generation + bool(draft.changed))

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
        return self.journal.report(trip, outcome, generation=self.pointer.generation, **details)

    def tell(self) -> None:
        """Tell the listeners what the last reload changed. For after its waiters have their report."""
        news, self._news = self._news, None
        if news is not None:
            self._subscribers.tell(*news)

    @property
    def held(self) -> Held | None:
        """The rollback that holds; None where none does."""
        return Held(self.pointer.generation) if self._hold.away is not None else None

    @property
    def is_from_sources(self) -> bool:
        """Whether what is in force is what the sources say, and nothing of it waits to be confirmed."""
        return self.editor.deadline is None and not self.recovered and not self.overrides.layers

    def overdue(self, seconds: float) -> list[tuple[int, Lease[S]]]:
        """Return the leases of replaced snapshots that have been held for longer, each with its generation."""
        return self._holder.overdue(seconds)

    async def settle(self, *, timeout: float) -> None:
        """Wait for listeners that are still at work, `timeout` seconds at most."""
        await self._subscribers.settle(timeout=timeout)

    async def close(self, *, timeout: float) -> None:
        """Close every resource, `timeout` seconds in all. The settings stay readable, without resources."""
        self.pointer.forget_resources()
        await self.resources.close(timeout=timeout)


_MUTABLE = (
    "the program can change these settings in place, past every reload: %s; give the classes "
    "model_config = {'frozen': True}. What it changes is found and undone by the next reload"
)
