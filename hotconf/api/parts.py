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
        if isinstance(document, dict) and key in document:
            path.append(key)
        elif isinstance(document, list) and _INDEX.fullmatch(key) and int(key) < len(document):
            path.append(int(key))
        else:
            raise Problem(HTTPStatus.NOT_FOUND, _missing(path, key, document))
        document = document[path[-1]]
    return Part(tuple(path), document)


def _missing(path: list[str | int], key: str, document: Any) -> str:
    owner = keypath.render(tuple(path)) or "the configuration"
    if isinstance(document, list):
        return f"{owner} is a list of {len(document)} items and has no item {key!r}"
    if not isinstance(document, dict):
        return f"{owner} is a single value and has no parts"
    similar = suggest(key, document, most=_MOST_COMPARED)
    if "." not in key:
        return f"{owner} has no {key!r}{similar}"
    similar = similar or suggest(key.partition(".")[0], document, most=_MOST_COMPARED)
    return f"{owner} has no {key!r}{similar}; write a/b, not a.b"
