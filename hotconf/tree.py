"""Trees: settings as values that lie below one another, whatever classes hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel

import hotconf.keypath as keypath
from hotconf.schema import fields

if TYPE_CHECKING:
    from hotconf.keypath import KeyPath


def children(value: Any) -> Mapping[Any, Any]:
    """Return what lies directly below a value of settings, by the key that paths use; nothing for a scalar.

    Read past attribute access: a deprecated field warns there, and a model that a validator made may lack one.
    """
    if isinstance(value, RootModel):
        return children(value.root)
    if isinstance(value, BaseModel):
        held = vars(value)
        own = {name: held[name] for name in fields(type(value)) if name in held}
        return {**(value.__pydantic_extra__ or {}), **own}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = fields(type(value))
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if isinstance(value, Mapping):
        return {keypath.key_text(key): item for key, item in value.items()}
    return dict(enumerate(value)) if is_list(value) else {}


def child(value: Any, key: str | int) -> Any:
    """Return what `children` has at a key, None where it has nothing there; of a mapping without a look at the rest."""
    if isinstance(value, Mapping) and isinstance(key, str) and key in value:
        return value[key]
    return children(value).get(key)


def is_list(value: Any) -> bool:
    """Whether a value is a sequence of items, not of characters or bytes."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))


def value_at(settings: Any, path: KeyPath) -> Any:
    """Return the value that settings, or a part of them, have at a path; None where they have nothing there."""
    for key in path:
        settings = child(settings, key)
    return settings
