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
    """Merged values and the layers they came from, the weakest first. Shares its parts with the layers.

    `values` are complete. `given` are those that the constructor of the settings is given: without what the sources of
    nested settings classes said, which their own constructors add.
    """

    values: Mapping[str, Any] = field(repr=False)
    layers: tuple[Layer, ...]
    given: Mapping[str, Any] = field(repr=False)

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
    merging tells, and it is always from the weakest up: the scalar cuts off all that lies below it. Layers of nested
    settings classes are no part of the result.
    """
    values: Mapping[str, Any] = {}
    for layer in layers:
        if layer.nested is None:
            values = _over(values, layer.values)
    return Merged(values, tuple(layers), values)


def with_nested(
    values: Mapping[str, Any], given: Mapping[str, Any], layers: Sequence[Layer], nested: Sequence[Layer]
) -> Merged:
    """Complete merged values with what the sources of nested settings classes said, at the places of the classes."""
    places = [(layer.nested.path or (), layer.nested.above, layer) for layer in nested if layer.nested is not None]
    # The constructor of a class within a nested class is given what the outer one made of its own sources.
    below = [layer for _, above, layer in sorted(places, key=lambda place: -len(place[0])) if not above]
    above = [layer for _, above, layer in sorted(places, key=lambda place: len(place[0])) if above]
    for path in sorted({path for path, _, _ in places if path}, key=len):
        values = _completed(values, path, _at(path, below), _at(path, above))
    return Merged(values, (*below, *layers, *above), given)


def _at(path: KeyPath, layers: Iterable[Layer]) -> Mapping[str, Any]:
    """Merge what the layers of one nested settings class hold at its place."""
    values: Mapping[str, Any] = {}
    for layer in layers:
        if layer.nested is not None and layer.nested.path == path:
            values = _over(values, lookup(layer.values, path))
    return values


def _completed(values: Any, path: KeyPath, below: Mapping[str, Any], above: Mapping[str, Any]) -> Any:
    """Return values with more below and above those at a path, or as they are where it leads through a scalar."""
    if isinstance(values, Mapping):
        if not path:
            return _over(_over(below, values), above)
        return {**values, path[0]: _completed(values.get(path[0], {}), path[1:], below, above)}
    if isinstance(values, list) and path and isinstance(path[0], int) and path[0] < len(values):
        return [*values[: path[0]], _completed(values[path[0]], path[1:], below, above), *values[path[0] + 1 :]]
    return values


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


def copied(value: Any) -> Any:
    """Return values with containers of their own, so that code which edits them edits nothing that is used again.

    Not deepcopy: values may be objects of the program, which hotconf must not copy.
    """
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if type(value) is list else value


def same(one: object, other: object) -> bool:
    """Whether two values are equal. Those that cannot be compared are not."""
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values may be of any class
        return False


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
