"""YAML: what is refused and where, what aliases and merges do to paths, and the same with and without libyaml."""

from __future__ import annotations

import datetime as dt
import math
import random
import re
import subprocess
import sys
from bisect import bisect_right

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from hotconf.errors import FormatError
from hotconf.formats import dump, locate, parse, yaml as yaml_format
from hotconf.values.keypath import Key


@pytest.fixture(params=["libyaml", "pure Python"], autouse=True, scope="module")
def parser(request):
    """Every test of this module runs with both parsers."""
    if request.param == "libyaml":
        assert issubclass(yaml_format.Loader, yaml.CSafeLoader)
        yield request.param
        return
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Loader", "PlainLoader"):
            patch.setattr(yaml_format, name, yaml_format.PurePythonLoader)
        yield request.param


@pytest.mark.parametrize(
    ("document", "place", "reason"),
    [
        ("- a", (1, 1), "the top level must be a mapping, not a list"),
        ("# c\n--- \n 3", (3, 2), "the top level must be a mapping, not a single value"),
        ("a: 1\nb:\n  c: 1\n  c: 2", (4, 3), "duplicate key"),
        ("a: 1\n'a': 2", (2, 1), "duplicate key"),
        ("a: &a {}\nb:\n  <<: *a\n  <<: *a", (4, 3), "duplicate key"),
        ("on: 1\n'a': 2\nyes: 3", (3, 1), "duplicate key"),
        ("a: {1: x, 1.0: y}", (1, 11), "duplicate key"),
        ("16: a\n0x10: b", (2, 1), "duplicate key"),
        ("? [a]\n: b", (1, 3), "a key must be a single value, not a list or a mapping"),
        ("{{a: b}: c}", (1, 2), "a key must be a single value"),
        ("a: &a [1]\nb:\n  *a : x", (3, 3), "a key must be a single value"),
        ("!!int x: 1", (1, 1), "not a valid int"),
        ("2020-13-45: x", (1, 1), "not a valid timestamp"),
        ("a: &x [1, *x]", (1, 11), "an alias stands inside of what it names"),
        ("a: &x\n  <<: *x", (2, 7), "an alias stands inside of what it names"),
        ("é: *b", (1, 4), "undefined alias"),
        ("a: &x 1\nb: &x 2", (2, 4), "duplicate anchor"),
        ("a:\n\tb: 1", (2, 1), "use spaces"),
        ("a: 1\n--- \nb: 2", (2, 1), "a configuration is one"),
        ("a: !!python/object/apply:os.system [x]", (1, 4), "tag is not supported"),
        ("a: !<tag:yaml.org,2002:python/name:os.system> ''", (1, 4), "tag is not supported"),
        ("a: [1, !own x]", (1, 8), "tag is not supported"),
        ("a: !!set {x}", (1, 4), "tag is not supported"),
        ("a: !!omap [x: 1]", (1, 4), "tag is not supported"),
        ("a: !!pairs [x: 1]", (1, 4), "tag is not supported"),
        ("a: !!map x", (1, 4), "tag is not supported"),
        ("a: !!str [x]", (1, 4), "tag is not supported"),
        ("!own\na: 1", (1, 1), "tag is not supported"),
        ("a: !!int x", (1, 4), "not a valid int"),
        ("a: !!int ''", (1, 4), "not a valid int"),
        ("a: !!bool x", (1, 4), "not a valid bool"),
        ("a: !!timestamp x", (1, 4), "not a valid timestamp"),
        ("a: !!binary ä", (1, 4), "not a valid binary"),
        ("a: 2020-13-45", (1, 4), "not a valid timestamp"),
        ("a: 2020-01-01T00:00:00+99:00", (1, 4), "not a valid timestamp"),
        ("a: 1" + "0" * 5000, (1, 4), "too long"),
        ("a: 1" + ":1" * 100_000, (1, 4), "too long"),
        ("a: 0x" + "F" * 3600, (1, 4), "too long"),  # more digits than Python would write
        ("a: 1" + ":1" * 100_000 + ".5", (1, 4), "not a valid float"),
        ("a: {<<: 3}", (1, 9), "merging"),
        ("a: 1\nb: é\x07", (2, 5), "control character"),
        ("a: 1\nb: \ufffe", (2, 4), "control character"),
        ("a: [1, 2", (1, 9), "','"),
        ("a: b: c", (1, 5), "not allowed"),
        ("'é😀': @", (1, 7), "cannot start any token"),
        ("a: " + "[" * 200, (1, 84), "nested too deeply"),
        ("- " * 200, (1, 163), "nested too deeply"),
        ("a: [" * 200, (1, 161), "nested too deeply"),
    ],
)
def test_a_faulty_document_is_refused_at_its_fault(document, place, reason, refusal):
    error = refusal("yaml", document)
    assert (error.line, error.column) == place
    assert reason in error.reason


