"""JSON Schema of a settings class, as editors use it: with what only a restart applies and what is secret marked."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, PydanticJsonSchemaWarning

from hotconf.schema.fields import fields
from hotconf.schema.redact import document

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(model: type) -> dict[str, Any]:
    """Return the JSON Schema of what files may hold for a settings class, by canonical spelling.

    `x-restart-required` marks what only a restart applies, `x-secret` what is masked, whose default is left out. What
    JSON Schema cannot say, such as a validator's rule, is left to `check`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # a default that JSON cannot write is left out
        schema = TypeAdapter(model).json_schema(schema_generator=_Generator)
    return {"$schema": DIALECT, **schema}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, which marks fields, and takes what has no JSON Schema for anything at all."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _marked(schema["cls"], super().model_schema(schema))

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return _marked(schema["cls"], super().dataclass_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        found = super().typed_dict_schema(schema)
        owner = schema.get("cls")
        return _marked(owner, found) if owner is not None else found

    def handle_invalid_for_json_schema(
        self,
        schema: core_schema.CoreSchema,  # noqa: ARG002 - pydantic's signature
        error_info: str,  # noqa: ARG002
    ) -> JsonSchemaValue:
        return {}


def _marked(model: type, schema: JsonSchemaValue) -> JsonSchemaValue:
    properties = schema.get("properties", {})
    for field in fields(model).values():
        for spelling in field.spellings[:1]:
            if spelling in properties:
                properties[spelling] = _with_marks(properties[spelling], field)
    return schema


def _with_marks(node: JsonSchemaValue, field: Any) -> JsonSchemaValue:
    marked = dict(node)
    if "default" in marked:
        # Not as pydantic writes it, which knows nothing of Sensitive, in the field itself or anywhere below it.
        marked["default"] = document(field.info.default, field.shape)
    if field.restart_required:
        marked["x-restart-required"] = True
    if field.sensitive:
        marked["x-secret"] = True
        marked.pop("default", None)
    return marked
