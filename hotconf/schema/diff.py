"""Comparison: what changed between the running settings and a candidate, and what the two can share.

Two values are equal where their types and their texts are: NaN equals itself, and 1 is not True, 1.0 is not 1.00 as a
decimal, 0.0 is not -0.0, noon is not the same in two time zones. An operator who writes the other one wants to see it.
Private attributes are left out. `BaseModel.__eq__` is of no use for this: for it 1 equals True, and two NaN differ. An
object without an equality of its own equals only itself.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import marshal
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping, Sequence, Set as AbstractSet
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel

from hotconf.schema.caches import cached
from hotconf.schema.fields import cut_at_secret, fields_of, may_hold_secret, models_in, reads_sources
from hotconf.schema.shape import SECRET_TYPES, shape_of
from hotconf.values.keypath import KeyPath, key_text
from hotconf.values.merge import ABSENT, SCALARS, are_scalars

if TYPE_CHECKING:
    from hotconf.schema.fields import Field

_NOWHERE: Sequence[KeyPath] = ()
_WHOLE: Sequence[KeyPath] = ((),)

_made_again: ContextVar[Collection[int]] = ContextVar("hotconf_made_again", default=())

_PLAIN_MAPPINGS = (dict, OrderedDict, defaultdict)


def compare(running: Any, candidate: Any, *, made_again: Collection[int] = ()) -> tuple[KeyPath, ...]:
    """Return the paths at which a candidate differs from what is running; empty if and only if they are equal.

    The candidate then shares every unchanged part with the running settings, except for models with private attributes
    or cached properties, and has the running value of each default factory whose field no source sets. Only the
    candidate itself is written to, so it must not be published yet. A part that changed within is replaced by a copy:
    it may be a default, or a constant that a validator returned, and belong to other settings too.

    `made_again` are the ids of objects in the candidate that were made from the input of before, and whose class has no
    equality: they count as equal to the running ones.
    """
    if type(running) is not type(candidate):
        return tuple(_WHOLE)
    before = _made_again.set(made_again)
    try:
        parts, changed = _model_parts(running, candidate)
    finally:
        _made_again.reset(before)
    _put(candidate, parts)
    return tuple(changed)


def differences(old: Any, new: Any) -> tuple[KeyPath, ...]:
    """Return the paths at which two published settings, or parts of them, differ. Changes neither."""
    return tuple(_share(old, new)[1])


def _share(old: Any, new: Any) -> tuple[Any, Sequence[KeyPath]]:
    """Return what a new tree should hold in the place of `new`, and the paths below it that changed.

    That is `old` where the two are equal, else `new`, or a copy of it that has the equal parts of `old`. Neither of the
    two is changed. Paths are put together on the way up, since most values are equal and have no path to tell.
    """
    if old is new:
        return old, _NOWHERE
    if type(old) is not type(new):
        return new, _WHOLE
    kind: type = type(new)
    if kind in SCALARS:
        return new, _NOWHERE if (repr(old) == repr(new) if kind is float else old == new) else _WHOLE
    changed: Sequence[KeyPath]
    if _are_same_scalars(old, new):
        shared, changed = new, _NOWHERE
    elif isinstance(new, BaseModel):
        parts, changed = _model_parts(old, new)
        shared = _twin(new, parts)
    elif isinstance(new, Mapping):
        shared, changed = _share_mapping(old, new)
    elif isinstance(new, (list, tuple)):
        shared, changed = _share_sequence(old, new)
    elif dataclasses.is_dataclass(new) and not isinstance(new, enum.Enum):
        parts, changed = _dataclass_parts(old, new)
        shared = _twin(new, parts)
    else:
        shared, changed = new, _NOWHERE if _is_same(old, new) else _WHOLE
    return (shared, changed) if changed or _has_own_state(kind) else (old, _NOWHERE)


def _are_same_scalars(old: Any, new: Any) -> bool:
    """Whether two models, dictionaries or lists hold the same scalars in the same order, and nothing else.

    The one shortcut of the comparison: most sections of a large file hold nothing but scalars, and most are unchanged.
    """
    if isinstance(new, BaseModel):
        held, items = vars(old), vars(new)
        if old.__pydantic_extra__ or new.__pydantic_extra__ or list(held) != list(items):
            return False
        one, other = list(held.values()), list(items.values())
    elif type(new) is dict:
        one, other = [*old, *old.values()], [*new, *new.values()]
    elif type(new) is list:
        one, other = old, new
    else:
        return False
    # Version 2 writes each scalar with its type and exact value; later ones write what is one object only once.
    return are_scalars(one) and are_scalars(other) and marshal.dumps(one, 2) == marshal.dumps(other, 2)


def _model_parts(old: BaseModel, new: BaseModel) -> tuple[dict[str, Any], list[KeyPath]]:
    """Return what a new model should hold in the place of what it has, by attribute, and the paths that changed."""
    held, items, parts, changed = vars(old), vars(new), dict[str, Any](), list[KeyPath]()
    kind: type = type(new)
    for name, field in fields_of(kind).items():
        own, item = held.get(name, ABSENT), items.get(name, ABSENT)
        if _keeps_factory_value(old, new, field, changed=bool(changed)):
            shared, inner = own, _NOWHERE
        else:
            shared, inner = _share_field(field, own, item)
        if shared is not item:
            parts[name] = shared
        if inner:
            changed += inner if issubclass(kind, RootModel) else [(name, *path) for path in inner]
    extra, inner = _share(old.__pydantic_extra__, new.__pydantic_extra__)
    if inner:
        secret = may_hold_secret(shape_of(kind))
        changed += dict.fromkeys(cut_at_secret(kind, path) for path in inner) if secret else inner
    if extra is not new.__pydantic_extra__:
        parts["__pydantic_extra__"] = extra
    return parts, changed


def _keeps_factory_value(old: BaseModel, new: BaseModel, field: Field, *, changed: bool) -> bool:
    """Whether a field keeps what its default factory made.

    It does, unless it was made from a field that changed, or of settings that have sources of their own.
    """
    if field.info.default_factory is None or field.name in new.model_fields_set or field.name in old.model_fields_set:
        return False
    if any(map(reads_sources, (type(vars(new).get(field.name)), *models_in(field.shape)))):
        return False
    return not changed or not field.info.default_factory_takes_validated_data


def _dataclass_parts(old: Any, new: Any) -> tuple[dict[str, Any], list[KeyPath]]:
    parts, changed = dict[str, Any](), list[KeyPath]()
    kind: type = type(new)
    compared = {entry.name for entry in dataclasses.fields(new) if entry.compare}
    for name, field in fields_of(kind).items():
        if name in compared:
            item = getattr(new, name, ABSENT)
            shared, inner = _share_field(field, getattr(old, name, ABSENT), item)
            if shared is not item:
                parts[name] = shared
            changed += [(name, *path) for path in inner]
    return parts, changed


def _share_field(field: Field, own: Any, item: Any) -> tuple[Any, Sequence[KeyPath]]:
    shared, changed = _share(own, item)
    # The keys of a secret mapping are a part of the secret.
    return shared, _WHOLE if changed and field.sensitive else changed


def _share_mapping(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> tuple[Any, list[KeyPath]]:
    keys, parts, changed = {key: key for key in old}, dict[Any, Any](), list[KeyPath]()
    for key, item in new.items():
        if type(keys.get(key, ABSENT)) is not type(key):  # 1 and True are the same key to a dictionary
            changed.append((key_text(key),))
            continue
        shared, inner = _share(old[key], item)
        if shared is not item:
            parts[key] = shared
        if inner:
            changed += [(key_text(key), *path) for path in inner]
    changed += [(key_text(key),) for key in old if key not in new]
    if not parts or type(new) not in _PLAIN_MAPPINGS:
        return new, changed
    twin: Any = copy.copy(new)
    twin.update(parts)
    return twin, changed


def _share_sequence(old: Any, new: Any) -> tuple[Any, list[KeyPath]]:
    items, changed = list(new), list[KeyPath]()
    for index, (own, item) in enumerate(zip(old, new, strict=False)):
        items[index], inner = _share(own, item)
        if inner:
            changed += [(index, *path) for path in inner]
    shorter, longer = sorted((len(old), len(new)))
    changed += [(index,) for index in range(shorter, longer)]
    if all(item is own for item, own in zip(items, new, strict=True)):
        return new, changed
    if hasattr(new, "_make"):
        return new._make(items), changed
    return type(new)(items) if type(new) in (list, tuple) else new, changed


def _twin(value: Any, parts: Mapping[str, Any]) -> Any:
    """Return a copy of a model or dataclass with some attributes replaced; the very same where there are none."""
    if not parts:
        return value
    if isinstance(value, BaseModel):
        twin: Any = BaseModel.__copy__(value)
    else:  # not copy.copy: the class's own `__copy__` may do anything
        twin, state = object.__new__(type(value)), object.__getstate__(value)
        held, slots = state if isinstance(state, tuple) else (state, None)
        if held:
            vars(twin).update(held)
        _put(twin, slots or {})
    _put(twin, parts)
    return twin


def _put(value: Any, parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        # Past the __setattr__ of a frozen class, and past validation: the parts come from a valid value of this type.
        object.__setattr__(value, name, part)


@cached
def _has_own_state(kind: type) -> bool:
    """Whether objects of a class derive something from themselves, which must not come to stand beside other values."""
    members = (member for cls in kind.__mro__ for member in vars(cls).values())
    own = getattr(kind, "__private_attributes__", None)
    return bool(own) or any(isinstance(member, functools.cached_property) for member in members)


def has_no_equality(value: Any) -> bool:
    """Whether an object equals itself alone, so that only its input tells whether it has changed."""
    kind: Any = type(value)
    return kind.__eq__ is object.__eq__


def _is_same(old: Any, new: Any) -> bool:
    """Whether two objects of one class are equal. A comparison that fails counts as a difference."""
    if id(new) in _made_again.get():
        return True
    try:
        if isinstance(new, SECRET_TYPES):
            same: Any = not differences(old.get_secret_value(), new.get_secret_value())
        elif isinstance(new, (float, complex, decimal.Decimal)):
            same = repr(old) == repr(new)
        elif isinstance(new, (dt.datetime, dt.time)):
            same = old == new and old.utcoffset() == new.utcoffset()
        elif isinstance(new, AbstractSet):
            same = _is_same_set(old, new)
        else:
            same = old == new
            if hasattr(same, "all") and hasattr(same, "shape"):  # an array of verdicts, one for each of its items
                same = old.shape == new.shape and same.all()
        return bool(same)
    except Exception:  # noqa: BLE001 - a foreign type's __eq__ may do anything
        return False


def _is_same_set(old: AbstractSet[Any], new: AbstractSet[Any]) -> bool:
    """Whether two sets hold the same items, by this module's measure. Python's finds no NaN in any other set."""
    if not isinstance(new, (set, frozenset)):  # the class may have an order, which only its own equality knows
        return bool(old == new) and not differences(*({item: item for item in each} for each in (old, new)))
    shared = ({item: item for item in one if item in other} for one, other in ((old, new), (new, old)))
    if len(old) != len(new) or differences(*shared):
        return False
    left = list(new - old)
    for item in old - new:
        same = next((index for index, other in enumerate(left) if not differences(item, other)), None)
        if same is None:
            return False
        del left[same]
    return True
