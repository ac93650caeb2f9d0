"""The judge: a process that leads, listens, and swaps in the verdict. It keeps nothing that is not in the store.

Several may run. One of them leads, as the key `leader` says; what fences the others is the term in the plan, which each
new leader raises by a swap, so that a swap of the old one fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import time
from typing import TYPE_CHECKING, Any

from hotconf.fleet.operations import paused
from hotconf.fleet.plan import Plan, PlanUnreadable
from hotconf.fleet.report import InstanceReport
from hotconf.fleet.store import LEASE, Conflict, StoreError, first_of
from hotconf.fleet.stores import open_store
from hotconf.fleet.verdict import Evidence, Patience, step
from hotconf.sources.patience import Backoff
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hotconf.fleet.plan import Rollout
    from hotconf.fleet.store import Session, Store

log = logging.getLogger("hotconf")

_TICK = 0.25
"""Seconds between two looks while nothing is reported."""

_OVERDUE = 600.0
"""Seconds by the wall clock that a stage may have been without a judge before a new one pauses it."""

_GAP = 5.0
"""Seconds between two looks after which a judge was asleep: what it would have seen meanwhile is missing."""

_SHOWN = 100
"""Silent instances that the judge names in the store."""


class Deposed(Exception):
    """The lead is lost."""

    def __str__(self) -> str:
        return "another judge has taken over, or the plan is gone"


class Judge:
    """Judges the rollouts of one fleet.

    Args:
        store: The URL of the store, or a Store.
        name: The name of the fleet.
        judge: What the audit calls it; host and process by default.
        lease: Seconds after which a leader that does not renew its lead is succeeded.
        silent_after: Seconds without a report after which an instance counts as silent.
        patience: How long it waits for answers.
        query: Asks a Prometheus for the value of a guard, by its text; None where it has none.

    Raises:
        StoreError: The URL names no store.
    """

    def __init__(
        self,
        store: str | Store,
        name: str,
        *,
        judge: str | None = None,
        lease: float = LEASE,
        silent_after: float = 15.0,
        patience: Patience | None = None,
        query: Callable[[str], Any] | None = None,
    ) -> None:
        self.store = open_store(store) if isinstance(store, str) else store
        self.fleet = name
        self.name = judge or f"judge {socket.gethostname()}:{os.getpid()}"
        self._id = f"{self.name} {secrets.token_hex(4)}"
        self._lease = lease
        self._silent_after = silent_after
        self._patience = patience or Patience()
        self._query = query
        self.leads = False
        self.last_step = 0.0
        self.plan: Plan | None = None
        self.members = Members()

    def __repr__(self) -> str:
        return f"Judge({self.store.url!r}, {self.fleet!r}{', leading' if self.leads else ''})"

    async def run(self) -> None:
        """Judge until it is cancelled. A store that is out of reach is waited for."""
        backoff = Backoff()
        while True:
            try:
                async with self.store.connect(self.fleet) as session:
                    await _Leadership(session, self._id, self._lease).hold(self._lead)
            except* (StoreError, PlanUnreadable, Deposed) as errors:
                log.warning("judge of %s: %s", self.fleet, first_of(errors))
            if self.leads:
                backoff.reset()
            self.leads = False
            await asyncio.sleep(backoff.pause())

    async def _lead(self, session: Session) -> None:
        """Lead: fence the judge before, listen, and then act on every plan and report."""
        term = await self._fence(session)
        self.leads = True
        refusals = self.members.refusals
        self.members = members = Members()
        members.refusals = refusals
        news = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(members.listen(session, news))
            group.create_task(self._follow(session, term, news))
            group.create_task(self._note_silence(session))
            log.info("judge of %s: leading in term %d", self.fleet, term)
            looked, case, entered, is_first, tick = time.monotonic(), None, 0.0, True, _TICK
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(tick):
                        await news.wait()
                news.clear()
                now = time.monotonic()
                if now - looked > _GAP:  # asleep or starved: silence and bake have to be seen
                    members.listen_again(now)
                    entered = now
                looked, plan = now, self.plan
                rollout = plan.rollout if plan is not None else None
                if plan is None or rollout is None or rollout.is_finished:
                    members.forget_silent()
                    case, is_first = None, is_first and plan is None
                    continue
                if case != (present := _case(rollout)):
                    case, entered = present, now
                if rollout.id != members.rollout:
                    members.forget_silent()
                    members.rollout, members.buckets = rollout.id, {}
                next_plan = _overdue(plan, rollout, self.name) if is_first else None
                is_first = False
                if next_plan is None:
                    next_plan = step(plan, await self._evidence(rollout, members, now, entered))
                tick = max(_TICK, 4 * (time.monotonic() - now))  # a large fleet is looked at less often
                self.last_step = utcnow().timestamp()
                if next_plan is not None:
                    await self._swap(session, next_plan)

    async def _evidence(self, rollout: Rollout, members: Members, now: float, entered: float) -> Evidence:
        values: dict[str, float | None] = {}
        if rollout.state == "baking" and self._query is not None:
            for guard in rollout.guards:
                if guard.startswith("prometheus:"):
                    values[guard] = await self._query(guard)
        return Evidence(
            members.alive,
            members.silent(now, max(0.0, self._silent_after - self._lease)),
            now=now,
            entered=entered,
            listened=members.has_listened,
            at=utcnow().isoformat(timespec="seconds"),
            judge=self.name,
            values=values,
            patience=self._patience,
            buckets=members.buckets,
        )

    async def _fence(self, session: Session) -> int:
        """Raise the term of the plan, so that no swap of an earlier judge succeeds any more. Return the term."""
        while True:
            entry = await session.get("plan")
            plan = Plan.decode(entry.value) if entry is not None else Plan(fleet_id=secrets.token_hex(8))
            plan = plan.model_copy(update={"term": plan.term + 1})
            with contextlib.suppress(Conflict):
                self._version = await session.swap("plan", plan.encode(), entry.version if entry is not None else 0)
                self.plan = plan
                for line in plan.last:  # a judge or operator may have died between its swap and its audit line
                    await session.put_once(f"audit/{line.seq}", line.model_dump_json().encode())
                return plan.term

    async def _follow(self, session: Session, term: int, news: asyncio.Event) -> None:
        """Follow the plan: operators change it, and another judge may."""
        async for entry in session.follow("plan"):
            if entry is None:
                raise Deposed  # the plan is gone: begin again
            if entry.version < self._version:
                continue
            plan = Plan.decode(entry.value)
            if plan.term != term:
                raise Deposed
            self.plan, self._version = plan, entry.version
            news.set()

    async def _swap(self, session: Session, plan: Plan) -> None:
        """Put the next plan into force, if the present one is still the one that was looked at."""
        try:
            self._version = await session.swap("plan", plan.encode(), self._version)
        except Conflict:
            entry = await session.get("plan")  # an operator was faster, or another judge
            if entry is None:
                raise Deposed from None
            current = Plan.decode(entry.value)
            if self.plan is None or current.term != self.plan.term:
                raise Deposed from None
            self.plan, self._version = current, entry.version
            return
        self.plan = plan
        line = plan.last[-1]
        log.info("fleet %s: %s: %s %s", self.fleet, plan.state, line.what, line.why)
        await session.put_once(f"audit/{line.seq}", line.model_dump_json().encode())

    async def _note_silence(self, session: Session) -> None:
        """Keep in the store which instances are silent: a listing of reports cannot show what is not there."""
        written: bytes | None = None
        while True:
            silent = sorted({report.id for report in self.members.gone.values()})
            note = json.dumps({"silent": silent[:_SHOWN], "silent_count": len(silent)}).encode()
            if note != written:
                entry = await session.get("silence")
                with contextlib.suppress(Conflict):
                    await session.swap("silence", note, entry.version if entry is not None else 0)
                    written = note
            await asyncio.sleep(1.0)


class Members:
    """The instances as one judge has seen them since it began to listen: those that report, and the silent ones."""

    def __init__(self) -> None:
        self.alive: dict[str, InstanceReport] = {}
        self.gone: dict[str, InstanceReport] = {}
        self._gone_at: dict[str, float] = {}
        self.refusals = 0
        self.has_listened = False
        self.rollout = ""
        self.buckets: dict[str, int] = {}

    async def listen(self, session: Session, news: asyncio.Event) -> None:
        """Take in every report, and tell of the news."""
        async for changes in session.reports():
            self.take(changes, time.monotonic())
            self.has_listened = True
            news.set()

    def take(self, changes: Mapping[str, bytes | None], now: float) -> None:
        """Take in reports that have changed; None for one whose lease is over."""
        for key, value in changes.items():
            report = InstanceReport.decode(value) if value is not None else None
            before = self.alive.pop(key, None)
            if report is not None and _refusal(report) not in (None, _refusal(before) if before is not None else None):
                self.refusals += 1
            if report is not None and not report.left:
                self.alive[key] = report
                self._back(report)
            elif before is not None and report is None and value is None:
                self.gone[key] = before
                self._gone_at[key] = now

    def _back(self, report: InstanceReport) -> None:
        """Count an instance that reports as not silent, also where it does so from a new process."""
        for key in [key for key, gone in self.gone.items() if gone.id == report.id]:
            del self.gone[key], self._gone_at[key]

    def silent(self, now: float, after: float) -> dict[str, InstanceReport]:
        """Return the last report of each process that has been gone for so many seconds."""
        return {key: report for key, report in self.gone.items() if now - self._gone_at[key] >= after}

    def listen_again(self, now: float) -> None:
        """Count what is gone from now on."""
        self._gone_at = dict.fromkeys(self._gone_at, now)

    def forget_silent(self) -> None:
        """Forget what fell silent before: it says nothing about the next rollout."""
        self.gone.clear()
        self._gone_at.clear()


def _refusal(report: InstanceReport) -> tuple[str, ...] | None:
    """Return what tells one refusal of an instance from the next; None where it refuses nothing."""
    if report.rehearsal:
        return "rehearsal", report.rehearsed
    return ("reload", report.failed, report.failed_in) if report.failed else None


class _Leadership:
    """The lead among the judges: a key that its holder changes again and again, by compare-and-swap.

    A judge that sees no change for a whole lease, by its own monotonic clock, takes the key. No clock is compared.
    """

    def __init__(self, session: Session, judge: str, lease: float) -> None:
        self._session = session
        self._judge = judge
        self._lease = lease
        self._beat = 0
        self._version = 0

    async def hold(self, lead: Callable[[Session], Any]) -> None:
        """Wait for the lead, and run a function while it is held. Raises Deposed when it is lost."""
        await self._win()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renew())
                group.create_task(lead(self._session))
        finally:
            with contextlib.suppress(
                StoreError, Conflict, TimeoutError, asyncio.CancelledError
            ):  # so that another need not wait
                async with asyncio.timeout(1.0):
                    await self._session.swap("leader", b"{}", self._version)

    async def _win(self) -> None:
        seen, since = -1, time.monotonic()
        while True:
            entry = await self._session.get("leader")
            version = entry.version if entry is not None else 0
            if version != seen:
                seen, since = version, time.monotonic()
            is_free = entry is None or not holder_of(entry.value)
            if is_free or time.monotonic() - since > self._lease:
                with contextlib.suppress(Conflict):
                    self._version = await self._session.swap("leader", self._value(), version)
                    return
            await asyncio.sleep(min(1.0, self._lease / 10))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                self._version = await self._session.swap("leader", self._value(), self._version)
            except Conflict:
                raise Deposed from None

    def _value(self) -> bytes:
        self._beat += 1
        return json.dumps({"judge": self._judge, "beat": self._beat}).encode()


def holder_of(value: bytes) -> str:
    """Return the judge that the key `leader` names; empty where none holds it."""
    try:
        found = json.loads(value)
        return str(found.get("judge", "")) if isinstance(found, dict) else ""
    except ValueError:
        return ""


def _case(rollout: Rollout) -> Sequence[object]:
    """Return what a judge has to see begin before it can say how long it has lasted."""
    return rollout.id, rollout.state, rollout.stage, rollout.threshold, rollout.rehearsal


def _overdue(plan: Plan, rollout: Rollout, judge: str) -> Plan | None:
    """Pause a rollout that has stood still without a judge: what was true of it then may not be true now.

    This is the one look at a wall clock of another machine. A wrong one can only pause.
    """
    import datetime as dt

    if rollout.state not in ("rehearsing", "spreading", "baking"):
        return None
    try:
        since = dt.datetime.fromisoformat(rollout.since)
        waited = (utcnow() - since).total_seconds()
    except (ValueError, TypeError):
        return None
    if waited <= rollout.stages[rollout.stage].bake + _OVERDUE:
        return None
    at = utcnow().isoformat(timespec="seconds")
    return paused(plan, rollout, by=judge, at=at, why="overdue: it has stood without a judge")
