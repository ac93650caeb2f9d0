"""Values as JSON and back: the very same, or refused by name."""

import datetime as dt
import json
import zoneinfo
from collections import OrderedDict
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

import hotconf.formats as formats
from hotconf.reload.encoding import Unencodable, decode, encode
from hotconf.schema.diff import differences
from tests.trees import keys, scalars

offsets = st.integers(-720, 720).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
comparable = (
    st.integers()
    | st.text("aü\n", max_size=3)
    | st.datetimes(timezones=st.none() | offsets).map(lambda value: value.replace(fold=0))
    | st.dates()
    | st.times().map(lambda value: value.replace(fold=0))
    | st.timedeltas()
    | st.binary(max_size=4)
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([Path("/etc/app"), Path(), "\ud800", 2**5000, float("inf")])
)
rich = comparable | scalars | st.decimals() | st.sampled_from([{"$date": 1}, {"$": {}}])
values = st.recursive(
    rich,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys | st.sampled_from(["$date", "$"]) | comparable, inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.sets(comparable, max_size=2)
        | st.frozensets(comparable, max_size=2)
    ),
    max_leaves=8,
)


@given(values)
def test_every_value_comes_back_as_it_was_types_included(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert not differences(value, back)


def test_plain_values_are_plain_json():
    value = {"a": [1, 1.5, True, None, "text", {"b": {}}], "c": []}
    assert encode(value) == value


def test_what_toml_and_yaml_say_beyond_json_comes_back():
    toml = b"a = 2020-01-01T00:00:00+05:30\nb = 12:00:00.5\nc = 2020-01-01\nd = nan\ne = -inf\nf = 2020-01-01T00:00:00Z"
    yaml = b"a: 2020-01-01\nb: !!binary aGk=\nc: .nan\nd: 2020-01-01T00:00:00+02:00\n"
    for value in (formats.parse("toml", toml), formats.parse("yaml", yaml)):
        assert not differences(value, decode(json.loads(json.dumps(encode(value)))))


@pytest.mark.parametrize("kind", [MappingProxyType, OrderedDict])
def test_any_mapping_comes_back_as_a_dictionary(kind):
    assert decode(encode(kind({"a": kind({1: 2})}))) == {"a": {1: 2}}


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 1


class Pair(NamedTuple):
    one: int


class Text(str):
    __slots__ = ()


BERLIN = dt.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Colour.RED, "Colour"),
        (Level.HIGH, "Level"),
        (Pair(1), "Pair"),
        (Text("t"), "Text"),
        (object(), "object"),
        (len, "builtin_function_or_method"),
        (BERLIN, "datetime"),
        (dt.datetime(2020, 10, 25, 2, 30, fold=1), "datetime"),
        (dt.time(2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), "time"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused_by_place_and_type(value, kind):
    with pytest.raises(Unencodable) as caught:
        encode({"a": [0, {"b": value}]})
    assert (caught.value.path, caught.value.kind) == (("a", 1, "b"), kind)


def test_a_key_that_cannot_be_written_is_refused_like_a_value():
    with pytest.raises(Unencodable):
        encode({"a": {Colour.RED: 1}})


def test_a_value_within_itself_is_no_endless_loop():
    value = []
    value.append(value)
    with pytest.raises(RecursionError):
        encode(value)


def test_the_marks_are_those_of_the_types():
    assert encode([dt.date(2020, 1, 1), b"\0", Decimal("1.00"), UUID(int=1), {1: 2}, (3,)]) == [
        {"$date": "2020-01-01"},
        {"$bytes": "00"},
        {"$Decimal": "1.00"},
        {"$UUID": "00000000-0000-0000-0000-000000000001"},
        {"$dict": [[1, 2]]},
        {"$tuple": [3]},
    ]
