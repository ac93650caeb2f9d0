"""The schema: what a class says about its fields, which classes are refused, which paths exist."""

from __future__ import annotations

import collections
import dataclasses
import typing
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypeVar

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    ImportString,
    Json,
    JsonValue,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    create_model,
)
from pydantic.dataclasses import dataclass
from pydantic_settings import BaseSettings
from typing_extensions import TypeAliasType, TypedDict

import hotconf.schema.fields as schema
from hotconf import HotConf
from hotconf.errors import SchemaError
from hotconf.jsonschema import json_schema
from hotconf.schema.fields import holds_restart_required, holds_secret, unwrapped
from hotconf.schema.fingerprint import fingerprint
from hotconf.schema.redact import document
from hotconf.schema.settings import RestartRequired, Section, Sensitive, Settings
from hotconf.schema.shape import Shape, shape_of
from hotconf.sources import Memory
from hotconf.values.secrets import Secrecy

T = TypeVar("T")


class Password(SecretStr):
    pass


class Colour(StrEnum):
    RED = "red"


class Database(Section):
    url: str = "x"
    password: SecretStr = SecretStr("x")


class Credentials(TypedDict):
    user: str
    token: NotRequired[SecretStr]


class Login(NamedTuple):
    user: str
    token: SecretStr


@dataclasses.dataclass
class Plain:
    size: int = 1
    token: Annotated[str, Sensitive()] = ""


@dataclass
class Checked:
    size: int = Field(1, validation_alias=AliasChoices("size", "length"))
    token: SecretStr = SecretStr("")


class Box(BaseModel, Generic[T]):
    content: T


class Tokens(RootModel[dict[str, SecretStr]]):
    pass


class Tree(RootModel[dict[str, "Tree | int"]]):
    pass


class Leaf(Section):
    parent: Leaf | None = None
    token: SecretStr | None = None


Hidden = NewType("Hidden", SecretStr)
Endless = TypeAliasType("Endless", "dict[str, Endless] | str")
Listed = TypeAliasType("Listed", list[T], type_params=(T,))
Marked = TypeAliasType("Marked", Annotated[str, Sensitive()])

SECRET = [
    SecretStr,
    SecretBytes,
    Password,
    Secret[int],
    SecretStr | None,
    str | SecretStr,
    Annotated[str, Sensitive()],
    Annotated[str, Sensitive],
    Annotated[Annotated[str, Sensitive()] | None, Field(description="x")],
    Annotated[Database, Sensitive()],
    Hidden,
    Marked,
    dict[SecretStr, int],
]

HOLDING = [
    list[SecretStr],
    set[SecretStr],
    tuple[int, SecretStr],
    tuple[SecretStr, ...],
    Iterable[SecretStr],
    Mapping[str, list[SecretStr | None]],
    dict[str, Annotated[str, Sensitive()]],
    Listed[SecretStr],
    Json[Database],
    Database,
    Database | Plain | None,
    Annotated[Database | Checked, Field(union_mode="left_to_right")],
    list[dict[str, Checked]],
    Plain,
    Checked,
    Credentials,
    Login,
    Box[SecretStr],
    Box[list[Database]],
    Tokens,
    Leaf,
]

OPEN = [
    str,
    int | list[int],
    Literal["a", "b"],
    Colour,
    Any,
    object,
    dict,
    Endless,
    JsonValue,
    Tree,
    Box[int],
    list[Tree],
    type[SecretStr],
]


@pytest.mark.parametrize("annotation", SECRET)
def test_I11_a_secret_is_known_however_it_is_declared(annotation):
    model = create_model("Model", field=(annotation, ...), __config__=ConfigDict(arbitrary_types_allowed=True))
    assert schema.fields_of(model)["field"].sensitive


@pytest.mark.parametrize("annotation", HOLDING)
def test_I11_a_secret_is_known_however_deep_it_lies(annotation):
    model = create_model("Model", field=(annotation, ...))
    assert not schema.fields_of(model)["field"].sensitive
    assert holds_secret(Shape(models=(model,)))


@pytest.mark.parametrize("annotation", OPEN)
def test_what_holds_no_secret_is_not_taken_for_one(annotation):
    model = create_model("Model", field=(annotation, ...))
    assert not holds_secret(Shape(models=(model,)))


def test_marks_are_found_with_and_without_parentheses():
    class Model(BaseModel):
        a: Annotated[int, RestartRequired()] = 0
        b: Annotated[int, RestartRequired] = 0
        c: int = 0
        d: Annotated[str, Sensitive] = ""

    known = schema.fields_of(Model)
    assert [name for name, field in known.items() if field.restart_required] == ["a", "b"]
    assert [name for name, field in known.items() if field.sensitive] == ["d"]


MARKED = Annotated[int, RestartRequired()]
KEPT = [
    MARKED,
    MARKED | None,
    MARKED | str,
    list[MARKED],
    tuple[str, MARKED],
    dict[str, MARKED],
    dict[str, list[MARKED | None]],
    NewType("Kept", MARKED),
    TypeAliasType("KeptAlias", MARKED),
    Annotated[Database, RestartRequired()] | None,
    RootModel[MARKED],
]


