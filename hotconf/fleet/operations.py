"""What an operator does to a plan: propose, pause, resume, abort, promote, approve, roll back. Pure: plan in, plan out.

Each function returns the next plan, which the caller swaps in. None of them needs a judge.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hotconf.errors import HotconfError
from hotconf.fleet.cohort import WHOLE_FLEET
from hotconf.fleet.plan import PAST_RELEASES, ReleaseName, Rollout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotconf.fleet.plan import Plan, Stage, State


class Declined(HotconfError):
    """An operation that the present plan does not allow. Nothing was changed. `reason` is for the operator."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def propose(
    plan: Plan,
    release: ReleaseName,
    *,
    id: str,  # noqa: A002 - the field's name
    salt: str,
    stages: Sequence[Stage],
    by: str,
    at: str,
    message: str = "",
    rehearse: bool = True,
    max_refused: int = 0,
    guards: Sequence[str] = (),
    approve_by: int = 0,
    is_empty: bool = False,
) -> Plan:
    """Begin the rollout of a release. The first release of a fleet without instances is stable at once.

    Args:
        plan: The plan.
        release: The release, whose document is in the store already.
        id: The id of the rollout; no other rollout has it.
        salt: What decides which instances go first.
        stages: The stages; the last one is the whole fleet.
        by: The operator.
        at: The time, for the audit.
        message: What the release is for.
        rehearse: Whether every instance has to rehearse the release first.
        max_refused: Refusals up to which the rollout goes on.
        guards: Measures and queries that are compared at the end of each stage.
        approve_by: The number of operators that have to approve.
        is_empty: Whether no instance reports.

    Raises:
        Declined: A rollout is running, or the last stage leaves instances out.
    """
    if plan.rollout is not None and not plan.rollout.is_finished:
        running = f"release {plan.rollout.release} is {plan.rollout.state}"
        raise Declined(f"{running}: wait for its end, or abort it first")
    if not stages or stages[-1].percent < 100:
        raise Declined("the last stage must be 100%")
    if any(after.percent <= before.percent for before, after in pairwise(stages)):
        raise Declined("each stage must be larger than the one before")
    what = {"at": at, "by": by, "what": "propose"}
    if plan.stable is None and is_empty:
        why = f"release {release.release}, the first one of a fleet without instances: stable at once"
        return plan.changed(**what, why=why, stable=release, rollout=None)
    rollout = Rollout(
        id=id,
        **release.model_dump(exclude={"release"}),
        release=release.release,
        salt=salt,
        stages=tuple(stages),
        state="rehearsing" if rehearse else "approval",
        since=at,
        by=by,
        max_refused=max_refused,
        guards=tuple(guards),
        approve_by=approve_by,
    )
    return plan.changed(**what, why=f"release {release.release}: {message}".removesuffix(": "), rollout=rollout)


def pause(plan: Plan, *, by: str, at: str, why: str = "") -> Plan:
    """Stop a rollout where it is. Nothing is taken back. Raises Declined."""
    rollout = _running(plan, "pause")
    if rollout.state in ("paused", "reverting"):
        raise Declined(f"release {rollout.release} is {rollout.state}: there is nothing to pause")
    return paused(plan, rollout, by=by, at=at, why=why or "by an operator")


def resume(plan: Plan, *, by: str, at: str, why: str = "") -> Plan:
    """Go on with a paused rollout. What it had baked counts no more: it bakes anew. Raises Declined."""
    rollout = _running(plan, "resume")
    if rollout.state != "paused":
        raise Declined(f"release {rollout.release} is {rollout.state} and not paused")
    state = rollout.resume or "spreading"
    return moved(plan, rollout, "spreading" if state == "baking" else state, by=by, at=at, what="resume", why=why)


def abort(plan: Plan, *, by: str, at: str, why: str = "") -> Plan:
    """Take a rollout back at once, in any state, without a judge. Aborting twice changes nothing. Raises Declined."""
    if plan.rollout is not None and plan.rollout.state == "aborted":
        return plan
    rollout = _running(plan, "abort")
    none: dict[str, Any] = {"threshold": 0, "rehearsal": 0}
    return moved(plan, rollout, "aborted", by=by, at=at, what="abort", why=why or "by an operator", **none)


