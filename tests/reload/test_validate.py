"""Validation: settings, or every fault at once, each with its place and without a secret."""

from __future__ import annotations

import copy
import dataclasses
import sys
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    RootModel,
    SecretStr,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings
from typing_extensions import TypedDict

from hotconf.errors import Rejected
from hotconf.reload.validate import validate
from hotconf.schema.diff import compare
from hotconf.schema.settings import Section, Sensitive, Settings
from hotconf.values.layer import Layer, Origin
from hotconf.values.merge import merge
from hotconf.values.report import jsonable
from tests.trees import build, env, faults, file, lines, tables


class Database(Section):
    host: str
    port: int = 5432
    password: SecretStr = SecretStr("")
    minimum: int = Field(0, alias="min")
    maximum: int = Field(10, alias="max")

    @model_validator(mode="after")
    def ordered(self):
        if self.minimum > self.maximum:
            raise ValueError("minimum must not exceed maximum")
        return self


class App(Section):
    name: str
    database: Database
    replicas: list[Database] = []
    named: dict[str, Database] = {}


def test_every_fault_is_told_at_once_each_with_its_place():
    values = {
        "database": {"port": "many", "pasword": "y"},
        "replicas": [{"host": "x"}, {"port": 1}],
        "named": {"a.b": {"host": 5}},
    }
    assert lines(App, values) == sorted(
        [
            "app.toml: name: field required: no source sets it",
            "app.toml:2:1: database.port: input should be a valid integer, unable to parse string as an integer",
            "app.toml:3:1: database.pasword: unknown key; did you mean 'password'?",
            "app.toml:1:1: database.host: field required: no source sets it",
            "app.toml:7:1: replicas.1.host: field required: no source sets it",
            'app.toml:11:1: named."a.b".host: input should be a valid string',
        ]
    )


def test_a_value_that_the_environment_spoils_is_blamed_on_the_variable():
    [fault] = faults(App, {"name": "x", "database": {"host": "x", "port": 1}}, env({"database": {"port": "many"}}))
    assert str(fault).startswith("env APP_DATABASE__PORT: database.port: input should be a valid integer")


def test_what_is_missing_is_missed_where_a_file_has_its_table():
    values = {"name": "x", "database": {"port": 1}}
    [fault] = faults(App, values, env({"database": {"password": "x"}}))
    assert str(fault).startswith("app.toml:2:1: database.host: field required")
    [fault] = faults(App, {"database": {"host": "x"}}, file({"name": None}, "other.toml"))
    assert str(fault).startswith("other.toml:1:1: name: ")


def test_a_rule_over_several_fields_points_at_one_that_it_names():
    [fault] = faults(App, {"name": "x", "database": {"host": "x", "min": 20}})
    assert str(fault) == "app.toml:4:1: database: minimum must not exceed maximum"


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [("hots", "host"), ("HOST", "host"), ("Max", "max"), ("pass-word", "password"), ("zzz", None)],
)
def test_an_unknown_key_suggests_the_near_one(key, suggestion):
    [fault] = faults(App, {"name": "x", "database": {"host": "x", key: 1}})
    assert fault.path == f"database.{key}"
    assert fault.message == "unknown key" + (f"; did you mean {suggestion!r}?" if suggestion else "")


def test_the_file_of_another_program_is_told_without_comparing_all_its_keys_with_all_of_ours(monkeypatch):
    compared = []
    monkeypatch.setattr("difflib.get_close_matches", lambda _, known, n: compared.extend(known) or [])
    ours: type[Settings] = create_model(
        "Ours", __base__=Settings, **{f"field_number_{index}": (int, 0) for index in range(100)}
    )
    theirs = {f"field_numbr_{index}": 1 for index in range(1000)}
    found = faults(ours, theirs)
    assert [fault.message for fault in found] == ["unknown key"] * 1000
    assert not compared
    faults(ours, dict(list(theirs.items())[:100]))
    assert len(compared) == 100 * 100


class Wide(Section):
    by_choice: int = Field(0, validation_alias=AliasChoices("choice", "by_choice", AliasPath("deep", "choice")))
    by_path: int = Field(validation_alias=AliasPath("deep", "list", 0))


def test_faults_call_a_field_by_its_name_and_point_at_its_spelling():
    assert lines(Wide, {"deep": {"list": ["x"]}, "by_choice": "y"}) == [
        "app.toml:3:1: by_path: input should be a valid integer, unable to parse string as an integer",
        "app.toml:4:1: by_choice: input should be a valid integer, unable to parse string as an integer",
    ]
    [fault] = faults(Wide, {})
    assert (fault.path, fault.message) == ("by_path", "field required: no source sets deep.list.0")


