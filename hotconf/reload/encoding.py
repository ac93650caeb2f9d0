"""Encoding: configuration values as JSON that gives the very same values back, types included.

What JSON has is written as it is; of anything else, `{"$<type>": …}`. A dictionary that could be taken for that, or has
keys that are no strings, is `{"$dict": [[key, value], …]}`. Mappings of any kind come back as dictionaries.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import PosixPath
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

_MARK = "$"

_Codec = tuple[Callable[[Any], Any], Callable[[Any], Any]]


class Unencodable(TypeError):  # noqa: N818 - a verdict, which the caller puts into words
    """A value has no such text. `path` is where it lies, `kind` the name of its type."""

    def __init__(self, path: tuple[Any, ...], kind: str) -> None:
        super().__init__(path, kind)
        self.path = path
        self.kind = kind


def encode(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Return the JSON value that stands for a value. Raises Unencodable, and RecursionError for one in itself."""
    kind = type(value)
    if kind in (str, bool, int, type(None)) or (kind is float and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return _encode_mapping(value, path)
    if isinstance(value, list):
        return _encode_items(value, path)
    if kind in (tuple, set, frozenset):
        return {_MARK + kind.__name__: _encode_items(value, path)}
    name, codec = kind.__name__, _CODECS.get(kind)
    if codec is None or not _is_of_this_world(value):
        raise Unencodable(path, name)
    return {_MARK + name: codec[0](value)}


def decode(value: Any) -> Any:
    """Return the value that a JSON value stands for. For what `encode` never wrote it raises about anything."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    name = next(iter(value), "")
    if not name.startswith(_MARK):
        return {key: decode(item) for key, item in value.items()}
    (inner,) = value.values()
    return _READERS[name.removeprefix(_MARK)](inner)


def _encode_mapping(value: Mapping[Any, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    items = {key: encode(item, (*path, key)) for key, item in value.items()}
    if all(type(key) is str and not key.startswith(_MARK) for key in items):
        return items
    return {_MARK + "dict": [[encode(key, (*path, key)), item] for key, item in items.items()]}


def _encode_items(items: Iterable[Any], path: tuple[Any, ...]) -> list[Any]:
    return [encode(item, (*path, index)) for index, item in enumerate(items)]


def _is_of_this_world(value: Any) -> bool:
    """Whether a date or time is one that its text tells whole: in no time zone, or at a fixed distance from UTC."""
    zone = getattr(value, "tzinfo", None)
    is_fixed = isinstance(zone, dt.timezone) or type(zone).__name__ == "TzInfo"  # what rtoml makes of an offset
    return (zone is None or is_fixed) and not getattr(value, "fold", 0)


_CODECS: dict[type, _Codec] = {
    float: (str, float),
    bytes: (bytes.hex, bytes.fromhex),
    dt.datetime: (dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: (dt.date.isoformat, dt.date.fromisoformat),
    dt.time: (dt.time.isoformat, dt.time.fromisoformat),
    dt.timedelta: (lambda value: [value.days, value.seconds, value.microseconds], lambda parts: dt.timedelta(*parts)),
    Decimal: (str, Decimal),
    UUID: (str, UUID),
    PosixPath: (str, PosixPath),
}

_READERS: dict[str, Callable[[Any], Any]] = {
    **{kind.__name__: read for kind, (_, read) in _CODECS.items()},
    "tuple": lambda items: tuple(map(decode, items)),
    "set": lambda items: set(map(decode, items)),
    "frozenset": lambda items: frozenset(map(decode, items)),
    "dict": lambda pairs: {decode(key): decode(item) for key, item in pairs},
}
