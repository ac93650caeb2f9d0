"""Key paths: where a value lives inside a configuration.

A path is a tuple of mapping keys and list indices. Its text is dotted, `servers.0.host`; a key that holds a dot, a
quote, a space or nothing at all is quoted as TOML quotes it: `labels."app.kubernetes.io/name"`.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import date, time
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

KeyPath: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[^\s.\"'\x00-\x1f]+")
_SEGMENT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^.\"']+")


def render(path: KeyPath) -> str:
    """Return the dotted text of a path; the empty path is the empty string."""
    # One object for each: the reports that are kept name the same paths again and again.
    return sys.intern(".".join(_render_key(key) for key in path))


def touches(changed: KeyPath, path: KeyPath) -> bool:
    """Whether a change at one path is a change of what lies at another: at it, below it or above it."""
    # A mapping's keys may be numbers or enums; dotted paths know only their text.
    return all(key == part or str(key) == str(part) for key, part in zip(changed, path, strict=False))


def parse(text: str) -> KeyPath:
    """Return the path that a dotted text names. Every key is a string: only a container can tell an index.

    Raises ValueError for an empty segment or an unfinished quote.
    """
    return tuple(_segments(text)) if text else ()


def key_text(key: Any) -> str:
    """Return a mapping's key as paths and documents write it: a key of any type has exactly one text."""
    if isinstance(key, Enum):
        return key_text(key.value)
    return key.isoformat() if isinstance(key, (date, time)) else str(key)


def _segments(text: str) -> Iterator[str]:
    position = 0
    while True:
        match = _SEGMENT.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a dotted path")
        yield _unquote(match[0])
        position = match.end()
        if position == len(text):
            return
        if text[position] != ".":
            raise ValueError(f"{text!r} is not a dotted path")
        position += 1


def _unquote(segment: str) -> str:
    if segment[0] == "'":
        return segment[1:-1]
    if segment[0] != '"':
        return segment
    try:
        return str(json.loads(segment))
    except json.JSONDecodeError:
        raise ValueError(f"{segment} is not a quoted key") from None


def _render_key(key: str | int) -> str:
    text = str(key)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