class Cat(Section):
    kind: Literal["cat"]
    lives: int


class Dog(Section):
    kind: Literal["dog"]
    bark: str


class Postgres(Section):
    host: str
    port: int = 1


class Sqlite(Section):
    path: str


class Unions(Section):
    number: int | list[int] = 0
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat", lives=9)
    store: Postgres | Sqlite | None = None
    text: str | Postgres = ""
    many: list[Postgres | Sqlite] = []
    checked: Annotated[int, AfterValidator(lambda value: value)] | bool = 0
    nested: dict[str, int | list[int | Postgres]] = {}


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        (
            {"number": "x"},
            "number",
            "input should be a valid integer, unable to parse string as an integer; or input should be a valid list",
        ),
        ({"number": [1, "x"]}, "number.1", "input should be a valid integer, unable to parse string as an integer"),
        ({"pet": {"kind": "cat", "lives": "x"}}, "pet.lives", "input should be a valid integer"),
        ({"pet": {"kind": "cat"}}, "pet.lives", "field required"),
        ({"pet": {"kind": "dog", "brk": ""}}, "pet.bark", "field required"),
        ({"pet": {}}, "pet", "unable to extract tag using discriminator 'kind'"),
        ({"store": {"host": "x", "port": "y"}}, "store.port", "input should be a valid integer"),
        ({"store": {}}, "store", "host: field required: no source sets it; or path: field required"),
        ({"store": 1}, "store", "input should be a valid dictionary or instance of Postgres; or input"),
        ({"text": {"host": "x", "port": "y"}}, "text.port", "input should be a valid integer"),
        ({"many": [{"path": "x"}, {"path": 1}]}, "many.1.path", "input should be a valid string"),
        ({"checked": "x"}, "checked", "input should be a valid integer"),
        ({"nested": {"a": [1, {"port": 1}]}}, "nested.a.1.host", "field required"),
    ],
)
def test_of_a_union_the_member_that_fits_best_speaks(values, path, message):
    found = faults(Unions, values)
    assert found[0].path == path
    assert message in found[0].message
    assert len(found) == (2 if "brk" in str(values) else 1)


class Typed(TypedDict):
    size: int


@dataclasses.dataclass
class Record:
    size: int
    name: str = ""


class Kinds(Section):
    typed: Typed = {"size": 1}
    record: Record = Record(1)
    rooted: RootModel[dict[str, Postgres]] = RootModel[dict[str, Postgres]]({})
    numbered: dict[int, int] = {}
    pair: tuple[int, Postgres] | None = None
    recursive: Kinds | None = None


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"typed": {"size": "x"}}, "app.toml:2:1: typed.size: input should be a valid integer"),
        ({"typed": {}}, "app.toml:1:1: typed.size: field required"),
        ({"record": {"name": "x"}}, "app.toml:1:1: record.size: field required"),
        ({"record": {"size": 1, "nam": "x"}}, "app.toml:3:1: record.nam: unknown key; did you mean 'name'?"),
        ({"rooted": {"root": {"port": 1}}}, "app.toml:2:1: rooted.root.host: field required"),
        ({"numbered": {"x": 1}}, "app.toml:2:1: numbered.x: the key: input should be a valid integer"),
        ({"pair": [1, {"hst": "x"}]}, "app.toml:3:1: pair.1.host: field required"),
        ({"recursive": {"recursive": {"typed": 1}}}, "app.toml:3:1: recursive.recursive.typed: input should be"),
    ],
)
def test_records_and_containers_of_every_kind_have_paths(values, line):
    assert any(str(fault).startswith(line) for fault in faults(Kinds, values)), lines(Kinds, values)


@pytest.mark.parametrize("values", [{1: 2}, {"typed": {"size": 1}, "recursive": {True: 1}}])
def test_a_key_that_is_no_string_is_a_fault(values):
    [fault] = faults(Kinds, Layer("memory", values))
    assert fault.message == "a key must be a string"


def test_a_dictionary_may_have_keys_of_the_type_that_it_declares():
    assert build(Kinds, Layer("memory", {"numbered": {80: 1}})).numbered == {80: 1}


def raising(error):
    def check(_value):
        raise error

    return check


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


