"""The verdict: every state of a rollout, and what takes it forward, back, or to a halt."""

import math

import pytest

from hotconf.fleet.cohort import WHOLE_FLEET, bucket, wanted
from hotconf.fleet.guards import Guard
from hotconf.fleet.operations import abort, approve, pause, promote, resume
from hotconf.fleet.plan import Plan, Stage
from hotconf.fleet.report import InstanceReport, Sampled
from hotconf.fleet.verdict import compare, worsening
from tests.fleet.cases import OLD, SALT, WHEN, Fleet, proposed


def cohort(plan, fleet):
    return sum(bucket(SALT, i) < plan.rollout.threshold for i in fleet.ids)


def test_a_good_release_goes_through_its_stages():
    fleet, plan = Fleet(20), proposed()
    plan = fleet.judge(plan)
    for stage, size in enumerate([2, 10, 20]):
        assert (plan.state, plan.rollout.stage, cohort(plan, fleet)) == ("spreading", stage, size)
        assert fleet.judge(plan) is plan, "nothing was applied yet"
        fleet.apply(size)
        plan = fleet.judge(plan)
        assert plan.state == "baking"
        assert fleet.judge(plan, waited=9.9) is plan
        plan = fleet.judge(plan, waited=10)
    assert plan.state == "done"
    assert plan.stable.digest == "new"
    assert plan.past == (OLD,)
    assert fleet.judge(plan, waited=1e9) is plan
    assert {wanted(plan, i) for i in fleet.ids} == {"new"}


def test_I22_a_judge_that_has_not_listened_decides_nothing():
    fleet, plan = Fleet(20), proposed()
    assert fleet.judge(plan, listened=False) is plan


def test_I23_one_refusal_takes_the_release_back_and_says_where_it_fails():
    fleet, plan = Fleet(20), proposed()
    plan = fleet.judge(plan)
    fleet.apply(1)
    fleet.refuse(1)
    plan = fleet.judge(plan)
    assert plan.state == "reverting"
    assert plan.rollout.threshold == 0
    assert plan.rollout.reason == f"refused by {fleet.ids[1]}: env SHOP_URL: url: must be set"
    assert fleet.judge(plan) is plan, "one instance still runs it"
    fleet.apply(1, digest="old")
    plan = fleet.judge(plan)
    assert plan.state == "reverted"
    assert "not back" not in plan.rollout.reason


def test_I23_what_does_not_come_back_is_named():
    fleet, plan = Fleet(20), proposed()
    plan = fleet.judge(plan)
    fleet.apply(1)
    fleet.refuse(1)
    plan = fleet.judge(plan)
    assert fleet.judge(plan, waited=60) is plan
    assert fleet.judge(plan, waited=60.1).rollout.reason.endswith(f"not back: {fleet.ids[0]}")


def test_a_refusal_of_an_earlier_rollout_counts_no_more():
    fleet, plan = Fleet(20), proposed()
    plan = fleet.judge(plan)
    fleet.tell(0, failed="new", failed_in="r0", faults=("old news",))
    assert fleet.judge(plan) is plan


def test_refusals_up_to_the_limit_are_accepted():
    fleet, plan = Fleet(20), proposed(max_refused=1)
    plan = fleet.judge(plan)
    fleet.apply(1)
    fleet.refuse(1)
    assert fleet.judge(plan).state == "baking"
    fleet.refuse(0)
    assert fleet.judge(plan).state == "reverting"


@pytest.mark.parametrize("state", ["spreading", "baking", "paused"])
def test_a_refusal_counts_in_every_state(state):
    fleet, plan = Fleet(20), proposed()
    plan = fleet.judge(plan)
    fleet.apply(2)
    plan = plan if state == "spreading" else fleet.judge(plan)
    plan = pause(plan, **WHEN) if state == "paused" else plan
    assert plan.state == state
    fleet.refuse(0)
    assert fleet.judge(plan).state == "reverting"


def test_a_rehearsal_comes_in_waves_and_nothing_is_applied_meanwhile():
    fleet, plan = Fleet(100), proposed(rehearse=True)
    asked = []
    while plan.state == "rehearsing":
        assert plan.rollout.threshold == 0
        plan = fleet.judge(plan)
        size = sum(bucket(SALT, i) < plan.rollout.rehearsal for i in fleet.ids)
        asked.append(size)
        assert plan.state != "rehearsing" or fleet.judge(plan) is plan, "the wave has not answered"
        fleet.rehearse(size)
    assert asked[0] < 30
    assert asked[-1] == 100
    assert fleet.judge(plan).state == "spreading"


def test_a_refused_rehearsal_ends_the_rollout_with_nothing_applied():
    fleet, plan = Fleet(20), proposed(rehearse=True)
    plan = fleet.judge(plan)
    fleet.rehearse(20)
    fleet.tell(3, rehearsal=("fleet:shop/2:4:1: pool: cannot connect",))
    plan = fleet.judge(plan)
    assert plan.state == "reverted"
    assert "cannot connect" in plan.rollout.reason
    assert plan.rollout.threshold == 0


