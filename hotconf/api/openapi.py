"""OpenAPI: the description of the endpoints, true to the routes. A test asks every one of them as it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import hotconf
from hotconf.api.parameters import MERGE_PATCH
from hotconf.api.representations import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable

Json: TypeAlias = "dict[str, Any]"

_ANYTHING: Json = {}
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TEXTS: Json = {"type": "array", "items": _TEXT}


def openapi(*, prefix: str = "") -> Json:
    """Return the OpenAPI 3.1 document of a service that is mounted under a prefix: empty, or `/admin`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hotconf configuration service",
            "version": hotconf.__version__,
            "description": "A live configuration: read it, wait for it, change it. Secrets are masked.",
        },
        "servers": [{"url": prefix or "/"}],
        "security": [{}, {"bearer": []}],
        "paths": _PATHS,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": _SCHEMAS,
        },
    }


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


_MOMENT: Json = {"type": "string", "format": "date-time"}

_SCHEMAS: Json = {
    "Problem": _object(
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT,
        faults=_list(_ref("Fault")),
    ),
    "Fault": _object(
        path=_TEXT,
        message=_TEXT,
        origin=_or_null(_TEXT),
        source=_or_null(_TEXT),
        line=_or_null(_COUNT),
        column=_or_null(_COUNT),
        text=_TEXT,
    ),
    "PendingRestart": _object(path=_TEXT, running=_ANYTHING, wanted=_ANYTHING, origin=_TEXT),
    "Report": _object(
        id=_COUNT,
        outcome={"enum": ["applied", "unchanged", "rejected"]},
        triggers=_TEXTS,
        generation=_COUNT,
        started_at=_MOMENT,
        duration={"type": "number", "minimum": 0},
        changed=_TEXTS,
        faults=_list(_ref("Fault")),
        stage=_or_null(_TEXT),
        pending_restart=_list(_ref("PendingRestart")),
        commit_errors=_TEXTS,
        mutated=_TEXTS,
        note=_TEXT,
        dry_run={"type": "boolean"},
    ),
    "Generation": _object(
        generation=_COUNT, loaded_at=_MOMENT, triggers=_TEXTS, changed=_TEXTS, digest=_TEXT, note=_TEXT
    ),
    "Origin": _object(path=_TEXT, value=_ANYTHING, origin=_TEXT),
    "Source": _object(
        name=_TEXT,
        kind=_TEXT,
        required={"type": "boolean"},
        state=_TEXT,
        protection=_or_null(_TEXT),
        error=_or_null(_TEXT),
    ),
    "Held": _object(generation=_COUNT, reason=_TEXT),
    "Status": _object(
        state={"enum": ["new", "starting", "ready", "draining", "stopped"]},
        generation=_COUNT,
        digest=_or_null(_TEXT),
        loaded_at=_or_null(_MOMENT),
        last_reload=_or_null(_ref("Report")),
        consecutive_failures=_COUNT,
        sources=_list(_ref("Source")),
        watching={"type": "object"},
        watchers={"type": "object", "additionalProperties": _COUNT},
        unconfirmed=_or_null({"type": "number"}),
        pending_restart=_list(_ref("PendingRestart")),
        held=_or_null(_ref("Held")),
        degraded=_TEXTS,
        leased={"type": "object", "additionalProperties": _COUNT},
        uptime={"type": "number"},
    ),
}


def _answer(description: str, schema: Json, *, headers: Iterable[str] = ()) -> Json:
    named = {"headers": {name: {"schema": _TEXT} for name in headers}} if headers else {}
    return {"description": description, "content": {"application/json": {"schema": schema}}, **named}


_PROBLEM = {"application/problem+json": {"schema": _ref("Problem")}}
_WHY = {
    400: "A parameter, a header or the body is none.",
    401: "There is a token, and it was not sent.",
    403: "The Host is not ours, or another site's page asks.",
    404: "There is no such thing here.",
    406: "It cannot be served as anything that Accept allows.",
    409: "It cannot be done as things are.",
    412: "The configuration has changed since it was read.",
    413: "The body is too large.",
    415: "The body is not JSON, or in a Content-Encoding that nobody here understands.",
    422: "Rejected, with every fault. What was running stays in force.",
    428: "If-Match is missing.",
    503: "Starting, draining, or too many wait already.",
}


def _problems(*statuses: int) -> Json:
    found = sorted({401, 403, 503, *statuses})
    return {str(status): {"description": _WHY[status], "content": _PROBLEM} for status in found}


def _parameter(name: str, place: str, schema: Json, description: str, *, required: bool = False) -> Json:
    return {"name": name, "in": place, "schema": schema, "description": description, "required": required}


_FLAG: Json = {"enum": ["0", "1", "false", "true"]}
_DURATION: Json = {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,6})?(s|m)?$"}
_PATH = _parameter("path", "path", {"type": "string", "minLength": 1}, "Keys and indices, a/0/b.", required=True)
_NUMBER = _parameter("number", "path", {"type": "integer", "minimum": 0}, "Its number.", required=True)
_DRY_RUN = _parameter("dry_run", "query", _FLAG, "Ask everybody, then undo: nothing changes.")
_VALIDATORS = ("ETag", "Hotconf-Generation")


