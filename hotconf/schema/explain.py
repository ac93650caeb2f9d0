"""Explanation: which source supplied a value, and which other values it shadows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import BaseModel, RootModel

import hotconf.values.keypath as keypath
from hotconf.schema.diff import differences
from hotconf.schema.fields import fields_of, shape_below, unwrapped
from hotconf.schema.redact import document_at, mask_input
from hotconf.schema.shape import Shape
from hotconf.schema.tree import child, children, refined, value_at
from hotconf.values.keypath import KeyPath
from hotconf.values.layer import DEFAULT, Origin
from hotconf.values.merge import ABSENT, Merged, origin_in


@dataclass(frozen=True, slots=True)
class Supplied:
    """One value for a path, as one source has it; masked where it is a secret."""

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a setting has its value: the effective value, where it came from, and every value it shadows."""

    path: str
    value: Any
    origin: Origin
    shadowed: tuple[Supplied, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.path} = {self.value!r}  from {self.origin}"]
        lines += [f"  shadows {entry.value!r}  from {entry.origin}" for entry in self.shadowed]
        return "\n".join(lines)


def input_paths(model: type, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the places in merged values where a field path may have its value from, the canonical one first."""
    shape, choices = Shape(models=(model,)), list[tuple[KeyPath, ...]]()
    for key in path:
        named = [fields_of(nested)[str(key)] for nested in unwrapped(shape).models if str(key) in fields_of(nested)]
        places = dict.fromkeys(place for field in named for place in field.input_paths)
        choices.append(tuple(places) or ((key,),))
        shape = shape_below(shape, key)
    for parts in product(*choices):
        yield tuple(key for part in parts for key in part)


class Origins(Mapping[str, Origin]):
    """The origin of every leaf of one snapshot, by dotted path. Nothing is computed until it is asked."""

    def __init__(self, model: type, merged: Merged, settings: Any) -> None:
        self._model = model
        self._merged = merged
        self._settings = settings

    def __getitem__(self, dotted: str) -> Origin:
        return self.at(_typed(self._settings, dotted))

    def explain(self, dotted: str) -> Explanation:
        """Explain the value at a dotted path.

        Raises:
            KeyError: The settings have no such path.
        """
        path = _typed(self._settings, dotted)
        value = document_at(self._model, self._settings, path)
        origin = self.at(path)
        supplied = [
            Supplied(mask_input(self._model, path, raw, within=self._settings), origin_in(layer, at))
            for at in input_paths(self._model, path)
            for layer, raw in self._merged.suppliers(at)
        ]
        shadowed = supplied[1:] if supplied and supplied[0].origin == origin else supplied
        return Explanation(keypath.render(path), value, origin, tuple(shadowed))

    def at(self, path: KeyPath) -> Origin:
        """Return the place of a value or, where a validator made it from something else, of what it was made from.

        A path that the settings do not have gets the place of what lies above it.
        """
        for length in range(len(path), 0, -1):
            found = (self._merged.origin(at) for at in input_paths(self._model, path[:length]))
            origin = next((origin for origin in found if origin is not None), None)
            if origin is not None:
                return origin
            if _is_default(value_at(self._settings, path[: length - 1]), path[length - 1]):
                return DEFAULT
        return DEFAULT

    def __iter__(self) -> Iterator[str]:
        return (keypath.render(path) for path in _leaf_paths(self._settings, Shape(models=(self._model,)), ()))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def leaves(self) -> Iterator[tuple[KeyPath, Origin]]:
        """Yield the path of every leaf with its origin. Cheaper than asking for each path."""
        for path in _leaf_paths(self._settings, Shape(models=(self._model,)), ()):
            yield path, self.at(path)


def _typed(settings: Any, dotted: str) -> KeyPath:
    """Return a dotted path with the indices of lists as numbers. Raises KeyError for what is not there."""
    try:
        parsed = keypath.parse(dotted)
    except ValueError:
        raise KeyError(dotted) from None
    path: list[str | int] = []
    for key in parsed:
        inner = child(settings, key, ABSENT)
        if inner is ABSENT and str(key).isdecimal():
            key = int(key)  # noqa: PLW2901 - as the settings have it
            inner = child(settings, key, ABSENT)
        if inner is ABSENT:  # the credentials of a URL are not in the path of its key
            below = children(settings)
            key = next((own for own in below if keypath.render((own,)) == keypath.render((key,))), key)  # noqa: PLW2901
            inner = below.get(key, ABSENT)
        if inner is ABSENT:
            raise KeyError(keypath.render(parsed))
        settings = inner
        path.append(key)
    return tuple(path)


def _is_default(owner: Any, key: str | int) -> bool:
    """Whether a model has the default of a field as its value, also where a source set it to the same."""
    kind: type = type(owner)
    field = fields_of(kind).get(str(key)) if isinstance(key, str) and not isinstance(owner, RootModel) else None
    if field is None:
        return False
    unset = isinstance(owner, BaseModel) and key not in owner.model_fields_set
    return unset or not differences(field.info.default, child(owner, str(key), ABSENT))


def _leaf_paths(value: Any, shape: Shape, path: KeyPath) -> Iterator[KeyPath]:
    shape = refined(shape, value)
    inner = {} if shape.secret else children(value)
    if not inner:
        yield path
    for key, item in inner.items():
        yield from _leaf_paths(item, shape_below(shape, key), (*path, key))
