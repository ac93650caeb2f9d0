"""Deferral: what only a restart can apply stays as it is running, the rest goes on, and nothing is kept in secret."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given, strategies as st
from pydantic import AliasChoices, AliasPath, BaseModel, Field, RootModel, SecretStr, create_model, model_validator
from typing_extensions import TypedDict

import hotconf.reload.restart as deferral
from hotconf.errors import Rejected
from hotconf.reload.restart import Built, refusals
from hotconf.reload.validate import validate
from hotconf.schema.diff import compare, differences
from hotconf.schema.explain import Origins
from hotconf.schema.settings import RestartRequired, Section, Sensitive
from hotconf.values.secrets import MASK
from tests.trees import env, file, merged

HIDDEN = "hunter2-Ünsafe"


def built(model, *layers):
    together = merged(model, *layers)
    return Built(together, validate(model, together))


def defer(model, running, candidate):
    changed = differences(running.settings, candidate.settings)
    return deferral.defer(model, running, candidate, changed=changed)


def mix(model, running, candidate):
    """Defer between two sets of layers: one mapping is one file."""
    return defer(
        model, *(built(model, *(side if isinstance(side, tuple) else (side,))) for side in (running, candidate))
    )


def pending(deferral):
    return {entry.path: (entry.running, entry.wanted) for entry in deferral.pending}


def rejected(model, running, candidate):
    with pytest.raises(Rejected) as caught:
        mix(model, running, candidate)
    return [str(fault) for fault in caught.value.faults]


class Tls(Section):
    cert: Annotated[str, RestartRequired()]
    ciphers: str = "modern"


class Plain(Section):
    ciphers: str = "none"


class Pool(Section):
    size: int = 10
    driver: Annotated[str, RestartRequired()] = "psycopg"


class Login(TypedDict, total=False):
    user: str
    token: Annotated[str, RestartRequired(), Sensitive()]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    size: int = 1
    kind: Annotated[str, RestartRequired()] = "x"


class Pair(NamedTuple):
    left: int
    right: Annotated[int, RestartRequired()]


class Port(RootModel[Annotated[int, RestartRequired()]]):
    pass


class App(Section):
    message: str = "hello"
    port: Annotated[int, RestartRequired()] = 8080
    fallback: Annotated[int, RestartRequired()] | None = None
    ports: list[Annotated[int, RestartRequired()]] = []
    labels: Annotated[dict[str, str], RestartRequired()] = {}
    cache: Annotated[Plain, RestartRequired()] = Plain()
    tls: Tls | Plain | None = None
    pool: Pool = Pool()
    pools: dict[str, Pool] = {}
    listed: list[Pool] = []
    deep: dict[str, list[Pool]] = {}
    login: Login = {}
    record: Record = Record()
    pair: Pair | None = None
    root: Port = Port(1)
    password: Annotated[SecretStr, RestartRequired()] = SecretStr("")
    anything: Any = None


POOL = {"driver": "psycopg", "size": 10}

CASES = [
    # running, candidate, what goes on, what is pending
    ({"port": 1}, {"port": 2}, {"port": 1}, {"port": (1, 2)}),
    ({}, {"port": 2}, {}, {"port": (8080, 2)}),
    ({"port": 1}, {}, {"port": 1}, {"port": (1, 8080)}),
    ({"port": 1}, {"port": 2, "message": "new"}, {"port": 1, "message": "new"}, {"port": (1, 2)}),
    ({"port": 1}, {"port": "1"}, {"port": "1"}, {}),
    ({"port": 8080}, {}, {}, {}),
    ({"message": "old"}, {"message": "new"}, {"message": "new"}, {}),
    ({}, {"fallback": 1}, {}, {"fallback": (None, 1)}),
    ({"fallback": 1}, {"fallback": None}, {"fallback": 1}, {"fallback": (1, None)}),
    ({"ports": [1, 2]}, {"ports": [2]}, {"ports": [1, 2]}, {"ports": ([1, 2], [2])}),
    (
        {"labels": {"a": "1", "b": "2"}},
        {"labels": {"a": "x", "c": "3"}},
        {"labels": {"a": "1", "b": "2"}},
        {"labels.a": ("1", "x"), "labels.c": (None, "3"), "labels.b": ("2", None)},
    ),
    ({}, {"cache": {"ciphers": "all"}}, {}, {"cache.ciphers": ("none", "all")}),
    # A section that is not marked goes on but for its marked fields.
    ({}, {"pool": {"driver": "x"}}, {}, {"pool.driver": ("psycopg", "x")}),
    ({}, {"pool": {"driver": "x", "size": 1}}, {"pool": {"size": 1}}, {"pool.driver": ("psycopg", "x")}),
    ({"pool": {"driver": "x"}}, {}, {"pool": {"driver": "x"}}, {"pool.driver": ("x", "psycopg")}),
    # One that appears, goes or becomes another does so as a whole.
    ({}, {"tls": {"cert": "a"}}, {}, {"tls": (None, {"cert": "a", "ciphers": "modern"})}),
    (
        {"tls": {"cert": "a"}},
        {"port": 8080},
        {"tls": {"cert": "a"}},
        {"tls": ({"cert": "a", "ciphers": "modern"}, None)},
    ),
    (
        {"tls": {"ciphers": "x"}},
        {"tls": {"cert": "a"}},
        {"tls": {"ciphers": "x"}},
        {"tls": ({"ciphers": "x"}, {"cert": "a", "ciphers": "modern"})},
    ),
    ({}, {"tls": {"ciphers": "x"}}, {"tls": {"ciphers": "x"}}, {}),
    ({"tls": {"ciphers": "x"}}, {"tls": {"ciphers": "y"}}, {"tls": {"ciphers": "y"}}, {}),
    # The items of a mapping have a name, those of a list do not.
    (
        {"pools": {"a.b": {"size": 1}}},
        {"pools": {"a.b": {"size": 2, "driver": "x"}}},
        {"pools": {"a.b": {"size": 2}}},
        {'pools."a.b".driver': ("psycopg", "x")},
    ),
    ({"pools": {"a": {}}}, {"pools": {"a": {}, "b": {}}}, {"pools": {"a": {}}}, {"pools.b": (None, POOL)}),
    ({"pools": {"a": {}}}, {"pools": {}}, {"pools": {"a": {}}}, {"pools.a": (POOL, None)}),
    ({"listed": [{}]}, {"listed": [{"size": 2}]}, {"listed": [{"size": 2}]}, {}),
    (
        {"listed": [{"driver": "a"}, {"driver": "b"}]},
        {"listed": [{"driver": "b"}]},
        {"listed": [{"driver": "a"}, {"driver": "b"}]},
        {"listed": ([POOL | {"driver": "a"}, POOL | {"driver": "b"}], [POOL | {"driver": "b"}])},
    ),
    (
        {"deep": {"x": [{}], "y": [{}]}},
        {"deep": {"x": [{"size": 3}], "y": [{}, {}]}},
        {"deep": {"x": [{"size": 3}], "y": [{}]}},
        {"deep.y": ([POOL], [POOL, POOL])},
    ),
    # Every kind of class with fields.
    (
        {"login": {"user": "a", "token": "x"}},
        {"login": {"user": "b", "token": "y"}},
        {"login": {"user": "b", "token": "x"}},
        {"login.token": (MASK, MASK)},
    ),
    (
        {"record": {"kind": "a"}},
        {"record": {"kind": "b", "size": 2}},
        {"record": {"kind": "a", "size": 2}},
        {"record.kind": ("a", "b")},
    ),
    ({"pair": [1, 2]}, {"pair": [3, 2]}, {"pair": [3, 2]}, {}),
    ({"pair": [1, 2]}, {"pair": [1, 3]}, {"pair": [1, 2]}, {"pair": ([1, 2], [1, 3])}),
    ({"root": 1}, {"root": 2}, {"root": 1}, {"root": (1, 2)}),
    ({"password": "a"}, {"password": HIDDEN}, {"password": "a"}, {"password": (MASK, MASK)}),
    ({"anything": {"port": 1}}, {"anything": {"port": 2}}, {"anything": {"port": 2}}, {}),
]


@pytest.mark.parametrize(("running", "candidate", "goes_on", "waits"), CASES)
def test_I8_what_only_a_restart_can_apply_keeps_its_running_value(running, candidate, goes_on, waits):
    found = mix(App, running, candidate)
    assert pending(found) == waits
    assert differences(built(App, goes_on).settings, found.settings) == ()
    assert validate(App, found.merged) == found.settings


@pytest.mark.parametrize(("running", "candidate", "goes_on", "waits"), CASES)
def test_I8_it_stays_pending_until_it_is_put_back(running, candidate, goes_on, waits):
    first = mix(App, running, candidate)
    now = Built(first.merged, first.settings)
    assert pending(defer(App, now, built(App, candidate))) == waits
    assert defer(App, now, built(App, goes_on)).pending == ()
    back = built(App, running)
    assert defer(App, now, back).merged is back.merged


def test_nothing_to_wait_for_leaves_the_candidate_as_it_is():
    running, candidate = built(App, {"message": "a"}), built(App, {"message": "b"})
    found = defer(App, running, candidate)
    assert (found.merged, found.settings, found.pending) == (candidate.merged, candidate.settings, ())
    assert found.settings is candidate.settings


class Untouchable:
    def __getattribute__(self, name):
        raise AssertionError(name)


@pytest.mark.parametrize(("model", "changed"), [(Plain, [("ciphers",)]), (App, [])])
def test_a_class_without_a_mark_and_settings_without_a_change_are_not_even_looked_at(model, changed):
    running, candidate = (Built(merged(model, {}), Untouchable()) for _ in range(2))
    assert deferral.defer(model, running, candidate, changed=changed).settings is candidate.settings


def test_a_pending_entry_says_where_the_wanted_value_comes_from():
    found = mix(App, ({"port": 1, "labels": {"a": "1"}},), ({"labels": {}}, env({"port": 2, "pool": {"driver": "x"}})))
    assert {entry.path: str(entry.origin) for entry in found.pending} == {
        "port": "env APP_PORT",
        "labels.a": "app.toml:1:1",
        "pool.driver": "env APP_POOL__DRIVER",
    }
    [entry] = mix(App, {"port": 1}, {}).pending
    assert str(entry.origin) == "default"


def origin(deferral, path):
    return str(Origins(App, deferral.merged, deferral.settings)[path])


def test_what_is_kept_has_the_origin_of_the_running_value_and_all_else_that_of_the_candidate():
    first = mix(
        App,
        {"port": 1, "pool": {"driver": "a", "size": 1}, "pools": {"x": {"driver": "a"}}},
        (file({"message": "new", "pool": {"size": 2}, "pools": {"x": {"driver": "b"}}}, "new.toml"), env({"port": 2})),
    )
    second = defer(App, Built(first.merged, first.settings), built(App, file({"port": 3, "message": "m"}, "last.toml")))
    for found, name in ((first, "new.toml"), (second, "last.toml")):
        assert origin(found, "port") == "app.toml:1:1"
        assert origin(found, "pool.driver") == "app.toml:3:1"
        assert origin(found, "message").startswith(f"{name}:")
    assert origin(first, "pool") == "new.toml:2:1"
    assert origin(first, "pool.size") == "new.toml:3:1"
    assert origin(first, "pools.x.driver") == "app.toml:7:1"
    assert origin(mix(App, {}, {"port": 2}), "port") == "default"
    explained = Origins(App, first.merged, first.settings).explain("port")
    assert (explained.value, [str(each.origin) for each in explained.shadowed]) == (1, ["env APP_PORT"])


def test_the_layers_of_earlier_generations_are_not_held():
    running = built(App, {"port": 1, "pool": {"driver": "a"}})
    for round_ in range(6):
        wanted = {"port": 1 + round_ % 2, "pool": {"driver": "ab"[round_ % 3 == 0]}}
        found = defer(App, running, built(App, wanted))
        running = Built(found.merged, found.settings)
        assert len(running.merged.layers) <= 2
        assert all(type(layer.origins) is dict for layer in running.merged.layers)


class Ruled(Section):
    minimum: int = 0
    maximum: Annotated[int, RestartRequired()] = 10
    token: Annotated[SecretStr, RestartRequired()] = SecretStr("")

    @model_validator(mode="after")
    def ordered(self):
        if self.minimum > self.maximum:
            raise ValueError("minimum must not exceed maximum")
        return self


def test_I8_a_mix_that_does_not_validate_names_what_was_kept():
    [fault] = rejected(Ruled, {"minimum": 1}, {"minimum": 20, "maximum": 30})
    assert fault == (
        "app.toml:1:1: minimum must not exceed maximum; maximum keeps its running value: "
        "these change together only by restart"
    )
    [fault] = rejected(Ruled, {"minimum": 1, "token": HIDDEN}, {"minimum": 20, "maximum": 30, "token": HIDDEN * 2})
    assert "maximum, token keep their running values" in fault
    assert HIDDEN not in fault


class Derived(Section):
    host: str = "a"
    port: Annotated[int, RestartRequired()] = 1
    url: str = ""
    dsn: Annotated[str, RestartRequired()] = ""

    @model_validator(mode="before")
    @classmethod
    def derive(cls, values):
        host, port = values.get("host", "a"), values.get("port", 1)
        return {"dsn": f"db://{host}", **values, "url": f"http://{host}:{port}"}


def test_the_root_itself_may_be_marked():
    ports = RootModel[dict[str, Annotated[int, RestartRequired()]]]
    found = mix(ports, {"a": 1}, {"a": 2, "b": 3})
    assert (found.settings.root, pending(found)) == ({"a": 1}, {"a": (1, 2), "b": (None, 3)})


def test_what_is_derived_from_kept_values_is_derived_anew():
    found = mix(Derived, {"dsn": "x"}, {"dsn": "x", "host": "b", "port": 2})
    assert (found.settings.url, pending(found)) == ("http://b:1", {"port": (1, 2)})


def test_I8_what_cannot_keep_its_value_refuses_the_whole():
    [fault] = rejected(Derived, {}, {"host": "b"})
    assert fault == (
        "default: dsn: only a restart can change it, and it cannot keep its running value beside the rest: "
        "these change together only by restart"
    )


class Made(BaseModel):
    identity: Annotated[object, RestartRequired()] = Field(default_factory=object)
    list_: Annotated[list[int], RestartRequired()] = Field(default_factory=list)
    message: str = ""
    model_config = {"arbitrary_types_allowed": True}


def test_the_value_of_a_default_factory_is_no_change_while_no_source_sets_it():
    assert mix(Made, {"message": "a"}, {"message": "b"}).pending == ()
    running = built(Made, {})
    found = defer(Made, running, built(Made, {"identity": "x", "list_": [1], "message": "b"}))
    assert set(pending(found)) == {"identity", "list_"}
    assert compare(running.settings, found.settings) == (("message",),)
    assert found.settings.identity is running.settings.identity


class Spelt(Section):
    chosen: Annotated[int, RestartRequired()] = Field(0, validation_alias=AliasChoices("choice", "chosen"))
    nested: Annotated[int, RestartRequired()] = Field(0, validation_alias=AliasPath("deep", "value"))
    item: Annotated[int, RestartRequired()] = Field(0, validation_alias=AliasPath("deep", "list", 1))
    beside: int = Field(0, validation_alias=AliasPath("deep", "beside"))
    first: int = Field(0, validation_alias=AliasPath("deep", "list", 0))
    pools: dict[int, Pool] = Field({}, alias="by-number")


class Sections(Section):
    inner: Spelt = Field(Spelt(), alias="in")
    special: Pool = Pool(driver="special")


@pytest.mark.parametrize(
    ("running", "candidate", "values", "waits"),
    [
        ({"choice": 1}, {"chosen": 2}, {"chosen": 1}, ["chosen"]),
        ({"chosen": 1}, {}, {"chosen": 1}, ["chosen"]),
        ({}, {"choice": 1}, {}, ["chosen"]),
        ({"deep": {"value": 1}}, {"deep": {"value": 2, "beside": 3}}, {"nested": 1, "beside": 3}, ["nested"]),
        ({"deep": {"value": 1}}, {}, {"nested": 1}, ["nested"]),
        ({}, {"deep": {"value": 2, "beside": 3}}, {"beside": 3}, ["nested"]),
        ({"deep": {"list": [1, 2]}}, {"deep": {"list": [3, 4]}}, {"first": 3, "item": 2}, ["item"]),
        ({"deep": {"list": [1, 2]}}, {"deep": {"list": [3]}}, {"first": 3, "item": 2}, ["item"]),
        ({"deep": {"list": [1]}}, {"deep": {"list": [3, 4]}}, {"first": 3}, ["item"]),
        ({"by-number": {1: {}}}, {"by-number": {1: {"size": 1, "driver": "x"}}}, {"pools": {1: 1}}, ["pools.1.driver"]),
        ({"by-number": {1: {}}}, {"by-number": {1: {}, 2: {}}}, {"pools": {1: 10}}, ["pools.2"]),
    ],
)
def test_kept_values_are_found_under_every_spelling(running, candidate, values, waits):
    found = mix(Sections, {"in": running}, {"in": candidate})
    assert [entry.path for entry in found.pending] == [f"inner.{path}" for path in waits]
    inner = found.settings.inner
    sizes = {number: pool.size for number, pool in inner.pools.items()}
    assert {name: getattr(inner, name) for name in Spelt.model_fields if name != "pools"} | {"pools": sizes} == {
        "chosen": 0, "nested": 0, "item": 0, "beside": 0, "first": 0, "pools": {}
    } | values  # fmt: skip


def test_a_place_in_a_list_that_cannot_be_kept_refuses_the_whole():
    [fault] = rejected(Sections, {"in": {"deep": {"list": [1, 2]}}}, {"in": {}})
    assert fault.endswith("inner.item keeps its running value: these change together only by restart")


def test_a_section_that_only_the_marked_field_made_goes_with_it():
    found = mix(Sections, {}, {"special": {"driver": "x"}})
    assert (found.settings.special, list(pending(found))) == (Pool(driver="special"), ["special.driver"])
    [fault] = rejected(Sections, {}, {"special": {"driver": "x", "size": 1}})
    assert "special.driver: only a restart" in fault


class Vault(Section):
    keys: Annotated[dict[str, str], RestartRequired(), Sensitive()] = {}
    login: Annotated[Login, Sensitive()] = {}
    open: Annotated[Login, Sensitive()] | None = None


def test_I11_neither_values_nor_keys_of_secrets_are_listed():
    found = mix(
        Vault,
        {"keys": {HIDDEN: HIDDEN}, "login": {"user": HIDDEN, "token": HIDDEN}},
        {"keys": {"hunter2-": HIDDEN}, "login": {"user": "hunter2-", "token": "hunter2-"}, "open": {"token": HIDDEN}},
    )
    assert pending(found) == {"keys": (MASK, MASK), "login.token": (MASK, MASK), "open": (None, MASK)}
    assert found.settings.login == {"user": "hunter2-", "token": HIDDEN}
    assert "hunter2" not in repr(found)
    assert "hunter2" not in "".join(str(fault) for fault in refusals(found.pending))


def test_one_part_with_very_many_changes_is_listed_as_a_whole():
    found = mix(App, {"labels": {}}, {"labels": {str(index): "x" for index in range(100)}})
    assert list(pending(found)) == ["labels"]


def test_a_refusal_has_both_values_and_the_place_of_the_wanted_one():
    found = mix(App, {"port": 1, "password": HIDDEN}, ({"password": "x"}, env({"port": 2})))
    first, second = (str(fault) for fault in refusals(found.pending))
    assert first == "env APP_PORT: port: can only change with a restart (running 1, wanted 2): put it back, or restart"
    assert second == (
        f"app.toml:1:1: password: can only change with a restart (running '{MASK}', wanted '{MASK}'): "
        "put it back, or restart"
    )


@st.composite
def classes(draw, depth=2):
    """A class with some fields marked, and values for it."""
    fields: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 4))):
        kind: Any = int
        value: Any = st.integers(0, 2)
        if depth and draw(st.booleans()):
            kind, value = draw(classes(depth - 1))
            wrap = draw(st.sampled_from(["section", "optional", "mapping", "list"]))
            kind, value = WRAPPED[wrap](kind, value)
        name = f"f{index}"
        values[name] = value
        default = {int: 0}.get(kind, ...)
        marked = Annotated[kind, RestartRequired()] if draw(st.booleans()) else kind
        fields[name] = (marked, default)
    required = {name: value for name, value in values.items() if fields[name][1] is ...}
    optional = {name: value for name, value in values.items() if fields[name][1] is not ...}
    return create_model("Drawn", __base__=Section, **fields), st.fixed_dictionaries(required, optional=optional)


WRAPPED = {
    "section": lambda kind, value: (kind, value),
    "optional": lambda kind, value: (kind | None, st.none() | value),
    "mapping": lambda kind, value: (dict[str, kind], st.dictionaries(st.sampled_from("ab"), value, max_size=2)),
    "list": lambda kind, value: (list[kind], st.lists(value, max_size=2)),
}


def split(value, *, marked=False, name=""):
    """Every atom that lies in no list, optional section or mapping item, by path and by whether it is marked."""
    for key, info in type(value).model_fields.items():
        inner, is_marked = getattr(value, key), marked or bool(info.metadata)
        if isinstance(inner, BaseModel) and isinstance(info.annotation, type):
            yield from split(inner, marked=is_marked, name=f"{name}{key}.")
        elif info.annotation is int or is_marked:
            yield f"{name}{key}", (is_marked, inner)


@given(classes().flatmap(lambda drawn: st.tuples(st.just(drawn[0]), drawn[1], drawn[1])))
def test_I8_the_mix_is_running_where_it_is_marked_and_the_candidate_elsewhere(drawn):
    model, *values = drawn
    running, candidate = (built(model, each) for each in values)
    before = repr((running.settings, candidate.settings, running.merged.values, candidate.merged.values))
    found = defer(model, running, candidate)
    assert repr((running.settings, candidate.settings, running.merged.values, candidate.merged.values)) == before
    old, new, mixed = (dict(split(each.settings)) for each in (running, candidate, found))
    assert mixed == {path: old[path] if marked else new[path] for path, (marked, _) in mixed.items()}
    waits = {path.split(".")[0] for path in pending(found)}
    assert {path[0] for path in differences(candidate.settings, found.settings)} == waits
    now = Built(found.merged, found.settings)
    assert defer(model, now, now).pending == ()
    assert defer(model, running, running).pending == ()
    again = defer(model, now, candidate)
    assert (again.settings, pending(again)) == (found.settings, pending(found))
    assert validate(model, found.merged) == found.settings
