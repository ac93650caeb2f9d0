"""Values that a program holds: for tests, and for defaults and decisions that come from the program itself."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from hotconf.values.layer import Layer, Origin
from hotconf.values.merge import copied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hotconf.values.layer import OriginKind


class Memory:
    """A source whose values the program sets. `set` does not ask for a reload; the next reload reads the values.

    Args:
        values: The first values.
        name: What reports and `explain` call the source.
    """

    kind = "memory"
    required = True

    def __init__(self, values: Mapping[str, Any] | None = None, *, name: str = "memory") -> None:
        self.name = name
        self._revisions = itertools.count(1)
        self.set(values or {})

    def set(self, values: Mapping[str, Any]) -> None:
        """Replace all values. They are copied: a later change of the mapping changes nothing here."""
        self._layer = program_layer(self.name, values, kind="source", revision=next(self._revisions))

    async def read(self) -> Layer:
        """Return the values that were set last."""
        return self._layer


def program_layer(name: str, values: Mapping[str, Any], *, kind: OriginKind, revision: int = 1) -> Layer:
    """Return a layer whose every value has the program as its origin, under one name. Its containers are copied."""
    return Layer(name, copied(values), {(): Origin(kind, name)}, str(revision))
