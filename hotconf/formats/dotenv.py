"""Dotenv files, read by python-dotenv's own parser: one flat mapping of names to strings.

`${NAME}` stays as it is written: what it stands for depends on the environment, which a format does not see. A name
without `=` has the empty string. Where a name is given twice the last one counts, as in a shell.
"""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

# Not documented, and without a public way: dotenv_values() passes over faulty lines and gives no positions.
from dotenv.parser import Binding, parse_stream

from hotconf.errors import FormatError
from hotconf.formats import error_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hotconf.values.keypath import KeyPath

MAX_LINES: Final = 20_000  # about half a second's work for python-dotenv

# python-dotenv strips comments in time that grows with the square of a run of blanks: this is about a second's work.
_BLANKS: Final = re.compile(r"(?<![^\S\r\n])[^\S\r\n]{16,}+")
_MAX_BLANKS_SQUARED: Final = 10**8
_BEFORE_KEY: Final = re.compile(r"\s*+(?:export[^\S\r\n]++)?")


def parse(text: str) -> dict[str, Any]:
    """Return the values by name. Raises FormatError for a line that is no assignment."""
    if max(text.count("\n"), text.count("\r")) > MAX_LINES:
        raise FormatError(f"more than {MAX_LINES} lines")
    cost = 0
    for run in _BLANKS.finditer(text):
        cost += len(run[0]) ** 2
        if cost > _MAX_BLANKS_SQUARED:
            raise error_at(text, run.start(), "too many blanks in a row")
    values = {}
    for offset, binding in _bindings(text):
        if binding.error:
            raise error_at(text, offset, "expected NAME=value, with each quote closed")
        if binding.key is not None:
            values[binding.key] = binding.value or ""
    return values


def places(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Yield the path and offset of every name, in the order of the text."""
    for offset, binding in _bindings(text):
        if binding.key is not None:
            yield (binding.key,), offset


def dump(values: Mapping[str, Any]) -> str:
    """Raise FormatError: hotconf only reads dotenv files."""
    del values
    raise FormatError("dotenv files are only read, never written")


def _bindings(text: str) -> Iterator[tuple[int, Binding]]:
    """Yield each binding with the offset of its name: they cover the text without a gap."""
    start = 0
    for binding in parse_stream(StringIO(text)):
        before = _BEFORE_KEY.match(binding.original.string)
        yield start + (before.end() if before else 0), binding
        start += len(binding.original.string)