def promote(plan: Plan, *, by: str, at: str, why: str = "", skip_stage: bool = False) -> Plan:
    """Give a release to the whole fleet at once; with `skip_stage` only end the present stage's bake.

    Raises:
        Declined: It is not spreading, baking, or paused while it did: a rehearsal or approval cannot be skipped.
    """
    rollout = _running(plan, "promote")
    state = rollout.resume if rollout.state == "paused" else rollout.state
    if state not in ("spreading", "baking"):
        raise Declined(f"release {rollout.release} is {rollout.state}: it can be promoted while it spreads or bakes")
    if skip_stage:
        skip = rollout.stage
        return moved(plan, rollout, "spreading", by=by, at=at, what="promote", why=why or "one stage", skip=skip)
    last = {"stage": len(rollout.stages) - 1, "threshold": WHOLE_FLEET, "skip": len(rollout.stages) - 1}
    return moved(plan, rollout, "spreading", by=by, at=at, what="promote", why=why or "whole fleet", **last)


def approve(plan: Plan, *, by: str, at: str, why: str = "") -> Plan:
    """Approve a release. An operator counts once, and the one who proposed it does not count.

    Raises:
        Declined: It needs no approval, or not this operator's.
    """
    rollout = _running(plan, "approve")
    if not rollout.approve_by:
        raise Declined(f"release {rollout.release} needs no approval")
    if (rollout.resume if rollout.state == "paused" else rollout.state) not in ("rehearsing", "approval"):
        raise Declined(f"release {rollout.release} is {rollout.state}: it is past its approval")
    if by == rollout.by:
        raise Declined(f"{by} has proposed release {rollout.release}: another operator has to approve it")
    if by in rollout.approvals:
        raise Declined(f"{by} has approved release {rollout.release} already")
    approved = rollout.model_copy(update={"approvals": (*rollout.approvals, by)})
    return plan.changed(at=at, by=by, what="approve", why=why, rollout=approved)


def roll_back(plan: Plan, release: ReleaseName | None, *, by: str, at: str, why: str = "") -> Plan:
    """Make an earlier release the stable one, at once and for the whole fleet.

    Args:
        plan: The plan.
        release: The release; None for the stable one before the present one.
        by: The operator.
        at: The time, for the audit.
        why: The reason, for the audit.

    Raises:
        Declined: A rollout is running, there is no earlier release, or it is stable already.
    """
    if plan.rollout is not None and not plan.rollout.is_finished:
        raise Declined(f"release {plan.rollout.release} is {plan.rollout.state}: abort it, which takes it back")
    if release is None and not plan.past:
        raise Declined("there is no earlier stable release")
    target = release or plan.past[-1]
    if plan.stable is not None and target.release == plan.stable.release:
        raise Declined(f"release {target.release} is stable already")
    past = tuple(name for name in plan.past if name != target)
    why = f"to release {target.release}{': ' if why else ''}{why}"
    return plan.changed(
        at=at, by=by, what="rollback", why=why, stable=target, rollout=None, past=_with(past, plan.stable)
    )


def finished(plan: Plan, rollout: Rollout, *, by: str, at: str) -> Plan:
    """Make the release of a rollout the stable one."""
    done = rollout.model_copy(update={"state": "done", "since": at, "threshold": WHOLE_FLEET, "reason": ""})
    past = _with(plan.past, plan.stable)
    why = f"release {rollout.release} is stable"
    return plan.changed(at=at, by=by, what="done", why=why, stable=rollout.name, rollout=done, past=past)


def paused(plan: Plan, rollout: Rollout, *, by: str, at: str, why: str) -> Plan:
    """Pause a rollout, and keep what it did."""
    return moved(plan, rollout, "paused", by=by, at=at, what="pause", why=why, resume=rollout.state)


def moved(
    plan: Plan,
    rollout: Rollout,
    state: State,
    *,
    by: str,
    at: str,
    what: str,
    why: str = "",
    **parts: Any,
) -> Plan:
    """Return the plan with its rollout in another state; `parts` are further fields of the rollout."""
    update = {"resume": None, **parts, "state": state, "since": at, "reason": why[:240]}
    return plan.changed(at=at, by=by, what=what, why=why, rollout=rollout.model_copy(update=update))


def _with(past: tuple[ReleaseName, ...], release: ReleaseName | None) -> tuple[ReleaseName, ...]:
    return (*past, *((release,) if release is not None else ()))[-PAST_RELEASES:]


def _running(plan: Plan, verb: str) -> Rollout:
    if plan.rollout is None:
        raise Declined(f"no rollout is running: there is nothing to {verb}")
    if plan.rollout.is_finished:
        raise Declined(f"the rollout of release {plan.rollout.release} has ended: it is {plan.rollout.state}")
    return plan.rollout
