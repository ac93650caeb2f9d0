"""Dotenv: python-dotenv's own reading, flat and without interpolation, with the place of every name."""

from __future__ import annotations

from io import StringIO

import pytest
from dotenv import dotenv_values
from dotenv.parser import parse_stream
from hypothesis import given, settings, strategies as st

from hotconf.errors import FormatError
from hotconf.formats import dotenv as dotenv_format, locate, parse


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ("A B=1", (1, 1)),
        ("A=1\r\n\n  =2", (3, 3)),
        ("A=1\nB='x\ny", (2, 1)),
        ('A="x\ny" z\n', (1, 1)),
        ("# é\n\n export A", None),
        ("\n\texport B='", (2, 9)),
    ],
)
def test_a_line_that_is_no_assignment_is_refused_where_it_begins(document, place, refusal):
    if place is None:
        assert parse("dotenv", document.encode()) == {"A": ""}
        return
    error = refusal("dotenv", document)
    assert (error.line, error.column) == place
    assert "NAME=value" in error.reason


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("K = v # c", "v"),
        ("K=v#c", "v#c"),
        ("K='v # c'", "v # c"),
        ('K="a\\nb"', "a\nb"),
        ("K='a\\nb'", "a\\nb"),
        ("K=", ""),
        ("K", ""),
        ("K=${HOME}$X", "${HOME}$X"),
        ('K={"a": [1]}', '{"a": [1]}'),
        ("'K'=v", "v"),
        ("export K=é", "é"),
        ("K=1\nK=2", "2"),
        ("K=a=b", "a=b"),
    ],
)
def test_values_are_what_python_dotenv_says_but_nothing_is_interpolated(line, value):
    assert parse("dotenv", line.encode()) == {"K": value}


def test_names_stand_where_they_begin():
    document = "\n# c\nA=1\r\n  export \t B='x\ny' # c\n\n'C d'=2\nD\nA=3"
    assert {path: tuple(place) for path, place in locate("dotenv", document.encode()).items()} == {
        ("B",): (4, 12),
        ("C d",): (7, 1),
        ("D",): (8, 1),
        ("A",): (9, 1),
    }


def test_the_undocumented_parser_of_python_dotenv_yields_what_it_did():
    (binding,) = parse_stream(StringIO("export A=1 # c\n"))
    assert (binding.key, binding.value, binding.error) == ("A", "1", False)
    assert binding.original.string == "export A=1 # c\n"


@given(
    st.lists(st.sampled_from([*"AB='\"#\\ \n\t$1", "export ", "\r\n", "é", "\u00a0", "A=1\n"]), max_size=20).map(
        "".join
    )
)
@settings(max_examples=300)
def test_it_agrees_with_python_dotenv_on_every_text_it_accepts(document):
    try:
        values = parse("dotenv", document.encode())
    except FormatError:
        return
    expected = dotenv_values(stream=StringIO(document), interpolate=False)
    assert values == {name: value or "" for name, value in expected.items()}
    lines = document.split("\n")
    for (name,), (line, column) in locate("dotenv", document.encode()).items():
        assert lines[line - 1][column - 1 :].startswith((name, f"'{name.split(chr(10))[0]}"))


@pytest.mark.parametrize("blanks", [" " * 200_000, "\t \u00a0" * 70_000])
def test_blanks_that_would_keep_the_parser_busy_are_refused_at_their_place(blanks, refusal):
    error = refusal("dotenv", f"A=1\nB=x{blanks}y")
    assert (error.line, error.column) == (2, 4)
    assert "blanks" in error.reason


def test_many_runs_of_blanks_are_refused_together(refusal):
    assert "blanks" in refusal("dotenv", "A=" + ("x" + " " * 99) * 40_000).reason
    assert parse("dotenv", b"A=x" + b" " * 1000 + b"# c") == {"A": "x"}


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
def test_the_number_of_lines_is_bounded(newline, refusal):
    limit = dotenv_format.MAX_LINES
    assert parse("dotenv", ("#" + newline).encode() * 100) == {}
    assert str(limit) in refusal("dotenv", ("#" + newline) * (limit + 1)).reason
