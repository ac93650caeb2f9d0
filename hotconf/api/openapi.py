"""The OpenAPI document of the endpoints. A test sends requests to every operation as the document describes it.

The paths are written by hand; the schemas of what is answered are generated from the classes that `jsonable` writes.
"""

from __future__ import annotations

import functools
from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

import hotconf
from hotconf.api.exchange import JSON, PROBLEM
from hotconf.api.parameters import MERGE_PATCH
from hotconf.api.representations import ALL
from hotconf.reload.report import Status
from hotconf.schema.explain import Explanation
from hotconf.values.layer import Origin
from hotconf.values.report import members
from hotconf.values.times import DURATION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import core_schema

Json: TypeAlias = "dict[str, Any]"


def openapi(*, prefix: str = "") -> Json:
    """Return the OpenAPI 3.1 document of a service that is mounted under a prefix: empty, or `/admin`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hotconf configuration service",
            "version": hotconf.__version__,
            "description": "A live configuration: read it, wait for a change, change it. Secrets are masked.",
        },
        "servers": [{"url": prefix or "/"}],
        "security": [{}, {"bearer": []}],
        "paths": _PATHS,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {**_schemas(), "Problem": _PROBLEM},
        },
    }


class GenerationEntry(TypedDict):
    """One generation, as the history lists it."""

    generation: int
    loaded_at: datetime
    triggers: tuple[str, ...]
    changed: tuple[str, ...]
    note: str
    digest: str


@functools.cache
def _schemas() -> Json:
    """Return the schema of each class whose instances are answered, by name, with those that they hold."""
    answered = [(cls, "serialization", TypeAdapter(cls)) for cls in (Status, Explanation, GenerationEntry)]
    _, found = TypeAdapter.json_schemas(
        answered,  # type: ignore[arg-type]  # the list is invariant in its literals
        ref_template="#/components/schemas/{model}",
        schema_generator=_Jsonable,
    )
    return found["$defs"]  # type: ignore[no-any-return]


class _Jsonable(GenerateJsonSchema):
    """Describes a dataclass as `jsonable` writes it: an object of its fields and properties, an origin as its text."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> Json:
        cls: Any = schema["cls"]
        if cls is Origin:
            return {"type": "string"}
        hints = get_type_hints(cls)
        for name in members(cls):
            if name not in hints:
                hints[name] = get_type_hints(getattr(cls, name).fget)["return"]
        return _object(**{name: self.generate_inner(TypeAdapter(hints[name]).core_schema) for name in members(cls)})

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


_ANYTHING: Json = {}
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Json, *, headers: Iterable[str] = ()) -> Json:
    named = {"headers": {name: {"schema": _TEXT} for name in headers}} if headers else {}
    return {"description": description, "content": {JSON: {"schema": schema}}, **named}


_PROBLEM = _object(type=_TEXT, title=_TEXT, status={"type": "integer"}, detail=_TEXT, faults=_list(_ref("Fault")))
_REASONS = {
    400: "Invalid parameter, header or body.",
    401: "The token is missing or wrong.",
    403: "The Host is not allowed, a page of another site sent the request, or the token may only read.",
    404: "Not found.",
    406: "Accept allows no representation that is served.",
    409: "The present state does not allow it.",
    412: "The configuration has changed since it was read.",
    413: "The body is too large.",
    415: "The body is not JSON, or its Content-Encoding is not supported.",
    422: "Rejected, with every fault. The running configuration stays in force.",
    428: "If-Match is missing.",
    503: "The service is starting or draining, or too many clients wait for changes.",
}


def _problems(*statuses: int) -> Json:
    found = sorted({401, 403, 503, *statuses})
    content = {PROBLEM: {"schema": _ref("Problem")}}
    return {str(status): {"description": _REASONS[status], "content": content} for status in found}


def _parameter(name: str, place: str, schema: Json, description: str, *, required: bool = False) -> Json:
    return {"name": name, "in": place, "schema": schema, "description": description, "required": required}


_FLAG: Json = {"enum": ["0", "1", "false", "true"]}
_DURATION: Json = {"type": "string", "pattern": f"^{DURATION.pattern}$"}
_PATH = _parameter("path", "path", {"type": "string", "minLength": 1}, "Keys and indices: a/0/b.", required=True)
_NUMBER = _parameter("number", "path", {"type": "integer", "minimum": 0}, "The number.", required=True)
_DRY_RUN = _parameter("dry_run", "query", _FLAG, "Run validation and prepare hooks, report the result, apply nothing.")
_VALIDATORS = ("ETag", "Hotconf-Generation")


def _read(*parameters: Json, missing: bool) -> Json:
    found = _answer("The requested part. A secret is `**********`.", _ANYTHING, headers=_VALIDATORS)
    found["content"] = {one.media_type: {"schema": _ANYTHING} for one in ALL}
    return {
        "summary": "Read the configuration, at once or when it changes",
        "parameters": [
            *parameters,
            _parameter("wait", "query", _DURATION, "Wait for a change if If-None-Match names the state in force."),
            _parameter("If-None-Match", "header", _TEXT, "The ETag of the last response."),
            _parameter("Accept", "header", _TEXT, "JSON, TOML or YAML."),
        ],
        "responses": {
            "200": found,
            "304": {"description": "Not modified.", "headers": {"ETag": {"schema": _TEXT}}},
            **_problems(400, 406, *([404] if missing else [])),
        },
    }


