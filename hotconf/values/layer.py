"""Layers: what one read of one source returned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hotconf.values.keypath import KeyPath
    from hotconf.values.origin import Origin


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The values of one source, as its reader found them. Never changed after it was made.

    `values` is a tree of mappings, lists and scalars. `origins` gives the place of a path, and may compute it only when
    asked; a path that it does not hold is blamed on the source by name. `revision` is the source's own version of its
    content: equal revisions mean equal values. It may be empty where a source has none.
    """

    source: str
    values: Mapping[str, Any] = field(repr=False)  # nobody has masked these
    origins: Mapping[KeyPath, Origin] = field(default_factory=dict)
    revision: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class SourceReading:
    """What one source said when it was read: its layers, the weakest first.

    `guarded` tells that it must not fall silent: an optional source, or the environment, may.
    """

    layers: tuple[Layer, ...]
    guarded: bool
