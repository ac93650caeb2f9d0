"""A file of the usual size, however it is made, is read or refused at once."""

import time

import pytest

import hotconf.formats as formats
from hotconf.errors import FormatError
from hotconf.formats.toml import MAX_DOTS
from hotconf.formats.yaml import MAX_DIRECTIVES

SIZE = 4 << 20


def refused(text_format, data):
    began = time.process_time()
    with pytest.raises(FormatError) as error:
        formats.parse(text_format, data)
    assert time.process_time() - began < 5, "refused, but late"
    return error.value


@pytest.mark.parametrize("before", [b"", b"a: 1\n...\n"], ids=["first", "second document"])
def test_tag_directives_are_few(before):
    lines = b"".join(b"%%TAG !a%d! tag:x,2000:\n" % number for number in range(SIZE // 32))
    error = refused("yaml", before + lines + b"--- \na: 1\n")
    assert "tag directives" in error.reason
    assert error.line == before.count(b"\n") + MAX_DIRECTIVES + 1


def test_a_few_tag_directives_are_read():
    lines = b"".join(b"%%TAG !a%d! tag:yaml.org,2002:\n" % number for number in range(MAX_DIRECTIVES))
    assert formats.parse("yaml", lines + b"--- \na: !a7!str 1\nb: '\n  %TAG'\n") == {"a": "1", "b": " %TAG"}


@pytest.mark.parametrize(
    "line", [b"a%d." + b".".join([b"b"] * 70) + b"=1\n", b"[a%d." + b".".join([b"1"] * 70) + b"]\n"]
)
def test_tables_by_dotted_keys_are_as_many_as_a_configuration_has(line):
    assert "dots in keys" in refused("toml", b"".join(line % number for number in range(SIZE // 150))).reason


def test_dots_that_make_no_table_do_not_count():
    numbers = b"numbers = [" + b"0.1,-1.5e-7,1_0.0," * (MAX_DOTS // 2) + b"]\n"
    texts = b'texts = ["' + b"..." * MAX_DOTS + b"\"]\nmore = '''" + b"..." * MAX_DOTS + b"''' # " + b"..." * MAX_DOTS
    assert len(formats.parse("toml", numbers + texts)["numbers"]) == MAX_DOTS // 2 * 3