@pytest.mark.parametrize("opening", ["a: [[", "- ", "a: ["])
def test_nesting_that_a_parser_may_stop_by_itself_is_refused_in_our_words(opening, refusal):
    # libyaml has a bound of its own, which differs between its versions: no column is asserted.
    error = refusal("yaml", opening * 100_000)
    assert (error.line, error.reason) == (1, "nested too deeply")


def test_the_word_by_which_libyamls_own_bound_is_known(parser):
    # Older ones have no bound, and end the process here: only a loader that composes in Python is safe with them.
    if parser == "libyaml" and yaml._yaml.get_version() >= (0, 2, 6):
        with pytest.raises(yaml.MarkedYAMLError) as caught:
            yaml.load("a: " + "[" * 100_000, Loader=yaml.CSafeLoader)
        assert "nesting" in caught.value.problem


def bomb(levels, join):
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {join % ', '.join([f'*a{n - 1}'] * 10)}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("join", ["[%s]", "{<<: [%s]}"])
def test_aliases_that_repeat_each_other_are_bounded_before_anything_is_built(join, refusal):
    error = refusal("yaml", bomb(30, join))
    assert f"more than {yaml_format.MAX_NODES} values" in error.reason
    assert error.line == 6
    assert parse("yaml", bomb(3, join).encode())


def test_many_values_are_bounded_without_aliases_too(refusal, monkeypatch):
    monkeypatch.setattr(yaml_format, "MAX_NODES", 100)  # the mapping, the key, the list, and 97 items
    assert len(parse("yaml", b"a: [" + b"1," * 97 + b"]")["a"]) == 97
    assert (error := refusal("yaml", "a:\n" + "- 1\n" * 98)).reason.startswith("more than 100 values")
    assert (error.line, error.column) == (99, 3)


@pytest.mark.parametrize("document", ["", "# c", "null", "~", "---\n...\n", "--- # c\n"])
def test_nothing_and_null_are_an_empty_mapping(document):
    assert parse("yaml", document.encode()) == {}
    assert locate("yaml", document.encode()) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0o7", "0o7"),
        ("010", 8),
        ("0xff", 255),
        ("1_000", 1000),
        ("1:30", 90),
        ("22:22", 1342),
        ("1.5", 1.5),
        (".inf", math.inf),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("=", "="),
        ("<<", "<<"),
        ("!!str 1", "1"),
        ("!!int '1'", 1),
        ("!!binary aGk=", b"hi"),
        ("2020-01-01", dt.date(2020, 1, 1)),
        ("2020-01-01T10:20:30Z", dt.datetime(2020, 1, 1, 10, 20, 30, tzinfo=dt.UTC)),
        ("|\n  x\n  y\n", "x\ny\n"),
        (">-\n  x\n  y\n", "x y"),
        ('"\\x41\\u00e9\\0"', "Aé\0"),
    ],
)
def test_scalars_are_what_pyyaml_says(text, value):
    result = parse("yaml", f"a: {text}".encode())["a"]
    assert result == value
    assert type(result) is type(value)


