"""Key paths: where a value lives inside a configuration.

A path is a tuple of mapping keys and list indices. Its text is dotted, `servers.0.host`. A key that holds a dot, a
quote or a space, and the empty key, are quoted as in TOML: `labels."app.kubernetes.io/name"`.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from datetime import date, time
from enum import Enum
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from hotconf.values.secrets import mask_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyPath: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[^\s.\"'\x00-\x1f]+")
_SEGMENT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^.\"']+")


def render(path: KeyPath) -> str:
    """Return the dotted text of a path; the empty path is the empty string. Credentials in a key are masked."""
    # One object for each path: the reports that are kept name the same paths again and again.
    return sys.intern(".".join(map(_render_key, path)))


@functools.lru_cache(maxsize=8192, typed=True)
def _render_key(key: str | int) -> str:
    text = mask_credentials(str(key))  # a key may be a URL
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def touches(changed: KeyPath, path: KeyPath) -> bool:
    """Whether a change at one path is a change of the value at another: at it, below it or above it."""
    for key, part in zip(changed, path, strict=False):
        # The keys of a mapping may be numbers or enum members; dotted paths have only their text.
        if key != part and (type(key) is type(part) is str or str(key) != str(part)):
            return False
    return True


def parse(text: str) -> KeyPath:
    """Return the path that a dotted text names. Every key is a string: only a container can tell an index.

    Raises:
        ValueError: A key is empty, or a quote is not closed.
    """
    path: list[str] = []
    position = 0
    while position < len(text):
        if path:
            if text[position] != ".":
                raise ValueError(f"{text!r} is not a dotted path")
            position += 1
        match = _SEGMENT.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a dotted path")
        key, position = match[0], match.end()
        if key[0] == '"':
            try:
                key = str(json.loads(key))
            except json.JSONDecodeError:
                raise ValueError(f"{key} is not a quoted key") from None
        elif key[0] == "'":
            key = key[1:-1]
        path.append(key)
    return tuple(path)


class Key(str):
    """The text of a mapping's key that is no string; `value` is the key itself.

    It equals the same text as a plain string: layers merge by it, and paths and documents have it. YAML writes the key
    itself.
    """

    __slots__ = ("value",)

    value: Any

    def __new__(cls, text: str, value: Any = None) -> Self:
        """Return a text that knows its key."""
        key = super().__new__(cls, text)
        key.value = value
        return key


def key_text(key: Any) -> str:
    """Return a mapping's key as paths and documents write it: a key of any type has exactly one text."""
    if isinstance(key, str) and not isinstance(key, Enum):
        return key
    if isinstance(key, Enum):
        return key_text(key.value)
    if key is None or isinstance(key, bool):
        return Key({None: "null", True: "true", False: "false"}[key], key)
    return Key(key.isoformat() if isinstance(key, (date, time)) else str(key), key)


def distinct(texts: Mapping[Any, str]) -> dict[Any, str]:
    """Return the text of each key of a mapping, where no two have the same: `1 (int)` stands beside the string `1`."""
    if len(set(texts.values())) == len(texts):
        return dict(texts)
    taken = {key for key in texts if isinstance(key, str)}
    result: dict[Any, str] = {}
    for key, text in texts.items():
        while not isinstance(key, str) and text in taken:
            text = Key(f"{text} ({type(key).__name__})", key)  # noqa: PLW2901
        taken.add(text)
        result[key] = text
    return result
