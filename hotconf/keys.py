"""Canonical keys: every layer spells a field the same way before layers are merged.

Without this, an alias in a file and a name in the environment would be two keys, and the weaker layer could win. The
canonical spelling is the first that pydantic accepts, so validators that look at the raw input still find it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hotconf.schema import Field, Shape, fields, models_in, spellings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.keypath import KeyPath
    from hotconf.layer import Layer
    from hotconf.origin import Origin


def canonical(model: type, layer: Layer) -> Layer:
    """Return the layer with canonical keys; the very same layer where nothing is spelt differently."""
    if not renames(model):
        return layer
    moved: dict[KeyPath, KeyPath] = {}
    values = _respell(Shape(models=(model,)), layer.values, (), moved)
    if not moved:
        return layer
    return dataclasses.replace(layer, values=values, origins=_Moved(layer.origins, moved))


@functools.lru_cache(maxsize=1024)
def renames(model: type) -> bool:
    """Whether any model reachable from this class accepts a field under more than one key."""
    pending, seen = [model], set[type]()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        for field in fields(current).values():
            if len(field.spellings) + len(field.paths) > 1:
                return True
            pending += models_in(field.shape)
    return False


def _respell(shape: Shape, value: Any, path: KeyPath, moved: dict[KeyPath, KeyPath]) -> Any:
    if isinstance(value, Mapping):
        if shape.models:
            return _respell_model(shape.models, value, path, moved)
        if shape.values is not None:
            return {key: _respell(shape.values, item, (*path, key), moved) for key, item in value.items()}
    elif isinstance(value, list) and shape.items is not None:
        return [_respell(shape.items, item, (*path, index), moved) for index, item in enumerate(value)]
    return value


def _respell_model(
    models: tuple[type, ...], values: Mapping[str, Any], path: KeyPath, moved: dict[KeyPath, KeyPath]
) -> dict[str, Any]:
    known = _known(models)
    chosen = _chosen(known, values)
    result: dict[str, Any] = {}
    for key, value in values.items():
        field = known.get(key)
        name = field.spellings[0] if field is not None and chosen[field.name] == key else key
        if name != key:
            moved[(*path, name)] = (*path, key)
        result[name] = value if field is None else _respell(field.shape, value, (*path, name), moved)
    _lift_paths(known, result, path, moved)
    return result


def _known(models: tuple[type, ...]) -> Mapping[str, Field]:
    """Return fields by spelling; of a union, only what every member that knows a spelling takes for the same field."""
    if len(models) == 1:
        return spellings(models[0])
    found: dict[str, Field] = {}
    for model in models:
        found = {**spellings(model), **found}
    return {
        key: field
        for key, field in found.items()
        if all(_canonical_key(model, key) in (None, field.spellings[0]) for model in models)
    }


def _canonical_key(model: type, key: str) -> str | None:
    field = spellings(model).get(key)
    return None if field is None else field.spellings[0]


def _chosen(known: Mapping[str, Field], values: Mapping[str, Any]) -> dict[str, str]:
    """Return, by field, the spelling that counts where a source uses several: the first, as pydantic has it."""
    found: dict[str, str] = {}
    for field in {id(field): field for field in known.values()}.values():
        used = next((spelling for spelling in field.spellings if spelling in values), None)
        if used is not None:
            found[field.name] = used
    return found


def _lift_paths(
    known: Mapping[str, Field], values: dict[str, Any], path: KeyPath, moved: dict[KeyPath, KeyPath]
) -> None:
    """Move what lies at an alternative AliasPath to the canonical key; a path through a list stays where it is."""
    for field in {id(field): field for field in known.values() if field.paths}.values():
        for inner in field.paths:
            if field.spellings[0] in values:
                break
            if all(isinstance(key, str) for key in inner) and _holds(values, inner):
                values[field.spellings[0]] = _take(values, inner)
                moved[(*path, field.spellings[0])] = (*path, *inner)


def _holds(values: Any, inner: KeyPath) -> bool:
    for key in inner:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def _take(values: dict[str, Any], inner: KeyPath) -> Any:
    """Remove and return the value at a path, and the mappings that this leaves empty. Copies what it changes."""
    head = str(inner[0])
    if len(inner) == 1:
        return values.pop(head)
    below = dict(values[head])
    taken = _take(below, inner[1:])
    if below:
        values[head] = below
    else:
        del values[head]
    return taken


class _Moved(Mapping["KeyPath", "Origin"]):
    """The origins of a layer whose keys were respelt: asked for the new path, it looks up the old one."""

    def __init__(self, origins: Mapping[KeyPath, Origin], moved: Mapping[KeyPath, KeyPath]) -> None:
        self._origins = origins
        self._moved = moved

    def __getitem__(self, path: KeyPath) -> Origin:
        return self._origins[self._source_path(path)]

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self._origins)

    def __len__(self) -> int:
        return len(self._origins)

    def _source_path(self, path: KeyPath) -> KeyPath:
        # The outermost rename first: an inner one was recorded below the new spelling of the outer.
        found: KeyPath = ()
        for index, key in enumerate(path):
            renamed = self._moved.get(path[: index + 1])
            found = (*found, *renamed[index:]) if renamed is not None else (*found, key)
        return found
