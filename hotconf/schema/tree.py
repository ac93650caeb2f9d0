"""Trees: settings as values that lie below one another, in models, records, mappings and lists of any class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel

import hotconf.values.keypath as keypath
from hotconf.schema.fields import fields_of, holds_content, shape_below
from hotconf.schema.shape import SECRET_TYPES, Shape, shape_of, union
from hotconf.values.merge import SCALARS
from hotconf.values.secrets import Secrecy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.values.keypath import KeyPath


def children(value: Any) -> Mapping[Any, Any]:
    """Return what lies directly below a value of settings, by the key that paths use; nothing for a scalar.

    It reads past attribute access: a deprecated field warns there, and a model that a validator made may lack one.
    """
    if isinstance(value, RootModel):
        return children(value.root)
    if isinstance(value, BaseModel):
        held = vars(value)
        own = {name: held[name] for name in fields_of(type(value)) if name in held}
        return {**(value.__pydantic_extra__ or {}), **own}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = fields_of(type(value))
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if isinstance(value, Mapping):
        items = {keypath.key_text(key): item for key, item in value.items()}
        if len(items) == len(value):
            return items
        texts = keypath.distinct({key: keypath.key_text(key) for key in value})
        return {text: value[key] for key, text in texts.items()}
    return dict(enumerate(value)) if is_list(value) else {}


def child(value: Any, key: str | int, default: Any = None) -> Any:
    """Return what `children` has at a key, else `default`, without a look at the rest where that is possible."""
    if isinstance(value, Mapping) and isinstance(key, str) and key in value:
        return value[key]
    if isinstance(value, list):
        return value[key] if isinstance(key, int) and 0 <= key < len(value) else default
    if isinstance(value, RootModel):
        return child(value.root, key, default)
    if isinstance(value, BaseModel) and key in fields_of(type(value)) and key in vars(value):
        return vars(value)[str(key)]
    return children(value).get(key, default)


def is_list(value: Any) -> bool:
    """Whether a value is a sequence of items, not of characters or bytes."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))


def content_files(settings: Any, shape: Shape, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield the files whose content counts, each with the path of the setting that names it."""
    shape = refined(shape, settings)
    if shape.content and (isinstance(settings, str) or hasattr(settings, "__fspath__")):
        yield path, str(settings)
    elif holds_content(shape):
        for key, item in children(settings).items():
            yield from content_files(item, shape_below(shape, key), (*path, key))


def value_at(settings: Any, path: KeyPath) -> Any:
    """Return the value that settings, or a part of them, have at a path; None where they have nothing there."""
    for key in path:
        settings = child(settings, key)
    return settings


def refined_at(shape: Shape, value: Any, path: KeyPath) -> Shape:
    """Return the shape at a path below a value, as the schema and the classes of the values on the way have it."""
    for key in path:
        shape, value = shape_below(refined(shape, value), key), child(value, key)
    return refined(shape, value)


def refined(shape: Shape, value: Any) -> Shape:
    """Return what the schema says of a place together with what the value there, or an item of it, says of itself.

    It may be of a class that the schema does not name: a subclass that a validator chose, or that is a default.
    """
    if type(value) in SCALARS or type(value) is dict:
        return shape  # they say nothing of themselves
    own = _own_shape(type(value))
    if own is None and is_list(value) and (shape.items or not shape.positions):
        kinds = dict.fromkeys(map(type, value))  # each class once: this is asked again for every item of a list
        items = [found for kind in kinds if (found := _own_shape(kind)) is not None]
        own = Shape(items=union(items)) if items else None
    if own is None or (own.models and own.models[0] in shape.models):
        return shape
    return union([shape, own])


def _own_shape(kind: type) -> Shape | None:
    own = shape_of(kind) if fields_of(kind) else None
    return Shape(secrecy=Secrecy.ALL) if issubclass(kind, SECRET_TYPES) else own
