"""Key paths: their text, and back again."""

from __future__ import annotations

import datetime as dt
from enum import Enum, IntEnum

import pytest
from hypothesis import given, strategies as st

from hotconf.values import keypath


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("servers", 0, "host"), "servers.0.host"),
        (("labels", "app.kubernetes.io/name"), 'labels."app.kubernetes.io/name"'),
        (("",), '""'),
        (("a b",), '"a b"'),
        (('say "x"',), r'"say \"x\""'),
        (("it's",), '"it\'s"'),
        (("ключ-1",), "ключ-1"),
        (("line\nbreak",), r'"line\nbreak"'),
        (("a\\b",), "a\\b"),
    ],
)
def test_a_path_is_dotted_and_odd_keys_are_quoted(path, text):
    assert keypath.render(path) == text
    assert keypath.parse(text) == tuple(str(key) for key in path)


def test_a_literal_quote_takes_its_text_as_it_is():
    assert keypath.parse(r"a.'b.\n'.c") == ("a", r"b.\n", "c")


@pytest.mark.parametrize("text", [".", "a.", ".a", "a..b", '"a', "'a", 'a"b"', '"a"b', '"\\x"', '"a\nb"', '"\\"'])
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ValueError, match="is not a"):
        keypath.parse(text)


@given(st.lists(st.text() | st.integers(min_value=0), max_size=4).map(tuple))
def test_every_path_survives_its_text(path):
    assert keypath.parse(keypath.render(path)) == tuple(str(key) for key in path)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("a", "a"),
        (1, "1"),
        (True, "true"),
        (None, "null"),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
        (dt.date(2024, 5, 1), "2024-05-01"),
        (dt.datetime(2024, 5, 1, 12), "2024-05-01T12:00:00"),
    ],
)
def test_a_key_of_any_type_has_a_text(key, text):
    assert keypath.key_text(key) == text


def test_a_path_has_one_text_however_often_it_is_rendered():
    assert keypath.render(("limits", "rate", 7)) is keypath.render(("limits", "rate", 7))
