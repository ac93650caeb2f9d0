"""TOML: where a fault lies, and where each key is, held against a writer that knows where it put it."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import re

import pytest
from hypothesis import given, settings, strategies as st

from hotconf.formats import locate, parse


@pytest.mark.parametrize(
    ("document", "place", "reason"),
    [
        ("a = 1\na = 2", (2, 1), "duplicate key"),
        ("[a]\n[a]", (2, 2), "duplicate key"),
        ("[[a]]\n[a]", (2, 2), "duplicate key"),
        ("a = []\n[[a]]", (2, 3), "duplicate key"),
        ("a = {b = 1}\n[a.c]", (2, 2), "cannot extend"),
        ("a = ", (1, 5), "quoted"),
        ("a = nope", (1, 5), "strings must be quoted"),
        ("a = invalid", (1, 5), "strings must be quoted"),
        ('"é😀" = "é" x', (1, 12), "expected newline"),
        ('a = """\n\n', (3, 1), "expected"),
        ("a\r\n", (1, 2), "expected `=`"),
        ("a = 1\r\n\tb c", (2, 4), "expected `=`"),
        ('a = "\\q"', (1, 7), "escape"),
        ('a = "\x01"', (1, 6), "string"),
        ('a = "\\ud800"', (1, 8), "unicode"),
        ("a = 0777", (1, 5), "leading zero"),
        ("a = 2020-02-30", (1, 5), "day"),
        ("a = 2020-01-01T00:00:60Z", (1, 5), "a date or time out of range"),
        ("a = 0000-01-01", (1, 5), "a date or time out of range"),
        ("a = 1e999", (1, 5), "overflow"),
        ("a = 1" + "0" * 5000, (1, 5), "overflow"),
        ("a = " + "[" * 100_000, (1, 85), "nested too deeply"),
        (".".join("a" * 100_000) + " = 1", (None, None), "nested too deeply"),
        ('\n a = {"$__toml_private_datetime" = "2020-01-01"}', (2, 7), "reserved"),
        ('"\\u0024__toml_private_datetime" = "2020-01-01"', (1, 1), "reserved"),
    ],
)
def test_a_faulty_document_is_refused_at_its_fault(document, place, reason, refusal):
    error = refusal("toml", document)
    assert (error.line, error.column) == place
    assert reason in error.reason


def test_the_reserved_key_is_text_like_any_other_as_a_value():
    assert parse("toml", b"a = '$__toml_private_datetime'") == {"a": "$__toml_private_datetime"}


def test_values_keep_their_types():
    document = (
        b"i = 9223372036854775808\nf = -0.0\nn = nan\nd = 2020-01-01\nt = 10:20\nz = 2020-01-01 10:20Z\ne = '\xc3\xa9'"
    )
    values = parse("toml", document)
    assert values["i"] == 2**63
    assert math.copysign(1, values["f"]) == -1
    assert math.isnan(values["n"])
    assert values["d"] == dt.date(2020, 1, 1)
    assert values["t"] == dt.time(10, 20)
    assert values["z"] == dt.datetime(2020, 1, 1, 10, 20, tzinfo=dt.UTC)
    assert values["e"] == "é"


def located(document):
    return {path: tuple(position) for path, position in locate("toml", document.encode()).items()}


def test_dotted_keys_and_their_parents_stand_where_the_key_begins():
    assert located("\n  a . 'b'.\"c\" = 1\na.d = 2\n") == {
        ("a",): (2, 3),
        ("a", "b"): (2, 3),
        ("a", "b", "c"): (2, 3),
        ("a", "d"): (3, 1),
    }


def test_tables_stand_at_the_key_of_their_header():
    assert located("[ a.b ] # [x]\nc = 1\n[a]\nd = 2\n") == {
        ("a",): (1, 3),
        ("a", "b"): (1, 3),
        ("a", "b", "c"): (2, 1),
        ("a", "d"): (4, 1),
    }


def test_elements_of_an_array_of_tables_stand_at_their_own_header():
    assert located("[[a]]\n[a.b]\nc = 1\n[[ a ]]\n[[a.d]]\n[[a.d]]\n") == {
        ("a",): (1, 3),
        ("a", 0): (1, 3),
        ("a", 0, "b"): (2, 2),
        ("a", 0, "b", "c"): (3, 1),
        ("a", 1): (4, 4),
        ("a", 1, "d"): (5, 3),
        ("a", 1, "d", 0): (5, 3),
        ("a", 1, "d", 1): (6, 3),
    }


def test_inline_tables_and_arrays_may_span_lines_and_hold_comments():
    assert located("é = { 'x' = [ # ]\n  1,\n\t{ y.z = 2 }, # }\n], \n w = 3, }".replace("é", '"é"')) == {
        ("é",): (1, 1),
        ("é", "x"): (1, 9),
        ("é", "x", 0): (2, 3),
        ("é", "x", 1): (3, 2),
        ("é", "x", 1, "y"): (3, 4),
        ("é", "x", 1, "y", "z"): (3, 4),
        ("é", "w"): (5, 2),
    }


@pytest.mark.parametrize(
    "value",
    [
        r'"a\"]#,}"',
        "'a]#,}\"'",
        '"""a\n"" ]\\"""b = 1\n"""',
        '"""a"""""',
        '""""a"""',
        "'''a\n''b = 1\n'''",
        "'''a'''''",
        '""',
        "''",
        '""""""',
        "''''''",
        "1979-05-27 07:32:00Z",
        "+1_000.5e-3",
        "-inf",
        "0xDEAD_beef",
        r'"\e\x41\u00e9\U0001F600\\"',
        "[]",
        "{}",
        "[[], [{}], # ]\n]",
    ],
)
def test_no_value_hides_the_key_after_it(value, paths):
    document = f"a = {value}# = [\nb = [{value}, {value}]\nc = {{d = {value}}}\ne = 0"
    assert set(located(document)) == paths(parse("toml", document.encode()))
    assert located(document)["e",][1] == 1


