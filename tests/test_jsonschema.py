"""The JSON Schema of a settings class: what editors and the API are told, and no secret."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, Field, SecretStr, create_model
from typing_extensions import TypedDict

from hotconf.jsonschema import DIALECT, accepts, described, json_schema, nodes_at
from hotconf.schema.settings import RestartRequired, Section, Sensitive, Settings, Untyped

CANARY = "canary"


@dataclasses.dataclass
class Data:
    name: str
    key: Annotated[str, Sensitive()] = CANARY


class Typed(TypedDict):
    token: Annotated[str, Sensitive()]


class Database(Section):
    """Where the data lives."""

    url: str
    password: SecretStr = SecretStr(CANARY)


class App(Settings):
    port: Annotated[int, RestartRequired(), Field(gt=0, description="Where to listen.")] = 8080
    database: Annotated[Database, RestartRequired()]
    spare: Database = Database(url="x", password=CANARY)
    data: Data = Data("n", CANARY)
    typed: Typed = {"token": CANARY}
    several: list[Database] = [Database(url="x", password=CANARY)]
    retries: Annotated[int, Field(validation_alias=AliasChoices("tries", "retries"))] = 3
    nan: float = float("nan")
    call: Callable[[int], int] = abs
    anything: Any = object()


@pytest.fixture(scope="module")
def schema():
    return json_schema(App)


def test_marks_bounds_and_descriptions(schema):
    assert schema["$schema"] == DIALECT
    assert schema["properties"]["port"] == {
        "title": "Port",
        "type": "integer",
        "exclusiveMinimum": 0,
        "default": 8080,
        "description": "Where to listen.",
        "x-restart-required": True,
    }
    assert schema["properties"]["database"]["x-restart-required"] is True
    assert schema["required"] == ["database"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["tries"]["default"] == 3
    assert "retries" not in schema["properties"]


@pytest.mark.parametrize(("owner", "field"), [("Database", "password"), ("Data", "key"), ("Typed", "token")])
def test_a_secret_is_marked_wherever_its_class_is_used(schema, owner, field):
    marked = schema["$defs"][owner]["properties"][field]
    assert marked["x-secret"] is True
    assert "default" not in marked


def test_no_default_quotes_a_secret_at_any_depth(schema):
    assert CANARY not in json.dumps(schema)
    assert schema["properties"]["data"]["default"] == {"name": "n", "key": "**********"}


def test_what_has_no_schema_is_anything_and_no_error(schema):
    assert schema["properties"]["call"].keys() <= {"title", "default"}
    json.dumps(schema, allow_nan=False)


def test_untyped_settings_may_be_anything():
    assert json_schema(Untyped)["additionalProperties"] is True


@dataclasses.dataclass
class Record:
    size: int = 3
    token: Annotated[str, Sensitive()] = "hunter2"


def test_defaults_of_standard_dataclasses_are_shown():
    model = create_model("App", record=(Record, ...))
    properties = json_schema(model)["$defs"]["Record"]["properties"]
    assert properties["size"]["default"] == 3
    assert "default" not in properties["token"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("port",), ["integer, above 0"]),
        (("database", "url"), ["string"]),
        (("databases", "any", "url"), ["string"]),
        (("databases", "any", "missing"), []),
        (("maybe",), ["integer", ""]),
        (("either", "url"), ["string"]),
        (("missing",), []),
    ],
)
def test_nodes_are_found_by_path_through_references_mappings_and_unions(path, words):
    class Nodes(App):
        databases: dict[str, Database] = {}
        maybe: int | None = None
        either: int | Database = 0

    assert [described(node) for node in nodes_at(json_schema(Nodes), path)] == words
    assert not nodes_at({}, path)


def test_a_node_accepts_values_of_its_type_and_its_choices():
    values = ["text", True, 1, 0.5, [], {}, None]
    accepted = {
        "string": ["text"],
        "boolean": [True],
        "integer": [1],
        "number": [1, 0.5],
        "array": [[]],
        "object": [{}],
        "null": [None],
    }
    for kind, expected in accepted.items():
        found = [value for value in values if accepts({"type": kind}, value)]
        assert [(type(value), value) for value in found] == [(type(value), value) for value in expected]
    assert [value for value in values if accepts({"enum": ["text", "other"]}, value)] == ["text"]
    assert [value for value in values if accepts({"const": None}, value)] == [None]
    assert all(accepts({}, value) for value in values)
