"""JSON: what the standard library lets pass and a configuration must not, and where each key is."""

from __future__ import annotations

import json
import random
import re
import sys

import pytest
from hypothesis import given, settings, strategies as st

from hotconf.formats import locate, parse


@pytest.mark.parametrize(
    ("document", "place", "reason"),
    [
        ("", (1, 1), "expecting value"),
        ("{", (1, 2), "expecting property name"),
        ('{"a": 1,\r\n "é" 2}', (2, 6), "expecting ':'"),
        ('{"a": 1} x', (1, 10), "extra data"),
        ('{"a": 1, // no\n}', (1, 10), "expecting property name"),
        ('{\n"a": "b', (2, 6), "unterminated string"),
        ('{"é": "\t"}', (1, 8), "invalid control character"),
        ('{"a": "\\q"}', (1, 8), "invalid \\escape"),
        ("[1]", (1, 1), "the top level must be a mapping, not a list"),
        ("\n 1", (2, 2), "the top level must be a mapping, not a single value"),
        ("null", (1, 1), "not a single value"),
        ('{"a": 1, "b": 2, "a": 3}', (1, 18), "duplicate key"),
        ('{"a": {"b": 1},\n "c": {"b": 1, "b": 1}}', (2, 16), "duplicate key"),
        ('{"a": {"b": 1}, "\\u0061": 1}', (1, 17), "duplicate key"),
        ('[{"a": "}]"}, {"a": 1, "a": 1}]', (1, 24), "duplicate key"),
        ('{"a": 1, "a": 2} x', (1, 10), "duplicate key"),
        ('{"a": "NaN", "b": NaN}', (1, 19), "not finite"),
        ('{"a": [1.5, Infinity]}', (1, 13), "not finite"),
        ('{"a": -Infinity}', (1, 7), "not finite"),
        ('{"a": 1e9999.5}', (1, 7), "not finite"),
        ('{"a": 1e3, "b":\n 1e999}', (2, 2), "not finite"),
        ('{"a": ' + "1" * 400 + ', "b": ' + "1" * 5000 + "}", (1, 414), "too long"),
        ('{"a": "\\ud83d\\ude00", "b": "\\\\ud800 \\ud83d"}', (1, 37), "surrogate"),
        ('{"\\udc00": 1}', (1, 3), "surrogate"),
        ("[" * 100_000, (None, None), "nested too deeply"),
    ],
)
def test_a_faulty_document_is_refused_at_its_fault(document, place, reason, refusal):
    error = refusal("json", document)
    assert (error.line, error.column) == place
    assert reason in error.reason


def test_the_digit_limit_that_counts_is_the_interpreters(refusal):
    document = '{"a": ' + "1" * 5000 + "}"
    limit = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(0)
        assert parse("json", document.encode())["a"] == int("1" * 5000)
    finally:
        sys.set_int_max_str_digits(limit)
    assert refusal("json", document).column == 7


def test_paired_surrogates_are_a_character():
    assert parse("json", b'{"\\ud83d\\ude00": "\\\\ud800"}') == {"\U0001f600": "\\ud800"}


def located(document):
    return {path: tuple(position) for path, position in locate("json", document.encode()).items()}


def test_keys_and_items_stand_where_they_begin():
    assert located('{"é😀": 1, "b" :\r\n\t[ {"c": "]}"},\n  [], null ], "\\u0064": {"": -1.5e3}}') == {
        ("é😀",): (1, 2),
        ("b",): (1, 11),
        ("b", 0): (2, 4),
        ("b", 0, "c"): (2, 5),
        ("b", 1): (3, 3),
        ("b", 2): (3, 7),
        ("d",): (3, 15),
        ("d", ""): (3, 26),
    }


class Writer:
    """Writes values as JSON with blanks chosen at random, and keeps the offset of each path."""

    def __init__(self, chance: random.Random) -> None:
        self.text = ""
        self.places = {}
        self.chance = chance

    def value(self, path, value):
        self.blank()
        if isinstance(value, dict):
            self.children("{}", path, value.items(), self.key)
        elif isinstance(value, list):
            self.children("[]", path, enumerate(value), lambda index: None)
        else:
            self.text += json.dumps(value, ensure_ascii=self.chance.random() < 0.5)
        self.blank()

    def children(self, brackets, path, children, write_key):
        self.text += brackets[0]
        for count, (key, child) in enumerate(children):
            self.text += "," if count else ""
            self.blank()
            self.places[(*path, key)] = len(self.text)
            write_key(key)
            before = len(self.text)
            self.value((*path, key), child)
            if isinstance(key, int):  # an item begins after the blank that its value wrote
                self.places[(*path, key)] = before + len(self.text[before:]) - len(self.text[before:].lstrip())
        self.text += brackets[1]

    def key(self, key):
        self.text += json.dumps(key, ensure_ascii=self.chance.random() < 0.5)
        self.blank()
        self.text += ":"

    def blank(self):
        self.text += self.chance.choice(["", "", " ", "\n", "\r\n\t"])


TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4), st.sampled_from(['"', "\\", '\\"]', "}{", ":,"])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=10,
)


@given(values=st.dictionaries(TEXT, VALUES, max_size=4), chance=st.randoms(use_true_random=False))
@settings(max_examples=120)
def test_every_key_is_located_where_it_was_written(values, chance, paths):
    writer = Writer(chance)
    writer.value((), values)
    data = writer.text.encode()
    assert parse("json", data) == values
    starts = [0, *(match.end() for match in re.finditer("\n", writer.text))]
    found = {path: starts[line - 1] + column - 1 for path, (line, column) in locate("json", data).items()}
    assert found == writer.places