@pytest.mark.parametrize("annotation", KEPT)
def test_I8_a_mark_on_anything_that_a_field_is_made_of_is_a_mark_on_the_field(annotation):
    assert unwrapped(shape_of(annotation)).restart_required


@pytest.mark.parametrize("annotation", [int, Database, list[Database], create_model("Inner", kept=(MARKED, 1)), Any])
def test_I8_a_mark_on_what_lies_in_a_section_is_none_on_the_whole(annotation):
    assert not unwrapped(shape_of(annotation)).restart_required
    assert holds_restart_required(shape_of(annotation)) is (getattr(annotation, "__name__", "") == "Inner")


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    plain: int = 0
    alias: int = Field(0, alias="a")
    validation: int = Field(0, validation_alias="v")
    choices: int = Field(0, validation_alias=AliasChoices("x", AliasPath("p", "q"), AliasPath("y"), AliasPath("l", 0)))
    path: int = Field(0, validation_alias=AliasPath("p", "r"))


class ByAlias(Aliased):
    model_config = ConfigDict(populate_by_name=False)


class ByName(Aliased):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)


def places(model):
    return {name: field.input_paths for name, field in schema.fields_of(model).items()}


def test_the_places_of_a_field_are_those_of_pydantic_in_its_order():
    assert places(Aliased) == {
        "plain": (("plain",),),
        "alias": (("a",), ("alias",)),
        "validation": (("v",), ("validation",)),
        "choices": (("x",), ("p", "q"), ("y",), ("l", 0), ("choices",)),
        "path": (("p", "r"), ("path",)),
    }
    assert places(ByAlias)["alias"] == (("a",),)
    assert places(ByAlias)["path"] == (("p", "r"),)
    assert schema.fields_of(ByAlias)["path"].keys == ()
    assert places(ByName) == {name: ((name,),) for name in Aliased.model_fields}
    assert schema.fields_of(Aliased)["choices"].keys == ("x", "y", "choices")
    assert schema.fields_of(Aliased)["choices"].alias_paths == (("p", "q"), ("l", 0))


def test_records_of_every_kind_have_fields():
    assert list(schema.fields_of(Plain)) == ["size", "token"]
    assert schema.fields_of(Checked)["size"].keys == ("size", "length")
    assert list(schema.fields_of(Credentials)) == ["user", "token"]
    assert list(schema.fields_of(Login)) == ["user", "token"]
    assert schema.fields_of(int) == {}
    assert schema.fields_of(dict) == {}


# By name: a linter would write `dict` for `typing.Dict`.
BARE = [
    *((kind, {"a": {"b": 1}}) for kind in (dict, "Dict", "Mapping", "MutableMapping", "OrderedDict")),
    *((kind, {"a": 1}) for kind in ("Counter", collections.Counter, collections.Counter[str])),
    *((kind, [1, [2]]) for kind in (list, tuple, collections.deque, "List", "Tuple", "Sequence", "Deque")),
    *((kind, [1]) for kind in (set, frozenset, "Set", "FrozenSet")),
]


@pytest.mark.parametrize("wrap", [lambda kind: kind, lambda kind: kind | None, lambda kind: list[kind]])
@pytest.mark.parametrize(("kind", "value"), BARE, ids=str)
def test_generics_without_arguments_hold_anything_at_any_depth(kind, value, wrap):
    kind = getattr(typing, kind) if isinstance(kind, str) else kind
    model = create_model("App", __base__=Section, field=(wrap(kind), ...))
    values = {"field": [value] if wrap(int) == list[int] else value}
    conf = HotConf(model, sources=[Memory(values)])
    conf.load()
    assert conf.current == model(**values)
    assert document(conf.current) == values
    assert str(conf.explain("field").origin) == "memory"
    assert json_schema(model)["properties"]["field"]
    assert fingerprint(model)


@pytest.mark.parametrize("kind", [dict, typing.Mapping, typing.OrderedDict])
def test_anything_may_lie_below_a_mapping_without_arguments(kind):
    assert shape_of(kind).opaque
    assert shape_of(list[kind]).items.opaque


def test_the_values_of_a_counter_are_numbers():
    assert shape_of(collections.Counter[str]).values == Shape(harmless=True)


def test_a_dataclass_of_names_that_only_a_function_knows_is_opaque_not_an_error():
    class Local(BaseModel):
        pass

    @dataclasses.dataclass
    class Record:
        local: Local

    assert schema.fields_of(Record)["local"].shape.opaque


class Early(BaseModel):
    late: Late | None = None


class Root(BaseModel):
    early: Early = Early.model_construct()


class Late(BaseModel):
    token: SecretStr


def test_I11_forward_references_are_resolved_before_anybody_looks():
    schema.check_schema(Root)
    assert holds_secret(Shape(models=(Root,)))
    assert schema.resolve_path(Root, "early.late.token") == ("early", "late", "token")


