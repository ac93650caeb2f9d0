"""A changed document, read from what the one before held: the same as parsing it, for less, or not at all."""

import itertools

import pytest
import rtoml
from hypothesis import event, given, settings, strategies as st

from hotconf.errors import FormatError
from hotconf.formats import parse, revised

BEFORE = """\
name = "demo"
ports = [1, 2]

[log] # how much
level = "info"
"quoted key" = 1

[database]
url = "a#[b]"
since = 2020-01-01

[database.pool]
size = 10
nan = nan

[dotted]
a.b = 1
inline = { x = 1 }
many = [
  [1],
[2],
]

[[servers]]
port = 1
[servers.tls]
on = true
[[servers]]
port = 2
[implicit.inner]
key = 1
[padding]
# so that any other table is a small part of the document: x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
# x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
"""


def again(after: str, before: str = BEFORE) -> object:
    return revised("toml", after.encode(), before.encode(), parse("toml", before.encode()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 10", "size = 11"),
        ("size = 10", "size = '10'"),
        ("size = 10", "size = 10 # ten"),
        ("size = 10", "size = [10, 'a']"),
        ("size = 10", "size = 2020-01-01T10:20:30Z"),
        ("size = 10", "max = 3\nsize = 10"),
        ("size = 10\nnan = nan", ""),
        ("size = 10\nnan = nan", "nan = nan\nsize = 10"),
        ('name = "demo"', 'name = "[log]"'),
        ("ports = [1, 2]", "ports = []"),
        ('level = "info"', 'level = "[database]"'),
        ('url = "a#[b]"', "url = '\\u00e9'"),
        ("key = 1", "key = 2"),
        ("size = 10\nnan = nan\n\n[dotted]", "size = 11\nnan = inf\n\n[dotted]"),
        ("[log] # how much", "[ log ]"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_other_values_are_read_from_their_table_alone(old, new, line_end, monkeypatch):
    before, after = BEFORE.replace("\n", line_end), BEFORE.replace(old, new).replace("\n", line_end)
    values, expected = parse("toml", before.encode()), parse("toml", after.encode())
    texts, loads = list[str](), rtoml.loads
    monkeypatch.setattr(rtoml, "loads", lambda text: texts.append(text) or loads(text))

    read = revised("toml", after.encode(), before.encode(), values)

    assert repr(read) == repr(expected)
    assert sum(map(len, texts)) < len(after) / 2
    assert read["servers"] is values["servers"]
    assert read["dotted"] is values["dotted"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 10", "size = 10\nsize = 10"),  # a fault, and only the whole tells where
        ("size = 10", "size ="),
        ("size = 10", 'size = """\n'),
        ("size = 10", "$__toml_private_datetime = '2020-01-01'"),
        ("size = 10", 'x = """\n"""'),
        ("size = 10", "size = { a = 1 }"),
        ("size = 10", "a.b = 10"),
        ("size = 10", "size = [{ a = 1 }]"),
        ("[database.pool]", "[database.other]"),
        ("[database.pool]", "[[database.pool]]"),
        ("url =", "pool ="),  # the table of that name comes later
        ("url =", "uri ="),  # what else lies in the table may come before or after it
        ('name = "demo"', 'title = "demo"'),
        ("a.b = 1", "a.b = 2"),
        ("[1],", "[3],"),
        ("[2],", "[3],"),
        ("port = 2", "port = 3"),
        ("on = true", "on = false"),
        ("[[servers]]\nport = 2", ""),
        ("[log]", "[other]\n[log]"),
        ("size = 10", "size = 10\n  [indented]\nkey = 1"),
        ("nan = nan", "nan = nan\n\t[database]"),  # empty, and a fault
    ],
)
def test_what_more_than_one_table_can_tell_is_left_to_the_parser(old, new):
    assert old in BEFORE
    assert again(BEFORE.replace(old, new)) is None


def test_a_document_that_ends_in_half_a_line_end_is_left_to_the_parser():
    after = BEFORE.rstrip("\n").replace("size = 10", "size = 11") + "\r"
    assert again(after) is None
    with pytest.raises(FormatError, match="carriage return"):
        parse("toml", after.encode())


def test_a_document_with_multi_line_strings_is_left_to_the_parser():
    before = 'text = """\n[a]\nb = 1\n"""\n' + "# x\n" * 100
    assert again(before.replace("b = 1", "b = 2"), before) is None


def test_a_flat_document_is_not_parsed_twice(monkeypatch):
    before = "".join(f"key{index} = {index}\n" for index in range(100))
    values = parse("toml", before.encode())
    monkeypatch.setattr(rtoml, "loads", None)
    assert revised("toml", before.replace("99", "98").encode(), before.encode(), values) is None


def test_a_document_that_became_no_text_is_left_to_the_parser():
    assert revised("toml", BEFORE.encode() + b"\xff", BEFORE.encode(), parse("toml", BEFORE.encode())) is None


def test_other_formats_are_parsed_as_a_whole():
    for kind in ("json", "yaml", "dotenv"):
        assert revised(kind, b"{}", b"{}", {}) is None


_keys = st.sampled_from(["a", "b", "c", "a.b", "'a'", "a.c", "b.a", '"[a]"', "k"])
_values = st.sampled_from(
    [
        *("1", "2", "true", "nan", "-0.0", "2020-01-01", "'[a]'", '"#"', '"\\u005b"'),
        *("[1]", "[1,\n2]", "[\n[1]]", "[\n[1],\n[2],\n]", "[{ b = 1 }]", "[\n  { a = 1 },\n]"),
        *("{ a = 1 }", "{ a =\n[1]\n}"),
    ]
)
_HEADERS = ["[a]", "[a.b]", "[ k ]", "[b.a]", "[[c]]", "[c.a]", "  [b]", "[x] # y", "[x.y.z]", '["[a]"]', "[x.y]"]
_lines = (
    st.builds("{} = {}".format, _keys, _values)
    | st.builds("[{}]".format, _keys)
    | st.builds("  [{}]".format, _keys)
    | st.sampled_from(["", "# [a]", "[", "]", "[1]", ",", '"""', "x = '''\n[a]\n'''", "]]", "[a", "x", "a.x = 1", "\r"])
)
_bodies = st.dictionaries(_keys, _values, max_size=3).map(lambda body: [f"{key} = {body[key]}" for key in body])
_tables = st.lists(
    st.builds(lambda header, body: [header, *body], st.sampled_from(_HEADERS), _bodies),
    max_size=5,
    unique_by=lambda table: table[0],
)
_documents = st.builds(lambda first, tables: [*first, *itertools.chain.from_iterable(tables)], _bodies, _tables)


@given(_documents, st.data())
@settings(max_examples=1000)
def test_a_revised_document_is_what_the_parser_says(lines, data):
    padding = ["[padding]", *["# padding " * 20] * 3]  # without, the documents would be too short for it to pay
    before = [*lines, *padding]
    try:
        values = parse("toml", "\n".join(before).encode())
    except FormatError:
        return
    after = list(before)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(lines)))
        key, is_entry, _ = after[place].partition(" = ")
        if is_entry and data.draw(st.booleans()):
            after[place] = f"{key} = {data.draw(_values)}"
        else:
            after[place : place + data.draw(st.integers(0, 1))] = [data.draw(_lines)]
    shown = repr(values)

    read = again("\n".join(after), "\n".join(before))

    if read is not None:
        assert repr(read) == repr(parse("toml", "\n".join(after).encode()))
    event(f"revised: {read is not None}")
    assert repr(values) == shown
