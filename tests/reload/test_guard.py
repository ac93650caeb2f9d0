"""The guard: what may vanish, what may not, and what the refusal says."""

import pytest
from hypothesis import given, strategies as st

from hotconf.reload.guard import guard
from hotconf.values.layer import Layer, Origin, SourceReading


def reading(values, *, guarded=True, name="app.toml"):
    return SourceReading((Layer(name, values, {(): Origin("file", name)}),), guarded)


def faults(before, after, share=0.5, **options):
    return guard([reading(before, **options)], [reading(after, **options)], share)


def many(count, prefix="key"):
    return {f"{prefix}{index}": index for index in range(count)}


def test_a_source_that_held_values_must_hold_some():
    [fault] = faults({"a": 1, "b": {"c": [1, 2]}}, {})
    assert str(fault) == (
        "app.toml: holds no values any more, and held 4: a, b.c.0, b.c.1; if that is meant, force the reload"
    ).replace("held 4", "held 3")


def test_a_source_that_never_held_any_may_stay_empty():
    assert not faults({}, {})


def test_an_optional_source_may_go():
    assert not faults(many(30), {}, guarded=False)


def test_what_an_optional_source_takes_along_does_not_count_towards_the_share():
    before = [reading(many(5)), reading(many(30, "other"), guarded=False)]
    after = [reading(many(5)), reading({}, guarded=False)]
    assert not guard(before, after, 0.5)


@pytest.mark.parametrize(
    ("kept", "refused"),
    [(20, False), (10, False), (9, True), (1, True)],
)
def test_a_reload_may_not_lose_more_than_its_share(kept, refused):
    assert bool(faults(many(20), many(kept))) is refused


def test_few_leaves_are_not_looked_at():
    assert not faults(many(9), many(1))
    assert faults(many(10), many(1))


def test_list_items_count_as_leaves():
    [fault] = faults({"hosts": list(range(20))}, {"hosts": [1]})
    assert "19 of 20 values would vanish: hosts.1, hosts.2" in fault.message
    assert fault.message.endswith("and 14 more; if that is meant, force the reload")


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ([0] * 12, [1] * 12, 0),
        ([0] * 12, [1] * 20, 0),
        ([0] * 12, [0] * 9, 3),
        ([0] * 12, {"0": 0}, 12),
        ([[0] * 6, [0] * 6], [0, [0] * 6], 6),
        ({"a": dict.fromkeys("bcdefghijk", 0)}, {"a": dict.fromkeys("BCdefghijkl", 0)}, 2),
    ],
)
def test_what_a_list_or_a_section_loses_is_counted(before, after, lost):
    found = [fault.message.split(" values ")[0] for fault in faults({"of": before}, {"of": after}, share=0)]
    assert found == ([f"{lost} of {12 if isinstance(before, list) else 10}"] if lost else [])


def test_a_section_that_becomes_a_scalar_loses_its_leaves():
    assert faults({"section": many(12), "x": 1}, {"section": 3, "x": 1})


def test_changed_values_are_not_lost():
    assert not faults(many(20), {key: value + 1 for key, value in many(20).items()})


def test_what_another_source_still_sets_is_not_lost():
    before = [reading(many(20)), reading(many(20), name="b.toml")]
    after = [reading({"key0": 1}), reading(many(20), name="b.toml")]
    assert not guard(before, after, 0.5)


@given(
    st.dictionaries(st.text(min_size=1), st.integers() | st.lists(st.integers()), min_size=1),
    st.floats(0, 1),
)
def test_the_same_values_lose_nothing(values, share):
    assert not faults(values, values, share)