@pytest.mark.parametrize(
    ("key", "name"), [(r'"\e\x41\u00e9\U0001F600\"\\\n"', '\x1bAé😀"\\\n'), ("'\\n\"'", '\\n"'), ('""', ""), ("1", "1")]
)
def test_a_key_is_known_by_what_it_means_not_by_how_it_is_spelled(key, name):
    assert located(f"{key} = 1") == {(name,): (1, 1)}


def test_the_deepest_valid_document_is_located_without_recursion(paths):
    document = "a = " + "[" * 79 + "]" * 79
    assert set(located(document)) == paths(parse("toml", document.encode()))


class Writer:
    """Writes values as TOML in styles chosen at random, and keeps the offset of each path."""

    def __init__(self, chance: random.Random) -> None:
        self.text = ""
        self.places = {}
        self.chance = chance

    def document(self, values):
        self.blank(newlines=True)
        self.table((), (), values)

    def table(self, path, keys, values):
        """Entries first, then what has a header of its own: entries after it would be its own."""
        later = []
        for key, value in values.items():
            tables = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
            if (isinstance(value, dict) or tables) and self.chance.random() < 0.5:
                later.append((key, value))
            elif isinstance(value, dict) and value and self.chance.random() < 0.5:
                for sub, inner in value.items():
                    self.entry(path, (key, sub), inner)
                    self.end_line()
            else:
                self.entry(path, (key,), value)
                self.end_line()
        for key, value in later:
            if isinstance(value, dict):
                self.header_table((*path, key), (*keys, key), value)
            else:
                for index, item in enumerate(value):
                    self.header("[[", (*path, key, index), (*keys, key), "]]")
                    self.table((*path, key, index), (*keys, key), item)

    def header_table(self, path, keys, values):
        only_tables = values and all(isinstance(value, dict) and value for value in values.values())
        if only_tables and self.chance.random() < 0.5:  # its own header is left to be implied
            for key, value in values.items():
                self.header_table((*path, key), (*keys, key), value)
        else:
            self.header("[", path, keys, "]")
            self.table(path, keys, values)

    def header(self, opening, path, keys, closing):
        self.text += opening
        self.blank()
        for depth in range(1, len(path) + 1):
            self.places.setdefault(path[:depth], len(self.text))
        self.keys(keys)
        self.blank()
        self.text += closing
        self.end_line()

    def entry(self, path, keys, value, *, inline=False):
        for depth in range(1, len(keys) + 1):
            self.places.setdefault((*path, *keys[:depth]), len(self.text))
        self.keys(keys)
        self.blank(newlines=inline)
        self.text += "="
        self.blank(newlines=inline)
        self.value((*path, *keys), value)

    def value(self, path, value):
        if isinstance(value, list):
            self.items("[]", enumerate(value), lambda key, item: self.item((*path, key), item))
        elif isinstance(value, dict):
            self.items("{}", value.items(), lambda key, item: self.entry(path, (key,), item, inline=True))
        else:
            self.text += value

    def item(self, path, value):
        self.places[path] = len(self.text)
        self.value(path, value)

    def items(self, brackets, children, write):
        self.text += brackets[0]
        for count, (key, child) in enumerate(children):
            self.text += "," if count else ""
            self.blank(newlines=True)
            write(key, child)
            self.blank(newlines=True)
        self.text += brackets[1]

    def keys(self, keys):
        for count, key in enumerate(keys):
            if count:
                self.blank()
                self.text += "."
                self.blank()
            self.text += self.chance.choice(list(spellings(key)))

    def end_line(self):
        self.blank()
        self.text += self.chance.choice(["\n", "\r\n", "# [x] = {\n"])
        self.blank(newlines=True)

    def blank(self, *, newlines=False):
        self.text += self.chance.choice(["", "", " ", "\t "])
        if newlines:
            self.text += self.chance.choice(["", "", "\n ", "# é ] = 1\r\n"])


def spellings(key):
    yield json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f")
    yield '"' + "".join(f"\\U{ord(character):08x}" for character in key) + '"'
    if re.fullmatch("[A-Za-z0-9_-]+", key):
        yield key
    if not re.search(r"['\x00-\x08\x0a-\x1f\x7f]", key):
        yield f"'{key}'"


LITERALS = st.sampled_from(
    ["1", "-0.5", "true", "nan", "2020-01-01 10:20:30Z", '"]}#,="', "'''\n'a'\n'''", '"""\n"" \\"" """', "'['", "10:20"]
)
KEYS = st.one_of(
    st.sampled_from(["a", "b", "a.b", "1", ""]), st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
)
VALUES = st.recursive(
    LITERALS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=10,
)


@given(values=st.dictionaries(KEYS, VALUES, max_size=4), chance=st.randoms(use_true_random=False))
@settings(max_examples=120)
def test_every_key_is_located_where_it_was_written(values, chance, paths):
    writer = Writer(chance)
    writer.document(values)
    data = writer.text.encode()
    assert paths(parse("toml", data)) == paths(values)
    starts = [0, *(match.end() for match in re.finditer("\n", writer.text))]
    found = {path: starts[line - 1] + column - 1 for path, (line, column) in locate("toml", data).items()}
    assert found == writer.places