def _reading(*parameters: Json, missing: bool) -> Json:
    found = _answer("The part. A secret is `**********`.", _ANYTHING, headers=_VALIDATORS)
    found["content"] = {one.media_type: {"schema": _ANYTHING} for one in ALL}
    return {
        "summary": "Read the configuration, at once or when it changes",
        "parameters": [
            *parameters,
            _parameter("wait", "query", _DURATION, "Wait for a change, if If-None-Match names what is in force."),
            _parameter("If-None-Match", "header", _TEXT, "The ETag of the last answer."),
            _parameter("Accept", "header", _TEXT, "JSON, TOML or YAML."),
        ],
        "responses": {
            "200": found,
            "304": {"description": "Nothing has changed.", "headers": {"ETag": {"schema": _TEXT}}},
            **_problems(400, 406, *([404] if missing else [])),
        },
    }


def _get(summary: str, schema: Json, *parameters: Json, statuses: Iterable[int] = ()) -> Json:
    responses = {"200": _answer("It.", schema), **_problems(*statuses)}
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


def _post(summary: str, *parameters: Json, members: Json | None = None, statuses: Iterable[int] = ()) -> Json:
    content = {
        "application/json": {"schema": {"type": "object", "properties": members or {}, "additionalProperties": False}}
    }
    return {
        "post": {
            "summary": summary,
            "parameters": list(parameters),
            "requestBody": {"required": False, "content": content},
            "responses": {
                "200": _answer("What came of it.", _ref("Report"), headers=_VALIDATORS),
                **_problems(400, 413, 415, 422, *statuses),
            },
        }
    }


_PATCH: Json = {
    "summary": "Merge a patch (RFC 7396) into the overlay; null takes a value back",
    "parameters": [
        _parameter("If-Match", "header", _TEXT, "The ETag of /config, or *. Without it: 428."),
        _parameter("confirm", "query", _DURATION, "Take it back by itself unless POST /confirm comes in that time."),
        _DRY_RUN,
    ],
    "requestBody": {
        "required": True,
        "content": {name: {"schema": {"type": "object"}} for name in (MERGE_PATCH, "application/json")},
    },
    "responses": {
        "200": _answer("What came of it.", _ref("Report"), headers=_VALIDATORS),
        **_problems(400, 409, 412, 413, 415, 422, 428),
    },
}

_EVENTS: Json = {
    "summary": "Server-sent events: the state, then every change",
    "parameters": [
        _parameter("path", "query", _TEXT, "A dotted path: only this part."),
        _parameter("reports", "query", _FLAG, "An event for every reload, too."),
        _parameter("Last-Event-ID", "header", _TEXT, "Where to go on."),
    ],
    "responses": {
        "200": {"description": "Events.", "content": {"text/event-stream": {"schema": _TEXT}}},
        **_problems(400, 404),
    },
}

_READY = _object(ready={"type": "boolean"}, state=_TEXT)
_PROBES: Json = {
    "/healthz": {
        "get": {"summary": "It lives", "responses": {"200": _answer("It lives.", _object(status=_TEXT))}},
    },
    "/readyz": {
        "get": {
            "summary": "It is ready",
            "responses": {"200": _answer("Ready.", _READY), "503": _answer("Starting or draining.", _READY)},
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
    "/config": {"get": _reading(missing=False), "head": _reading(missing=False), "patch": _PATCH},
    "/config/{path}": {"get": _reading(_PATH, missing=True), "head": _reading(_PATH, missing=True)},
    "/events": {"get": _EVENTS},
    "/reload": _post(
        "Read the sources again",
        _DRY_RUN,
        _parameter("force", "query", _FLAG, "Overrule the guard, and a rollback that holds."),
    ),
    "/confirm": _post("Make the patch permanent that waits for it", statuses=[409]),
    "/rollback": _post(
        "Go back to a generation, or to the one before",
        members={"generation": {"type": "integer"}},
        statuses=[404],
    ),
    "/history": _get("The last generations", _object(running=_COUNT, generations=_list(_ref("Generation")))),
    "/history/{number}": _get(
        "One generation with its configuration",
        {"allOf": [_ref("Generation"), _object(config=_ANYTHING)]},
        _NUMBER,
        statuses=[404],
    ),
    "/reloads": _get("The reports of the last reloads", _object(reloads=_list(_ref("Report")))),
    "/reloads/{number}": _get("One report", _ref("Report"), _NUMBER, statuses=[404]),
    "/explain": _get("Every value and its origin", _object(values=_list(_ref("Origin")))),
    "/explain/{path}": _get(
        "One value, its origin and what it shadows",
        {"allOf": [_ref("Origin"), _object(shadowed=_list(_object(value=_ANYTHING, origin=_TEXT)))]},
        _PATH,
        statuses=[400, 404],
    ),
    "/schema": _get("JSON Schema of the configuration", {"type": "object"}),
    "/openapi.json": _get("This document", {"type": "object"}),
    "/status": _get("How things stand", _ref("Status")),
    **_PROBES,
}
