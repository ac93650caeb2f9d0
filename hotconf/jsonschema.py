"""JSON Schema: that of a settings class, for editors; and what the nodes of a schema say."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, PydanticJsonSchemaWarning

from hotconf.schema.fields import fields_of, models_in, reads_sources
from hotconf.schema.redact import document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

    from hotconf.values.keypath import KeyPath

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Node: TypeAlias = Mapping[str, Any]
"""A JSON Schema, or a part of one."""

_MOST_CHOICES = 100
_DEEPEST = 4
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "length at least {}",
    "maxLength": "length at most {}",
    "pattern": "matching {}",
    "minItems": "length at least {}",
    "maxItems": "length at most {}",
}
_TYPES: Mapping[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


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
        if field.sensitive or any(map(reads_sources, models_in(field.shape))):
            marked.pop("default", None)  # the one of nested settings is what their sources said
        elif "default" in marked:
            # Pydantic's own text would show what Sensitive marks, in the field itself and below it.
            marked["default"] = document(field.info.default, field.shape)
        if field.restart_required:
            marked["x-restart-required"] = True
    return schema


# Nodes


def resolved(node: Node, root: Node) -> Node:
    """Return a node of a schema with its reference replaced by the definition. The node's own keys take precedence."""
    definitions = root.get("$defs", {})
    while "$ref" in node:
        target = definitions.get(str(node["$ref"]).rpartition("/")[2], {})
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return {**node, "$defs": definitions}


def described_by(node: Node, title: str) -> Node:
    """Return the node with the properties of a class, by its name, that a node allows: itself, a choice or an item."""
    pending = [node]
    for _ in range(_MOST_CHOICES):
        if not pending:
            break
        found = resolved(pending.pop(0), node)
        if "properties" in found and found.get("title", title) == title:
            return found
        inner = (found.get("items"), found.get("additionalProperties"))
        choices = (*found.get("anyOf", ()), *found.get("oneOf", ()), *found.get("allOf", ()))
        pending += [one for one in (*choices, *inner) if isinstance(one, Mapping)]
    return {}


def described(node: Node, *, depth: int = 0) -> str:
    """Return type and bounds in words, `integer, at least 1`; the empty string where there are none."""
    choices = node.get("anyOf") or node.get("oneOf")
    if depth > _DEEPEST:  # the schema may contain itself
        return ""
    if choices:
        words = (described(resolved(choice, node), depth=depth + 1) for choice in choices)
        return " or ".join(dict.fromkeys(filter(None, words)))
    bounds = [text.format(node[key]) for key, text in _BOUNDS.items() if key in node]
    return ", ".join(filter(None, [_kind(node, depth), *bounds]))


def _kind(node: Node, depth: int) -> str:
    if "const" in node or "enum" in node:
        values = node.get("enum", [node.get("const")])
        return f"one of {', '.join(map(_quoted, values))}" if len(values) > 1 else f"always {_quoted(values[0])}"
    kind = str(node.get("type", ""))
    inner = node.get("items") or node.get("additionalProperties")
    if kind in ("array", "object") and isinstance(inner, Mapping):
        of = described(resolved(inner, node), depth=depth + 1)
        return f"{'list' if kind == 'array' else 'table'}{f' of {of}' if of else ''}"
    kind = {"array": "list", "object": "table", "number": "number", "null": ""}.get(kind, kind)
    form = node.get("format")
    return f"{kind} ({form})" if form and form != "password" else kind


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def nodes_at(schema: Node, path: KeyPath) -> list[Node]:
    """Return the nodes of a schema that describe a path: none for an unknown path, several for a union."""
    nodes = list(_members(schema, schema))
    for key in path:
        inner = [node.get("properties", {}).get(key) or node.get("additionalProperties") for node in nodes]
        nodes = [member for node in inner if isinstance(node, dict) for member in _members(node, schema)]
    return nodes


def _members(node: Node, schema: Node) -> Iterator[Node]:
    node = resolved(node, schema)
    choices = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    for choice in choices:
        yield from _members(choice, schema)
    if not choices:
        yield node


def accepts(node: Node, value: Any) -> bool:
    """Whether a value has the type that a node names, or is one of its choices. Ignores bounds and patterns."""
    if "enum" in node or "const" in node:
        return value in node.get("enum", [node.get("const")])
    kind = node.get("type")
    return not isinstance(kind, str) or kind not in _TYPES or bool(_TYPES[kind](value))