ERRORS = [
    TypeError("wrong"),
    KeyError("x"),
    RecursionError(),
    SilentError(),
    ExceptionGroup("several", [ValueError("one")]),
    SystemExit("bad configuration"),
    GeneratorExit(),
    StopIteration(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("base", [BaseModel, BaseSettings])
def test_I1_whatever_a_validator_raises_is_a_fault(error, base):
    model = create_model("App", __base__=base, port=(Annotated[int, AfterValidator(raising(error))], 1))
    [fault] = faults(model, {"port": 1})
    assert fault.message.startswith(f"{type(error).__name__} in a validator (check)")


def test_ctrl_c_during_validation_is_no_fault():
    model = create_model("App", port=(Annotated[int, AfterValidator(raising(KeyboardInterrupt()))], 1))
    with pytest.raises(KeyboardInterrupt):
        build(model, {"port": 1})


SECRET = "hunter2-very-long-secret-of-more-than-fifty-characters-" + "x" * 40


class Quoting(Section):
    password: SecretStr
    pin: Annotated[int, Sensitive()] = 31337
    other: Any = None
    default: SecretStr = SecretStr("another-secret")

    @field_validator("other", mode="after")
    @classmethod
    def quote(cls, value, info):
        secret = info.data["password"].get_secret_value()
        if value == "group":
            Database.model_validate({"host": [secret], "port": secret})
        if value == "type":
            raise TypeError(f"cannot use {secret!r} and {info.data}")
        raise ValueError(f"{value}: {secret} {secret!r} {info.data['pin']} {cls.model_fields['default'].default!r}")

    @model_validator(mode="before")
    @classmethod
    def quote_all(cls, values):
        if values.get("other") == "before":
            raise ValueError(f"cannot read {values} with another-secret")
        return values


@pytest.mark.parametrize("kind", ["value", "type", "group", "before"])
@pytest.mark.parametrize("secret", [SECRET, "hunter2'\"\\\n\té"])
def test_I11_no_fault_quotes_the_secret_of_another_field(kind, secret):
    found = faults(Quoting, {"password": secret, "pin": 98765, "other": kind})
    text = " ".join(f"{fault} {jsonable(fault)} {fault!r}" for fault in found)
    assert found
    assert not [leak for leak in ("hunter2", "very-long", "98765", "another-secret") if leak in text]


class Hiding(Section):
    tokens: Annotated[dict[str, int], Sensitive()] = {}
    choice: Annotated[Cat | Dog, Field(discriminator="kind"), Sensitive()] | None = None
    plain: int = 0


def test_I11_no_fault_shows_a_key_or_a_tag_that_is_secret():
    assert [fault.path for fault in faults(Hiding, {"tokens": {"hunter2": "x"}})] == ["tokens"]
    [fault] = faults(Hiding, {"choice": {"kind": "hunter2"}})
    assert "hunter2" not in str(fault)


secret_texts = st.text("abcdefghijk\"'\\\n é", min_size=5, max_size=15).map(lambda text: f"S{text}S")


@given(secret_texts, st.sampled_from(["value", "type", "before"]))
def test_I11_no_random_secret_is_in_a_fault(secret, kind):
    text = " ".join(str(fault) for fault in faults(Quoting, {"password": secret, "other": kind}))
    assert secret not in text
    assert repr(secret)[1:-1] not in text


class Editing(BaseModel):
    model_config = ConfigDict(extra="allow")

    part: dict[str, Any] = {}
    items: list[Any] = []

    @model_validator(mode="before")
    @classmethod
    def edit(cls, values):
        values.pop("old", None)
        values.get("part", {}).clear()
        values.get("items", []).append("more")
        return values


class EditingSettings(BaseSettings, Editing):
    pass


@pytest.mark.parametrize("model", [Editing, EditingSettings])
def test_a_validator_that_edits_its_input_does_not_edit_the_layers(model):
    layer = file({"old": 1, "part": {"a": {"b": 1}}, "items": [[1]]})
    before = copy.deepcopy(layer.values)
    for _ in range(3):
        assert build(model, layer).items == [[1], "more"]
    assert layer.values == before


@given(tables)
def test_settings_share_nothing_that_can_be_changed_with_the_layers(values):
    class Free(BaseModel):
        value: Any

    layer = Layer("memory", {"value": values})
    before = repr(layer.values)
    spoil(build(Free, layer).value)
    assert repr(layer.values) == before


def spoil(value):
    for item in list(value.values() if isinstance(value, dict) else value):
        if isinstance(item, (dict, list)):
            spoil(item)
    value.clear()


PRESET = Database(host="preset")


class Preset(BaseModel):
    database: Database = PRESET
    level: int = 0

    @model_validator(mode="wrap")
    @classmethod
    def choose(cls, values, handler):
        return WHOLE[0] if values.get("level") == 1 else handler(values)


WHOLE = [Preset.model_construct(level=1)]


def test_a_constant_that_a_validator_returns_stays_the_programs_own():
    database = WHOLE[0].database
    old, new = build(Preset, {"database": {"host": "preset"}}), build(Preset, {"level": 1})
    assert new is not WHOLE[0]
    assert compare(old, new) == (("level",),)
    assert new.database is old.database
    assert WHOLE[0].database is database


class Other(BaseModel):
    @model_validator(mode="wrap")
    @classmethod
    def replace(cls, _values, _handler):
        return 5


class OtherSettings(BaseSettings):
    port: int = 1

    @model_validator(mode="after")
    def replace(self):
        return self.model_copy()


def test_a_validator_that_returns_something_else_is_named():
    [fault] = faults(Other, {})
    assert fault.message == "a validator of Other returns no Other"
    [fault] = faults(OtherSettings, {})
    assert fault.message == "a validator of OtherSettings returns another object than the one it was given"


class Environment(Settings):
    port: int = 1
    inner: Postgres = Postgres(host="x")


def test_nothing_is_read_again_during_validation(monkeypatch):
    monkeypatch.setenv("PORT", "99")
    assert build(Environment, {"port": 2}).port == 2
    assert build(Environment, {}).port == 1


def test_settings_are_whole_private_attributes_and_all():
    class Whole(BaseSettings):
        port: int = 1
        _seen: list[int] = []

        def model_post_init(self, _context):
            self._seen = [self.port]

    settings = build(Whole, {"port": 2})
    assert (settings._seen, settings.model_fields_set) == ([2], {"port"})
    assert type(settings) is Whole


@pytest.mark.parametrize("base", [BaseModel, BaseSettings])
def test_odd_keys_are_keys_like_any_other(base):
    model = type("App", (base,), {"model_config": {"extra": "allow"}, "__annotations__": {}})
    values = {"self": 1, "model_config": 2, "__init__": 3, "cls": 4, "a.b": 5, "": 6, "_case_sensitive": 7, "values": 8}
    assert build(model, values).__pydantic_extra__ == values


def test_input_that_is_nested_deeper_than_the_stack_is_a_fault_at_most():
    values: dict[str, Any] = {}
    for _ in range(sys.getrecursionlimit() // 8):
        values = {"a": values}
    assert build(create_model("App", a=(Any, None)), Layer("memory", values))


def test_a_message_that_a_before_validator_makes_is_told_at_its_field():
    model = create_model("App", port=(Annotated[int, BeforeValidator(raising(ValueError("Port must be even")))], 1))
    [fault] = faults(model, {"port": 3})
    assert str(fault) == "app.toml:1:1: port: Port must be even"


def test_a_default_that_does_not_validate_is_a_fault_without_a_place():
    model = create_model("App", port=(int, Field("x", validate_default=True)))
    with pytest.raises(Rejected) as caught:
        validate(model, merge([Layer("memory", {}, {(): Origin("source", "memory")})]))
    [fault] = caught.value.faults
    assert (fault.path, fault.origin) == ("port", None)


def test_a_rule_over_the_whole_names_no_source_that_has_nothing_to_do_with_it():
    class Ruled(BaseModel):
        first: int = 1

        @model_validator(mode="after")
        def never(self):
            raise ValueError("not today")

    told = faults(Ruled, file({"first": 2}), env({}), Layer("memory", {}))
    assert [str(fault) for fault in told] == ["app.toml: not today"]
    assert [str(fault) for fault in faults(Ruled, env({"first": 2}))] == ["not today"]


def test_a_field_that_is_spelt_twice_in_one_source_is_told_so():
    class Spelt(Section):
        model_config = {"populate_by_name": True}
        pool_size: int = Field(1, alias="poolSize")

    assert lines(Spelt, {"poolSize": 1, "pool_size": 2}) == [
        "app.toml:2:1: pool_size: another spelling of this field is used as well, and only one counts"
    ]


def test_faults_without_number_are_counted_and_not_kept():
    told = faults(create_model("App", __base__=Section), {f"key{index}": 1 for index in range(1500)})
    assert (len(told), told[-1].message) == (1001, "and 500 more faults")


def test_an_abbreviation_keeps_its_capitals():
    [fault] = faults(create_model("App", text=(Json, "1")), {"text": 1})
    assert fault.message.startswith("JSON input should be")
