"""Cohorts: I19, the same in every process, language and version."""

import hashlib
import json
from pathlib import Path

from hypothesis import given, strategies as st

from hotconf.fleet import bucket, wanted
from hotconf.fleet.cohort import WHOLE_FLEET, threshold_for
from hotconf.fleet.plan import Plan, ReleaseName, Rollout, Stage

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text("utf-8"))
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
IDS = st.lists(TEXT, unique=True, min_size=1, max_size=60)


def test_I19_the_hash_is_the_one_of_the_vectors():
    assert len(VECTORS) > 10
    for vector in VECTORS:
        assert str(bucket(vector["salt"], vector["instance"])) == vector["bucket"]


def test_I19_a_bucket_is_the_start_of_a_sha256():
    assert bucket("s", "web-1") == int(hashlib.sha256(b"s\0web-1").hexdigest()[:16], 16)


@given(TEXT, IDS, st.sampled_from([1, 5, 10, 25, 50, 99.5, 100]), st.integers(1, 5))
def test_I19_a_stage_has_exactly_its_share(salt, ids, percent, least):
    threshold = threshold_for(Stage(percent=percent, least=least), salt, ids)
    cohort = [i for i in ids if bucket(salt, i) < threshold]
    expected = len(ids) if percent == 100 else min(len(ids), max(least, int(len(ids) * percent / 100)))
    assert len(cohort) == expected


@given(TEXT, IDS)
def test_I19_a_cohort_only_grows(salt, ids):
    sizes = [threshold_for(Stage(percent=percent), salt, ids) for percent in (1, 5, 25, 50, 100)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == WHOLE_FLEET


def test_an_empty_fleet_has_an_empty_cohort():
    assert threshold_for(Stage(percent=5), "s", []) == 0


def test_another_salt_deals_another_cohort():
    ids = [f"web-{n}" for n in range(50)]
    first = {salt: min(ids, key=lambda i: bucket(salt, i)) for salt in ("a", "b", "c", "d")}
    assert len(set(first.values())) > 1


def plan(threshold, stable="old"):
    rollout = Rollout(id="r", release=2, digest="new", salt="s", threshold=threshold, stages=(Stage(percent=100),))
    name = ReleaseName(release=1, digest=stable) if stable else None
    return Plan(stable=name, rollout=rollout)


def test_an_instance_below_the_threshold_wants_the_release():
    edge = bucket("s", "web-1")
    assert wanted(plan(edge), "web-1") == "old"
    assert wanted(plan(edge + 1), "web-1") == "new"
    assert wanted(plan(WHOLE_FLEET), "web-1") == "new"
    assert wanted(plan(0), "web-1") == "old"


def test_without_a_stable_release_there_is_nothing_to_want():
    assert wanted(plan(0, stable=None), "web-1") == ""
    assert wanted(Plan(), "web-1") == ""


def test_the_json_of_a_plan_is_as_good():
    document = {
        "stable": {"release": 1, "digest": "old"},
        "rollout": {"digest": "new", "salt": "s", "threshold": "18446744073709551616"},
    }
    assert wanted(document, "web-1") == "new"
    assert wanted({"stable": {"release": 1, "digest": "old"}, "rollout": None}, "web-1") == "old"
    assert wanted(json.loads(plan(WHOLE_FLEET).encode()), "web-1") == "new"
