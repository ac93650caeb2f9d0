"""Samples: what `init` writes is accepted by the class that it was written from."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import re
import time
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    AnyHttpUrl,
    BaseModel,
    Field,
    PostgresDsn,
    RedisDsn,
    SecretStr,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource
from typing_extensions import TypeAliasType, TypedDict

import hotconf.formats as formats
from hotconf.conf import HotConf
from hotconf.jsonschema import json_schema
from hotconf.sample import sample
from hotconf.schema.diff import differences
from hotconf.schema.settings import RestartRequired, Section, Sensitive, Settings

CANARY = "canary-secret"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Typed(TypedDict):
    a: int
    token: Annotated[str, Sensitive()]


@dataclasses.dataclass
class Data:
    n: Annotated[int, Field(gt=10)]
    k: str = "k"


class Server(Section):
    """One server."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 80
    key: SecretStr
    tls: Data | None = None


class Recursive(Section):
    name: str = "n"
    children: list[Recursive] = []


REQUIRED = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "any": Any,
    "short": Annotated[str, Field(max_length=2)],
    "long": Annotated[str, Field(min_length=40)],
    "lower": Annotated[str, Field(pattern="^[a-z]+$", min_length=3)],
    "positive": Annotated[int, Field(gt=0)],
    "negative": Annotated[int, Field(lt=-5)],
    "multiple": Annotated[int, Field(ge=5, multiple_of=7)],
    "ratio": Annotated[float, Field(gt=0, lt=1)],
    "narrow": Annotated[float, Field(ge=3.25, le=3.5)],
    "literal": Literal["x", 5],
    "enum": Colour,
    "level": Level,
    "date": dt.date,
    "time": dt.time,
    "datetime": dt.datetime,
    "delta": dt.timedelta,
    "path": Path,
    "decimal": Decimal,
    "uuid": UUID,
    "ip": IPv4Address,
    "url": AnyHttpUrl,
    "postgres": PostgresDsn,
    "redis": RedisDsn,
    "list": list[int],
    "two": Annotated[list[str], Field(min_length=2)],
    "set": set[str],
    "tuple": tuple[int, str, bool],
    "tuples": tuple[int, ...],
    "dict": dict[str, int],
    "one": Annotated[dict[str, int], Field(min_length=1)],
    "dicts": list[dict[str, str]],
    "secret": SecretStr,
    "secrets": list[SecretStr],
    "long secret": Annotated[SecretStr, Field(min_length=12)],
    "sensitive": Annotated[str, Sensitive(), Field(min_length=3)],
    "section": Server,
    "restart": Annotated[Server, RestartRequired()],
    "sections": list[Server],
    "three sections": Annotated[list[Server], Field(min_length=1)],
    "by name": dict[str, Server],
    "dataclass": Data,
    "typed dict": Typed,
    "optional": int | None,
    "union": int | Server,
    "section or text": Server | str,
    "recursive": Recursive,
}

DEFAULTS = [
    (str, "text"),
    (str, 'quotes " and \\ and \n lines, ünïcode 🙂 and # signs'),
    (int, 5),
    (int, 2**70),
    (float, 0.5),
    (float, float("inf")),
    (float, float("nan")),
    (bool, True),
    (int | None, None),
    (int | None, 3),
    (Colour, Colour.BLUE),
    (Level, Level.LOW),
    (Literal["a", "b"], "b"),
    (dt.date, dt.date(2020, 2, 29)),
    (dt.time, dt.time(1, 2, 3)),
    (dt.datetime, dt.datetime(2020, 1, 1, 12)),
    (dt.datetime, dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)),
    (dt.timedelta, dt.timedelta(seconds=90)),
    (Path, Path("/var/lib")),
    (Decimal, Decimal("1.50")),
    (UUID, UUID(int=7)),
    (IPv4Address, IPv4Address("10.0.0.1")),
    (list[int], []),
    (list[int], [1, 2]),
    (list[list[int]], [[1], []]),
    (set[str], {"b", "a"}),
    (tuple[int, str], (1, "x")),
    (dict[str, int], {}),
    (dict[str, int], {"a b": 1, "é": 2}),
    (dict[str, dict[str, int]], {"x": {"y": 1}, "z": {}}),
    (list[dict[str, int]], [{"a": 1}, {"b": 2}]),
    (SecretStr, SecretStr(CANARY)),
    (Annotated[str, Sensitive()], CANARY),
    (list[SecretStr], [SecretStr(CANARY)]),
    (Server | None, None),
    (list[Server], []),
    (dict[str, Server], {}),
    (Server, Server(host="h", key=CANARY)),
    (list[Server], [Server(host="h", key=CANARY), Server(host="i", port=7, key=CANARY)]),
    (Data, Data(11)),
    (Data, Data(12, "other")),
    (list[Data], [Data(11), Data(12)]),
    (dict[str, Data], {"some name": Data(11, "q")}),
    (Typed, {"a": 1, "token": CANARY}),
    (Recursive, Recursive(name="root", children=[Recursive(name="leaf")])),
    (int | Server, 3),
    (Any, None),
    (object, object()),
    (Annotated[int, RestartRequired(), Field(description="What it is for.")], 1),
]


