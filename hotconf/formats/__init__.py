"""Formats: bytes to values, bytes to the positions of keys, values to text. May import errors and values.

`parse`, `locate` and `dump` here serve every format. They decode the bytes and turn offsets into lines and columns, so
that all formats count alike. `toml`, `json`, `yaml` and `dotenv` work on decoded text and offsets into it. Each is
imported when it is first needed, so only YAML files need PyYAML. Everything is pure, and safe from any thread.

Read this module first, then `json`, the simplest of the four.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from itertools import accumulate
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import hotconf.values.keypath as keypath
from hotconf.errors import FormatError
from hotconf.values.keypath import Key, KeyPath
from hotconf.values.layer import Origin, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hotconf.values.layer import OriginKind

FORMATS: Final = ("toml", "json", "yaml", "dotenv")
MAX_DEPTH: Final = 80  # mappings and lists within each other: code that walks the values may recurse

_SUFFIXES: Final = {".toml": "toml", ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".env": "dotenv"}
_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CONTAINERS: Final[frozenset[type]] = frozenset({dict, list})


class _Adapter(Protocol):
    """What the module of a format has. An offset counts characters from 0."""

    def parse(self, text: str) -> dict[str, Any]: ...

    def places(self, text: str) -> Iterable[tuple[KeyPath, int]]: ...

    def dump(self, values: Mapping[str, Any]) -> str: ...


def format_of(name: str) -> str:
    """Return the format that a file's name or path tells: one of FORMATS.

    `.env`, `.env.local` and `prod.env` are dotenv files. Raises FormatError for a name that tells none.
    """
    path = PurePath(name.lower())
    known = _SUFFIXES.get(path.suffix)
    if known is not None:
        return known
    if path.name == ".env" or path.name.startswith(".env."):
        return "dotenv"
    raise FormatError(f"the file's name tells no format: it must end in {', '.join(_SUFFIXES)}")


def parse(format: str, data: bytes) -> dict[str, Any]:  # noqa: A002 - the word for it
    """Return the mapping that `data` holds: dicts with string keys, lists and scalars. Some keys of YAML are a Key.

    A document without content is an empty mapping, except in JSON, where it is an error. Raises FormatError, and
    nothing else, whatever the bytes are.
    """
    values = _adapter(format).parse(_decode(data))
    # Dotted keys and aliases add up to more depth than a parser's own bound. This is the one look at every value after
    # the parser's: 0.3 ms for 10,000 of them.
    level: list[Any] = [values]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if parent.__class__ is dict else parent)
            if child.__class__ in _CONTAINERS
        ]
        if not level:
            return values
    raise FormatError("nested too deeply")


def has_odd_keys(values: Any) -> bool:
    """Whether a key of values, at any depth, is no string."""
    if isinstance(values, dict):
        return Key in map(type, values) or any(map(has_odd_keys, values.values()))
    return isinstance(values, list) and any(map(has_odd_keys, values))


def locate(format: str, data: bytes) -> dict[KeyPath, Position]:  # noqa: A002 - the word for it
    """Return where each key and each list item of `data` begins, for data that `parse` accepts.

    A key that several lines contribute to, such as a table named by dotted keys, stands where it is first named.
    """
    text = _decode(data)
    # Only a line feed ends a line, as in an editor: U+2028 or U+0085 do not.
    starts = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
    positions = {}
    for path, offset in _adapter(format).places(text):
        line = bisect_right(starts, offset)
        positions[path] = Position(line, offset - starts[line - 1] + 1)
    return positions


def dump(format: str, values: Mapping[str, Any]) -> str:  # noqa: A002 - the word for it
    """Return the text that `parse` reads back as equal values. Raises FormatError for values without such a text."""
    return _adapter(format).dump(values)


def escaped(text: str) -> str:
    r"""Return a text with every character that a terminal obeys, or that reorders text, as the escape `\uXXXX`.

    In the strings of JSON, TOML and double-quoted YAML that escape means the same character. Tabs and line feeds stay.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as TOML can hold them, for it has no null: a key whose value is null is left out.

    Raises:
        FormatError: A list holds a null. Leaving it out would move the items behind it; the message names its path.
    """
    return {key: _without_null(value, (key,)) for key, value in values.items() if value is not None}


def _without_null(value: Any, path: KeyPath) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(item, (*path, key)) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_null(item, (*path, index)) for index, item in enumerate(value)]
    if value is None:
        raise FormatError(f"{keypath.render(path)} is null, and a list in TOML cannot hold a null")
    return value


class Located(Mapping[KeyPath, Origin]):
    """The origins of the keys and list items of a text. They are located when the first of them is asked for.

    `name` is the file's name, and the format decides on the kind of origin where it is dotenv. The empty path is the
    file itself, without a line.
    """

    def __init__(self, name: str, text_format: str, data: bytes, *, kind: OriginKind = "file") -> None:
        self._name = name
        self._format = text_format
        self._data = data
        self._kind: OriginKind = "dotenv" if text_format == "dotenv" else kind

    @cached_property
    def _positions(self) -> Mapping[KeyPath, Position]:
        return locate(self._format, self._data)

    def __getitem__(self, path: KeyPath) -> Origin:
        if not path:
            return Origin(self._kind, self._name)
        line, column = self._positions[path]
        return Origin(self._kind, self._name, line, column)

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)


def error_at(text: str, offset: int, reason: str) -> FormatError:
    """Return the error that points at an offset of a decoded text."""
    line = text.count("\n", 0, offset) + 1
    return FormatError(reason, line, offset - text.rfind("\n", 0, offset))


def not_a_mapping(text: str, offset: int, value: object) -> FormatError:
    """Return the error for a document whose top level, at `offset`, is not a mapping."""
    kind = "a list" if isinstance(value, list) else "a single value"
    return error_at(text, offset, f"the top level must be a mapping, not {kind}")


def _adapter(format: str) -> _Adapter:  # noqa: A002 - the word for it
    if format not in FORMATS:
        raise FormatError(f"unknown format: it must be one of {', '.join(FORMATS)}")
    try:
        return cast("_Adapter", import_module(f"{__name__}.{format}"))
    except ModuleNotFoundError as error:
        if error.name != "yaml":
            raise
        raise FormatError("YAML needs the extra: pip install 'hotconf[yaml]'") from None


def _decode(data: bytes) -> str:
    """Return the text without its byte order mark, which would shift the columns of the first line."""
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise FormatError("this is UTF-16 text: save the file as UTF-8", 1, 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        raise error_at(before, len(before), "this byte is not UTF-8: save the file as UTF-8") from None
    nul = text.find("\0")
    if nul >= 0:
        raise error_at(text, nul, "a NUL byte: the file is not UTF-8 text, or was only half written")
    return text