def located(document):
    return {path: tuple(position) for path, position in locate("yaml", document.encode()).items()}


def test_keys_and_items_stand_where_they_begin():
    document = "é😀: {a: 1, 'b':\n  2}\n? c\n: - x\n  - - y\n    - k: v\n  -\n  - !!str z\n"
    assert located(document) == {
        ("é😀",): (1, 1),
        ("é😀", "a"): (1, 6),
        ("é😀", "b"): (1, 12),
        ("c",): (3, 3),
        ("c", 0): (4, 5),
        ("c", 1): (5, 5),
        ("c", 1, 0): (5, 7),
        ("c", 1, 1): (6, 7),
        ("c", 1, 1, "k"): (6, 7),
        ("c", 2): (7, 4),
        ("c", 3): (8, 5),
    }


def test_only_a_line_feed_ends_a_line():
    assert located("a: 'x\u2028y'\r\nb: 'x\x85y'\n# \u2029\nc: 1") == {("a",): (1, 1), ("b",): (2, 1), ("c",): (4, 1)}


def test_an_alias_stands_where_it_is_and_its_content_where_the_anchor_is():
    assert located("a: &a\n  k: [1]\nb: *a\nc:\n- *a\n") == {
        ("a",): (1, 1),
        ("a", "k"): (2, 3),
        ("a", "k", 0): (2, 7),
        ("b",): (3, 1),
        ("b", "k"): (2, 3),
        ("b", "k", 0): (2, 7),
        ("c",): (4, 1),
        ("c", 0): (5, 3),
        ("c", 0, "k"): (2, 3),
        ("c", 0, "k", 0): (2, 7),
    }


def test_a_merged_key_stands_where_it_is_written_and_a_replaced_one_leaves_no_trace():
    document = "a: &a {x: {old: 1}, y: 1}\nb: &b {y: 2}\nc:\n  x: {new: 1}\n  <<: [*b, *a]\n"
    assert parse("yaml", document.encode())["c"] == {"x": {"new": 1}, "y": 2}
    found = located(document)
    assert {path: place for path, place in found.items() if path[0] == "c"} == {
        ("c",): (3, 1),
        ("c", "x"): (4, 3),
        ("c", "x", "new"): (4, 7),
        ("c", "y"): (2, 8),
    }


def test_a_quoted_merge_key_is_a_key():
    assert parse("yaml", b"'<<': 1") == {"<<": 1}


def itself(values):
    """Return values with each key that is no string in the place of its text."""
    if isinstance(values, dict):
        return {key.value if isinstance(key, Key) else key: itself(item) for key, item in values.items()}
    return [itself(item) for item in values] if isinstance(values, list) else values


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("on", True),
        ("No", False),
        ("~", None),
        ("null", None),
        ("8080", 8080),
        ("0x1F", 31),
        ("1:30", 90),
        ("1.10", 1.1),
        (".inf", math.inf),
        ("2020-01-01", dt.date(2020, 1, 1)),
        ("2020-01-01T10:20:30Z", dt.datetime(2020, 1, 1, 10, 20, 30, tzinfo=dt.UTC)),
        ("!!binary aGk=", b"hi"),
        ("!!int '1'", 1),
        ("=", "="),
        ("'on'", "on"),
    ],
)
def test_a_key_is_what_pyyaml_says_and_keeps_its_text(text, key):
    document = f"{text}: 1\nother: {{{text}: 2}}\n"
    values = parse("yaml", document.encode())
    assert repr(itself(values)) == repr(yaml.safe_load(document))
    written = next(iter(values))
    assert written == text.rpartition(" ")[2].strip("'")
    assert located(document)[written,] == (1, 1)
    if isinstance(key, str):
        assert type(written) is str
    else:
        assert (written.value, type(written.value)) == (key, type(key))


def test_a_key_without_text_is_null():
    document = "a:\n  ? \n  : 1"
    assert itself(parse("yaml", document.encode())) == yaml.safe_load(document) == {"a": {None: 1}}
    assert located(document).keys() == {("a",), ("a", "")}


