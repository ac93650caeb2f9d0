"""Canonical keys: every layer spells a field the same way before layers are merged.

Without this, an alias in a file and a name in the environment would be two keys, and the weaker layer could win. The
canonical spelling is the first that pydantic accepts, so validators that look at the raw input still find it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hotconf.schema.fields import Field, fields_by_key, fields_of, models_in, shape_below, unwrapped
from hotconf.schema.shape import Shape
from hotconf.values.merge import ABSENT, lookup

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer, Origin

_SCALARS = (str, int, float, bool, type(None))


def with_canonical_keys(model: type, layer: Layer) -> Layer:
    """Return the layer with canonical keys; the very same layer where nothing is spelt differently.

    A field that can only be reached by several AliasPaths has no canonical key: there the first of them that any layer
    has wins, as it does for pydantic.
    """
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
        for field in fields_of(current).values():
            if len(field.input_paths) > 1:
                return True
            pending += models_in(field.shape)
    return False


def _respell(shape: Shape, value: Any, path: KeyPath, moved: dict[KeyPath, KeyPath]) -> Any:
    shape = unwrapped(shape)
    if isinstance(value, Mapping):
        if shape.models:
            return _respell_model(shape, value, path, moved)
        if shape.values is not None:
            return {key: _respell(shape.values, item, (*path, key), moved) for key, item in value.items()}
    elif isinstance(value, (list, tuple)) and (shape.items or shape.positions):
        return [_respell(shape_below(shape, index), item, (*path, index), moved) for index, item in enumerate(value)]
    return value


def _respell_model(
    shape: Shape, values: Mapping[str, Any], path: KeyPath, moved: dict[KeyPath, KeyPath]
) -> dict[str, Any]:
    known = _known(shape.models)
    chosen = _chosen(known, values)
    result: dict[str, Any] = {}
    for key, value in values.items():
        field = known.get(key)
        name = field.keys[0] if field is not None and chosen[field.name] == (key,) else key
        if name != key:
            moved[(*path, name)] = (*path, key)
        if field is None or isinstance(value, _SCALARS):
            result[name] = value
        else:
            result[name] = _respell(_shape_of(shape, field), value, (*path, name), moved)
    for field, place, stays in (*_lifted(shape.models, chosen, values), *_shared(shape.models, values)):
        name = field.keys[0]
        moved[(*path, name)] = (*path, *place)
        result[name] = _respell(_shape_of(shape, field), lookup(values, place), (*path, name), moved)
        if not stays:
            result.pop(str(place[0]), None)
    return result


def _shape_of(owner: Shape, field: Field) -> Shape:
    # Of a union the key may lead to another model in each member.
    return field.shape if len(owner.models) == 1 else shape_below(owner, field.keys[0])


@functools.lru_cache(maxsize=1024)
def _known(models: tuple[type, ...]) -> Mapping[str, Field]:
    """Return fields by spelling; of a union, only what every member that knows a spelling takes for the same field.

    That goes for the canonical spelling too: another member may know it as an alias of something else.
    """
    found: dict[str, Field] = {}
    for model in models:
        found = {**fields_by_key(model), **found}
    return {
        key: field
        for key, field in found.items()
        if all(
            _canonical_key(model, spelling) in (None, field.keys[0])
            for model in models
            for spelling in (key, field.keys[0])
        )
    }


def _canonical_key(model: type, key: str) -> str | None:
    field = fields_by_key(model).get(key)
    return None if field is None else field.keys[0]


def _chosen(known: Mapping[str, Field], values: Mapping[str, Any]) -> dict[str, KeyPath]:
    """Return, by field, the place that counts where a source uses several: the first, as pydantic has it."""
    found: dict[str, KeyPath] = {}
    for key, field in known.items():
        if key in values and field.input_paths[0] == (key,):
            found[field.name] = (key,)
        elif field.name not in found and (key in values or field.alias_paths):
            used = (place for place in field.input_paths if lookup(values, place) is not ABSENT)
            found[field.name] = next(used, ())
    return found


def _lifted(
    models: tuple[type, ...], chosen: Mapping[str, KeyPath], values: Mapping[str, Any]
) -> Iterator[tuple[Field, KeyPath, bool]]:
    """Yield the fields whose value lies at an AliasPath, with the path, and whether the key that leads there stays."""
    fields_by_name = {field.name: field for field in _known(models).values() if field.alias_paths}
    for name, field in fields_by_name.items():
        path = chosen[name]
        stays = len(path) > 1 and _is_wanted(models, str(path[0]), values)
        if len(path) > 1 and not (stays and _is_found_at(field, path)):
            yield field, path, stays


def _shared(models: tuple[type, ...], values: Mapping[str, Any]) -> Iterator[tuple[Field, KeyPath, bool]]:
    """Yield the fields that have their value at a key which belongs to an earlier field too, likewise."""
    for field, keys in _latecomers(models):
        used = next((place for place in field.input_paths if lookup(values, place) is not ABSENT), ())
        stays = len(used) == 1 and used[0] in _canonical_keys(models)
        if len(used) == 1 and used[0] in keys and not (stays and _is_found_at(field, used)):
            yield field, used, stays


def _is_found_at(field: Field, place: KeyPath) -> bool:
    """Whether pydantic looks at a place before the canonical key, which would be one that nobody asked for."""
    return field.input_paths.index(place) < field.input_paths.index((field.keys[0],))


@functools.lru_cache(maxsize=1024)
def _latecomers(models: tuple[type, ...]) -> Sequence[tuple[Field, Collection[str]]]:
    """Return the fields of a model that claim keys of an earlier field, with those keys; for a union, none."""
    if len(models) != 1:
        return ()
    owners = fields_by_key(models[0])
    claims = (
        (field, {key for key in field.keys if owners[key] is not field}) for field in fields_of(models[0]).values()
    )
    return [(field, keys) for field, keys in claims if keys]


@functools.lru_cache(maxsize=1024)
def _canonical_keys(models: tuple[type, ...]) -> Collection[str]:
    return {field.keys[0] for model in models for field in fields_of(model).values() if field.keys}


def _is_wanted(models: tuple[type, ...], head: str, values: Mapping[str, Any]) -> bool:
    """Whether a key must stay though something was lifted from below it: another field is there, or looks there too."""
    known = [field for model in models for field in fields_of(model).values()]
    if any(head in field.keys for field in known):
        return True
    places = (place for field in known if not field.keys for place in field.alias_paths)
    return any(place[0] == head and lookup(values, place) is not ABSENT for place in places)


class _Moved(Mapping["KeyPath", "Origin"]):
    """The origins of a layer whose keys were respelt: asked for the new path, it looks up the old one."""

    def __init__(self, origins: Mapping[KeyPath, Origin], moved: Mapping[KeyPath, KeyPath]) -> None:
        self._origins = origins
        self._moved = moved

    def __getitem__(self, path: KeyPath) -> Origin:
        source = self._source_path(path)
        # What was lifted from deeper down may have its place from anything on the way there.
        for length in range(len(source), len(path) - 1, -1):
            found = self._origins.get(source[:length])
            if found is not None:
                return found
        raise KeyError(path)

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
