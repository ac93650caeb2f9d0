"""Canonical keys: every layer has a field under the same key before layers are merged.

Without this, an alias in a file and a name in the environment would be two keys, and the weaker layer could win. The
canonical key is the first that pydantic accepts, so validators that look at the raw input still find it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hotconf.schema.caches import cached
from hotconf.schema.fields import fields_by_key, fields_of, models_within, shape_below, unwrapped
from hotconf.schema.settings import Untyped
from hotconf.schema.shape import Shape
from hotconf.values.keypath import Key, distinct, key_text
from hotconf.values.merge import ABSENT, SCALARS, lookup

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from hotconf.schema.fields import Field
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer, Origin


def with_canonical_keys(model: type, layer: Layer) -> Layer:
    """Return the layer with canonical keys; the very same layer where all are canonical already.

    A field that can only be reached by several AliasPaths has no canonical key: there the first of them that any layer
    has wins, as it does for pydantic.
    """
    if layer.odd_keys and not issubclass(model, Untyped):
        layer = _with_keys_as_wanted(model, layer)
    if not accepts_several_keys(model):
        return layer
    moved: dict[KeyPath, KeyPath] = {}
    values = _respell(Shape(models=(model,)), layer.values, (), moved)
    if not moved:
        return layer
    return dataclasses.replace(layer, values=values, origins=_Moved(layer.origins, moved))


def _with_keys_as_wanted(model: type, layer: Layer) -> Layer:
    """Return a layer where each key that is no string is the text of a field, or what its mapping wants."""
    moved: dict[KeyPath, KeyPath] = {}

    def wanted(shape: Shape, value: Any, path: KeyPath) -> Any:
        shape = unwrapped(shape)
        if isinstance(value, list):
            return [wanted(shape_below(shape, index), item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, Mapping):
            return value
        names = distinct({key.value if isinstance(key, Key) else key: _spelling(shape, key) for key in value})
        result: dict[str, Any] = {}
        for name, (key, item) in zip(names.values(), value.items(), strict=True):
            if name != key:
                moved[(*path, name)] = (*path, key)
            result[name] = wanted(shape_below(shape, key), item, (*path, name))
        return result

    values = wanted(Shape(models=(model,)), layer.values, ())
    origins = _Moved(layer.origins, moved) if moved else layer.origins
    return dataclasses.replace(layer, values=values, origins=origins, odd_keys=False)


def _spelling(shape: Shape, key: str) -> str:
    """Return a key as what is known of its mapping wants it."""
    if not isinstance(key, Key):
        return key
    text = str(key)
    known = [field for model in shape.models for field in fields_of(model).values()]
    if any(text == path[0] for field in known for path in field.input_paths):
        return text
    if shape.values is not None:
        return shape.keys.spelling(key) if shape.keys is not None else text
    return Key(key_text(key.value), key.value) if shape.opaque else text


@cached
def accepts_several_keys(model: type) -> bool:
    """Whether any model reachable from this class accepts a field under more than one key."""
    return any(len(field.input_paths) > 1 for _, nested in models_within(model) for field in fields_of(nested).values())


def _respell(shape: Shape, value: Any, path: KeyPath, moved: dict[KeyPath, KeyPath]) -> Any:
    """Return a value with canonical keys, and note in `moved` where each value that has a new path was before."""
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
    keys = _keys_of(shape.models)
    used = keys.used(values)
    result: dict[str, Any] = {}
    for key, value in values.items():
        field = keys.known.get(key)
        name = field.keys[0] if field is not None and used[field.name] == (key,) else key
        if name != key:
            moved[(*path, name)] = (*path, key)
        if field is None or type(value) in SCALARS:
            result[name] = value
        else:
            result[name] = _respell(_shape_of(shape, field), value, (*path, name), moved)
    for field, place, stays in keys.displaced(used, values):
        name = field.keys[0]
        moved[(*path, name)] = (*path, *place)
        result[name] = _respell(_shape_of(shape, field), lookup(values, place), (*path, name), moved)
        if not stays:
            result.pop(str(place[0]), None)
    return result


def _shape_of(owner: Shape, field: Field) -> Shape:
    # Of a union the key may lead to another model in each member.
    return field.shape if len(owner.models) == 1 else shape_below(owner, field.keys[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Keys:
    """The keys that the members of a union of models accept.

    `known` are fields by key: only those that every member which knows the key takes for the same field. `late` are the
    fields of a single model that claim keys of an earlier field, with those keys.
    """

    fields: Sequence[Field]
    known: Mapping[str, Field]
    late: Sequence[tuple[Field, Collection[str]]]

    def used(self, values: Mapping[str, Any]) -> dict[str, KeyPath]:
        """Return, by field, the input path that counts where a source has several: the first, as for pydantic."""
        found: dict[str, KeyPath] = {}
        for key, field in self.known.items():
            if key in values and field.input_paths[0] == (key,):
                found[field.name] = (key,)
            elif field.name not in found and (key in values or field.alias_paths):
                found[field.name] = _first_present(field, values)
        return found

    def displaced(
        self, used: Mapping[str, KeyPath], values: Mapping[str, Any]
    ) -> Iterator[tuple[Field, KeyPath, bool]]:
        """Yield the fields whose value has to be copied to their canonical key.

        Their values lie at an AliasPath, or at a key that belongs to an earlier field as well. Each comes with the path
        of its value, and with whether the key that leads there stays.
        """
        for field in {field.name: field for field in self.known.values() if field.alias_paths}.values():
            place = used[field.name]
            if len(place) > 1:
                stays = self._is_wanted(str(place[0]), values)
                if not (stays and _is_found_at(field, place)):
                    yield field, place, stays
        canonical = {field.keys[0] for field in self.fields if field.keys}
        for field, keys in self.late:
            place = _first_present(field, values)
            if len(place) == 1 and place[0] in keys:
                stays = place[0] in canonical
                if not (stays and _is_found_at(field, place)):
                    yield field, place, stays

    def _is_wanted(self, head: str, values: Mapping[str, Any]) -> bool:
        """Whether a key stays though a value was taken from below it: another field has it, or has its value there."""
        if any(head in field.keys for field in self.fields):
            return True
        paths = (path for field in self.fields if not field.keys for path in field.alias_paths)
        return any(path[0] == head and lookup(values, path) is not ABSENT for path in paths)


@cached
def _keys_of(models: tuple[type, ...]) -> _Keys:
    claimed: dict[str, Field] = {}
    for model in models:
        claimed = {**fields_by_key(model), **claimed}

    def is_agreed(field: Field, key: str) -> bool:
        found = [known for model in models if (known := fields_by_key(model).get(key)) is not None]
        return all(known.keys[0] == field.keys[0] for known in found)

    # The canonical key too: another member may know it as an alias of something else.
    known = {key: field for key, field in claimed.items() if is_agreed(field, key) and is_agreed(field, field.keys[0])}
    fields = [field for model in models for field in fields_of(model).values()]
    late = []
    if len(models) == 1:
        claims = ((field, {key for key in field.keys if claimed[key] is not field}) for field in fields)
        late = [(field, keys) for field, keys in claims if keys]
    return _Keys(fields, known, late)


def _first_present(field: Field, values: Mapping[str, Any]) -> KeyPath:
    return next((path for path in field.input_paths if lookup(values, path) is not ABSENT), ())


def _is_found_at(field: Field, place: KeyPath) -> bool:
    """Whether pydantic looks at a place before the canonical key, so that a copy there would not be asked for."""
    return field.input_paths.index(place) < field.input_paths.index((field.keys[0],))


class _Moved(Mapping["KeyPath", "Origin"]):
    """The origins of a layer with canonical keys, by new path. Each lookup goes to the old path."""

    def __init__(self, origins: Mapping[KeyPath, Origin], moved: Mapping[KeyPath, KeyPath]) -> None:
        self._origins = origins
        self._moved = moved

    def __getitem__(self, path: KeyPath) -> Origin:
        source: KeyPath = ()
        # The outermost rename first: an inner one was noted below the new key of the outer.
        for index, key in enumerate(path):
            renamed = self._moved.get(path[: index + 1])
            source = (*source, *renamed[index:]) if renamed is not None else (*source, key)
        # A value that was copied from deeper down may have its place from anything on the way there.
        for length in range(len(source), len(path) - 1, -1):
            found = self._origins.get(source[:length])
            if found is not None:
                return found
        raise KeyError(path)

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self._origins)

    def __len__(self) -> int:
        return len(self._origins)