def test_a_string_and_a_number_of_one_text_are_two_keys():
    document = "8080: a\n'8080': b\n'8080 (int)': c\n"
    assert itself(parse("yaml", document.encode())) == yaml.safe_load(document)
    assert located(document) == {("8080 (int) (int)",): (1, 1), ("8080",): (2, 1), ("8080 (int)",): (3, 1)}


def test_a_key_that_is_an_alias_stands_where_the_alias_is():
    assert located("a: &a on\n*a : {*a : 2}") == {("a",): (1, 1), ("on",): (2, 1), ("on", "on"): (2, 7)}
    assert itself(parse("yaml", b"a: &a 1\n*a : 2")) == {"a": 1, 1: 2}


def test_a_merged_key_gives_way_to_the_same_key_in_other_words():
    document = "a: &a {on: 1, 16: 2}\nb:\n  yes: 3\n  <<: *a\n"
    assert itself(parse("yaml", document.encode())) == yaml.safe_load(document)
    assert {path[1:]: place for path, place in located(document).items() if path[0] == "b"} == {
        (): (2, 1),
        ("yes",): (3, 3),
        ("16",): (1, 15),
    }


@pytest.mark.parametrize(
    "document",
    ["on: {push: 1}\n8080: a\n~: c\n2020-01-01: d\n1.10: e\n0x10: f\n", "8080: a\n'8080': b\n!!binary aGk=: x\n"],
)
def test_yaml_writes_a_key_as_it_was_written(document):
    written = dump("yaml", parse("yaml", document.encode()))
    assert repr(yaml.safe_load(written)) == repr(yaml.safe_load(document))
    assert [line.split(":")[0] for line in written.splitlines() if line[0] not in "? :"][:1] == [document.split(":")[0]]


def test_json_and_toml_write_the_text_of_a_key():
    values = parse("yaml", b"on: {8080: [1, {~: 2}]}")
    for format_name in ("json", "toml"):
        assert parse(format_name, dump(format_name, values).encode()) == {"on": {"8080": [1, {"~": 2}]}}


PLAIN_KEYS = ["on", "off", "~", "8080", "-1", "0x1F", "1.5", "2020-01-01", "name", "é😀", "'q: #'", '"\\t"', "1:30"]


def random_document(chance, depth=0):
    """Return a mapping or list in flow style with the place of every key, as an offset, by its path."""
    text, places = [], {}

    def put(piece):
        text.append(piece)

    def offset():
        return sum(map(len, text))

    def value(path, depth):
        kind = chance.choice(["scalar", "scalar", "mapping", "list"]) if depth < 4 else "scalar"
        if kind == "scalar":
            put(chance.choice(["1", "x", "'on'", "yes", "~", "2020-01-01"]))
            return
        put("{" if kind == "mapping" else "[")
        for index, key in enumerate(chance.sample(PLAIN_KEYS, chance.randint(0, 4))):
            put(chance.choice(["", " ", "\n  "]) if index == 0 else chance.choice([", ", ",\n  "]))
            name = yaml.load(key, Loader=yaml.BaseLoader) if kind == "mapping" else index
            places[(*path, name)] = offset()
            if kind == "mapping":
                put(key)
                put(": ")
            value((*path, name), depth + 1)
        put(chance.choice(["", " "]))
        put("}" if kind == "mapping" else "]")

    for key in chance.sample(PLAIN_KEYS, chance.randint(1, 5)):
        name = yaml.load(key, Loader=yaml.BaseLoader)
        places[name,] = offset()
        put(f"{key}: ")
        value((name,), 1)
        put(chance.choice(["\n", "  # comment\n", "\n\n"]))
    return "".join(text), places


