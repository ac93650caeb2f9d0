"""What the tests of all formats need: the paths of a value, and two ways to ask for a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hotconf.errors import FormatError
from hotconf.formats import parse
from hotconf.values.keypath import KeyPath


def _paths(value: Any, prefix: KeyPath = ()) -> Iterator[KeyPath]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*prefix, key)
        yield from _paths(child, (*prefix, key))


@pytest.fixture(scope="session")
def paths() -> Callable[[Any], set[KeyPath]]:
    """The paths of every key and list item of a value."""
    return lambda value: set(_paths(value))


@pytest.fixture(scope="session")
def refusal() -> Callable[[str, str | bytes], FormatError]:
    """The error that a document is refused with."""

    def refused(format: str, document: str | bytes) -> FormatError:
        data = document.encode() if isinstance(document, str) else document
        with pytest.raises(FormatError) as caught:
            parse(format, data)
        return caught.value

    return refused