FORMATS = ["toml", "yaml", "json", "env"]


def settings_of(model, text, folder, text_format="toml"):
    """The settings that a sample makes; refused ones raise, with every fault."""
    path = folder / f"sample.{text_format}"
    path.write_text(text, encoding="utf-8")
    conf = HotConf(model, [path])
    conf.load()
    return conf.current


def uncommented(text):
    """A sample with its entries in force: what is an entry or a header once its comment sign is gone."""
    entry = re.compile(r'# (\[.*\]|[\w".-]+ = .*)')
    return "\n".join(match[1] if (match := entry.fullmatch(line)) else line for line in text.splitlines())


def active(text):
    """The lines of a sample that are neither empty nor comments."""
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("text_format", FORMATS)
@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_field_gets_a_placeholder_that_is_accepted(name, text_format, tmp_path):
    model = create_model("Model", __base__=Settings, field=(REQUIRED[name], ...))
    found = sample(model, text_format)
    assert not found.faults, found.text
    assert settings_of(model, found.text, tmp_path, text_format)
    assert "required" in found.text or text_format == "json"


@pytest.mark.parametrize("text_format", FORMATS)
@pytest.mark.parametrize(("annotation", "default"), DEFAULTS)
def test_a_default_is_a_comment_that_says_it(annotation, default, text_format, tmp_path):
    model = create_model("Model", __base__=Settings, field=(annotation, default))
    found = sample(model, text_format)
    assert not found.faults, found.text
    assert active(found.text) == ([] if text_format != "json" else ["{}"])
    loaded = settings_of(model, found.text, tmp_path, text_format)
    assert loaded.model_fields_set == set()
    assert CANARY not in found.text


@pytest.mark.parametrize(("annotation", "default"), DEFAULTS)
def test_a_default_that_is_made_active_stays_what_it_is(annotation, default, tmp_path):
    model = create_model("Model", __base__=Section, field=(annotation, default))
    text = uncommented(sample(model).text)
    if (
        annotation is object
        or "default not shown" in text
        or "# integer; optional" in text
        or default in ([], {}, None)
    ):
        return
    loaded = settings_of(model, text, tmp_path)
    assert not differences(loaded, model()), text
    asked = sample(model, "yaml", [("field",)])
    assert not differences(settings_of(model, asked.text, tmp_path, "yaml"), model()), asked.text


NAMES = st.sampled_from(["plain", "with_underscore", "ünïcode", "x1", "password"])


@st.composite
def models(draw, depth=2, base=Settings):
    """A settings class: some required fields, some with defaults, sections within sections."""
    definitions = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        kind = draw(
            st.sampled_from(["required", "default", "section", "sections"] if depth else ["required", "default"])
        )
        if kind == "required":
            definitions[name] = (REQUIRED[draw(st.sampled_from(sorted(REQUIRED)))], ...)
        elif kind == "default":
            definitions[name] = draw(st.sampled_from(DEFAULTS))
        else:
            inner = draw(models(depth=depth - 1, base=draw(st.sampled_from([Section, BaseModel]))))
            annotation = draw(st.sampled_from([inner, list[inner], dict[str, inner], inner | None]))
            default = draw(st.sampled_from([..., None])) if kind == "section" else ...
            definitions[name] = (annotation if default is ... else annotation | None, default)
    spelled = draw(st.sampled_from(["name", "alias", "path", "index"]))
    spell = {
        "name": lambda name: None,
        "alias": lambda name: f"{name}-alias",
        "path": lambda name: AliasPath("paths", name),
        "index": lambda name: AliasPath("list", [*definitions].index(name)),
    }[spelled]
    aliased = {
        name: (kind, Field(default, validation_alias=spell(name))) if spelled != "name" else (kind, default)
        for name, (kind, default) in definitions.items()
    }
    model = create_model("Model", __base__=base, **aliased)
    if base is Settings and draw(st.booleans()):
        model = type("Model", (model,), {"model_config": {"env_prefix": "APP_", "env_nested_delimiter": "__"}})
    return model


@pytest.mark.parametrize("text_format", FORMATS)
@given(model=models())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_class_accepts_its_sample(text_format, model, tmp_path_factory):
    found = sample(model, text_format)
    assert not found.faults, found.text
    folder = tmp_path_factory.mktemp("sample", numbered=True)
    assert settings_of(model, found.text, folder, text_format) is not None
    assert CANARY not in found.text
    assert CANARY not in sample(model, "markdown").text


