"""Fingerprints: whether two settings classes, of two processes, take the same values.

Made of what pydantic looks values up by and of what it makes of them: names, places, types, and which are secrets. Not
of defaults, titles and validators. The same in every process and Python version, so nothing in it is a `repr`, which
may have an address or the order of a set in it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import types
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from hotconf.schema.fields import fields, holds_secret, walk

if TYPE_CHECKING:
    from hotconf.schema.fields import Field


@functools.lru_cache(maxsize=64)
def fingerprint(model: type) -> str:
    """Return a short text that is equal for classes with equal fields."""
    described = [[nested.__qualname__, *map(_described, fields(nested).values())] for _, nested in walk(model)]
    return hashlib.blake2b(json.dumps(described).encode(), digest_size=16).hexdigest()


def _described(field: Field) -> list[Any]:
    return [field.name, field.places, holds_secret(field.shape), _type_text(field.info.annotation)]


def _type_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        return f"Literal{[_literal_text(argument) for argument in arguments]}"
    inner = [_type_text(argument) for argument in arguments]
    if origin in (Union, types.UnionType):
        # The order may be that of an equal union which another module wrote first.
        return " | ".join(sorted(inner))
    name = _name(origin or annotation)
    return f"{name}[{', '.join(inner)}]" if inner else name


def _literal_text(value: Any) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)


def _name(annotation: Any) -> str:
    """Return the name of a type, an alias or a type variable; of anything else, what it is."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return f"{annotation.__qualname__}({', '.join(annotation.__members__)})"
    name = getattr(annotation, "__qualname__", None) or getattr(annotation, "__name__", None)
    return str(name or type(annotation).__name__)
