"""Parts: the places of a configuration that URLs name, as JSON values with every secret masked."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import hotconf.values.keypath as keypath
from hotconf.api.exchange import Problem
from hotconf.schema.fields import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hotconf.values.keypath import KeyPath


_MOST_COMPARED = 100
"""Keys among which a similar one is searched: the search holds the event loop."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")  # one spelling for each item


class Part(NamedTuple):
    """One place and its value. `path` has the indices of lists as numbers."""

    path: KeyPath
    value: Any


def keys_of(tail: str) -> tuple[str, ...]:
    """Return the keys that the tail of a URL's path names, as it was sent: `%2F` is a slash within a key.

    One slash at the end means nothing.
    """
    tail = tail.removesuffix("/")
    return tuple(unquote(segment) for segment in tail.split("/")) if tail else ()


def keys_in(dotted: str) -> tuple[str, ...]:
    """Return the keys that a dotted path names. Raises Problem (400) for a text that is no dotted path."""
    try:
        return tuple(map(str, keypath.parse(dotted)))
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "path must be a dotted path such as database.pool_size") from None


def part_at(document: Any, keys: Iterable[str]) -> Part:
    """Return the part of a document that keys name. Raises Problem (404), which names a similar key."""
    path: list[str | int] = []
    for key in keys:
        inner = _children(document)
        found = int(key) if isinstance(document, list) and _INDEX.fullmatch(key) else key
        if found not in inner:
            raise Problem(HTTPStatus.NOT_FOUND, _missing(path, key, document))
        document = inner[found]
        path.append(found)
    return Part(tuple(path), document)


def _children(document: Any) -> dict[Any, Any]:
    if isinstance(document, dict):
        return document
    return dict(enumerate(document)) if isinstance(document, list) else {}


def _missing(path: list[str | int], key: str, document: Any) -> str:
    owner = keypath.render(tuple(path)) or "the configuration"
    if isinstance(document, list):
        return f"{owner} is a list of {len(document)} items and has no item {key!r}"
    if not isinstance(document, dict):
        return f"{owner} is a single value and has no parts"
    slashes = "; write a/b, not a.b" if "." in key else ""
    return f"{owner} has no {key!r}{_near(key, document)}{slashes}"


def _near(key: str, known: dict[str, Any]) -> str:
    first, dot, _ = key.partition(".")
    near = suggest(key, known, most=_MOST_COMPARED)
    return near or (suggest(first, known, most=_MOST_COMPARED) if dot else "")
