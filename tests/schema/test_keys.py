"""Canonical keys: whatever a source calls a field, the stronger source wins."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given, strategies as st
from pydantic import AliasChoices, AliasGenerator, AliasPath, BaseModel, ConfigDict, Field, RootModel
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

from hotconf.conf import HotConf
from hotconf.errors import ConfigError
from hotconf.schema.keys import accepts_several_keys, with_canonical_keys
from hotconf.schema.settings import Options, Section
from hotconf.values.layer import Layer, Origin
from tests.trees import build, env, faults, file, origins


class Server(Section):
    model_config = ConfigDict(populate_by_name=True)

    host: str = Field(validation_alias=AliasChoices("host", "hostname", AliasPath("address", "host")))
    port: int = Field(80, alias="portNumber")


class Cat(Section):
    kind: Literal["cat"]
    sound: str = Field("meow", validation_alias=AliasChoices("sound", "voice"))


class Dog(Section):
    kind: Literal["dog"]
    sound: str = Field("woof", validation_alias=AliasChoices("sound", "bark"))


class Names(RootModel[dict[str, Server]]):
    pass


class App(Section):
    server: Server = Server(host="none")
    servers: list[Server] = []
    pair: tuple[Server, Server] | None = None
    named: dict[str, Server] = {}
    rooted: Names = Names({})
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Dog(kind="dog")
    maybe: Server | None = None


class Ports(BaseModel):
    model_config = ConfigDict(strict=True)

    numbers: dict[int, str] = {}


class Workflow(BaseModel):
    model_config = ConfigDict(extra="allow")

    on: dict[str, Any] = {}
    off: bool = Field(False, validation_alias=AliasPath("no", "way"))
    numbers: dict[int, str] = {}
    texts: dict[str, int] = {}
    switches: dict[bool, int] = {}
    days: dict[dt.date, int] = {}
    anything: dict[Any, int] = {}
    words: dict[Literal["on", "off"], int] = {}
    prices: dict[Decimal, int] = {}
    either: dict[int | str, int] = {}
    bare: dict = {}
    data: Any = None
    strict: Ports = Ports()
    listed: list[dict[int, dict[str, int]]] = []


IN_YAML = """
on: {push: {8080: a, on: b}}
no: {way: true}
numbers: {8080: a, 0x10: b}
texts: {on: 1, 1.10: 2, ~: 3, 2020-01-01: 4, 0x10: 5}
switches: {on: 1, no: 2}
days: {2020-01-01: 1}
anything: {8080: 1, x: 2, on: 3, ~: 4}
words: {on: 1, off: 2}
prices: {1.10: 1}
either: {8080: 1, a: 2}
bare: {on: {1: 2}}
data: {8080: {on: [1, {~: 2}]}, '8080': 3}
strict: {numbers: {8080: a}}
listed: [{1: {on: 2}}]
5: five
"""


@pytest.fixture
def workflow(tmp_path):
    """Load the class with a YAML file, and a TOML file above it."""

    def load(text=IN_YAML, above=""):
        (tmp_path / "app.yaml").write_text(text)
        (tmp_path / "above.toml").write_text(above)
        conf = HotConf(Workflow, [tmp_path / "app.yaml", tmp_path / "above.toml"], options=Options(watch=False))
        conf.load()
        return conf

    return load


def test_a_key_of_yaml_that_is_no_string_is_what_the_schema_wants(workflow):
    settings = workflow().current
    whole = yaml.safe_load(IN_YAML)
    assert (settings.on, settings.off) == ({"push": {8080: "a", True: "b"}}, True)
    assert settings.numbers == {8080: "a", 16: "b"}
    assert settings.texts == {"on": 1, "1.10": 2, "~": 3, "2020-01-01": 4, "0x10": 5}
    assert (settings.switches, settings.days) == ({True: 1, False: 2}, {dt.date(2020, 1, 1): 1})
    assert repr(settings.anything) == repr(whole["anything"])
    assert settings.words == {"on": 1, "off": 2}
    assert list(map(str, settings.prices)) == ["1.10"]
    assert settings.either == {8080: 1, "a": 2}
    assert repr((settings.bare, settings.data)) == repr((whole["bare"], whole["data"]))
    assert settings.strict.numbers == {8080: "a"}
    assert settings.listed == [{1: {"on": 2}}]
    assert settings.__pydantic_extra__ == {"5": "five"}


def test_each_of_them_has_its_place(workflow):
    conf = workflow()
    places = {path: str(origin).rpartition("app.yaml:")[2] for path, origin in conf.origins.items()}
    assert places["on.push.8080"] == "2:13"
    assert places["on.push.true"] == "2:22"
    assert places["numbers.16"] == "4:20"
    assert places['texts."1.10"'] == "5:16"
    assert places["switches.false"] == "6:19"
    assert places['data."8080 (int)".true.1.null'] == "13:24"
    assert places["data.8080"] == "13:33"
    assert places["5"] == "16:1"
    assert str(conf.explain("off").origin).endswith("app.yaml:3:6")


def test_a_fault_at_such_a_key_has_its_place(workflow):
    wrong = (
        "on: {1: 2}\nnumbers:\n  8080: [a]\n  on: b\n  x: c\ndays: {2020-01-01: x, soon: 1}\nanything: {~: x, 1.5: x}\n"
    )
    with pytest.raises(ConfigError) as refused:
        workflow(wrong)
    found = sorted(
        str(fault).rpartition("app.yaml:")[2].partition(": input")[0] for fault in refused.value.report.faults
    )
    assert found == [
        "3:3: numbers.8080",
        "5:3: numbers.x: the key",
        "6:23: days.soon: the key",
        "6:8: days.2020-01-01",
        "7:12: anything.null",
        '7:18: anything."1.5"',
    ]


def test_files_of_all_formats_merge_by_the_text_of_a_key(workflow):
    settings = workflow(
        above='[numbers]\n8080 = "above"\n[on.push]\ntrue = "above"\n[data]\n"8080 (int)" = 1\n'
    ).current
    assert settings.numbers == {8080: "above", 16: "b"}
    assert settings.on == {"push": {8080: "a", True: "above"}}
    assert settings.data == {8080: 1, "8080": 3}


def test_an_untouched_file_is_unchanged_and_a_key_of_another_type_is_a_change(workflow, tmp_path):
    conf = workflow()
    (tmp_path / "app.yaml").write_text(IN_YAML + "# a comment\n")
    assert conf.load().outcome == "unchanged"
    (tmp_path / "app.yaml").write_text(IN_YAML.replace("bare: {on:", "bare: {'on':"))
    assert set(conf.load().changed) == {"bare.true", "bare.on"}


SPELT = [{"host": "x"}, {"hostname": "x"}, {"address": {"host": "x"}}]


@pytest.mark.parametrize("below", SPELT)
@pytest.mark.parametrize("above", SPELT)
def test_the_stronger_layer_wins_however_each_spells_it(below, above):
    weak = repr(below).replace("'x'", "'weak'")
    app = build(App, {"server": eval(weak)}, {"server": above})
    assert app.server.host == "x"


@pytest.mark.parametrize("spelt", SPELT)
@pytest.mark.parametrize(
    ("wrap", "find"),
    [
        (lambda value: {"server": value}, lambda app: app.server),
        (lambda value: {"servers": [value]}, lambda app: app.servers[0]),
        (lambda value: {"pair": [value, {"host": "y"}]}, lambda app: app.pair[0]),
        (lambda value: {"named": {"host": value}}, lambda app: app.named["host"]),
        (lambda value: {"rooted": {"root": value}}, lambda app: app.rooted.root["root"]),
        (lambda value: {"maybe": value}, lambda app: app.maybe),
    ],
)
def test_aliases_are_known_wherever_a_model_stands(spelt, wrap, find):
    layer = file(wrap(spelt))
    respelt = with_canonical_keys(App, layer)
    assert "hostname" not in repr(respelt.values)
    assert "address" not in repr(respelt.values)
    assert find(build(App, layer)).host == "x"


def test_a_respelt_value_keeps_its_place():
    layer = file({"servers": [{"hostname": "x", "port": "bad"}, {"address": {"host": "y"}}]})
    [fault] = faults(App, layer)
    assert str(fault).startswith("app.toml:4:1: servers.0.port: ")
    known = origins(App, file({"servers": [{"hostname": "x"}, {"address": {"host": "y"}}]}))
    assert str(known["servers.0.host"]) == "app.toml:3:1"
    assert str(known["servers.1.host"]) == "app.toml:6:1"


def test_a_name_is_taken_for_its_alias_where_the_class_allows_it():
    assert build(App, {"server": {"host": "x", "port": 1}}, {"server": {"portNumber": 2}}).server.port == 2
    assert build(App, {"server": {"host": "x", "portNumber": 1}}, {"server": {"port": 2}}).server.port == 2


def test_of_two_spellings_in_one_source_the_first_counts_and_the_other_is_refused():
    [fault] = faults(App, {"server": {"hostname": "b", "host": "a"}})
    assert fault.path == "server.hostname"
    assert "another spelling of this field" in fault.message


def test_members_of_a_union_that_agree_on_a_key_share_its_canonical_form():
    assert build(App, {"pet": {"kind": "cat", "voice": "a"}}, {"pet": {"sound": "b"}}).pet.sound == "b"
    assert build(App, {"pet": {"kind": "dog", "bark": "a"}}, {"pet": {"sound": "b"}}).pet.sound == "b"


class Left(Section):
    inner: Cat | None = None
    n: int = Field(0, validation_alias=AliasChoices("number", "n"))


class Right(Section):
    other: Server | None = None
    n: int = 0


class Ambiguous(Section):
    side: Left | Right


def test_a_key_that_members_of_a_union_understand_differently_is_left_alone():
    layer = file({"side": {"n": 1, "other": {"hostname": "x"}}})
    assert with_canonical_keys(Ambiguous, layer).values == {"side": {"n": 1, "other": {"host": "x"}}}
    assert isinstance(build(Ambiguous, layer).side, Right)


class Size(Section):
    model_config = ConfigDict(populate_by_name=True)

    size: int = Field(1, alias="bytes")


class Label(Section):
    size: int = Field(1, validation_alias=AliasChoices("size", "letters"))


class Either(Section):
    either: Size | Label


def test_a_key_is_not_respelt_into_what_another_member_of_a_union_knows_as_something_else():
    layer = file({"either": {"letters": 3}})
    assert with_canonical_keys(Either, layer) is layer
    assert isinstance(build(Either, layer).either, Label)


class ByIndex(Section):
    first: str = Field(validation_alias=AliasChoices("first", AliasPath("hosts", 0)))
    second: str = Field("none", validation_alias=AliasPath("hosts", 1))


def test_an_alias_path_through_a_list_is_overridden_like_any_key():
    assert build(ByIndex, {"first": "a"}, {"hosts": ["b"]}).first == "b"
    assert build(ByIndex, {"hosts": ["a", "z"]}, {"first": "b"}).model_dump() == {"first": "b", "second": "z"}
    assert str(origins(ByIndex, {"hosts": ["a"]})["first"]) == "app.toml:2:1"


class Shared(BaseModel):
    model_config = ConfigDict(extra="allow")

    host: str = Field(validation_alias=AliasChoices("host", AliasPath("db", "host")))
    db: dict[str, str] = {}


class ByName(Section):
    model_config = ConfigDict(populate_by_name=True)

    host: str = Field(validation_alias=AliasPath("db", "host"))
    db: dict[str, str] = {}


def test_what_lies_first_in_a_field_of_its_own_is_left_there():
    app = build(ByName, {"db": {"host": "x", "user": "u"}})
    assert (app.host, app.db) == ("x", {"host": "x", "user": "u"})
    assert build(ByName, {"host": "y"}).host == "y"


class Proxies(Section):
    http: str = Field("", validation_alias=AliasChoices("http_proxy", "proxy"))
    https: str = Field("", validation_alias=AliasChoices("https_proxy", "proxy"))
    proxy: str = ""


class Legacy(Section):
    """`url` is a field, what another falls back to, and not the only spelling of its own."""

    read: str = Field("", validation_alias=AliasChoices("read", "url"))
    url: str = Field("", validation_alias=AliasChoices("url", "database_url"))


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Proxies, {"proxy": "x"}),
        (Proxies, {"http_proxy": "h", "proxy": "x"}),
        (Proxies, {"https_proxy": "h", "proxy": "x"}),
        (Proxies, {"https_proxy": "h", "http_proxy": "x"}),
        (Legacy, {"url": "x"}),
        (Legacy, {"read": "r", "url": "x"}),
        (Legacy, {"database_url": "x"}),
    ],
)
def test_several_fields_may_accept_one_key(model, values):
    assert build(model, values) == model.model_validate(values)


class Preferred(Section):
    """The first choice of the second field is the key of the first one."""

    host: str = "localhost"
    name: str = Field("", validation_alias=AliasChoices("host", "label"))


def test_a_key_that_pydantic_finds_by_itself_gets_no_second_spelling_beside_it():
    app = build(Preferred, {"host": "a"})
    assert (app.host, app.name) == ("a", "a")


@dataclass
class Claims:
    first: str = Field("", validation_alias=AliasChoices("both", "first"))
    second: str = Field("", validation_alias="both")


class Claiming(Section):
    claims: Claims = Claims()


def test_fields_of_a_dataclass_that_accept_one_key_are_told_apart_too():
    app = build(Claiming, {"claims": {"first": "a"}})
    assert (app.claims.first, app.claims.second) == ("a", "")


def test_a_key_that_several_fields_accept_overrides_each_of_them():
    layers = {"http_proxy": "weak", "https_proxy": "weak"}, {"proxy": "strong"}
    app = build(Proxies, *layers)
    assert (app.http, app.https, app.proxy) == ("strong", "strong", "strong")
    assert build(Proxies, *reversed(layers)).model_dump() == {"http": "weak", "https": "weak", "proxy": "strong"}
    assert str(origins(Proxies, {"proxy": "x"})["https"]) == "app.toml:1:1"


class Lifted(Section):
    host: str = Field(validation_alias=AliasChoices("host", AliasPath("db", "host")))


def test_lifting_a_value_takes_nothing_away_from_another_field():
    app = build(Shared, {"db": {"host": "x", "user": "u"}})
    assert (app.host, app.db) == ("x", {"host": "x", "user": "u"})


def test_what_pydantic_does_not_look_at_next_to_a_lifted_value_is_no_fault():
    assert build(Lifted, {"db": {"host": "x", "comment": "y"}}).host == "x"
    Lifted.model_validate({"db": {"host": "x", "comment": "y"}})


class OnlyPath(Section):
    host: str = Field(validation_alias=AliasPath("db", "host"))
    port: int = Field(1, validation_alias=AliasChoices("port", "p"))


def test_a_field_that_only_an_alias_path_reaches_is_left_where_it_is():
    app = build(OnlyPath, {"db": {"host": "x"}, "p": 1}, {"db": {"host": "y"}, "port": 2})
    assert (app.host, app.port) == ("y", 2)
    assert [fault.path for fault in faults(OnlyPath, {"p": 3})] == ["host"]


def test_a_value_that_was_lifted_out_of_a_text_has_the_place_of_the_text():
    layer = Layer("environment", {"db": {"host": "x"}}, {("db",): Origin("env", "DB")})
    assert str(origins(Lifted, layer)["host"]) == "env DB"


class Generated(Section):
    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=to_camel), validate_by_name=True)

    pool_size: int = 1


@dataclass
class Record:
    size: int = Field(1, validation_alias=AliasChoices("size", "length"))


class Holder(Section):
    record: Record = Record()
    generated: Generated = Generated()


def test_generated_aliases_and_dataclasses_are_respelt_too():
    app = build(Holder, {"generated": {"pool_size": 1}, "record": {"length": 1}})
    assert (app.generated.pool_size, app.record.size) == (1, 1)
    above = {"generated": {"poolSize": 2}, "record": {"size": 2}}
    app = build(Holder, {"generated": {"pool_size": 1}, "record": {"length": 1}}, above)
    assert (app.generated.pool_size, app.record.size) == (2, 2)


class Plain(Section):
    host: str = ""
    children: list[Plain] = []


def test_a_class_without_aliases_costs_nothing():
    layer = file({"host": "x", "children": [{"host": "y"}]})
    assert not accepts_several_keys(Plain)
    assert with_canonical_keys(Plain, layer) is layer
    assert with_canonical_keys(App, file({"server": {"host": "x"}})).values == {"server": {"host": "x"}}


class Recursive(Section):
    name: str = Field("", validation_alias=AliasChoices("name", "title"))
    children: list[Recursive] = []


def test_a_recursive_class_is_respelt_at_every_depth():
    layer = env({"title": "a", "children": [{"title": "b", "children": [{"title": "c"}]}]})
    app = build(Recursive, layer)
    assert (app.name, app.children[0].name, app.children[0].children[0].name) == ("a", "b", "c")


class Flat(Section):
    model_config = ConfigDict(populate_by_name=True)

    one: str = Field("", validation_alias=AliasChoices("a", "b", AliasPath("p", "q"), AliasPath("l", 0)))
    two: str = Field("", alias="c")


one_layer = st.fixed_dictionaries(
    {},
    optional={
        "a": st.text("xyz", min_size=1),
        "b": st.text("xyz", min_size=1),
        "one": st.text("xyz", min_size=1),
        "c": st.text("xyz", min_size=1),
        "two": st.text("xyz", min_size=1),
        "p": st.fixed_dictionaries({"q": st.text("xyz", min_size=1)}),
        "l": st.lists(st.text("xyz", min_size=1), min_size=1),
    },
)


class Lenient(Flat):
    model_config = ConfigDict(extra="ignore")


@given(one_layer, one_layer)
def test_a_respelt_layer_means_what_pydantic_takes_it_for(below, above):
    assert build(Lenient, below).model_dump() == Lenient.model_validate(below).model_dump()
    expected = {**Lenient.model_validate(below).model_dump(), **Lenient.model_validate(above).model_dump()}
    for name in ("one", "two"):
        if name not in Lenient.model_validate(above).model_fields_set:
            expected[name] = Lenient.model_validate(below).model_dump()[name]
    assert build(Lenient, below, above).model_dump() == expected