def _get(summary: str, schema: Json, *parameters: Json, statuses: Iterable[int] = ()) -> Json:
    responses = {"200": _answer("The requested resource.", schema), **_problems(*statuses)}
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


def _post(summary: str, *parameters: Json, members: Json | None = None, statuses: Iterable[int] = ()) -> Json:
    body = {"type": "object", "properties": members or {}, "additionalProperties": False}
    return {
        "post": {
            "summary": summary,
            "parameters": list(parameters),
            "requestBody": {"required": False, "content": {JSON: {"schema": body}}},
            "responses": {
                "200": _answer("The report.", _ref("Report"), headers=_VALIDATORS),
                **_problems(400, 413, 415, 422, *statuses),
            },
        }
    }


_PATCH: Json = {
    "summary": "Merge a patch (RFC 7396) into the overlay; null removes a value from it",
    "parameters": [
        _parameter("If-Match", "header", _TEXT, "The ETag of /config, or * for any state. Without it: 428."),
        _parameter("confirm", "query", _DURATION, "Undo the patch after this time unless POST /confirm comes before."),
        _DRY_RUN,
    ],
    "requestBody": {
        "required": True,
        "content": {name: {"schema": {"type": "object"}} for name in (MERGE_PATCH, JSON)},
    },
    "responses": {
        "200": _answer("The report.", _ref("Report"), headers=_VALIDATORS),
        **_problems(400, 409, 412, 413, 415, 422, 428),
    },
}

_EVENTS: Json = {
    "summary": "Server-sent events: the state in force, then every change",
    "parameters": [
        _parameter("path", "query", _TEXT, "A dotted path: only this part."),
        _parameter("reports", "query", _FLAG, "An event for every reload as well."),
        _parameter("Last-Event-ID", "header", _TEXT, "The id of the last event that was received."),
    ],
    "responses": {
        "200": {"description": "A stream of events.", "content": {"text/event-stream": {"schema": _TEXT}}},
        **_problems(400, 404),
    },
}

_READY = _object(ready={"type": "boolean"}, state=_TEXT)
_PROBES: Json = {
    "/healthz": {
        "get": {"summary": "Liveness probe", "responses": {"200": _answer("Alive.", _object(status=_TEXT))}},
    },
    "/readyz": {
        "get": {
            "summary": "Readiness probe",
            "responses": {"200": _answer("Ready.", _READY), "503": _answer("Not ready.", _READY)},
        },
    },
    "/metrics": {
        "get": {
            "summary": "Metrics for Prometheus",
            "responses": {
                "200": {"description": "Metrics.", "content": {"text/plain": {"schema": _TEXT}}},
                **_problems(),
            },
        },
    },
}

_PATHS: Json = {
    "/config": {"get": _read(missing=False), "head": _read(missing=False), "patch": _PATCH},
    "/config/{path}": {"get": _read(_PATH, missing=True), "head": _read(_PATH, missing=True)},
    "/events": {"get": _EVENTS},
    "/reload": _post(
        "Read the sources again",
        _DRY_RUN,
        _parameter("force", "query", _FLAG, "Override the guard, and a rollback that is held."),
    ),
    "/confirm": _post("Make the patch permanent that waits to be confirmed", statuses=[409]),
    "/rollback": _post(
        "Go back to a generation, or to the previous one",
        members={"generation": {"type": "integer"}},
        statuses=[404],
    ),
    "/history": _get("The last generations", _object(running=_COUNT, generations=_list(_ref("GenerationEntry")))),
    "/history/{number}": _get(
        "One generation with its configuration",
        {"allOf": [_ref("GenerationEntry"), _object(config=_ANYTHING)]},
        _NUMBER,
        statuses=[404],
    ),
    "/reloads": _get("The reports of the last reloads", _object(reloads=_list(_ref("Report")))),
    "/reloads/{number}": _get("One report", _ref("Report"), _NUMBER, statuses=[404]),
    "/explain": _get(
        "Every value and its origin",
        _object(values=_list(_object(path=_TEXT, value=_ANYTHING, origin=_ref("Origin")))),
    ),
    "/explain/{path}": _get(
        "One value, its origin, and the values that it shadows", _ref("Explanation"), _PATH, statuses=[400, 404]
    ),
    "/schema": _get("JSON Schema of the configuration", {"type": "object"}),
    "/openapi.json": _get("This document", {"type": "object"}),
    "/status": _get(
        "Status of the configuration and the process",
        {
            "allOf": [
                _ref("Status"),
                _object(
                    watchers={"type": "object", "additionalProperties": _COUNT},
                    unconfirmed={"anyOf": [{"type": "number"}, {"type": "null"}]},
                ),
            ]
        },
    ),
    **_PROBES,
}
