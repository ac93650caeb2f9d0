"""JSON, read and written by the standard library, and stricter than its reader.

Refused are duplicate keys, NaN and Infinity, numbers that Python cannot hold, and half of a surrogate pair. The checks
cost a valid document no Python code per key, except for floats. A second look finds the place of a fault.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from hotconf.errors import FormatError
from hotconf.formats import error_at, not_a_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.values.keypath import KeyPath

# An open object or array: its path, and for an array the indices to come.
_Container: TypeAlias = "tuple[KeyPath, Iterator[int] | None]"

_STRING: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN: Final = re.compile(_STRING + r"|[\[\]{}]|[^\s\[\]{},:\"]++", re.DOTALL)
_NUMBER: Final = re.compile(
    _STRING + r"|(-?(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|NaN|Infinity))", re.DOTALL
)
# A surrogate pair and an escaped backslash are matched first, so that they are passed over whole.
_LONE_SURROGATE: Final = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<lone>\\u[dD][89a-fA-F])|\\.", re.DOTALL)


class _DuplicateKeyError(Exception):
    """Raised out of the decoder by the object that holds the key."""


def parse(text: str) -> dict[str, Any]:
    """Return the document's mapping. Raises FormatError."""
    try:
        values = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        reason = error.msg.removesuffix(" at").removesuffix(" starting")  # the words that introduce the place
        raise error_at(text, error.pos, reason[0].lower() + reason[1:]) from None
    except _DuplicateKeyError:
        raise error_at(text, _duplicate_key(text), "duplicate key") from None
    except ValueError:
        raise error_at(text, _unreadable_number(text), "a number that is not finite, or too long") from None
    except RecursionError:
        raise FormatError("nested too deeply") from None
    for match in _LONE_SURROGATE.finditer(text) if "\\u" in text else ():
        if match["lone"]:  # no encoding can write such a string
            raise error_at(text, match.start(), "half of a surrogate pair is not a character")
    if not isinstance(values, dict):
        raise not_a_mapping(text, len(text) - len(text.lstrip()), values)
    return values


def places(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Yield the path and offset of every key and array item of a valid document, in the order of the text.

    Of a document that is not valid, the keys before the fault are yielded.
    """
    containers: list[_Container] = []
    path: KeyPath | None = ()  # of the value to come; None where a key, an item or the end of a container is due
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in "]}":
            containers.pop()
            path = None
            continue
        if path is None:
            parent, indices = containers[-1]
            if indices is not None:
                path = (*parent, next(indices))
            else:
                path = (*parent, json.loads(mark) if "\\" in mark else mark[1:-1])
            yield path, token.start()
            if indices is None:
                continue
        if mark in "[{":
            containers.append((path, count() if mark == "[" else None))
        path = None


def dump(values: Mapping[str, Any]) -> str:
    """Return the values as indented JSON. Raises FormatError for what JSON cannot hold."""
    try:
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"
    except (TypeError, ValueError, RecursionError):
        raise FormatError("JSON cannot hold these values: it has no dates, bytes, NaN or Infinity") from None


def _plain(value: object) -> object:
    """Return what the encoder can write instead of a mapping that is no dict."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _DuplicateKeyError
    return values


def _finite(literal: str) -> float:
    value = float(literal)
    if math.isfinite(value):
        return value
    raise ValueError


# The constants are NaN and the infinities.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)


def _duplicate_key(text: str) -> int:
    seen = set()
    for path, offset in places(text):
        if path in seen:
            return offset
        seen.add(path)
    return 0


def _unreadable_number(text: str) -> int:
    for match in _NUMBER.finditer(text):
        if match[1] and not math.isfinite(float(match[1])):
            try:
                int(match[1])
            except ValueError:  # not an integer, or one with more digits than Python converts
                return match.start()
    return 0
