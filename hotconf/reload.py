"""The reload: one trip from reading the sources to the swap, and what follows it.

The file is read from the top: everything that can fail comes first, and one line divides it from the rest.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime as dt
import functools
import itertools
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

import hotconf.keypath as keypath
from hotconf.change import Change
from hotconf.diff import compare
from hotconf.errors import NotLoaded, ReentrantReload, SourceError
from hotconf.explain import Origins
from hotconf.guard import guard
from hotconf.keys import canonical
from hotconf.merge import Merged, merge
from hotconf.redact import digest, document, scrub, secrets_in, trail
from hotconf.report import Fault, Report
from hotconf.schema import fields
from hotconf.snapshot import Snapshot
from hotconf.subscribers import PrepareFailed, Subscription, asked_to_stop, commit, prepare, rollback
from hotconf.validate import Invalid, validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotconf.abc import Observer, Prepared
    from hotconf.holder import Holder
    from hotconf.keypath import KeyPath
    from hotconf.layer import Reading
    from hotconf.report import Outcome, Stage
    from hotconf.stack import Stack
    from hotconf.subscribers import Subscribers

S = TypeVar("S")

Phase: TypeAlias = Literal["load", "start", "live"]

log = logging.getLogger("hotconf")

_inside: contextvars.ContextVar[Trip | None] = contextvars.ContextVar("hotconf_reload", default=None)


def utcnow() -> dt.datetime:
    """Return the wall clock in UTC. The only place that reads it."""
    return dt.datetime.now(dt.UTC)


@dataclass(slots=True, eq=False)
class Trip:
    """One reload under way: what it answers and when it started."""

    triggers: tuple[str, ...]
    force: bool
    phase: Phase
    started_at: dt.datetime
    started: float
    owner: object
    open: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Candidate(Generic[S]):
    """Settings that passed validation and are not running. `merged` says where each value came from."""

    settings: S = field(repr=False)
    merged: Merged
    readings: Sequence[Reading]
    changed: tuple[KeyPath, ...]


_REPORTS = 100
"""Reports that are kept: enough to see how it came about, few enough to forget about."""


_CHANGES = 50_000
"""Paths whose last change is remembered. Beyond, everything counts as changed: some watchers wake up for nothing."""


class Rejected(Exception):  # noqa: N818 - a verdict, turned into a Report below
    """The trip ends here. What was running stays in force."""

    def __init__(self, stage: Stage, faults: Sequence[Fault]) -> None:
        self.stage: Stage = stage
        self.faults = tuple(faults)
        super().__init__(stage, faults)


def refuse_reentry(holder: object) -> None:
    """Raise ReentrantReload where the caller is itself part of a reload, which would wait for itself."""
    trip = _inside.get()
    if trip is not None and trip.open and trip.owner is holder:
        raise ReentrantReload


class Reloader(Generic[S]):
    """Runs reloads, one at a time. The only writer of its holder."""

    def __init__(
        self,
        model: type,
        stack: Stack,
        *,
        holder: Holder[S],
        subscribers: Subscribers,
        prepare_timeout: float | None = None,
        guard_share: float | None = None,
    ) -> None:
        self._model = model
        self._stack = stack
        self._holder = holder
        self._subscribers = subscribers
        self._prepare_timeout = prepare_timeout
        self._ids = itertools.count(1)
        self._news: tuple[Change[S], tuple[KeyPath, ...]] | None = None
        self._merged: Merged | None = None
        self._readings: Sequence[Reading] = ()
        self._guard = guard_share
        self.reports: deque[Report] = deque(maxlen=_REPORTS)
        self.failures = 0
        self.observers: tuple[Observer, ...] = ()

    async def reload(self, triggers: Sequence[str], *, force: bool = False, phase: Phase = "live") -> Report:
        """Make one trip and return its report. Raises nothing but cancellation; cancelled, it changes nothing.

        In phase "load" nobody is asked, in "start" every subscriber is, whatever changed, since they have not seen any
        settings yet; in "live" those whose part changed.
        """
        trip = Trip(tuple(triggers), force, phase, utcnow(), time.monotonic(), self._holder)
        token = _inside.set(trip)
        self._each_observer("reload_began", trip.triggers)
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
            _inside.reset(token)
        self.reports.append(report)
        self.failures = self.failures + 1 if report.outcome == "rejected" else 0
        _log(report, trip.phase)
        self._each_observer("reload_ended", report)
        return report

    def _each_observer(self, method: str, argument: object) -> None:
        for observer in self.observers:
            try:
                getattr(observer, method)(argument)
            except Exception:
                log.exception("%s raised", type(observer).__name__)

    @property
    def origins(self) -> Origins:
        """Where the values in force come from by now: they may have moved without changing. Raises NotLoaded."""
        if self._merged is None:
            raise NotLoaded
        return Origins(self._model, self._merged, self._holder.current)

    def tell(self) -> None:
        """Tell the listeners what the last reload changed. For after its waiters have their report."""
        news, self._news = self._news, None
        if news is not None:
            self._subscribers.tell(*news)

    async def settle(self, *, timeout: float) -> None:
        """Wait for listeners that are still at work, `timeout` seconds at most."""
        await self._subscribers.settle(timeout=timeout)

    async def _travel(self, trip: Trip) -> Report:
        readings = await self._read()
        candidate = await asyncio.to_thread(self._build, trip, readings)
        concerned = _everything(candidate.settings) if trip.phase == "start" else candidate.changed
        change = self._change(candidate, concerned)
        prepared = await self._prepare(change, candidate, self._concerned(trip, concerned))
        # ──────────────── nothing below this line can fail, and nothing below it awaits ────────────────
        self._merged, self._readings = candidate.merged, candidate.readings
        changed = self._swap(trip, candidate) if candidate.changed else ()
        errors = commit(prepared, change)
        return self._report(
            trip, "applied" if candidate.changed else "unchanged", changed=changed, commit_errors=errors
        )

    async def _read(self) -> list[Reading]:
        try:
            return await self._stack.read()
        except SourceError as error:
            raise Rejected("read", error.faults) from None

    def _build(self, trip: Trip, readings: Sequence[Reading]) -> Candidate[S]:
        """Merge, guard, validate and compare. Runs in a thread, so that no reader waits for it."""
        readings = [self._canonical(reading) for reading in readings]
        merged = merge([layer for reading in readings for layer in reading.layers])
        if self._guard is not None and self._readings and not trip.force:
            faults = guard(self._readings, readings, self._guard)
            if faults:  # they name keys, and those of a secret mapping are a part of the secret
                raise Rejected("guard", self._discreet(faults, merged.values))
        try:
            settings = validate(self._model, merged)
        except Invalid as invalid:
            raise Rejected("validate", invalid.faults) from None
        running = self._running
        changed = compare(running, settings) if running is not None else _everything(settings)
        return Candidate(settings, merged, readings, changed)

    def _canonical(self, reading: Reading) -> Reading:
        layers = tuple(canonical(self._model, layer) for layer in reading.layers)
        return dataclasses.replace(reading, layers=layers)

    async def _prepare(
        self, change: Change[S], candidate: Candidate[S], concerned: Sequence[Subscription]
    ) -> list[tuple[Subscription, Prepared]]:
        """Ask everybody concerned, in order. If anybody refuses, or this is cancelled, those who agreed are undone."""
        done: list[tuple[Subscription, Prepared]] = []
        try:
            for subscription in concerned:
                state = await prepare(subscription, change, timeout=self._prepare_timeout)
                if state is not None:
                    done.append((subscription, state))
                if asked_to_stop():  # and the subscriber swallowed it
                    raise asyncio.CancelledError  # noqa: TRY301 - what was prepared is undone below
        except BaseException as error:
            await rollback(done, change, timeout=self._prepare_timeout)
            if isinstance(error, PrepareFailed):
                self._refuse(candidate, error.fault)
            raise
        return done

    def _concerned(self, trip: Trip, paths: Sequence[KeyPath]) -> list[Subscription]:
        if trip.phase == "load" or not paths:
            return []
        return [subscription for subscription in self._subscribers.preparing if subscription.wants(paths)]

    def _refuse(self, candidate: Candidate[S], fault: Fault) -> NoReturn:
        raise Rejected("prepare", self._discreet([fault], candidate.merged.values, candidate.settings))

    def _discreet(self, faults: Sequence[Fault], *shown: Any) -> list[Fault]:
        """Return faults without the secrets of what somebody was shown, nor those of what is running."""
        # The settings as well: a default factory or a validator makes secrets that no source holds.
        running = (self._merged.values, self._running) if self._merged is not None else ()
        secrets = {secret for values in (*shown, *running) for secret in secrets_in(self._model, values)}
        return [dataclasses.replace(fault, message=scrub(fault.message, secrets)) for fault in faults]

    def _swap(self, trip: Trip, candidate: Candidate[S]) -> tuple[str, ...]:
        change = self._change(candidate, candidate.changed)
        before = self._holder._publish(self._seal(candidate))  # noqa: SLF001 - the one place that may
        if before is not None and trip.phase != "load":
            self._news = (change, candidate.changed)
        return change.paths

    def _seal(self, candidate: Candidate[S]) -> Snapshot[S]:
        document_of = functools.cache(functools.partial(document, candidate.settings))
        return Snapshot(
            settings=candidate.settings,
            generation=self._generation + 1,
            loaded_at=utcnow(),
            origins=Origins(self._model, candidate.merged, candidate.settings),
            document_of=document_of,
            digest_of=functools.cache(lambda: digest(document_of())),
            changes=self._changes(candidate),
        )

    def _changes(self, candidate: Candidate[S]) -> dict[KeyPath, int]:
        """Return in which generation each path last changed; all of it in the first, or when there are too many."""
        generation = self._generation + 1
        known = self._holder.snapshot.changes if self._holder.loaded else {}
        if not known or len(known) + len(candidate.changed) > _CHANGES:
            return {(): generation}
        return {**known, **dict.fromkeys(candidate.changed, generation)}

    def _change(self, candidate: Candidate[S], changed: Sequence[KeyPath]) -> Change[S]:
        paths = tuple(keypath.render(path) for path in changed)
        return Change(self._running, candidate.settings, paths, self._generation + bool(candidate.changed))

    def _report(self, trip: Trip, outcome: Outcome, **details: Any) -> Report:
        duration = time.monotonic() - trip.started
        identity = next(self._ids)
        return Report(identity, outcome, trip.triggers, self._generation, trip.started_at, duration, **details)

    @property
    def _running(self) -> S | None:
        return self._holder.current if self._holder.loaded else None

    @property
    def _generation(self) -> int:
        return self._holder.snapshot.generation if self._holder.loaded else 0


def _everything(settings: Any) -> tuple[KeyPath, ...]:
    """Return the path of every part of some settings; the root, where they have none that is declared."""
    model: type = type(settings)
    names = (*fields(model), *(getattr(settings, "__pydantic_extra__", None) or ()))
    return tuple((name,) for name in names) or ((),)


def _log(report: Report, phase: Phase) -> None:
    level = logging.WARNING if report.outcome == "rejected" or report.commit_errors else logging.INFO
    if report.outcome == "rejected" and phase == "start":
        level = logging.DEBUG  # raised as a ConfigError with the same faults: once is enough
    log.log(level, "%s", report, extra={"hotconf": report.as_dict()})
