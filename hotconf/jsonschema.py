"""What is written about a settings class: its JSON Schema for editors, and its fingerprint for other processes."""

from __future__ import annotations

import functools
import hashlib
import json
import types
import warnings
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, PydanticJsonSchemaWarning

from hotconf.schema.fields import fields_of, holds_secret, models_within
from hotconf.schema.redact import document

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(model: type) -> dict[str, Any]:
    """Return the JSON Schema of what files may hold for a settings class, by canonical spelling.

    `x-restart-required` marks what only a restart applies, `x-secret` what is masked; the default of a secret is left
    out. What JSON Schema cannot express, such as a validator's rule, is left to `check`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # a default that JSON cannot write is left out
        schema = TypeAdapter(model).json_schema(schema_generator=_Generator)
    return {"$schema": DIALECT, **schema}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, which marks fields, and takes what has no JSON Schema for anything at all."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _with_marks(schema["cls"], super().model_schema(schema))

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return _with_marks(schema["cls"], super().dataclass_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        found = super().typed_dict_schema(schema)
        owner = schema.get("cls")
        return _with_marks(owner, found) if owner is not None else found

    def handle_invalid_for_json_schema(
        self,
        schema: core_schema.CoreSchema,  # noqa: ARG002 - pydantic's signature
        error_info: str,  # noqa: ARG002
    ) -> JsonSchemaValue:
        return {}


def _with_marks(model: type, schema: JsonSchemaValue) -> JsonSchemaValue:
    properties = schema.get("properties", {})
    for field in fields_of(model).values():
        if not field.keys or field.keys[0] not in properties:
            continue
        marked = properties[field.keys[0]] = dict(properties[field.keys[0]])
        if field.sensitive:
            marked["x-secret"] = True
            marked.pop("default", None)
        elif "default" in marked:
            # Pydantic's own text would show what Sensitive marks, in the field itself and below it.
            marked["default"] = document(field.info.default, field.shape)
        if field.restart_required:
            marked["x-restart-required"] = True
    return schema


@functools.lru_cache(maxsize=64)
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
