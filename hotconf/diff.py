"""Comparison: what changed between the running settings and a candidate, and what the two can share.

Equality is over field values: types included, NaN equal to itself, private attributes left out. It is not
`BaseModel.__eq__`, for which 1 equals True and two NaN never match.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from hotconf.schema import fields

if TYPE_CHECKING:
    from hotconf.keypath import KeyPath


def compare(running: Any, candidate: Any) -> tuple[KeyPath, ...]:
    """Return the paths at which a candidate differs from what is running; empty if and only if they are equal.

    Makes the candidate share every unchanged part with the running settings, from models without private attributes
    or cached properties down, and keep the value of a default factory while no source sets its field. The candidate
    must not be published yet: this is the last time that it changes.
    """
    comparison = _Comparison()
    comparison.share(running, candidate, ())
    return tuple(comparison.changed)


def differences(old: Any, new: Any) -> tuple[KeyPath, ...]:
    """Return the paths at which two published settings differ. Changes neither."""
    comparison = _Comparison(may_write=False)
    comparison.share(old, new, ())
    return tuple(comparison.changed)


class _Comparison:
    """One walk over two trees. `share` returns what the new tree should hold at a place."""

    def __init__(self, *, may_write: bool = True) -> None:
        self.changed: list[KeyPath] = []
        self._may_write = may_write

    def share(self, old: Any, new: Any, path: KeyPath) -> Any:  # noqa: PLR0911 - a table of kinds
        if old is new:
            return old
        if type(old) is not type(new):
            self.changed.append(path)
            return new
        if isinstance(new, BaseModel):
            return self._share_model(old, new, path)
        if isinstance(new, dict):
            return self._share_mapping(old, new, path)
        if isinstance(new, (list, tuple)):
            return self._share_sequence(old, new, path)
        if _same(old, new):
            return old
        self.changed.append(path)
        return new

    def _share_model(self, old: BaseModel, new: BaseModel, path: KeyPath) -> Any:
        before = len(self.changed)
        values = vars(new)
        for name in fields(type(new)):
            shared = self._share_field(old, new, name, path)
            if self._may_write:
                # Past a frozen model's __setattr__: nobody else has seen `new` yet.
                values[name] = shared
        self.share(old.__pydantic_extra__, new.__pydantic_extra__, path)
        equal = len(self.changed) == before
        return old if equal and not _has_own_state(type(new)) else new

    def _share_field(self, old: BaseModel, new: BaseModel, name: str, path: KeyPath) -> Any:
        before, after = vars(old)[name], vars(new)[name]
        if _keeps_factory_value(old, new, name):
            return before
        outer = self._may_write
        # A default that belongs to the class is shared by every instance, so nothing is written into it.
        self._may_write = outer and after is not type(new).model_fields[name].default
        try:
            return self.share(before, after, (*path, name))
        finally:
            self._may_write = outer

    def _share_mapping(self, old: dict[Any, Any], new: dict[Any, Any], path: KeyPath) -> Any:
        before = len(self.changed)
        for key, value in new.items():
            if key not in old:
                self.changed.append((*path, key))
                continue
            shared = self.share(old[key], value, (*path, key))
            if self._may_write:
                new[key] = shared
        self.changed += [(*path, key) for key in old if key not in new]
        return old if len(self.changed) == before else new

    def _share_sequence(self, old: Any, new: Any, path: KeyPath) -> Any:
        before = len(self.changed)
        shared = [self.share(a, b, (*path, index)) for index, (a, b) in enumerate(zip(old, new, strict=False))]
        shorter, longer = sorted((len(old), len(new)))
        self.changed += [(*path, index) for index in range(shorter, longer)]
        if len(self.changed) == before:
            return old
        if type(new) is list and self._may_write:
            new[: len(shared)] = shared
        return new


def _keeps_factory_value(old: BaseModel, new: BaseModel, name: str) -> bool:
    info = type(new).model_fields[name]
    if info.default_factory is None or info.default_factory_takes_validated_data:
        return False
    return name not in new.model_fields_set and name not in old.model_fields_set


@functools.lru_cache(maxsize=1024)
def _has_own_state(model: type[BaseModel]) -> bool:
    members = (member for cls in model.__mro__ for member in vars(cls).values())
    return bool(model.__private_attributes__) or any(isinstance(m, functools.cached_property) for m in members)


def _same(old: Any, new: Any) -> bool:
    """Whether two values of one type are equal. A comparison that fails counts as a difference."""
    try:
        if not bool(old == new):
            return bool(old != old and new != new)  # noqa: PLR0124 - only NaN differs from itself
    except Exception:  # noqa: BLE001 - a foreign type's __eq__ may do anything
        return False
    return _same_form(old, new)


def _same_form(old: Any, new: Any) -> bool:
    """Whether equal values are also written alike: 1.0 and 1.00, or noon in two time zones, are two values."""
    if isinstance(new, (dt.datetime, dt.time)):
        return bool(old.utcoffset() == new.utcoffset())
    if isinstance(new, decimal.Decimal):
        return str(old) == str(new)
    if isinstance(new, AbstractSet):
        return {(type(item), item) for item in old} == {(type(item), item) for item in new}
    return True
