"""A model checker: every interleaving of judges, operators, instances, crashes and lost messages in a small fleet.

The model runs the very functions of the product. Only the store is a model: one plan that is replaced by compare and
swap, and one report for each instance. Every message may be late or lost: an instance acts on the plan that it saw
last, and a judge on the reports that were sent last, which it reads at one time and acts upon at another.
"""

from __future__ import annotations

import functools
import itertools
import sys
from dataclasses import dataclass, replace

import pytest

from hotconf.fleet.cohort import bucket, wanted
from hotconf.fleet.operations import Declined, abort, pause, promote, propose, resume
from hotconf.fleet.plan import Plan, ReleaseName, Stage
from hotconf.fleet.report import InstanceReport
from hotconf.fleet.verdict import Evidence, step

IDS = tuple(sorted(("a", "b", "c"), key=lambda name: bucket("s", name)))
STAGES = (Stage(percent=34, bake=1), Stage(percent=100, bake=1))
START = Plan(stable=ReleaseName(release=1, digest="old"))
WHO = {"by": "x", "at": ""}


@dataclass(frozen=True)
class Instance:
    """`seen` is what it knows of the plan: the digest that it should run, and the rollout to rehearse, if any."""

    applied: str = "old"
    refused: bool = False
    rehearsed: bool = False
    alive: bool = True
    seen: tuple[str, bool] = ("old", False)

    def report(self, name):
        return InstanceReport(
            id=name,
            applied=self.applied,
            failed="new" if self.refused else "",
            failed_in="r" if self.refused else "",
            rehearsed="r" if self.rehearsed else "",
            rehearsal=("no",) if self.rehearsed and self.refused else (),
        )


@dataclass(frozen=True)
class Judge:
    """`term` is 0 for one that does not lead. `next` is what it is about to swap in."""

    term: int = 0
    next: Plan | None = None


@dataclass(frozen=True)
class World:
    plan: Plan
    instances: tuple[Instance, ...]
    sent: tuple[Instance, ...]
    judges: tuple[Judge, ...] = (Judge(), Judge())
    crashes: int = 0
    operations: int = 0


def bare(plan):
    """A plan without what only grows and decides nothing, so that the states are finitely many."""
    rollout = plan.rollout and plan.rollout.model_copy(update={"reason": ""})
    return plan.model_copy(update={"seq": 0, "last": (), "rollout": rollout})


@functools.cache
def verdict(plan_bytes, sent, waited):
    plan = Plan.decode(plan_bytes)
    alive = {name: state.report(name) for name, state in zip(IDS, sent, strict=True) if state.alive}
    silent = {name: state.report(name) for name, state in zip(IDS, sent, strict=True) if not state.alive}
    found = step(plan, Evidence(alive, silent, now=waited, entered=0.0))
    if found is not None:
        assert found.seq == plan.seq + 1
        check_step(plan, found, alive)
        found = bare(found)
    return found


def check_step(before, after, alive):
    """I22: each step forward rests on reports of every instance of the cohort."""
    old, new = before.rollout, after.rollout
    inside = [report for report in alive.values() if bucket("s", report.id) < old.threshold]
    if (old.state, new.state) in {("spreading", "baking"), ("baking", "spreading"), ("baking", "done")}:
        assert inside
        assert all(report.applied == "new" and not report.failed for report in inside)
    if new.threshold > old.threshold:
        assert not any(report.rehearsal for report in alive.values())
        size = sum(bucket("s", name) < new.threshold for name in alive)
        assert size <= max(1, int(len(alive) * STAGES[new.stage].percent / 100)), "a larger share than the plan says"
        assert new.stage in (old.stage, old.stage + 1)
    if new.state in ("reverting", "reverted", "aborted"):
        assert new.threshold == 0
    if new.state == "done":
        assert old.stage == len(STAGES) - 1
    assert before.term == after.term


def swapped(world, plan, **parts):
    """A change of the plan makes every swap that was prepared on the old one fail."""
    judges = parts.pop("judges", world.judges)
    judges = tuple(replace(judge, next=None) for judge in judges)
    return replace(world, plan=bare(plan), judges=judges, **parts)


def operators(world, limit):
    if world.operations >= limit:
        return
    begin = functools.partial(propose, release=ReleaseName(release=2, digest="new"), id="r", salt="s", stages=STAGES)
    if world.plan.rollout is None:  # one rollout: a second one has another id, and nothing in common with the first
        for rehearse in (True, False):
            yield swapped(world, begin(world.plan, rehearse=rehearse, **WHO), operations=world.operations + 1)
        return
    for verb in (pause, resume, abort, promote, functools.partial(promote, skip_stage=True)):
        try:
            plan = verb(world.plan, **WHO)
        except Declined:
            continue
        if plan is not world.plan:
            yield swapped(world, plan, operations=world.operations + 1)


