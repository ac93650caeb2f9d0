"""The verdict: (plan, evidence) → the next plan, or none. No await, no clock, no memory.

Read `step` first. A rollout goes forward only on evidence from after its last step: refusals take it back, silence in
the cohort alone takes it back, silence everywhere pauses it, and what cannot be decided in time pauses it.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from hotconf.fleet.cohort import WHOLE_FLEET, bucket, threshold_for
from hotconf.fleet.guards import Guard
from hotconf.fleet.operations import finished, moved, paused
from hotconf.fleet.ranks import mann_whitney
from hotconf.fleet.report import first_fault, refuses, standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hotconf.fleet.plan import Plan, Rollout
    from hotconf.fleet.report import InstanceReport

SIGNIFICANCE = 0.01
"""The chance of a false alarm of one comparison."""

SILENCE_MARGIN = 0.1
"""How much larger the silent share of the cohort may be than that of the control group."""

_ALL_ANSWERS = 2.0
"""Seconds that a refused rehearsal waits for the other answers."""

_LARGEST_GROUP = 500
"""Instances of a group that are compared. More make the comparison slower, and hardly sharper."""

Finding: TypeAlias = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a judge waits: for answers of instances, for a revert, and for guards that cannot be decided."""

    answer: float = 60.0
    revert: float = 60.0
    undecided: float = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a judge has seen by `now`. Times are seconds of its own monotonic clock.

    Attributes:
        reports: The report of each process that is alive.
        silent: The last report of each process that was alive during this rollout and is silent.
        now: The time.
        entered: When the rollout came into its present state and stage, or when this judge first saw it there.
        listened: Whether every report that there is has been listed.
        at: The wall clock, for the audit.
        judge: The name of the judge, for the audit.
        values: What the query of each Prometheus guard returned; None where it has no value.
        patience: How long to wait.
        buckets: The bucket of each instance, as far as it is known: the caller may keep it for one rollout.
    """

    reports: Mapping[str, InstanceReport]
    silent: Mapping[str, InstanceReport]
    now: float
    entered: float
    listened: bool = True
    at: str = ""
    judge: str = "judge"
    values: Mapping[str, float | None] = field(default_factory=dict)
    patience: Patience = Patience()
    buckets: dict[str, int] = field(default_factory=dict)


def step(plan: Plan, evidence: Evidence) -> Plan | None:
    """Return the next plan, None where nothing has to change yet."""
    rollout = plan.rollout
    if rollout is None or rollout.is_finished or not evidence.listened:
        return None
    return _Step(plan, rollout, evidence).next()


class _Step:
    """One look at a rollout: what the evidence says of it, worked out once."""

    def __init__(self, plan: Plan, rollout: Rollout, evidence: Evidence) -> None:
        self.plan = plan
        self.rollout = rollout
        self.evidence = evidence
        self.waited = evidence.now - evidence.entered
        self.buckets = evidence.buckets
        for report in (*evidence.reports.values(), *evidence.silent.values()):
            if report.id not in self.buckets:
                self.buckets[report.id] = bucket(rollout.salt, report.id)
        self.cohort, self.control = self._split(evidence.reports.values())

    def _split(self, reports: Iterable[InstanceReport]) -> tuple[list[InstanceReport], list[InstanceReport]]:
        inside: list[InstanceReport] = []
        outside: list[InstanceReport] = []
        for report in reports:
            (inside if self.buckets[report.id] < self.rollout.threshold else outside).append(report)
        return inside, outside

    def next(self) -> Plan | None:  # noqa: PLR0911 - a table of states
        """Return the next plan, None where nothing has to change yet."""
        rollout = self.rollout
        if rollout.state == "reverting":
            return self._finish_revert()
        refused = {report.id: report for report in self.evidence.reports.values() if refuses(report, self.plan)}
        if len(refused) > rollout.max_refused and not self._is_being_rehearsed():
            first = min(refused.values(), key=lambda report: self.buckets[report.id])
            return self._revert(f"refused by {_names([*refused.values()])}: {first_fault(first, self.plan)}")
        if rollout.state == "paused":
            return None
        if silence := self._silence():
            return silence
        match rollout.state:
            case "rehearsing":
                return self._rehearse()
            case "approval":
                enough = len(rollout.approvals) >= rollout.approve_by
                return self._enter(0, "approved" if rollout.approve_by else "") if enough else None
            case "spreading":
                return self._spread()
            case _:
                return self._bake()

    def _silence(self) -> Plan | None:
        """Compare the silent share of the cohort with that of the control group."""
        inside, outside = self._split(self.evidence.silent.values())
        if not inside and not outside:
            return None
        in_cohort = len(inside) / (len(inside) + len(self.cohort) or 1)
        in_control = len(outside) / (len(outside) + len(self.control) or 1)
        is_whole = not self.control and not outside
        everywhere = in_cohort if is_whole else in_control
        if everywhere > 0.5:
            return self._pause(f"{_names(inside + outside)} silent, everywhere: the store or the judge may be cut off")
        if self.rollout.threshold and in_cohort - in_control > SILENCE_MARGIN:
            return self._revert(f"{_names(inside)} silent in the cohort")
        return None

    def _rehearse(self) -> Plan | None:
        """Have the instances rehearse in waves, since preparing resources costs something."""
        rollout = self.rollout
        asked, missing = self._asked()
        if missing:
            late = self.waited > self.evidence.patience.answer
            return self._pause(f"no rehearsal from {_names(missing)}") if late else None
        count = len(self.evidence.reports)
        if rollout.rehearsal == WHOLE_FLEET:
            if not count:
                return self._pause("no instance reports") if self.waited > self.evidence.patience.answer else None
            why = f"rehearsed by {len(asked)}"
            return moved(self.plan, rollout, "approval", **self._by("rehearse", why))
        wave = max(20, len(asked) * 2, count // 4)
        buckets = sorted(self.buckets[report.id] for report in self.evidence.reports.values())
        reach = buckets[wave - 1] + 1 if len(buckets) > wave else WHOLE_FLEET
        return moved(self.plan, rollout, "rehearsing", **self._by("rehearse", ""), rehearsal=reach)

    def _asked(self) -> tuple[list[InstanceReport], list[InstanceReport]]:
        """Return the instances that are asked to rehearse, and those of them that have not answered."""
        reports = self.evidence.reports.values()
        asked = [report for report in reports if self.buckets[report.id] < self.rollout.rehearsal]
        return asked, [report for report in asked if report.rehearsed != self.rollout.id]

    def _is_being_rehearsed(self) -> bool:
        """Whether answers are still to come: nothing is applied meanwhile, so all refusals can be named."""
        return self.rollout.state == "rehearsing" and bool(self._asked()[1]) and self.waited < _ALL_ANSWERS

    def _spread(self) -> Plan | None:
        missing = [report for report in self.cohort if standing(report, self.plan) == "waiting"]
        applied = sum(standing(report, self.plan) == "applied" for report in self.cohort)
        if missing or not applied:
            if self.waited <= self.evidence.patience.answer:
                return None
            return self._pause(f"no answer from {_names(missing)}" if missing else "no instance of the cohort reports")
        return moved(self.plan, self.rollout, "baking", **self._by("bake", f"applied by {applied}"))

    def _bake(self) -> Plan | None:
        rollout = self.rollout
        skipped = rollout.skip == rollout.stage
        over = self.waited - rollout.stages[rollout.stage].bake
        if over < 0 and not skipped:
            return None
        doubts = [f"no answer from {report.id}" for report in self.cohort if standing(report, self.plan) == "waiting"]
        doubts += [] if self.cohort else ["no instance of the cohort reports"]
        for text in () if skipped else rollout.guards:
            finding, why = self._guarded(Guard.parse(text))
            if finding == "fail":
                return self._revert(why)
            doubts += [why] if finding == "undecided" else []
        if doubts:
            return self._pause(f"undecided: {doubts[0]}") if over > self.evidence.patience.undecided else None
        if rollout.stage + 1 < len(rollout.stages):
            return self._enter(rollout.stage + 1, "")
        return finished(self.plan, rollout, by=self.evidence.judge, at=self.evidence.at)

    def _guarded(self, guard: Guard) -> tuple[Finding, str]:
        if guard.query:
            return guard.judge_value(self.evidence.values.get(guard.text))
        cohort = self._ratios(guard.name, self.cohort)
        control = self._ratios(guard.name, self.control)
        if cohort is None or control is None:
            return "undecided", f"{guard.name} is not measured by every instance"
        return compare(cohort, control, guard)

    def _ratios(self, name: str, reports: Sequence[InstanceReport]) -> list[float] | None:
        """Return for each instance how much worse a measure is than before the rollout; None where one has no data."""
        ratios = []
        for report in sorted(reports, key=lambda report: self.buckets[report.id])[:_LARGEST_GROUP]:
            sampled = report.measures.get(name)
            if sampled is None or sampled.before is None or sampled.after is None:
                return None
            ratios.append(worsening(sampled.before, sampled.after, sampled.better))
        return None if any(map(math.isnan, ratios)) else ratios

    def _enter(self, stage: int, why: str) -> Plan:
        instances = [report.id for report in self.evidence.reports.values()]
        threshold = max(self.rollout.threshold, threshold_for(self.rollout.stages[stage], self.rollout.salt, instances))
        share = f"{self.rollout.stages[stage].percent:g}%"
        why = f"{share}, {why}" if why else share
        return moved(self.plan, self.rollout, "spreading", **self._by("stage", why), stage=stage, threshold=threshold)

    def _revert(self, why: str) -> Plan:
        # Nothing has applied it where the threshold is 0, so there is nothing to wait for.
        state = "reverting" if self.rollout.threshold else "reverted"
        return moved(self.plan, self.rollout, state, **self._by("revert", why), threshold=0, rehearsal=0)  # type: ignore[arg-type]

    def _finish_revert(self) -> Plan | None:
        stable = self.plan.stable.digest if self.plan.stable is not None else ""
        others = [report for report in self.evidence.reports.values() if report.applied != stable]
        others += self.evidence.silent.values()
        if others and self.waited <= self.evidence.patience.revert:
            return None
        why = self.rollout.reason + (f"; not back: {_names(others)}" if others else "")
        return moved(self.plan, self.rollout, "reverted", **self._by("reverted", why))

    def _pause(self, why: str) -> Plan:
        return paused(self.plan, self.rollout, by=self.evidence.judge, at=self.evidence.at, why=why)

    def _by(self, what: str, why: str) -> dict[str, str]:
        return {"by": self.evidence.judge, "at": self.evidence.at, "what": what, "why": why}


def worsening(before: float, after: float, better: str) -> float:
    """Return by which factor a measure of one instance became worse: 1 for no change.

    A measure that was 0 and is more now is infinitely worse; one that stays 0 has not changed.
    """
    new, old = (after, before) if better == "lower" else (before, after)
    if new == old:
        return 1.0
    return new / old if old else math.inf


def compare(cohort: Sequence[float], control: Sequence[float], guard: Guard) -> tuple[Finding, str]:
    """Compare what a release did to a cohort with what happened to the others meanwhile.

    Each value is one instance's own ratio of after to before: levels of unequal instances and points in time alarm
    falsely. Where the groups are too small for the test to tell anything, the tolerance alone decides.
    """
    if not cohort:
        return "undecided", f"{guard.name} is not measured by the cohort"
    usual = statistics.median(control) if control else 1.0
    found = statistics.median(cohort)
    excess = found / usual if usual and not math.isinf(usual) else found
    text = f"{guard.name} is {excess:.3g} times what it is elsewhere"
    if excess <= 1 + guard.tolerance:
        return "pass", text
    is_conclusive = bool(control) and 1 / math.comb(len(cohort) + len(control), len(cohort)) <= SIGNIFICANCE
    chance = mann_whitney(cohort, control) if is_conclusive else 0.0
    if chance > SIGNIFICANCE:
        return "pass", f"{text}, by chance (p = {chance:.2g})"
    return "fail", f"{text}, more than {guard.tolerance:.0%}" + (f" (p = {chance:.2g})" if is_conclusive else "")


def _names(reports: Sequence[InstanceReport]) -> str:
    """Return the instances of reports: the first ten by name, and how many more."""
    ids = sorted({report.id for report in reports})
    return ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
