"""Parameters: tags, tokens, and conditions with several tags."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from hotconf.api.parameters import ANY, tags_in, token_of


def tags(*lines, **options):
    return tags_in(",".join(lines) if lines else None, **options)


@pytest.mark.parametrize(
    ("tag", "token"),
    [
        ("0a1b.7", "0a1b.7"),
        ("0a1b.7.toml", "0a1b.7"),
        ("0a1b.7.yaml", "0a1b.7"),
        ("0a1b", None),
        ("0A1B.7", None),
        ("0a1b.x", None),
        ("0a1b.7.", None),
        ("0a1b.7.toml.gz", None),
        ("", None),
        (" 0a1b.7", None),
    ],
)
def test_a_suffix_is_not_part_of_the_token(tag, token):
    assert token_of(tag) == token


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ((), None),
        (("*",), (ANY,)),
        ((" * ",), (ANY,)),
        (('"*"',), ("*",)),
        (('"a"',), ("a",)),
        (('""',), ("",)),
        (('W/"a"',), ("a",)),
        (('"a", W/"b" ,"c"',), ("a", "b", "c")),
        (('"a",, "b"',), ("a", "b")),
        (('"a"', '"b"'), ("a", "b")),
        (('"a, b"',), None),
    ],
)
def test_every_tag_of_every_line_is_read(lines, found):
    if found is None and lines:
        with pytest.raises(ValueError, match="entity tags"):
            tags(*lines)
    else:
        assert tags(*lines) == found


@pytest.mark.parametrize("line", ["", "a", '"a', 'a"', '"a" "b"', '"a", b', 'w/"a"', '*, "a"', '"a"\x01'])
def test_a_header_that_is_not_a_list_of_tags_is_an_error(line):
    with pytest.raises(ValueError, match="entity tags"):
        tags(line)


def test_weak_tags_are_left_out_for_writes():
    assert tags('W/"a", "b"', strong=True) == ("b",)
    assert tags('W/"a"', strong=True) == ()


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40))
def test_no_header_raises_anything_else(line):
    try:
        assert all('"' not in tag for tag in tags(line))
    except ValueError as error:
        assert "entity tags" in str(error)