# What it says


class App(Settings):
    """The shop.

    Not in the sample.
    """

    port: Annotated[int, RestartRequired(), Field(ge=1, le=65535, description="Where to\n  listen.")] = 8080
    server: Annotated[Server, Field(description="The one.")]
    servers: list[Server] = []
    retries: Annotated[int, Field(validation_alias=AliasChoices("tries", "retries"))] = 3
    host: Annotated[str, Field(validation_alias=AliasPath("net", "host"))] = "h"
    token: SecretStr = SecretStr(CANARY)
    limit: int | None = None


def test_it_says_what_there_is_to_know():
    text = sample(App).text
    for block in [
        "# Settings of App.\n# The shop.\n\n",
        "\n# Where to listen.\n# integer, at least 1, at most 65535; default 8080; needs a restart\n# port = 8080\n",
        "\n# integer; default 3\n# tries = 3\n",
        '\n# string; default "h"\n# net.host = "h"\n',
        '\n# string; default not shown; secret\n# token = ""\n',
        "\n# integer; optional\n# limit = 0\n",
        '\n# The one.\n# required\n[server]\n\n# string; required\nhost = "change-me"\n',
        '\n# string; required; secret\nkey = ""\n',
        "\n# list of table; default []\n#   host: string; required\n#   port: integer, at least 1, at most 65535; def",
        '\n# servers = [{host = "change-me", key = ',
        "\n# integer, above 10; required\n# tls.n = 11\n",
    ]:
        assert block in text, block
    assert "Not in the sample" not in text


def test_examples_fit_once_their_comment_signs_are_taken_away(tmp_path):
    text = uncommented(sample(App).text)
    loaded = settings_of(App, text, tmp_path)
    assert (loaded.limit, loaded.servers[0].host, loaded.server.tls.n) == (0, "change-me", 11)


def test_validators_are_respected(tmp_path):
    class Picky(Section):
        even: int
        name: str = "bad"

        @field_validator("even")
        @classmethod
        def is_one(cls, value):
            assert value == 1
            return value

        @field_validator("name")
        @classmethod
        def is_good(cls, value):
            assert value != "bad"
            return value

    found = sample(Picky)
    assert settings_of(Picky, found.text, tmp_path).even == 1
    assert "\n# name =" in found.text  # the class refuses its own default where it is written down


def test_what_no_placeholder_fits_is_commented_out_and_reported():
    class Strict(Section):
        code: Annotated[str, Field(pattern=r"^x\d{9}z$")]
        nested: Nested

    found = sample(Strict)
    assert [(fault.path, fault.message) for fault in found.faults] == [
        ("code", "field required: no source sets it"),
        ("nested.code", "field required: no source sets it"),
    ]
    assert "\n# code =" in found.text
    formats.parse("toml", found.text.encode())


class Nested(Section):
    code: Annotated[str, Field(pattern=r"^x\d{9}z$")]


def test_a_rule_over_several_fields_that_no_placeholder_meets_is_reported():
    class Ruled(BaseModel):
        low: int
        high: int

        @model_validator(mode="after")
        def ordered(self):
            if self.low >= self.high:
                raise ValueError("low must be below high")
            return self

    assert [fault.message for fault in sample(Ruled).faults] == ["low must be below high"]


def test_two_fields_that_look_at_one_place_are_no_crash():
    class Odd(Section):
        net: Server
        host: Annotated[str, Field(validation_alias=AliasPath("net", "host"))] = "h"

    formats.parse("toml", sample(Odd).text.encode())


def test_what_a_factory_makes_anew_each_time_is_an_example():
    counter = itertools.count()

    class Made(Section):
        number: str = Field(default_factory=lambda: str(next(counter)))
        names: list[str] = Field(default_factory=lambda: ["a"])

    text = sample(Made).text
    assert "\n# number = " in text
    assert '\n# names = ["a"]' in text


@pytest.mark.parametrize("text_format", [*FORMATS, "markdown"])
def test_classes_that_contain_each_other_end_soon(text_format):
    names = [f"C{number}" for number in range(20)]
    fields = "".join(f"    one{name}: {name} | None = None\n    all{name}: list[{name}] = []\n" for name in names)
    scope: dict[str, Any] = {"BaseModel": BaseModel}
    source = "".join(f"class {name}(BaseModel):\n    name: str\n{fields}\n" for name in names)
    exec(f"from __future__ import annotations\n{source}", scope)
    for name in names:
        scope[name].model_rebuild(_types_namespace=scope)
    model = create_model("Model", __base__=Settings, first=(scope["C0"], ...), second=(scope["C1"], ...))
    began = time.process_time()
    found = sample(model, text_format)
    assert time.process_time() - began < 1
    assert not found.faults


Json = TypeAliasType("Json", "str | list[Json] | dict[str, Json]")