def test_a_rehearsal_names_all_refusals_and_waits_for_them_not_long():
    fleet, plan = Fleet(20), proposed(rehearse=True)
    plan = fleet.judge(plan)
    fleet.rehearse(10)
    fleet.tell(3, rehearsal=("no",))
    assert fleet.judge(plan, waited=1.9) is plan
    assert fleet.judge(plan, waited=2.0).rollout.reason == f"refused by {fleet.ids[3]}: no"
    fleet.rehearse(20)
    fleet.tell(15, rehearsal=("no",))
    assert fleet.judge(plan).rollout.reason == f"refused by {', '.join(sorted([fleet.ids[3], fleet.ids[15]]))}: no"


def test_an_instance_that_does_not_rehearse_is_named():
    fleet, plan = Fleet(20), proposed(rehearse=True)
    plan = fleet.judge(plan)
    fleet.rehearse(19)
    assert fleet.judge(plan, waited=60) is plan
    plan = fleet.judge(plan, waited=60.1)
    assert plan.state == "paused"
    assert plan.rollout.reason == f"no rehearsal from {fleet.ids[19]}"
    assert resume(plan, **WHEN).state == "rehearsing"


def test_approval_is_waited_for():
    fleet, plan = Fleet(20), proposed(approve_by=2)
    assert fleet.judge(plan) is plan
    plan = approve(plan, by="bob", at="now")
    assert fleet.judge(plan) is plan
    plan = approve(plan, by="eve", at="now")
    assert fleet.judge(plan).state == "spreading"


def spread(fleet, plan, size=2):
    plan = fleet.judge(plan)
    fleet.apply(size)
    return fleet.judge(plan)


def test_silence_in_the_cohort_alone_takes_it_back():
    fleet = Fleet(20)
    plan = spread(fleet, proposed())
    fleet.fall_silent(0)
    plan = fleet.judge(plan)
    assert plan.state == "reverting"
    assert plan.rollout.reason == f"{fleet.ids[0]} silent in the cohort"


def test_I24_silence_everywhere_pauses():
    fleet = Fleet(20)
    plan = spread(fleet, proposed())
    fleet.fall_silent(0, *range(5, 20))
    plan = fleet.judge(plan, waited=100)
    assert plan.state == "paused"
    assert "everywhere" in plan.rollout.reason


def test_I24_silence_of_the_whole_fleet_without_a_control_group_pauses():
    fleet, plan = Fleet(4), proposed(stages=(Stage(percent=100, bake=10),))
    plan = spread(fleet, plan, 4)
    fleet.fall_silent(0, 1, 2, 3)
    assert fleet.judge(plan, waited=100).state == "paused"


def test_silence_of_the_control_group_alone_is_tolerated():
    fleet = Fleet(20)
    plan = spread(fleet, proposed())
    fleet.fall_silent(10, 11)
    assert fleet.judge(plan) is plan


def test_I22_nothing_is_applied_so_nothing_goes_on():
    fleet, plan = Fleet(20), proposed()
    plan = fleet.judge(plan)
    fleet.apply(1)
    assert fleet.judge(plan, waited=60) is plan
    plan = fleet.judge(plan, waited=61)
    assert plan.state == "paused"
    assert plan.rollout.reason == f"no answer from {fleet.ids[1]}"


def test_I22_a_fleet_without_instances_is_not_done():
    fleet, plan = Fleet(0), proposed(stages=(Stage(percent=100),))
    plan = fleet.judge(plan)
    assert fleet.judge(plan, waited=1) is plan
    assert fleet.judge(plan, waited=61).state == "paused"


def test_an_instance_that_joins_the_cohort_during_the_bake_is_waited_for():
    fleet = Fleet(20)
    plan = spread(fleet, proposed())
    newcomer = next(f"new-{n}" for n in range(1000) if bucket(SALT, f"new-{n}") < plan.rollout.threshold)
    fleet.reports[newcomer] = InstanceReport(id=newcomer, applied="old")
    assert fleet.judge(plan, waited=10) is plan
    assert fleet.judge(plan, waited=80).state == "paused"
    fleet.reports[newcomer] = InstanceReport(id=newcomer, applied="new")
    assert fleet.judge(plan, waited=10).rollout.stage == 1


def test_an_instance_that_is_held_is_neither_waited_for_nor_counted():
    fleet, plan = Fleet(20), proposed()
    plan = fleet.judge(plan)
    fleet.apply(2)
    fleet.tell(1, applied="", held=True)
    assert fleet.judge(plan).state == "baking"


def test_promotion_is_a_verdict_of_the_operator():
    fleet = Fleet(20)
    plan = spread(fleet, proposed())
    plan = promote(plan, **WHEN)
    assert plan.rollout.threshold == WHOLE_FLEET
    fleet.apply(20)
    plan = fleet.judge(plan)
    assert fleet.judge(plan).state == "done", "its bake is over too"


