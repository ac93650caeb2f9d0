"""TOML 1.1, read by rtoml and written by tomli_w.

rtoml gives no positions for values, so a pass over the text finds them. It runs only on text that rtoml accepted. So it
need not understand all of it: a comma counts as blank, and a number is anything up to the next delimiter.
"""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import rtoml
import tomli_w

from hotconf.errors import FormatError
from hotconf.formats import error_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hotconf.values.keypath import KeyPath

# An open table or array: its path, and for an array the indices to come.
_Container: TypeAlias = "tuple[KeyPath, Iterator[int] | None]"

MAX_DOTS: Final = 250_000  # of dotted keys: each makes a table, two bytes one of 300
_RESERVED: Final = "$__toml_private"  # a table whose first key begins so may turn into a date inside rtoml

_MESSAGE: Final = re.compile(r"(.*) at line (\d+) column (\d+)")
_WORDS: Final = {"invalid float, expected `nan`", "invalid float, expected `inf`"}
_BLANK: Final = re.compile(r"(?:[ \t\r\n,]++|#[^\n]*+)*+")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\]++|\\.)*+"|'[^']*+'""")
# rtoml lets an inline table break its lines around these as well.
_DOT: Final = re.compile(rf"{_BLANK.pattern}\.{_BLANK.pattern}")
_EQUALS: Final = re.compile(rf"{_BLANK.pattern}={_BLANK.pattern}")
_HEADER: Final = re.compile(r"\[\[?[ \t]*+")
_HEADER_END: Final = re.compile(r"[ \t]*+\]\]?")
_STRING: Final = (
    r'''"""(?:[^"\\]++|\\.|"(?!""))*+""""{0,2}'''
    r"""|'''(?:[^']++|'(?!''))*+''''{0,2}"""
    r"""|"(?:[^"\\]++|\\.)*+"|'[^']*+'"""
)
_SCALAR: Final = re.compile(rf"{_STRING}|[^,\]}}#\n]++", re.DOTALL)
_NO_KEY: Final = re.compile(
    rf"#[^\n]*+|{_STRING}|(?<![\w.-])[+-]?[\d_]++\.[\d_]++(?:[eE][+-]?[\d_]++)?(?![\w.-])", re.DOTALL
)
"""Comments, strings and numbers: what is left between them has a dot only in a key, or in a time."""
_ESCAPE: Final = re.compile(r"\\(?:x(..)|u(.{4})|U(.{8})|(.))")
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def parse(text: str) -> dict[str, Any]:
    """Return the document's mapping. Raises FormatError."""
    if text.count(".") > MAX_DOTS and _NO_KEY.sub("", text).count(".") > MAX_DOTS:
        raise FormatError(f"more than {MAX_DOTS} dots in keys")
    try:
        values: Any = rtoml.loads(text)
    except ValueError as error:
        raise _syntax_error(str(error)) from None
    if _RESERVED in text or not isinstance(values, dict):  # spelled with escapes, it is found at the top level only
        for path, offset in places(text):
            if str(path[-1]).startswith(_RESERVED):
                raise error_at(text, offset, f"keys that begin with {_RESERVED} are reserved")
    return cast("dict[str, Any]", values)


def places(text: str) -> Iterable[tuple[KeyPath, int]]:
    """Return the path and offset of every key, table and array item of a valid document."""
    return _Locator(text).found().items()


def dump(values: Mapping[str, Any]) -> str:
    """Return the values as TOML. Raises FormatError for None, and for any other value that TOML has no type for."""
    try:
        return tomli_w.dumps(values)
    except (TypeError, ValueError, RecursionError):
        raise FormatError("TOML cannot hold these values: it has no null, and no other types than its own") from None


def _syntax_error(message: str) -> FormatError:
    """Return the error of rtoml in the words of hotconf. All its messages but one name a place."""
    match = _MESSAGE.fullmatch(message)
    reason, line, column = (match[1], int(match[2]), int(match[3])) if match else ("not valid TOML", None, None)
    if "recursion" in message:
        reason = "nested too deeply"
    elif "Error:" in reason:  # Python's own refusal of a date, which may quote the number that it refuses
        reason = "a date or time out of range"
    elif reason in _WORDS:  # rtoml takes any word that begins with n or i for a number
        reason = "strings must be quoted"
    return FormatError(reason, line, column)


class _Locator:
    """One pass over a valid document. It keeps its own stack, so that nesting costs no recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offset = 0
        self._found: dict[KeyPath, int] = {}
        self._open: list[_Container] = [((), None)]
        self._lengths: dict[KeyPath, int] = {}  # of the arrays of tables, so far

    def found(self) -> dict[KeyPath, int]:
        self._skip(_BLANK)
        while self._offset < len(self._text):
            mark = self._text[self._offset]
            if mark in "]}":
                self._open.pop()
                self._offset += 1
            elif mark == "[" and len(self._open) == 1:
                self._open[0] = (self._header(), None)
            else:
                path = self._entry()
                mark = self._text[self._offset]
                if mark in "[{":
                    self._open.append((path, count() if mark == "[" else None))
                    self._offset += 1
                else:
                    self._skip(_SCALAR)
            self._skip(_BLANK)
        return self._found

    def _header(self) -> KeyPath:
        """Pass a header, and return the path that it names: through an array of tables, that of the last element."""
        is_array = self._skip(_HEADER).startswith("[[")
        start = self._offset
        keys = self._dotted_key()
        self._skip(_HEADER_END)
        path: KeyPath = ()
        for depth, key in enumerate(keys, 1):
            path = self._note((*path, key), start)
            if is_array and depth == len(keys):
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if path in self._lengths:
                path = self._note((*path, self._lengths[path] - 1), start)
        return path

    def _entry(self) -> KeyPath:
        """Note the key or item that begins here, and return its path, with the value next."""
        start = self._offset
        path, indices = self._open[-1]
        if indices is not None:
            return self._note((*path, next(indices)), start)
        for key in self._dotted_key():
            path = self._note((*path, key), start)
        self._skip(_EQUALS)
        return path

    def _dotted_key(self) -> list[str]:
        keys = [_unquote(self._skip(_KEY))]
        while self._skip(_DOT):
            keys.append(_unquote(self._skip(_KEY)))
        return keys

    def _note(self, path: KeyPath, offset: int) -> KeyPath:
        self._found.setdefault(path, offset)
        return path

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Pass what the pattern matches here, if anything, and return it."""
        match = pattern.match(self._text, self._offset)
        if match is None:
            return ""
        self._offset = match.end()
        return match[0]


def _unquote(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    return _ESCAPE.sub(_unescape, key[1:-1]) if key[0] == '"' else key


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    return chr(int(digits, 16)) if digits else _ESCAPED.get(match[4], match[4])
