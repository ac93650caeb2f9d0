"""The fingerprint of a settings class: whether what one process wrote can be read by another."""

from __future__ import annotations

import hashlib
import json
import types
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hotconf.schema.caches import cached
from hotconf.schema.fields import fields_of, holds_secret, models_within


@cached
def fingerprint(model: type) -> str:
    """Return a short text that is equal for settings classes, of two processes, that take the same values.

    It is made of the names, input paths and types of all fields, and of which of them hold secrets; not of defaults,
    titles and validators. It is the same in every process and Python version, so no part of it is a `repr`, which may
    hold an address or the order of a set.
    """
    described = [
        [
            nested.__qualname__,
            *(
                [field.name, field.input_paths, holds_secret(field.shape), _type_text(field.info.annotation)]
                for field in fields_of(nested).values()
            ),
        ]
        for _, nested in models_within(model)
    ]
    return hashlib.blake2b(json.dumps(described).encode(), digest_size=16).hexdigest()


def _type_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        names = [
            f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value) for value in arguments
        ]
        return f"Literal{names}"
    inner = [_type_text(argument) for argument in arguments]
    if origin in (Union, types.UnionType):
        # The order may be that of an equal union which another module wrote first.
        return " | ".join(sorted(inner))
    named = origin or annotation
    if isinstance(named, type) and issubclass(named, Enum):
        name = f"{named.__qualname__}({', '.join(named.__members__)})"
    else:  # a type, an alias or a type variable; of anything else, its class
        name = getattr(named, "__qualname__", None) or getattr(named, "__name__", None) or type(named).__name__
    return f"{name}[{', '.join(inner)}]" if inner else name
