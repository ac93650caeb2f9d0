"""Comparison: what changed between the running settings and a candidate, and what the two can share.

Equality is over field values: types included, NaN equal to itself, private attributes left out. It is not
`BaseModel.__eq__`, for which 1 equals True and two NaN never match. Values that are written differently are two values,
1.0 and 1.00 as decimals, 0.0 and -0.0, noon in two time zones: the operator who wrote the other one wants to see it.
An object without an equality of its own equals only itself.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Set as AbstractSet
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel

from hotconf.schema.fields import cut_at_secret, fields_of, holds_secret
from hotconf.schema.shape import SECRET_TYPES, shape_of
from hotconf.values.keypath import key_text
from hotconf.values.merge import ABSENT
from hotconf.values.scalars import ATOMS, same_atoms

if TYPE_CHECKING:
    from hotconf.schema.fields import Field
    from hotconf.values.keypath import KeyPath


_PLAIN_MAPPINGS = (dict, OrderedDict, defaultdict)


def compare(running: Any, candidate: Any) -> tuple[KeyPath, ...]:
    """Return the paths at which a candidate differs from what is running; empty if and only if they are equal.

    Makes the candidate share every unchanged part with the running settings, from models without private attributes
    or cached properties down, and keep the value of a default factory while no source sets its field. Nothing but the
    candidate itself is written to, and it must not be published yet. Of a part that changed within, it gets a copy: the
    part may be a default, or a constant that a validator returned, and belong to others too.
    """
    comparison = _Comparison()
    if type(running) is not type(candidate):
        return ((),)
    _put(candidate, comparison.model_parts(running, candidate, ()))
    return tuple(comparison.changed)


def differences(old: Any, new: Any) -> tuple[KeyPath, ...]:
    """Return the paths at which two published settings, or parts of them, differ. Changes neither."""
    comparison = _Comparison()
    comparison.share(old, new, ())
    return tuple(comparison.changed)


class _Comparison:
    """One walk over two trees. `share` returns what the new tree should hold at a place; it changes neither tree."""

    def __init__(self) -> None:
        self.changed: list[KeyPath] = []

    def share(self, old: Any, new: Any, path: KeyPath) -> Any:
        if old is new:
            return old
        if type(old) is not type(new):
            self.changed.append(path)
            return new
        before = len(self.changed)
        result = new if _are_same_atoms(old, new) else self._shared(old, new, path)
        return old if len(self.changed) == before and not _has_own_state(new.__class__) else result

    def _shared(self, old: Any, new: Any, path: KeyPath) -> Any:
        if isinstance(new, BaseModel):
            return _twin(new, self.model_parts(old, new, path))
        if isinstance(new, Mapping):
            return self._share_mapping(old, new, path)
        if isinstance(new, (list, tuple)):
            return self._share_sequence(old, new, path)
        if dataclasses.is_dataclass(new) and not isinstance(new, enum.Enum):
            return _twin(new, self._dataclass_parts(old, new, path))
        if not _same(old, new):
            self.changed.append(path)
        return new

    def model_parts(self, old: BaseModel, new: BaseModel, path: KeyPath) -> dict[str, Any]:
        """Return what a new model should hold in the place of what it has, by attribute."""
        before = len(self.changed)
        held, items, parts = vars(old), vars(new), dict[str, Any]()
        kind: type = type(new)
        for name, field in fields_of(kind).items():
            own, item = held.get(name, ABSENT), items.get(name, ABSENT)
            if own is item or _is_same_atom(own, item):
                continue
            if _keeps_factory_value(old, new, field, unchanged=len(self.changed) == before):
                parts[name] = own
            else:
                self._share_field(parts, field, (own, item), path if isinstance(new, RootModel) else (*path, name))
        before = len(self.changed)
        extra = self.share(old.__pydantic_extra__, new.__pydantic_extra__, path)
        if len(self.changed) > before and holds_secret(shape_of(kind)):
            cut = (cut_at_secret(kind, changed, start=len(path)) for changed in self.changed[before:])
            self.changed[before:] = dict.fromkeys(cut)
        if extra is not new.__pydantic_extra__:
            parts["__pydantic_extra__"] = extra
        return parts

    def _dataclass_parts(self, old: Any, new: Any, path: KeyPath) -> dict[str, Any]:
        kind: type = type(new)
        known, parts = fields_of(kind), dict[str, Any]()
        for name in (entry.name for entry in dataclasses.fields(new) if entry.compare):
            pair = getattr(old, name, ABSENT), getattr(new, name, ABSENT)
            if name in known:
                self._share_field(parts, known[name], pair, (*path, name))
        return parts

    def _share_field(self, parts: dict[str, Any], field: Field, pair: tuple[Any, Any], path: KeyPath) -> None:
        before = len(self.changed)
        shared = self.share(*pair, path)
        if shared is not pair[1]:
            parts[field.name] = shared
        if field.sensitive and len(self.changed) > before:
            # The keys of a secret mapping are a part of the secret.
            self.changed[before:] = [path]

    def _share_mapping(self, old: Mapping[Any, Any], new: Mapping[Any, Any], path: KeyPath) -> Any:
        keys, parts = {key: key for key in old}, dict[Any, Any]()
        for key, item in new.items():
            if type(keys.get(key, ABSENT)) is not type(key):  # 1 and True are the same key to a dictionary
                self.changed.append((*path, key_text(key)))
            elif _is_unchanged(old[key], item):
                parts[key] = old[key]
            elif old[key] is not item and not _is_same_atom(old[key], item):
                shared = self.share(old[key], item, (*path, key_text(key)))
                if shared is not item:
                    parts[key] = shared
        self.changed += [(*path, key_text(key)) for key in old if key not in new]
        return _with_items(new, parts)

    def _share_sequence(self, old: Any, new: Any, path: KeyPath) -> Any:
        items = list(new)
        for index, (own, item) in enumerate(zip(old, new, strict=False)):
            if own is not item and not _is_same_atom(own, item):
                items[index] = self.share(own, item, (*path, index))
        shorter, longer = sorted((len(old), len(new)))
        self.changed += [(*path, index) for index in range(shorter, longer)]
        return _rebuilt(new, items)


def _is_same_atom(old: Any, new: Any) -> bool:
    kind = type(new)
    exact = kind in ATOMS and not (kind is float and new == 0)
    return exact and kind is type(old) and bool(old == new)


def _is_unchanged(old: Any, new: Any) -> bool:
    """Whether a part is a model of equal atoms that may be shared: what `share` would find, for less."""
    kind = new.__class__
    return kind is old.__class__ and _is_shareable_model(kind) and _same_fields(old, new)


def _are_same_atoms(old: Any, new: Any) -> bool:
    return _same_fields(old, new) if _is_model(new.__class__) else same_atoms(old, new)


def _same_fields(old: BaseModel, new: BaseModel) -> bool:
    """Whether two models of one class hold the same atoms and nothing else, or the very same objects."""
    held, items = old.__dict__, new.__dict__
    if old.__pydantic_extra__ or new.__pydantic_extra__ or list(held) != list(items):
        return False
    # What comes from a section that its source has reused is the very object that it was.
    identical = all(map(operator.is_, held.values(), items.values()))
    return identical or same_atoms(list(held.values()), list(items.values()))


@functools.lru_cache(maxsize=1024)
def _is_model(kind: type) -> bool:
    """Do as isinstance(..., BaseModel), which asks an abstract class's slow __instancecheck__."""
    return issubclass(kind, BaseModel)


