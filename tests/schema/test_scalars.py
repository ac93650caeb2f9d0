"""Looking at sections as wholes: the short way always says what the long way says."""

import array
import copy
import datetime as dt
import itertools
from enum import IntEnum

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, create_model

from hotconf.reload.guard import guard
from hotconf.reload.validate import validate
from hotconf.schema.diff import compare, differences
from hotconf.values.layer import Layer, SourceReading
from hotconf.values.merge import merge
from hotconf.values.scalars import are_scalars, reuse, same_atoms
from tests.trees import keys, scalars, tables


class Level(IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ([1, "a", None, True, 2.5], [1, "a", None, True, 2.5], True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, ["a", 1], False),
        ([1], [1, 2], False),
        ([], [], True),
        ([float("nan")], [float("nan")], True),
        ([10**40, "\ud800"], [10**40, "\ud800"], True),
        # Equal to Python:
        ([1], [True], False),
        ([1], [1.0], False),
        ([0.0], [-0.0], False),
        ({1: "a"}, {True: "a"}, False),
        # Equal to marshal, or unknown to it:
        ([b"a"], [bytearray(b"a")], False),
        ([array.array("b", b"a")], [bytearray(b"a")], False),
        ([Level.LOW], [1], False),
        ([1], [Level.LOW], False),
        ([Text("a")], ["a"], False),
        # No atoms:
        ([[1]], [[1]], False),
        ([dt.date(2025, 1, 1)], [dt.date(2025, 1, 1)], False),
        ((1,), (1,), False),
        (1, 1, False),
        (None, {}, False),
    ],
)
def test_only_what_nobody_can_tell_apart_is_the_same(old, new, same):
    assert same_atoms(old, new) is same


flat = st.lists(scalars, max_size=4) | st.dictionaries(keys, scalars, max_size=4)


@given(flat, flat)
def test_the_same_atoms_are_those_that_are_written_alike(old, new):
    assert same_atoms(old, copy.deepcopy(old))
    if "nan" not in repr(old):  # one NaN may have other bits than another
        assert same_atoms(old, new) is (repr(old) == repr(new))


# Two versions of a file: the later has some sections of the earlier, and some of its own.
versions = st.tuples(tables, tables, tables).map(lambda parts: (parts[0] | parts[1], parts[0] | parts[2]))

few = settings(max_examples=30)  # such trees are large


def read(*versions):
    """Return versions of a file as a reader hands them out one after another: each reuses what the last one had."""
    known = {}
    for values in map(copy.deepcopy, versions):
        found = {}
        yield reuse(values, known, found)
        known = found


def sections(value):
    """Every container of atoms, by path."""
    if isinstance(value, (dict, list)):
        pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
        if are_scalars(item for _, item in pairs):
            return {(): value}
        return {(key, *path): found for key, item in pairs for path, found in sections(item).items()}
    return {}


@few
@given(versions)
def test_equal_sections_are_one_object_and_no_value_changes(pair):
    before, after = read(*pair)
    assert (repr(before), repr(after)) == tuple(map(repr, pair))
    old, new = list(sections(before).values()), list(sections(after).values())
    for one, other in itertools.product(old + new, new):
        if "nan" not in repr(one):  # one NaN may have other bits than another
            assert (one is other) is (repr(one) == repr(other))


def test_a_section_is_known_wherever_it_went():
    before, after = read({"servers": [{"port": 1}, {"port": 2}]}, {"servers": [{"port": 2}], "spare": {"port": 1}})
    assert after == {"servers": [{"port": 2}], "spare": {"port": 1}}
    assert after["servers"][0] is before["servers"][1]
    assert after["spare"] is before["servers"][0]


def test_what_is_no_section_of_atoms_is_left_as_it_is():
    values = {"when": {"day": dt.date(2025, 1, 1)}, "by_day": {dt.date(2025, 1, 1): 1}, "both": {"a": 1, "b": [1]}}
    before, after = read(values, values)
    assert before == after == values
    for name in values:
        assert before[name] is not after[name]
    assert before["both"]["b"] is after["both"]["b"]


def test_only_the_sections_of_the_last_version_are_known():
    first, _, third = read({"a": {"x": 1}}, {"a": {"x": 2}}, {"a": {"x": 1}})
    assert third == first
    assert third["a"] is not first["a"]


def guarded(before, after):
    readings = [[SourceReading((Layer("app.toml", values),), guarded=True)] for values in (before, after)]
    return [fault.message for fault in guard(*readings, share=0)]


@few
@given(versions)
def test_the_guard_finds_the_same_losses_in_reused_sections(pair):
    assert guarded(*read(*pair)) == guarded(*map(copy.deepcopy, pair))


class Free(BaseModel):
    model_config = {"extra": "allow"}


class Part(BaseModel):
    host: str
    port: int | float | str | bool | None = 1
    ratio: float = 0.5


class Parts(BaseModel):
    parts: dict[str, Part]


parts = st.dictionaries(
    keys, st.fixed_dictionaries({"host": st.text(max_size=2)}, optional={"port": scalars, "ratio": st.floats()})
)


def built(model, values):
    return validate(model, merge([Layer("app.toml", values)]))


def compared(model, before, after):
    running, candidate = built(model, before), built(model, after)
    return compare(running, candidate), repr(candidate)


@few
@given(versions)
def test_free_values_compare_alike_whether_reused_or_not(pair):
    pair = [{f"key {name}": value for name, value in side.items()} for side in pair]
    assert compared(Free, *read(*pair)) == compared(Free, *map(copy.deepcopy, pair))


@few
@given(parts, parts, parts)
def test_models_compare_alike_whether_reused_or_not(common, old, new):
    pair = [{"parts": common | old}, {"parts": common | new}]
    short, long = compared(Parts, *read(*pair)), compared(Parts, *map(copy.deepcopy, pair))
    assert short == long
    assert set(short[0]) == set(field_by_field(*(built(Parts, values).parts for values in pair)))


def field_by_field(old, new):
    """The long way: the path of every part that came or went, and of every field that is written differently."""
    for name in old.keys() ^ new.keys():
        yield ("parts", name)
    for name, field in itertools.product(old.keys() & new.keys(), Part.model_fields):
        own, item = getattr(old[name], field), getattr(new[name], field)
        if repr(own) != repr(item):
            yield ("parts", name, field)


def test_models_with_different_attributes_are_not_the_same():
    """Only a class's own construction sees to it that two of its models have the same attributes."""
    Two = create_model("Two", a=(int, 1), b=(int, 1))
    one, other = Two.model_construct(), Two.model_construct()
    del one.__dict__["a"], other.__dict__["b"]
    assert set(differences(one, other)) == {("a",), ("b",)}