def judges(world, most_terms):
    for index, judge in enumerate(world.judges):

        def become(changed, index=index):
            return tuple(changed if n == index else other for n, other in enumerate(world.judges))

        if judge.term != world.plan.term or not judge.term:
            if world.plan.term < most_terms:  # it takes the lead, or takes it back
                term = world.plan.term + 1
                fenced = world.plan.model_copy(update={"term": term})
                yield swapped(world, fenced, judges=become(Judge(term)))
            continue
        if judge.next is not None:
            assert judge.next.term == world.plan.term, "a swap of a judge whose term is over"
            yield swapped(world, judge.next)
            yield replace(world, judges=become(Judge()))  # it dies with the swap prepared
            continue
        for waited in (0.0, 2.0, 100.0):  # at once; the bake is over; nothing has answered in time
            found = verdict(world.plan.encode(), world.sent, waited)
            if found is not None:
                yield replace(world, judges=become(replace(judge, next=found)))


def instances(world, bad, most_crashes):
    rollout = world.plan.rollout
    for index, (name, state) in enumerate(zip(IDS, world.instances, strict=True)):

        def become(changed, index=index):
            return tuple(changed if n == index else other for n, other in enumerate(world.instances))

        def sent(changed, index=index):
            return tuple(changed if n == index else other for n, other in enumerate(world.sent))

        if not state.alive:
            yield replace(world, sent=sent(state))  # its lease runs out
            continue
        rehearses = rollout is not None and bucket("s", name) < rollout.rehearsal
        yield replace(world, instances=become(replace(state, seen=(wanted(world.plan, name), rehearses))))
        yield replace(world, sent=sent(state))
        digest, rehearse = state.seen
        if rehearse:
            yield replace(world, instances=become(replace(state, rehearsed=True, refused=state.refused or name in bad)))
        if digest == "new" and name in bad:
            yield replace(world, instances=become(replace(state, refused=True)))
        elif digest != state.applied:
            yield replace(world, instances=become(replace(state, applied=digest)))
        if world.crashes < most_crashes:
            yield replace(world, instances=become(replace(state, alive=False)), crashes=world.crashes + 1)


def explore(*, bad, depth, operations, crashes, terms):
    """Visit every state up to a depth, breadth first, and return how many there are and how deep it came."""
    first = World(bare(START), (Instance(),) * 3, (Instance(),) * 3)
    known, front = {first}, [first]
    for level in range(depth):
        found = []
        for world in front:
            moves = itertools.chain(operators(world, operations), judges(world, terms), instances(world, bad, crashes))
            for reached in moves:
                if reached not in known:
                    check(reached, bad)
                    known.add(reached)
                    found.append(reached)
        front = found
        if not front:
            return len(known), level + 1, known
    return len(known), depth, known


def check(world, bad):
    rollout = world.plan.rollout
    for name, state in zip(IDS, world.instances, strict=True):
        assert not (name in bad and state.applied == "new"), "I23: it runs what it has refused"
    if rollout is not None:
        if rollout.state in ("reverting", "reverted", "aborted"):
            assert rollout.threshold == 0
        if rollout.state == "done":
            assert world.plan.stable.digest == "new"
        elif world.plan.stable.digest == "new":
            raise AssertionError("stable without having been done")


BAD = pytest.mark.parametrize("bad", [(), (IDS[0],)], ids=["good", "refused"])


@BAD
def test_I21_every_state_with_one_judge_at_a_time_and_one_crash(bad):
    states, depth, known = explore(bad=bad, depth=100, operations=1, crashes=1, terms=1)
    report(states, depth)
    assert depth < 100, "every state was visited"
    assert ("done" in {world.plan.state for world in known}) == (not bad)


@pytest.mark.soak
def test_I25_every_state_with_two_judges_two_operations_and_one_crash():
    states, depth, known = explore(bad=(IDS[0],), depth=100, operations=2, crashes=1, terms=2)
    report(states, depth)
    assert depth < 100, "every state was visited"
    assert {world.plan.state for world in known} >= {"idle", "rehearsing", "spreading", "paused", "aborted", "reverted"}


def report(states, depth):
    sys.stdout.write(f"3 instances: {states} states, depth {depth}\n")
