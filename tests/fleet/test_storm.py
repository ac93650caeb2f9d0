"""I21: two judges and three operators at random; the history is one that one judge could have made."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from hotconf.fleet.control import Control
from hotconf.fleet.operations import Declined
from hotconf.fleet.plan import FINISHED, Plan, Stage
from hotconf.fleet.stores.memory import MemoryStore
from hotconf.fleet.verdict import Patience
from tests.fleet.live import GOOD, Live

STAGES = (Stage(percent=20, bake=0.02), Stage(percent=60, bake=0.02), Stage(percent=100, bake=0.0))

FORWARD = {
    "rehearsing": {"rehearsing", "approval", "paused", "reverted", "aborted"},
    "approval": {"approval", "spreading", "paused", "reverted", "aborted"},
    "spreading": {"spreading", "baking", "paused", "reverting", "aborted"},
    "baking": {"spreading", "done", "paused", "reverting", "aborted"},
    "paused": {"paused", "rehearsing", "approval", "spreading", "reverting", "reverted", "aborted"},
    "reverting": {"reverted", "aborted"},
}
"""The states that may follow a state within one rollout."""


class Plans(dict):
    """The entries of a store, which remember every plan that was swapped in."""

    def __init__(self):
        super().__init__()
        self.plans = []

    def __setitem__(self, key, entry):
        super().__setitem__(key, entry)
        if key == "plan":
            self.plans.append(Plan.decode(entry.value))


def check_history(plans):
    """Every plan follows from the one before by one step of one judge or operator."""
    for before, after in itertools.pairwise(plans):
        if after.term != before.term:  # a new judge fences the old one, and does nothing else
            assert after == before.model_copy(update={"term": before.term + 1})
            continue
        assert after.seq == before.seq + 1
        assert after.last[-1].seq == after.seq
        old, new = before.rollout, after.rollout
        if old is None or new is None or old.id != new.id:
            assert old is None or old.state in FINISHED, "a rollout was replaced before its end"
            assert new is None or new.threshold == 0
            continue
        assert new.state in FORWARD[old.state], f"{old.state} → {new.state}"
        if new.state in ("reverting", "reverted", "aborted"):
            assert new.threshold == 0
        else:
            assert new.threshold >= old.threshold, "a cohort only grows"
        if new.threshold > old.threshold and new.state != "done":
            by_operator = after.last[-1].what == "promote"
            assert new.state == "spreading"
            assert by_operator or new.stage == old.stage + 1 or (old.state == "approval" and new.stage == 0)
        assert before.stable == after.stable or new.state == "done"


async def operate(fleet, dice, steps):
    """Do random things to the plan; most of them are declined."""
    control = Control(fleet.session, f"operator {dice.random()}")
    done = 0
    for number in range(steps):
        await asyncio.sleep(dice.uniform(0, 0.02))
        verb = dice.choice(
            ["propose", "propose", "pause", "resume", "resume", "abort", "promote", "skip", "rollback", "approve"]
        )
        try:
            if verb == "propose":
                options = {"rehearse": dice.random() < 0.5, "approve_by": dice.choice([0, 0, 1]), "stages": STAGES}
                text = f'message = "{number}"\npool = {dice.choice([1, 1, 1, -1])}\n'
                await control.propose(text.encode(), "toml", **options)
            elif verb == "rollback":
                await control.roll_back(None)
            elif verb == "skip":
                await control.act("promote", skip_stage=True)
            elif verb != "abort" or dice.random() < 0.3:
                await control.act(verb)
            done += 1
        except Declined:
            pass
    return done


@pytest.mark.parametrize("steps", [60, pytest.param(1000, marks=pytest.mark.soak)])
async def test_I21_the_history_of_a_storm_is_one_that_one_judge_could_have_made(steps):
    store, entries = MemoryStore(), Plans()
    store.fleets["shop"].entries = entries
    dice = random.Random(steps)

    def refuse(conf, name):
        @conf.prepare("pool")
        def check(change):
            if change.new.pool < 0:
                raise ValueError("no such pool")

    async with Live(store, patience=Patience(1.0, 1.0, 1.0)) as fleet:
        await fleet.propose(GOOD)
        await fleet.join(*[f"web-{n}" for n in range(5)], prepare=refuse)
        judges = [fleet.judge()]
        operators = [asyncio.create_task(operate(fleet, random.Random(n), steps // 3)) for n in range(3)]
        while not all(task.done() for task in operators):
            await asyncio.sleep(dice.uniform(0.2, 0.8))
            judges.pop()[1].cancel()
            judges.append(fleet.judge())
        done = [task.result() for task in operators]
        # What the fleet runs in the end is what the plan says, whatever happened.
        await fleet.control.change(lambda plan: plan)
        if (plan := await fleet.control.plan()).rollout is not None and not plan.rollout.is_finished:
            await fleet.control.act("abort")
        plan = await fleet.control.plan()
        digest = plan.stable.digest
        await fleet.wait(lambda: all(source.report.applied == digest for source in fleet.sources.values()))
    check_history(entries.plans)
    assert sum(done) > steps / 20
    assert len(entries.plans) > steps / 10
