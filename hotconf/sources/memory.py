"""Values that a program holds: for tests, for defaults from elsewhere, for what the embedding program decides."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

from hotconf.layer import Layer
from hotconf.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hotconf.origin import OriginKind


class Memory:
    """A source whose values are set by the program. The next reload sees them; setting them asks for none."""

    kind = "memory"
    required = True

    def __init__(self, values: Mapping[str, Any] | None = None, *, name: str = "memory") -> None:
        self.name = name
        self._revisions = itertools.count(1)
        self.set(values or {})

    def set(self, values: Mapping[str, Any]) -> None:
        """Replace all values. They are copied: what happens to the mapping later changes nothing."""
        held = copy.deepcopy(dict(values))
        self._layer = program_layer(self.name, held, kind="source", revision=next(self._revisions))

    async def read(self) -> Layer:
        """Return the values that were set last."""
        return self._layer


def program_layer(name: str, values: Mapping[str, Any], *, kind: OriginKind, revision: int = 1) -> Layer:
    """Return a layer whose every value is blamed on the program, under one name."""
    return Layer(name, values, {(): Origin(kind, name)}, str(revision))
