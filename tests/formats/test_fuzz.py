"""Whatever the bytes are: a mapping, or a FormatError. And what is accepted can be located."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from hotconf.errors import FormatError
from hotconf.formats import FORMATS, locate, parse
from hotconf.values.keypath import KeyPath

SEEDS = {
    "toml": [
        'a = 1\n"b.c".d = [1, {e = "\\u00e9", f = \'x\'}]\n[t.u]\nv = 1979-05-27T07:32Z\n[[w]]\nx = """\ny"""\n[[w]]',
        "i = 0xff\nf = 6.6e-3\nn = [nan, -inf]\nt = 07:32:00\ns = '''\n'a' '''\nd = { a = 1, # c\n }\n",
    ],
    "json": [
        '{"a": [1, -2.5e3, true, null, {"b": "\\u00e9\\ud83d\\ude00\\n"}], "c": {"": {}}}',
        '{\n\t"é": "]}",\n\t"d": [[], [[]]], "e": 123456789012345678901234567890}',
    ],
    "yaml": [
        "a: &a {b: 1, c: [x, 'y', \"\\u00e9\"]}\nd:\n  <<: *a\n  b: 2\ne:\n- *a\n- |\n  text\n- >-\n  more\n",
        "? a\n: 2020-01-01\nb: !!int '3'\nc: ~\n",
        "a: 1:30\nb: [1_000, .inf, 0xff, yes, !!binary aGk=]\n# c\n'd': {e: , f}\n",
    ],
    "dotenv": ["A=1\nexport B=\"x\\ny\"\nC='a\nb' # c\n\n# d\nE\nF=${A}\n", "'K k'=v # c\r\nG=\n"],
}
PIECES = [
    b"[",
    b"{",
    b'"',
    b"'",
    b"]",
    b"}",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"=",
    b":",
    b",",
    b"#",
    b"-",
    b"\\",
    b"\0",
    b"\xff",
]
PIECES += [
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xed\xa0\x80",
    b"\x1b",
    b"&a",
    b"*a",
    b"<<",
    b"!!",
    b"%",
    b"1e999",
]
PIECES += [
    b'"""',
    b"'''",
    b"nan",
    b"\\ud800",
    b"$__toml_private_datetime",
    b"9" * 5000,
    b"[" * 200,
    b"? " * 200,
    b"a." * 200,
]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Valid bytes cut, repeated, sprinkled with what parsers stumble over."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.randint(0, 8))
        piece = chance.choice([chance.choice(PIECES), data[start:end], chance.randbytes(2), b""])
        data = data[:start] + piece * chance.choice([1, 1, 1, 3]) + data[end:]
    return data[: chance.randint(0, len(data))] if chance.random() < 0.2 else data


def hold(count: int, seed: int, paths: Callable[[Any], set[KeyPath]]) -> int:
    """Feed that many inputs to the formats in turn; return how many were accepted."""
    chance = random.Random(seed)
    accepted = 0
    for number in range(count):
        format = FORMATS[number % len(FORMATS)]  # noqa: A001 - the word for it
        if chance.random() < 0.1:
            data = chance.randbytes(chance.randint(0, 64))
        else:
            data = mutated(chance.choice(SEEDS[format]).encode(), chance)
        try:
            values = parse(format, data)
            assert set(locate(format, data)) == paths(values)
            accepted += 1
        except FormatError as error:
            assert (error.line is None) == (error.column is None), (format, data)
        except Exception as error:
            raise AssertionError(f"{format}: {data!r}") from error
    return accepted


@pytest.mark.parametrize(("format", "seed"), [(name, seed) for name in FORMATS for seed in SEEDS[name]])
def test_the_seeds_are_valid(format, seed):
    assert parse(format, seed.encode())


def test_two_thousand_broken_documents(paths):
    assert 100 < hold(2_000, 1, paths) < 1_900


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_hundred_thousand_broken_documents(paths):
    assert hold(100_000, 2, paths) > 5_000


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "unit", [b"x", b"[", b'"', b"'", b" ", b"\n", b"#", b"\\", b"a=b ", b"a: ", b"a\n", b"1:", b"&a ", b"\xc3\xa9"]
)
@pytest.mark.timeout(30)
def test_four_mebibytes_of_anything_come_to_an_end(format, unit):
    try:
        parse(format, unit * (4 * 2**20 // len(unit)))
    except FormatError as error:
        assert "\n" not in error.reason
