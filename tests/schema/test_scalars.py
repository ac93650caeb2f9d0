"""Looking at sections as wholes: the short way always says what the long way says."""

import array
import copy
import datetime as dt
import itertools
from enum import IntEnum

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, create_model

from hotconf.reload.validate import validate
from hotconf.schema.diff import compare, differences
from hotconf.values.layer import Layer
from hotconf.values.merge import merge
from hotconf.values.scalars import same_atoms
from tests.trees import keys, scalars


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


class Part(BaseModel):
    host: str
    port: int | float | str | bool | None = 1
    ratio: float = 0.5


class Parts(BaseModel):
    parts: dict[str, Part]


parts = st.dictionaries(
    keys, st.fixed_dictionaries({"host": st.text(max_size=2)}, optional={"port": scalars, "ratio": st.floats()})
)


@settings(max_examples=30)  # such trees are large
@given(parts, parts, parts)
def test_models_compare_as_field_by_field(common, old, new):
    before, after = (validate(Parts, merge([Layer("app.toml", {"parts": common | own})])) for own in (old, new))
    expected = set(field_by_field(before.parts, after.parts))
    assert set(compare(before, after)) == expected


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