class Odd(Settings):
    first: str = Field(validation_alias=AliasPath("hosts", 0))
    second: int = Field(validation_alias=AliasPath("hosts", 2))
    server: Server = Field(validation_alias=AliasPath("servers", 1))
    maybe: Json | None = None
    tree: Json
    itself: Recursive


@pytest.mark.parametrize("text_format", FORMATS)
def test_aliases_by_index_and_aliases_that_contain_themselves(text_format, tmp_path):
    found = sample(Odd, text_format)
    assert not found.faults
    loaded = settings_of(Odd, found.text, tmp_path, text_format)
    assert (loaded.first, loaded.second, loaded.server.host) == ("change-me", 0, "change-me")


def test_an_alias_by_index_with_a_default_is_a_list_in_a_comment():
    model = create_model("Model", field=(str, Field("x", validation_alias=AliasPath("hosts", 0))))
    assert '# 0: string; default "x"\n# hosts = ["x"]\n' in sample(model).text
    assert '| `hosts.0` | string | `"x"` |' in sample(model, "markdown").text


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


@pytest.mark.parametrize("text_format", FORMATS)
def test_the_value_that_tells_the_members_of_a_union_apart_is_active(text_format, tmp_path):
    union = Annotated[Cat | Dog, Field(discriminator="kind")]
    model = create_model(
        "Model", __base__=Settings, pet=(union, ...), pets=(Annotated[list[union], Field(min_length=1)], ...)
    )
    found = sample(model, text_format)
    assert not found.faults, found.text
    assert settings_of(model, found.text, tmp_path, text_format).pet == Cat(lives=0)


def test_a_default_with_credentials_is_not_shown():
    model = create_model("Model", __base__=Settings, url=(str, f"postgres://user:{CANARY}@host/x"), limit=(int, 3))
    for text_format in (*FORMATS, "markdown"):
        assert CANARY not in sample(model, text_format).text
    assert "# string; default not shown\n# url =" in sample(model).text


def test_a_class_without_sources_has_no_variables_for_its_sections(tmp_path):
    model = create_model("Model", __base__=Section, port=(int, ...))
    found = sample(model, "env")
    assert settings_of(model, found.text, tmp_path, "env").port == 0
    model = create_model("Model", __base__=Section, server=(Server, ...))
    assert [fault.path for fault in sample(model, "env").faults] == ["server"]


def test_a_description_of_any_text_stays_within_its_line(tmp_path):
    text = "a | b \x07 # c\n[d]\te = 1 \u2028 f: `g`"
    model = create_model("Model", __base__=Settings, __doc__=text, port=(int, Field(description=text)))
    for text_format in FORMATS:
        found = sample(model, text_format)
        assert settings_of(model, found.text, tmp_path, text_format).port == 0
    row = sample(model, "markdown").text.splitlines()[-1]
    assert row.startswith("| `port` | integer | required | a \\| b ")


class Db(BaseSettings):
    model_config = {"env_prefix": "DB_"}
    url: str = "sqlite://"
    pool: int = 5


@pytest.mark.parametrize("text_format", ["toml", "yaml", "json", "env", "markdown"])
def test_what_the_environment_says_is_no_default(text_format, monkeypatch):
    monkeypatch.setenv("DB_URL", "of-this-machine")

    class App(BaseSettings):
        made: Db = Field(default_factory=Db)
        said: Db = Field(default_factory=lambda: Db(pool=7))
        once: Db = Db()
        several: list[Db] = [Db()]
        by_name: dict[str, Db] = {"one": Db()}

    assert "of-this-machine" not in sample(App, text_format, [("made",), ("once",), ("several",)]).text
    assert "of-this-machine" not in str(json_schema(App))


def test_the_variable_of_a_setting_is_the_one_that_the_class_reads():
    class Own(BaseSettings):
        port: int = 1
        db: Db = Field(default_factory=Db)

        @classmethod
        def settings_customise_sources(cls, settings_cls, init_settings, **_others):
            return EnvSettingsSource(settings_cls, env_prefix="OWN_"), init_settings

    class Without(Own):
        @classmethod
        def settings_customise_sources(cls, settings_cls, init_settings, **_others):
            return (init_settings,)

    def variables(model):
        rows = [row.split(" | ") for row in sample(model, "markdown").text.splitlines() if row.startswith("| `")]
        return {row[0].strip("| `"): row[4].strip("`") for row in rows}

    assert variables(Own) == {"port": "OWN_PORT", "db": "OWN_DB", "db.url": "DB_URL", "db.pool": "DB_POOL"}
    assert variables(Without) == {"port": "", "db": "", "db.url": "DB_URL", "db.pool": "DB_POOL"}


async def test_a_sample_can_be_written_while_an_event_loop_runs():
    assert not sample(Db, "env").faults
