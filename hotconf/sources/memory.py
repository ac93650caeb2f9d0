"""Values that a program holds: for tests, for defaults from elsewhere, for what the embedding program decides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hotconf.values.layer import Layer, Origin

if TYPE_CHECKING:
    from hotconf.values.layer import OriginKind


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
        self._layer = program_layer(self.name, values, kind="source", revision=next(self._revisions))

    async def read(self) -> Layer:
        """Return the values that were set last."""
        return self._layer


def program_layer(name: str, values: Mapping[str, Any], *, kind: OriginKind, revision: int = 1) -> Layer:
    """Return a layer whose every value is blamed on the program, under one name. Its containers are copied."""
    return Layer(name, _copied(values), {(): Origin(kind, name)}, str(revision))


def _copied(value: Any) -> Any:
    # Not deepcopy: a program may hand over objects of its own, which are not ours to copy.
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if type(value) is list else value
