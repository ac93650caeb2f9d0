"""Merging: layers into one mapping, later above earlier, without losing where each value came from.

| below      | above      | merged                  |
|------------|------------|-------------------------|
| mapping    | mapping    | merged key by key       |
| anything   | scalar     | the one above           |
| anything   | list       | the one above, whole    |
| anything   | null       | null                    |
| anything   | (absent)   | the one below           |

Origins are not carried along: a merge costs only what it copies, and the layer of a value is looked up on request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hotconf.values.layer import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer

ABSENT: Any = object()
"""What `lookup` returns where there is no value."""

SCALARS = frozenset({str, int, float, bool, type(None)})
"""The classes of values that hold no others: nearly all values of a configuration."""


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Merged values and the layers they came from, the weakest first. Shares its parts with the layers."""

    values: Mapping[str, Any] = field(repr=False)
    layers: tuple[Layer, ...]

    def suppliers(self, path: KeyPath) -> Iterator[tuple[Layer, Any]]:
        """Yield the layers that hold a value at a path with what they hold, the strongest first.

        The first is the winner where the merged values have the path at all: a stronger layer may have cut it off.
        """
        for layer in reversed(self.layers):
            value = lookup(layer.values, path)
            if value is not ABSENT:
                yield layer, value

    def origin(self, path: KeyPath) -> Origin | None:
        """Return where the value at a path came from, None where no layer holds one."""
        if lookup(self.values, path) is ABSENT:
            return None
        return next((origin_in(layer, path) for layer, _ in self.suppliers(path)), None)


def merge(layers: Sequence[Layer]) -> Merged:
    """Merge layers, the weakest first. No layer is changed.

    Associative where layers agree on what is a mapping. Where one has a scalar in the place of a mapping the order of
    merging tells, and it is always from the weakest up: the scalar cuts off all that lies below it.
    """
    values: Mapping[str, Any] = {}
    for layer in layers:
        values = _over(values, layer.values)
    return Merged(values, tuple(layers))


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Mapping[str, Any]:
    if not below:
        return above
    if not above:
        return below
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        lower, upper = below[key], above[key]
        if type(upper) not in SCALARS and isinstance(lower, Mapping) and isinstance(upper, Mapping):
            merged[key] = _over(lower, upper)
    return merged


def lookup(values: Any, path: KeyPath) -> Any:
    """Return the value at a path, ABSENT where there is none."""
    for key in path:
        if isinstance(values, Mapping):
            values = values.get(key, ABSENT)
        elif isinstance(values, (list, tuple)) and isinstance(key, int) and 0 <= key < len(values):
            values = values[key]
        else:
            return ABSENT
        if values is ABSENT:
            return ABSENT
    return values


def are_scalars(values: Iterable[Any]) -> bool:
    """Whether values are all scalars. One look in C at a whole section."""
    return SCALARS.issuperset(map(type, values))


def origin_in(layer: Layer, path: KeyPath) -> Origin:
    """Return where a layer has a path from: the place itself, else the nearest above it, else the source."""
    for length in range(len(path), -1, -1):
        found = layer.origins.get(path[:length])
        if found is not None:
            return found
    return Origin("source", layer.source)


def leaves(values: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every leaf with its path. An empty mapping or list is a leaf; list items count one by one."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    elif isinstance(values, (list, tuple)) and values:
        for index, value in enumerate(values):
            yield from leaves(value, (*path, index))
    else:
        yield path, values