def test_a_type_that_does_not_exist_is_refused_by_name():
    model = create_model("Model", field=("Nowhere", ...))
    with pytest.raises(SchemaError, match="Model refers to a type that is not defined yet: Nowhere"):
        schema.check_schema(model)


@pytest.mark.parametrize("thing", [int, "App", None, Database(), dict[str, int], SecretStr])
def test_what_is_no_model_class_is_refused(thing):
    with pytest.raises(SchemaError, match="is not a pydantic model class"):
        schema.check_schema(thing)


class Nested(BaseSettings):
    pass


class WithInit(BaseSettings):
    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class WithNested(BaseSettings):
    parts: list[Nested] = []


class WithInitBelow(BaseModel):
    inner: Database

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


@pytest.mark.parametrize(
    "model", [Database, Settings, WithNested, WithInit, WithInitBelow, Box[int], Tokens, Leaf, Root]
)
def test_any_model_is_accepted(model):
    schema.check_schema(model)


class Everything(Section):
    database: Database = Database()
    maybe: Database | None = None
    servers: list[Database] = []
    pair: tuple[int, Database] = (0, Database())
    named: dict[str, Database] = {}
    numbered: dict[int, Database] = {}
    tokens: Tokens = Tokens({})
    union: Database | Plain = Database()
    any: Any = None
    bare: dict = {}
    text: Json = None
    imported: ImportString = "os"
    login: Credentials = {"user": "x"}
    aliased: Aliased = Aliased()
    port: int = 0


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Database]


@pytest.mark.parametrize(
    ("dotted", "path"),
    [
        ("", ()),
        ("database.url", ("database", "url")),
        ("maybe.url", ("maybe", "url")),
        ("servers.0.url", ("servers", 0, "url")),
        ("pair.1.url", ("pair", 1, "url")),
        ('named."a.b".url', ("named", "a.b", "url")),
        ("numbered.8080.url", ("numbered", "8080", "url")),
        ("tokens.alice", ("tokens", "alice")),
        ("union.url", ("union", "url")),
        ("union.size", ("union", "size")),
        ("any.a.b.0", ("any", "a", "b", "0")),
        ("bare.a.b", ("bare", "a", "b")),
        ("text.a.b", ("text", "a", "b")),
        ("imported.a", ("imported", "a")),
        ("login.user", ("login", "user")),
        ("aliased.a", ("aliased", "alias")),
        ("aliased.choices", ("aliased", "choices")),
    ],
)
def test_a_dotted_path_is_resolved_by_names_and_spellings(dotted, path):
    assert schema.resolve_path(Everything, dotted) == path


@pytest.mark.parametrize("dotted", ["logins.0.token", "logins.0.1"])
async def test_a_subscriber_may_call_an_item_of_a_named_tuple_by_name_or_by_index(dotted):
    model = create_model("App", __base__=Section, logins=list[Login])
    source = Memory({"logins": [["ada", "a"]]})
    conf = HotConf(model, sources=[source])
    heard = []
    async with conf.running(signals=()):
        conf.on_change(dotted)(heard.append)
        source.set({"logins": [["bob", "a"]]})
        await conf.reload()
        source.set({"logins": [["bob", "b"]]})
        await conf.reload()
    assert [change.paths for change in heard] == [("logins.0.1",)]


def test_keys_beyond_the_fields_can_be_named_where_the_model_has_room_for_them():
    assert schema.resolve_path(Open, "anything.url") == ("anything", "url")


@pytest.mark.parametrize(
    ("dotted", "says"),
    [
        ("databse", "Everything has no field 'databse'; did you mean 'database'?"),
        ("DATABASE", "did you mean 'database'?"),
        ("database.urls", "Everything.database has no field 'urls'; did you mean 'url'?"),
        ("servers.first", "Everything.servers has no field 'first'"),
        ("servers.²", "has no field"),
        ("pair.2", "Everything.pair has no field '2'"),
        ("port.x", "Everything.port has no field 'x'"),
        ("tokens.alice.x", "has no field 'x'"),
        ("a..b", "is not a dotted path"),
    ],
)
def test_a_path_that_no_settings_can_have_is_refused(dotted, says):
    with pytest.raises(SchemaError) as caught:
        schema.resolve_path(Everything, dotted)
    assert says in str(caught.value)


def test_a_root_model_stands_for_what_it_wraps():
    assert unwrapped(shape_of(Tokens)) == Shape(values=Shape(secrecy=Secrecy.ALL))
    assert unwrapped(shape_of(Tree)).values == shape_of(Tree | int)


class Page(BaseModel, Generic[T]):
    items: list[T] = []
    following: Page[T] | None = None


def test_a_generic_class_that_contains_itself_can_be_named_at_any_depth():
    model = create_model("App", page=Page[Database])
    assert schema.resolve_path(model, "page.following.following.items.0.url")[-2:] == ("0", "url")


def test_walking_a_recursive_class_ends():
    assert [path for path, _ in schema.models_within(Leaf)] == [()]
    assert {nested for _, nested in schema.models_within(Everything)} >= {Database, Plain, Credentials, Aliased}