@functools.lru_cache(maxsize=1024)
def _is_shareable_model(kind: type) -> bool:
    return issubclass(kind, BaseModel) and not _has_own_state(kind)


def _twin(value: Any, parts: Mapping[str, Any]) -> Any:
    """Return a copy of a model or dataclass with some attributes replaced; the very same where there are none."""
    if not parts:
        return value
    twin = _copied(value)
    _put(twin, parts)
    return twin


def _copied(value: Any) -> Any:
    """Return a shallow copy of a model or dataclass. Its class is not asked: its `__copy__` may do anything."""
    if isinstance(value, BaseModel):
        return BaseModel.__copy__(value)
    twin, state = object.__new__(type(value)), object.__getstate__(value)
    held, slots = state if isinstance(state, tuple) else (state, None)
    if held:
        vars(twin).update(held)
    _put(twin, slots or {})
    return twin


def _put(value: Any, parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        # Past the __setattr__ of a frozen class, and past validation: the parts come from a valid value of this type.
        object.__setattr__(value, name, part)


def _with_items(value: Mapping[Any, Any], parts: Mapping[Any, Any]) -> Any:
    if not parts or not isinstance(value, dict) or type(value) not in _PLAIN_MAPPINGS:
        return value
    twin = copy.copy(value)
    twin.update(parts)
    return twin


def _rebuilt(value: Any, items: list[Any]) -> Any:
    if all(item is own for item, own in zip(items, value, strict=True)):
        return value
    if hasattr(value, "_make"):
        return value._make(items)
    return type(value)(items) if type(value) in (list, tuple) else value


def _keeps_factory_value(old: BaseModel, new: BaseModel, field: Field, *, unchanged: bool) -> bool:
    """Whether a field keeps what its default factory made; one that is made from other fields, only while they stay."""
    if field.info.default_factory is None or field.name in new.model_fields_set or field.name in old.model_fields_set:
        return False
    return unchanged or not field.info.default_factory_takes_validated_data


@functools.lru_cache(maxsize=1024)
def _has_own_state(kind: type) -> bool:
    members = (member for cls in kind.__mro__ for member in vars(cls).values())
    own = getattr(kind, "__private_attributes__", None)
    return bool(own) or any(isinstance(member, functools.cached_property) for member in members)


def _same(old: Any, new: Any) -> bool:
    """Whether two values of one type are equal. A comparison that fails counts as a difference."""
    try:
        if isinstance(new, SECRET_TYPES):
            return not differences(old.get_secret_value(), new.get_secret_value())
        if isinstance(new, (float, complex, decimal.Decimal)):
            return repr(old) == repr(new)
        if isinstance(new, (dt.datetime, dt.time)):
            return bool(old == new and old.utcoffset() == new.utcoffset())
        if isinstance(new, AbstractSet):
            return _same_items(old, new)
        return _same_by_own_measure(old, new)
    except Exception:  # noqa: BLE001 - a foreign type's __eq__ may do anything
        return False


def _same_items(old: AbstractSet[Any], new: AbstractSet[Any]) -> bool:
    """Whether two sets hold the same items. A NaN, and what holds one, is in no other set by its own measure."""
    if not isinstance(new, (set, frozenset)):  # one that is ordered, maybe: its own measure knows
        return bool(old == new) and not differences(*({item: item for item in each} for each in (old, new)))
    shared = ({item: item for item in one if item in other} for one, other in ((old, new), (new, old)))
    left = list(new - old)
    return len(old) == len(new) and not differences(*shared) and all(_found(item, left) for item in old - new)


def _found(wanted: Any, items: list[Any]) -> bool:
    """Take the first item that is the same out of a list, and tell whether there was one."""
    index = next((index for index, item in enumerate(items) if not differences(wanted, item)), None)
    if index is not None:
        del items[index]
    return index is not None


def _same_by_own_measure(old: Any, new: Any) -> bool:
    equal = old == new
    if hasattr(equal, "all") and hasattr(equal, "shape"):  # an array of verdicts, one for each of its items
        return bool(old.shape == new.shape and equal.all())
    return bool(equal)
