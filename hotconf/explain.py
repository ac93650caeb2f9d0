"""Explanation: who supplied a value, and what it shadows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from hotconf import keypath
from hotconf.keypath import KeyPath
from hotconf.merge import Merged, origin_in
from hotconf.origin import DEFAULT, Origin
from hotconf.redact import MASK, document, masked
from hotconf.schema import Shape, fields

if TYPE_CHECKING:
    from hotconf.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Supplied:
    """One value for a path, as one source has it; masked where it is a secret."""

    value: Any
    origin: Origin

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {"value": self.value, "origin": str(self.origin)}


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

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        shadowed = [entry.as_dict() for entry in self.shadowed]
        return {"path": self.path, "value": self.value, "origin": str(self.origin), "shadowed": shadowed}


def input_paths(model: type, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the places in merged values where a field path may have its value from, the canonical one first."""
    shape, choices = Shape(models=(model,)), list[list[KeyPath]]()
    for key in path:
        found = next((fields(nested)[str(key)] for nested in shape.models if str(key) in fields(nested)), None)
        if found is None:
            choices.append([(key,)])
            shape = (shape.items if isinstance(key, int) else shape.values) or Shape()
        else:
            choices.append([*([(found.spellings[0],)] if found.spellings else []), *found.paths])
            shape = found.shape
    for parts in product(*choices):
        yield tuple(key for part in parts for key in part)


class Origins(Mapping[str, Origin]):
    """The origin of every leaf of one snapshot, by dotted path. Nothing is computed until it is asked."""

    def __init__(self, model: type, merged: Merged, settings: Any) -> None:
        self._model = model
        self._merged = merged
        self._settings = settings

    def __getitem__(self, dotted: str) -> Origin:
        try:
            path = _typed(self._settings, keypath.parse(dotted))
        except ValueError:
            raise KeyError(dotted) from None
        found = (self._merged.origin(at) for at in input_paths(self._model, path))
        return next((origin for origin in found if origin is not None), DEFAULT)

    def explain(self, dotted: str) -> Explanation:
        """Explain the value at a dotted path. Raises KeyError for a path that the settings do not have."""
        path = _typed(self._settings, keypath.parse(dotted))
        value = _value_at(self._settings, path)
        supplied = [
            Supplied(masked(self._model, path, raw), origin_in(layer, at))
            for at in input_paths(self._model, path)
            for layer, raw in self._merged.suppliers(at)
        ]
        origin = supplied[0].origin if supplied else DEFAULT
        return Explanation(keypath.render(path), _shown(self._model, path, value), origin, tuple(supplied[1:]))

    def __iter__(self) -> Iterator[str]:
        return (keypath.render(path) for path in _leaf_paths(self._settings, ()))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def part(snapshot: Snapshot[Any], dotted: str) -> tuple[KeyPath, Any]:
    """Return the path that a dotted text names in a snapshot, and the value there. Raises KeyError or ValueError."""
    path = _typed(snapshot.settings, keypath.parse(dotted))
    return path, _value_at(snapshot.settings, path)


def _typed(settings: Any, path: KeyPath) -> KeyPath:
    """Return a path with the indices of lists as numbers. Raises KeyError for what is not there."""
    typed: list[str | int] = []
    for key in path:
        found = int(key) if isinstance(settings, (list, tuple)) and str(key).isdecimal() else key
        settings = _value_at(settings, (found,))
        typed.append(found)
    return tuple(typed)


def _value_at(settings: Any, path: KeyPath) -> Any:
    for key in path:
        below = _children(settings)
        if key not in below:
            raise KeyError(keypath.render(path))
        settings = below[key]
    return settings


def _children(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        owner: type = type(value)
        extra = getattr(value, "__pydantic_extra__", None) or {}
        return {**{name: getattr(value, name) for name in fields(owner)}, **extra}
    if isinstance(value, Mapping):
        return value
    return dict(enumerate(value)) if isinstance(value, (list, tuple)) else {}


def _leaf_paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    below = _children(value)
    if not below:
        yield path
    for key, item in below.items():
        yield from _leaf_paths(item, (*path, key))


def _shown(model: type, path: KeyPath, value: Any) -> Any:
    return MASK if value is not None and masked(model, path, "") == MASK else document(value)
