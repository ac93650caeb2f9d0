"""What operators do to a plan, in every state, and the plan as bytes."""

import json

import pytest
from hypothesis import given, strategies as st

from hotconf.fleet.cohort import WHOLE_FLEET
from hotconf.fleet.operations import (
    Declined,
    abort,
    approve,
    finished,
    moved,
    pause,
    promote,
    propose,
    resume,
    roll_back,
)
from hotconf.fleet.plan import FINISHED, SIZE_LIMIT, Plan, PlanUnreadable, ReleaseName, Stage
from tests.fleet.cases import NEW, OLD, SALT, STAGES, WHEN, proposed

STATES = ("rehearsing", "approval", "spreading", "baking", "paused", "reverting", "reverted", "aborted", "done")


def in_state(state):
    plan = proposed()
    extra = {"resume": "baking"} if state == "paused" else {}
    return moved(plan, plan.rollout, state, **WHEN, what="test", threshold=5, **extra)


@pytest.mark.parametrize("state", STATES)
def test_abort_works_in_every_state_and_twice(state):
    plan = in_state(state)
    if state in FINISHED - {"aborted"}:
        with pytest.raises(Declined, match="has ended"):
            abort(plan, **WHEN)
        return
    aborted = abort(plan, **WHEN)
    assert aborted.state == "aborted"
    if state != "aborted":
        assert aborted.rollout.threshold == aborted.rollout.rehearsal == 0
        assert aborted.seq == plan.seq + 1
    assert abort(aborted, **WHEN) is aborted


@pytest.mark.parametrize("state", STATES)
def test_pause_and_resume_in_every_state(state):
    plan = in_state(state)
    if state in FINISHED or state in ("paused", "reverting"):
        with pytest.raises(Declined):
            pause(plan, **WHEN)
    else:
        halted = pause(plan, **WHEN)
        assert halted.rollout.threshold == 5, "a pause takes nothing back"
        assert resume(halted, **WHEN).state == ("spreading" if state == "baking" else state)
    if state != "paused":
        with pytest.raises(Declined):
            resume(plan, **WHEN)


@pytest.mark.parametrize("state", STATES)
def test_promote_in_every_state(state):
    plan = in_state(state)
    if state in ("spreading", "baking", "paused"):
        assert promote(plan, **WHEN).rollout.threshold == WHOLE_FLEET
        assert promote(plan, **WHEN, skip_stage=True).rollout.threshold == 5
    else:
        with pytest.raises(Declined):
            promote(plan, **WHEN)


def test_a_paused_rehearsal_cannot_be_promoted():
    with pytest.raises(Declined, match="while it spreads"):
        promote(pause(proposed(rehearse=True), **WHEN), **WHEN)


@pytest.mark.parametrize("state", STATES)
def test_a_second_proposal_waits_for_the_end_of_the_first(state):
    plan = in_state(state)
    again = {"id": "r2", "salt": "t", "stages": STAGES, **WHEN}
    if state in FINISHED:
        assert propose(plan, NEW, **again).rollout.id == "r2"
    else:
        with pytest.raises(Declined, match="abort it first"):
            propose(plan, NEW, **again)


def test_the_first_release_of_an_empty_fleet_is_stable_at_once():
    plan = propose(Plan(), NEW, id="r", salt=SALT, stages=STAGES, is_empty=True, **WHEN)
    assert plan.stable == NEW
    assert plan.state == "idle"
    assert propose(Plan(), NEW, id="r", salt=SALT, stages=STAGES, **WHEN).stable is None


@pytest.mark.parametrize("shares", [(), (50,), (50, 50, 100), (100, 50, 100)])
def test_stages_grow_to_the_whole_fleet(shares):
    with pytest.raises(Declined, match="stage"):
        proposed(stages=[Stage(percent=share) for share in shares])


def test_an_operator_approves_once_and_not_the_own_proposal():
    plan = proposed(approve_by=2)
    with pytest.raises(Declined, match="another operator"):
        approve(plan, **WHEN)
    plan = approve(plan, by="bob", at="now")
    with pytest.raises(Declined, match="already"):
        approve(plan, by="bob", at="now")
    with pytest.raises(Declined, match="no approval"):
        approve(proposed(), by="bob", at="now")
    spreading = moved(plan, plan.rollout, "spreading", **WHEN, what="test")
    for late in (spreading, pause(spreading, **WHEN)):
        with pytest.raises(Declined, match="past its approval"):
            approve(late, by="eve", at="now")


def test_a_rollback_goes_to_the_previous_stable_release_or_to_any():
    plan = proposed()
    plan = finished(plan, plan.rollout, **WHEN)
    back = roll_back(plan, None, **WHEN)
    assert back.stable == OLD
    assert back.past == (NEW,)
    assert roll_back(back, None, **WHEN).stable == NEW, "and forth again"
    other = ReleaseName(release=9, digest="nine")
    assert roll_back(plan, other, **WHEN).stable == other
    with pytest.raises(Declined, match="stable already"):
        roll_back(plan, NEW, **WHEN)
    with pytest.raises(Declined, match="no earlier"):
        roll_back(Plan(stable=OLD), None, **WHEN)
    with pytest.raises(Declined, match="abort it"):
        roll_back(proposed(), None, **WHEN)


@pytest.mark.parametrize("verb", [pause, resume, abort, promote, approve])
def test_without_a_rollout_there_is_nothing_to_do(verb):
    with pytest.raises(Declined, match="no rollout is running"):
        verb(Plan(stable=OLD), **WHEN)


def test_I27_each_change_has_one_audit_line():
    plan = pause(proposed(), by="bob", at="later", why="lunch")
    assert [(line.seq, line.by, line.what, line.why) for line in plan.last] == [
        (1, "ann", "propose", "release 2"),
        (2, "bob", "pause", "lunch"),
    ]
    assert plan.seq == 2


def test_a_plan_comes_back_from_its_bytes():
    plan = proposed(guards=("errors:5%",), approve_by=1, rehearse=True)
    plan = moved(plan, plan.rollout, "baking", **WHEN, what="test", threshold=WHOLE_FLEET)
    assert Plan.decode(plan.encode()) == plan
    assert json.loads(plan.encode())["rollout"]["threshold"] == "18446744073709551616"


@given(st.lists(st.text(max_size=300), max_size=40))
def test_a_plan_stays_small_whatever_is_said(reasons):
    plan = proposed()
    for why in reasons:
        plan = (
            pause(plan, by=why, at="now", why=why)
            if plan.state != "paused"
            else resume(plan, by="x", at="now", why=why)
        )
    data = plan.encode()
    assert len(data) <= SIZE_LIMIT
    read = Plan.decode(data)
    assert read.seq == plan.seq
    assert read.last[-1].seq == plan.seq


def test_unknown_fields_are_ignored_and_later_versions_refused():
    document = json.loads(proposed().encode())
    assert Plan.decode(json.dumps({**document, "colour": "red"}).encode()) == proposed()
    for change, why in [
        ({"version": 2}, "version 2"),
        ({"rollout": {**document["rollout"], "state": "dancing"}}, "dancing"),
        ({"term": "x"}, "term"),
    ]:
        with pytest.raises(PlanUnreadable, match=why):
            Plan.decode(json.dumps({**document, **change}).encode())
    for data in (b"", b"[]", b"\xff", b'{"rollout": 5}'):
        with pytest.raises(PlanUnreadable):
            Plan.decode(data)