def test_a_corpus_with_keys_of_every_kind_equals_pyyaml_and_has_no_wrong_place():
    chance = random.Random(13)
    keys = 0
    for _ in range(300):
        document, places = random_document(chance)
        assert repr(itself(parse("yaml", document.encode()))) == repr(yaml.safe_load(document)), document
        starts = [0, *(match.end() for match in re.finditer("\n", document))]
        expected = {
            path: ((line := bisect_right(starts, offset)), offset - starts[line - 1] + 1)
            for path, offset in places.items()
        }
        assert located(document) == expected, document
        keys += len(places)
    assert keys > 3000


def test_without_libyaml_the_pure_parser_and_writer_take_over():
    program = (
        "import yaml; del yaml.CSafeLoader\n"
        "from hotconf.formats import dump, parse, yaml as module\n"
        "assert module.Loader is module.PlainLoader is module.PurePythonLoader\n"
        "assert parse('yaml', dump('yaml', {'a': [1, 'x']}).encode()) == {'a': [1, 'x']}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


WORDS = st.text("abé\U0001f600", min_size=1, max_size=3)
VALUES = st.recursive(
    st.one_of(st.integers(0, 99), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=12,
)


@given(
    values=st.dictionaries(WORDS, VALUES, max_size=4),
    flow=st.sampled_from([True, False, None]),
    indent=st.integers(2, 5),
    line_break=st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=150)
def test_every_key_is_located_where_it_is_written(values, flow, indent, line_break, paths):
    text = yaml.safe_dump(
        values, default_flow_style=flow, indent=indent, line_break=line_break, allow_unicode=True, width=20
    )
    found = locate("yaml", text.encode())
    assert set(found) == paths(parse("yaml", text.encode())) == paths(values)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    for path, (line, column) in found.items():
        here = text[starts[line - 1] + column - 1 :]
        assert here.startswith(opening(values, path)), (path, here)


def opening(values, path):
    """The texts that the key or item at a path may begin with."""
    if isinstance(path[-1], str):
        return (path[-1], f'"{path[-1]}"', f"? {path[-1]}")
    for key in path:
        values = values[key]
    if isinstance(values, list):
        return ("[", "- ")
    if isinstance(values, dict):
        return ("{", *values)
    return (str(values), f'"{values}"')


ODD = st.lists(
    st.sampled_from(
        [*"a: [],{}-?&*!|>%@'\"#\n\t\\1", "\n  ", ": ", "- ", "<<: ", "&a ", "*a", "!!int ", "é", "---\n", "key"]
    ),
    max_size=25,
).map("".join)


@given(document=ODD)
@settings(max_examples=150)
def test_any_text_is_a_mapping_with_its_paths_or_a_format_error(document, paths):
    try:
        values = parse("yaml", document.encode())
    except FormatError:
        return
    assert set(locate("yaml", document.encode())) == paths(values)


def test_a_hundred_thousand_keys_are_read(parser):
    if parser == "libyaml":  # without it they take half a minute
        section = "".join(f"  key{number}: {number}\n" for number in range(10))
        values = parse("yaml", "".join(f"section{number}:\n{section}" for number in range(10_000)).encode())
        assert (len(values), values["section9999"]["key9"]) == (10_000, 9)


@pytest.mark.parametrize(
    "text",
    [
        "a: b & c\nd: 'x*y'\ne: Hello!\n",
        "a: [1, x!, -*b*]\n",
        "- &a 1\n",
        "a: '&b'\nc: \"*d\"\n",
        "?\n- &a [x]\n: *a\n",
        "a:&b\nc: 1\n",
        "{a: !!str 1, b:*a}",
        "a: |\n  &b\n  !c\n",
        "a: &b\n  c: *b\n",
    ],
)
def test_the_short_way_and_the_careful_one_are_one(text, monkeypatch):
    def outcome():
        try:
            return parse("yaml", text.encode()), locate("yaml", text.encode())
        except FormatError as error:
            return error.reason, error.line, error.column

    short = outcome()
    monkeypatch.setattr(yaml_format, "_most_nodes", lambda _: yaml_format.MAX_NODES + 1)
    assert outcome() == short