def test_a_promoted_stage_ends_its_bake_at_once():
    fleet = Fleet(20)
    plan = promote(spread(fleet, proposed()), **WHEN, skip_stage=True)
    plan = fleet.judge(fleet.judge(plan))
    assert (plan.state, plan.rollout.stage) == ("spreading", 1)
    fleet.apply(10)
    plan = fleet.judge(plan)
    assert fleet.judge(plan) is plan, "the next stage bakes again"


def test_a_resumed_bake_begins_anew():
    fleet = Fleet(20)
    plan = pause(spread(fleet, proposed()), **WHEN)
    assert fleet.judge(plan, waited=1e6) is plan
    plan = resume(plan, **WHEN)
    assert plan.state == "spreading"
    assert fleet.judge(fleet.judge(plan)).state == "baking"


def test_an_aborted_rollout_needs_no_judge():
    fleet = Fleet(20)
    plan = abort(spread(fleet, proposed()), **WHEN)
    assert plan.state == "aborted"
    assert {wanted(plan, i) for i in fleet.ids} == {"old"}
    assert fleet.judge(plan, waited=1e6) is plan


def measured(fleet, canaries, after, before=100.0, usual=100.0, **options):
    for index in range(len(fleet.ids)):
        value = after if index < canaries else usual
        fleet.tell(index, measures={"errors": Sampled(before=before, after=value, **options)})


def test_a_worse_measure_takes_the_release_back():
    fleet = Fleet(20)
    plan = spread(fleet, proposed(guards=("errors",)))
    measured(fleet, 2, after=150.0)
    assert fleet.judge(plan, waited=9) is plan
    plan = fleet.judge(plan, waited=10)
    assert plan.state == "reverting"
    assert plan.rollout.reason.startswith("errors is 1.5 times what it is elsewhere, more than 10%")


def test_a_measure_that_everything_shares_does_not():
    fleet = Fleet(20)
    plan = spread(fleet, proposed(guards=("errors",)))
    measured(fleet, 2, after=150.0, usual=150.0)
    assert fleet.judge(plan, waited=10).rollout.stage == 1


def test_I22_a_measure_without_data_is_undecided():
    fleet = Fleet(20)
    plan = spread(fleet, proposed(guards=("errors",)))
    measured(fleet, 2, after=None)
    assert fleet.judge(plan, waited=10) is plan
    plan = fleet.judge(plan, waited=71)
    assert plan.state == "paused"
    assert plan.rollout.reason == "undecided: errors is not measured by every instance"


@pytest.mark.parametrize(
    ("value", "state"), [(1.0, "spreading"), (3.0, "reverting"), (None, "baking"), (math.nan, "baking")]
)
def test_a_query_is_compared_with_its_limit(value, state):
    text = "prometheus:http://127.0.0.1:9090#sum(rate(errors[1m]))<2.5"
    fleet = Fleet(20)
    plan = spread(fleet, proposed(guards=(text,)))
    assert fleet.judge(plan, waited=10, values={text: value}).state == state


@pytest.mark.parametrize(
    ("before", "after", "better", "factor"),
    [(10, 20, "lower", 2), (10, 5, "higher", 2), (0, 0, "lower", 1), (0, 3, "lower", math.inf), (3, 0, "lower", 0)],
)
def test_how_much_worse_a_measure_became(before, after, better, factor):
    assert worsening(before, after, better) == factor


def test_small_groups_are_judged_by_the_tolerance_alone():
    guard = Guard("errors", "errors", 0.1)
    assert compare([1.2], [1.0] * 5, guard)[0] == "fail"
    assert compare([1.05], [1.0] * 5, guard)[0] == "pass"
    assert compare([1.2], [], guard)[0] == "fail"
    assert compare([], [1.0], guard)[0] == "undecided"


def test_large_groups_need_more_than_chance():
    guard = Guard("errors", "errors", 0.1)
    noisy = [0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 0.6]
    assert compare([1.3, 1.2, 1.15], noisy, guard)[0] == "pass"
    assert compare([1.6, 1.7, 1.8], noisy, guard)[0] == "fail"


@pytest.mark.parametrize(
    ("text", "name", "tolerance"), [("errors", "errors", 0.1), ("p99:25%", "p99", 0.25), ("a.b-c:0.5%", "a.b-c", 0.005)]
)
def test_a_guard_is_spelled(text, name, tolerance):
    guard = Guard.parse(text)
    assert (guard.name, guard.query) == (name, "")
    assert math.isclose(guard.tolerance, tolerance)


@pytest.mark.parametrize(
    "text", ["", "9x", "a:b", "a:10", "prometheus:x", "prometheus:http://u:p@h#q<1", "prometheus:http://h#q<x"]
)
def test_what_is_no_guard_is_refused(text):
    with pytest.raises(ValueError):
        Guard.parse(text)


def test_a_plan_without_a_rollout_needs_no_verdict():
    assert Fleet(3).judge(plan := Plan(stable=OLD)) is plan
