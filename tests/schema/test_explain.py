"""Explanation: who supplied a value, and what it shadows."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import pytest
from hypothesis import given, strategies as st
from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, SecretStr

import hotconf.schema.tree as tree
from hotconf.schema.explain import Origins, input_paths
from hotconf.schema.settings import Section
from hotconf.values.layer import DEFAULT, Layer
from hotconf.values.merge import merge
from hotconf.values.report import jsonable
from hotconf.values.secrets import MASK
from tests.trees import build, env, file, merged, origins


class Database(Section):
    url: str = "sqlite"
    pool_size: int = Field(10, validation_alias=AliasChoices("pool_size", "poolSize", AliasPath("pool", "size")))
    password: SecretStr = SecretStr("default")


@dataclasses.dataclass
class Record:
    size: int = 1


class App(Section):
    name: str = "app"
    database: Database = Database()
    replicas: list[Database] = []
    labels: RootModel[dict[str, str]] = RootModel[dict[str, str]]({})
    numbered: dict[int, str] = {}
    record: Record = Record()
    hosts: Annotated[list[str], BeforeValidator(lambda v: v.split(",") if isinstance(v, str) else v)] = []
    either: Database | Record | None = None


def text(*layers):
    return {path: str(origin) for path, origin in origins(App, *layers).items() if origin is not DEFAULT}


def test_every_leaf_has_the_origin_of_its_value():
    below = file({"name": "x", "database": {"url": "a", "poolSize": 1}, "replicas": [{"url": "b"}]}, "base.toml")
    above = env({"database": {"url": "c"}})
    assert text(below, above) == {
        "name": "base.toml:1:1",
        "database.url": "env APP_DATABASE__URL",
        "database.pool_size": "base.toml:4:1",
        "replicas.0.url": "base.toml:7:1",
    }


def test_a_default_has_no_place():
    known = origins(App, {"database": {"url": "a"}})
    assert known["name"] is DEFAULT
    assert known["database.pool_size"] is DEFAULT
    assert str(known["database.pool_size"]) == "default"


def test_the_leaves_are_those_of_the_settings():
    known = origins(App, {"labels": {"a.b": "c"}, "record": {"size": 2}, "numbered": {"1": "x"}})
    assert len(known) == len(list(known))
    assert {'labels."a.b"', "record.size", "numbered.1", "replicas", "database.url", "either"} <= set(known)
    assert str(known['labels."a.b"']) == "app.toml:2:1"
    assert str(known["numbered.1"]) == "app.toml:6:1"
    assert known["labels"] == known["labels"]


@pytest.mark.parametrize("path", ["nothing", "database.nothing", "replicas.0", "name.x", "a..b", '"', "labels.root"])
def test_what_is_not_there_is_a_key_error(path):
    known = origins(App, {})
    with pytest.raises(KeyError):
        known[path]
    with pytest.raises(KeyError):
        known.explain(path)
    assert path not in known


def test_an_explanation_names_the_winner_and_what_it_shadows():
    layers = [file({"database": {"pool_size": 1}}, "a"), file({"database": {"pool": {"size": 2}}}, "b")]
    explanation = origins(App, *layers, env({"database": {"poolSize": "3"}})).explain("database.pool_size")
    assert str(explanation).splitlines() == [
        "database.pool_size = 3  from env APP_DATABASE__POOLSIZE",
        "  shadows 2  from b:3:1",
        "  shadows 1  from a:2:1",
    ]
    assert jsonable(explanation) == {
        "path": "database.pool_size",
        "value": 3,
        "origin": "env APP_DATABASE__POOLSIZE",
        "shadowed": [{"value": 2, "origin": "b:3:1"}, {"value": 1, "origin": "a:2:1"}],
    }


def test_a_default_that_stands_because_a_stronger_layer_cut_the_value_off_is_a_default():
    layers = [file({"either": {"url": "a", "pool_size": 5}}, "a"), file({"either": None}, "b")]
    known = origins(App, *layers, file({"either": {"url": "c"}}, "c"))
    explanation = known.explain("either.pool_size")
    assert (explanation.value, explanation.origin) == (10, DEFAULT)
    assert [entry.value for entry in explanation.shadowed] == [5]


def test_what_a_validator_made_of_a_value_comes_from_that_value():
    known = origins(App, {"name": "x", "hosts": "a,b"})
    assert str(known["hosts.1"]) == "app.toml:2:1"
    assert known.explain("hosts").value == ["a", "b"]


class Legacy(BaseModel):
    class Inner(BaseModel):
        url: str = ""
        other: str = "o"

    inner: Annotated[Inner, BeforeValidator(lambda v: {"url": v["uri"]} if "uri" in v else v)] = Inner()


def test_a_key_that_a_validator_renamed_comes_from_its_table():
    known = origins(Legacy, {"inner": {"uri": "x"}})
    assert str(known["inner.url"]) == "app.toml:1:1"
    assert known["inner.other"] is DEFAULT


def test_I11_secrets_are_masked_in_every_layer():
    layers = [file({"database": {"password": "first"}}), env({"database": {"password": "second"}})]
    known = origins(App, *layers)
    for path in ("database.password", "database"):
        explanation = known.explain(path)
        assert MASK in str(explanation)
        assert not [word for word in ("first", "second") if word in f"{explanation} {jsonable(explanation)}"]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


def test_odd_keys_have_origins_like_any_other():
    values = {"self": 1, "model_config": {"a.b": 2}, "__init__": [3]}
    known = origins(Open, values)
    assert {path: str(origin) for path, origin in known.items()} == {
        "self": "app.toml:1:1",
        'model_config."a.b"': "app.toml:3:1",
        "__init__.0": "app.toml:5:1",
    }


def test_a_field_may_lie_at_several_places():
    assert list(input_paths(App, ("database", "pool_size"))) == [
        ("database", "pool_size"),
        ("database", "poolSize"),
        ("database", "pool", "size"),
    ]
    assert list(input_paths(App, ("replicas", 0, "url"))) == [("replicas", 0, "url")]
    assert list(input_paths(App, ("either", "size"))) == [("either", "size")]


leaves = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x"),
        "database": st.fixed_dictionaries(
            {},
            optional={"url": st.just("u"), "pool_size": st.just(3), "poolSize": st.just(3), "password": st.just("p")},
        ).filter(lambda value: not {"pool_size", "poolSize"} <= set(value)),
        "labels": st.dictionaries(st.sampled_from(["a", "b.c", "d e"]), st.just("v"), min_size=1),
        "replicas": st.lists(st.fixed_dictionaries({"url": st.just("r")}), min_size=1, max_size=2),
    },
)


@given(st.lists(leaves, min_size=1, max_size=3))
def test_the_origin_of_each_leaf_is_the_strongest_layer_that_has_it(values):
    layers = [file(value, f"{index}") for index, value in enumerate(values)]
    together = merged(App, *layers)
    known = Origins(App, together, build(App, *layers))
    for path, origin in known.items():
        holders = [index for index, value in enumerate(values) if holds(value, path)]
        assert origin.source == (str(holders[-1]) if holders else "default"), path


def holds(value, path):
    if path.startswith("replicas."):
        return "replicas" in value and path.endswith(".url")
    name, _, rest = path.partition(".")
    if name == "database":
        return bool({rest, {"pool_size": "poolSize"}.get(rest, rest)} & set(value.get("database", {})))
    return rest.strip('"') in value.get("labels", {}) if name == "labels" and rest else name in value


def test_a_snapshot_keeps_its_own_origins():
    layer = Layer("memory", {"name": "x"})
    known = Origins(App, merge([layer]), build(App, layer))
    assert str(known["name"]) == "memory"
    assert next(iter(known)) == "name"


def test_explaining_an_item_of_a_list_asks_for_each_class_of_items_once(monkeypatch):
    layer = file({"replicas": [{"url": str(number)} for number in range(100)]})
    known = Origins(App, merge([layer]), build(App, layer))
    asked, own_shape = [], tree._own_shape
    monkeypatch.setattr(tree, "_own_shape", lambda kind: asked.append(kind) or own_shape(kind))
    assert known.explain("replicas.7.url").value == "7"
    assert len(asked) < 20
