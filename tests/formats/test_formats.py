"""What holds for every format: names, encoding, depth, emptiness, secrecy, writing what is read."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from types import MappingProxyType

import pytest
from hypothesis import given, strategies as st

from hotconf.errors import FormatError
from hotconf.formats import FORMATS, MAX_DEPTH, dump, format_of, locate, parse

WRITABLE = ("toml", "json", "yaml")
ONE_KEY = {"toml": "name = 1", "json": '{"name": 1}', "yaml": "name: 1", "dotenv": "name=1"}


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("app.toml", "toml"),
        ("/etc/app/APP.TOML", "toml"),
        ("a.json", "json"),
        ("a.yaml", "yaml"),
        ("a.b.yml", "yaml"),
        (".env", "dotenv"),
        (".env.local", "dotenv"),
        ("dir/prod.env", "dotenv"),
        (".env.json", "json"),
    ],
)
def test_a_name_tells_the_format(name, format):
    assert format_of(name) == format


@pytest.mark.parametrize("name", ["app.ini", "app", "", "toml", "env", ".envrc", "a.env.d/b"])
def test_a_name_that_tells_no_format_is_answered_with_those_that_do(name):
    with pytest.raises(FormatError, match=r"\.toml, \.json, \.yaml, \.yml, \.env"):
        format_of(name)


def test_an_unknown_format_is_answered_with_the_known_ones():
    with pytest.raises(FormatError, match="toml, json, yaml, dotenv"):
        parse("ini", b"")


@pytest.mark.parametrize("format", FORMATS)
def test_a_byte_order_mark_is_no_content_and_shifts_no_column(format, refusal):
    document = ONE_KEY[format].encode()
    marked = b"\xef\xbb\xbf" + document
    assert parse(format, marked) == parse(format, document)
    assert locate(format, marked) == locate(format, document)
    error = refusal(format, b"\xef\xbb\xbfab\0")
    assert (error.line, error.column) == (1, 3)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("data", "place", "reason"),
    [
        (b"a\n\xc3\xa9\xf0\x9f\x98\x80b\xff", (2, 4), "not UTF-8"),
        (b"a\nb\xe2\x82", (2, 2), "not UTF-8"),
        (b"\xed\xa0\x80", (1, 1), "not UTF-8"),
        (b"\xef\xbb\xbf\xc3\xa9\xff", (1, 2), "not UTF-8"),
        (b"a\r\n\xc3\xa9\0", (2, 2), "NUL"),
        ("a".encode("utf-16"), (1, 1), "UTF-16"),
        (b"\xfe\xff\0a", (1, 1), "UTF-16"),
        ("a = 1".encode("utf-16-le"), (1, 2), "NUL"),
    ],
)
def test_bytes_that_are_no_text_are_refused_at_their_place(format, data, place, reason, refusal):
    error = refusal(format, data)
    assert (error.line, error.column) == place
    assert reason in error.reason


@pytest.mark.parametrize("format", ["toml", "yaml", "dotenv"])
@pytest.mark.parametrize("document", [b"", b"\n\n", b"# only a comment", b"\xef\xbb\xbf"])
def test_a_document_without_content_is_an_empty_mapping(format, document):
    assert parse(format, document) == {}
    assert locate(format, document) == {}


def test_an_empty_json_document_is_a_syntax_error(refusal):
    assert refusal("json", "").line == 1


def nested(format, depth):
    """A document with so many mappings and lists within each other, the top level counted."""
    if format == "yaml":
        return "a: " + "[" * (depth - 1) + "]" * (depth - 1)
    if format == "json":
        return '{"a": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
    return "a." * (depth // 2) + "a = " + "[" * (depth - 1 - depth // 2) + "]" * (depth - 1 - depth // 2)


@pytest.mark.parametrize("format", WRITABLE)
def test_nesting_is_bounded_alike_in_every_format(format, refusal):
    assert len(locate(format, nested(format, MAX_DEPTH).encode())) == MAX_DEPTH - 1
    assert refusal(format, nested(format, MAX_DEPTH + 1)).reason == "nested too deeply"


def test_depth_that_dotted_keys_add_up_to_is_bounded(refusal):
    key = ".".join("a" * 70)
    assert refusal("toml", f"x = {('{' + key + ' = ') * 70}1{'}' * 70}").reason == "nested too deeply"


def test_depth_that_aliases_add_up_to_is_bounded(refusal):
    half = "[" * (MAX_DEPTH // 2 + 1)
    closed = half.replace("[", "]")
    document = f"a: &a {half}{closed}\nb: {half}*a{closed}"
    assert refusal("yaml", document).reason == "nested too deeply"


@pytest.mark.parametrize("opening", ["[", "{", '{"a":', "a: [", "- ", "? ", "a = [", "{a = ", "a."])
@pytest.mark.parametrize("format", FORMATS)
def test_absurd_nesting_neither_crashes_nor_hangs(format, opening):
    for document in (opening * 100_000, "a = " + opening * 100_000, "a: " + opening * 100_000):
        try:
            parse(format, document.encode())
        except FormatError:
            continue


MALFORMED = {
    "toml": [
        "p = hunter2",
        "p = 'hunter2",
        "hunter2 hunter2",
        "p = 1979-hunter2",
        "[hunter2",
        "hunter2 = 1\nhunter2 = 2",
        "hunter2 = 1\nhunter2.a = 2",
        'p = "\\hunter2"',
        'p = {"$__toml_private_datetime" = "hunter2"}',
        'p = {"\\u0024__toml_private_datetime" = "hunter2"}',
    ],
    "json": [
        '{"p": hunter2}',
        '{"p": "hunter2',
        '{"hunter2": 1, "hunter2": 2}',
        '{"p": "\\hunter2"}',
        "hunter2",
        '"hunter2"',
        '{"p": "hunter2\\ud800"}',
    ],
    "yaml": [
        "p: *hunter2",
        "p: &hunter2 [*hunter2]",
        "p: [&hunter2 1, &hunter2 2]",
        "p: !hunter2 x",
        "p: !hunter2!x y",
        "p: !!hunter2 x",
        "p: !!int hunter2",
        "p: !!bool hunter2",
        "p: !!float hunter2",
        "p: !!timestamp hunter2",
        "p: !!binary hünter2",
        "p: 'hunter2",
        "p: hunter2: x",
        "hunter2: 1\nhunter2: 2",
        "hunter2",
        "p: {<<: hunter2}",
        "p: `hunter2",
        'p: "\\hunter2"',
        "p: |hunter2",
        "%hunter2",
        "p: [hunter2",
    ],
    "dotenv": ["P='hunter2", 'P="hunter2', "hunter2 hunter2", "=hunter2"],
}


@pytest.mark.parametrize(("format", "document"), [(f, d) for f in FORMATS for d in MALFORMED[f]])
def test_an_error_quotes_nothing_of_the_text(format, document, refusal):
    text = str(refusal(format, document))
    assert "hunter" not in text
    assert "\n" not in text


def test_importing_the_package_loads_no_parser():
    program = (
        "import sys, hotconf.formats as f; assert not {'rtoml', 'yaml', 'dotenv'} & set(sys.modules); "
        "f.parse('json', b'{}'); assert not {'rtoml', 'yaml', 'dotenv'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_pyyaml_reading_yaml_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "hotconf.formats.yaml", raising=False)
    with pytest.raises(FormatError, match=r"pip install 'hotconf\[yaml\]'"):
        parse("yaml", b"a: 1")
    assert parse("toml", b"a = 1") == {"a": 1}


def test_another_missing_module_is_not_taken_for_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tomli_w", None)
    monkeypatch.delitem(sys.modules, "hotconf.formats.toml", raising=False)
    with pytest.raises(ModuleNotFoundError, match="tomli_w"):
        parse("toml", b"")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
TREES = st.dictionaries(
    TEXT,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
        max_leaves=12,
    ),
    max_size=5,
)


@pytest.mark.parametrize("format", WRITABLE)
@given(values=TREES)
def test_what_is_written_is_read_back(format, values, paths):
    text = dump(format, values)
    assert text == "" or text.endswith("\n")
    assert parse(format, text.encode()) == values
    assert set(locate(format, text.encode())) == paths(values)


@pytest.mark.parametrize("format", WRITABLE)
def test_any_mapping_and_sequence_is_written_in_its_own_order(format):
    values = MappingProxyType({"z": MappingProxyType({"ü": (1, 2)}), "a": "é"})
    text = dump(format, values)
    assert list(parse(format, text.encode())) == (["a", "z"] if format == "toml" else ["z", "a"])
    assert parse(format, text.encode()) == {"z": {"ü": [1, 2]}, "a": "é"}
    assert "ü" in text
    assert "é" in text


def test_a_value_that_occurs_twice_is_written_twice():
    shared = {"a": [1]}
    assert "*" not in dump("yaml", {"x": shared, "y": shared})


@pytest.mark.parametrize(
    ("format", "value"),
    [
        ("toml", None),
        ("toml", object()),
        ("json", dt.date(2020, 1, 1)),
        ("json", float("nan")),
        ("json", float("inf")),
        ("json", b""),
        ("yaml", object()),
        ("dotenv", "text"),
    ],
)
def test_a_value_that_a_format_cannot_hold_is_refused(format, value):
    with pytest.raises(FormatError):
        dump(format, {"key": value})


@pytest.mark.parametrize("format", WRITABLE)
def test_values_that_contain_themselves_are_refused(format):
    values = {}
    values["self"] = values
    with pytest.raises(FormatError):
        dump(format, values)
