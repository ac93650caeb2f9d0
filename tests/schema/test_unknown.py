"""Unknown keys: what a file holds and no field reads, where the class itself says nothing."""

from __future__ import annotations

import dataclasses
import logging
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, RootModel, model_validator
from pydantic_settings import BaseSettings
from typing_extensions import TypedDict

from hotconf.conf import HotConf
from hotconf.errors import ConfigError
from hotconf.schema.settings import Options, Section, Sensitive, Untyped
from hotconf.sources.memory import Memory


class Server(BaseModel):
    model_config = ConfigDict(extra="allow")

    host: str = Field("h", validation_alias=AliasChoices("host", "hostname", AliasPath("net", "host")))
    port: int = 80


class Strict(Section):
    size: int = 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Server]

    first: int = 1


class Bag(BaseModel):
    model_config = ConfigDict(extra="allow")


@dataclasses.dataclass
class Record:
    name: str = "n"


class Typed(TypedDict, total=False):
    width: int


class Names(RootModel[dict[str, Server]]):
    pass


class App(BaseSettings):
    model_config = {"extra": "ignore", "env_prefix": "APP_", "env_nested_delimiter": "__"}

    message: str = "m"
    server: Server = Server()
    servers: list[Server] = []
    named: Names = Names({})
    either: Server | Record | None = None
    record: Record = Record()
    typed: Typed = {}
    bag: Bag = Bag()
    open: Open = Open()
    anything: Any = None
    free: dict[str, Any] = {}
    strict: Strict = Strict()
    keys: Annotated[dict[str, str], Sensitive()] = {}


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A configuration with a file of each kind. `write` replaces the TOML file."""
    monkeypatch.chdir(tmp_path)

    def make(text="", *, model=App, sources=(), **options):
        (tmp_path / "app.toml").write_text(text)
        return HotConf(model, ["app.toml"], sources, options=Options(watch=False, **options))

    return make


def named(conf):
    conf.load()
    return [str(fault) for fault in conf.unknown_keys]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('message = "x"\nanything = {a = 1}\nfree = {b = {c = 1}}\nbag = {d = 1}\nkeys = {e = "f"}', []),
        ("mesage = 1", ["app.toml:1:1: mesage: unknown key; did you mean 'message'?"]),
        ("[open.frist]\nport = 1\nprt = 2", ["app.toml:3:1: open.frist.prt: unknown key; did you mean 'port'?"]),
        ("[zebra]\nx = 1", ["app.toml:1:2: zebra: unknown key"]),
        ("[server]\nhostnme = 1", ["app.toml:2:1: server.hostnme: unknown key; did you mean 'hostname'?"]),
        ('server = {hostname = "x"}\n[[servers]]\nnet.host = "x"', []),
        ("[[servers]]\n[[servers]]\nprt = 1", ["app.toml:3:1: servers.1.prt: unknown key; did you mean 'port'?"]),
        ("[named.a]\nprt = 1", ["app.toml:2:1: named.a.prt: unknown key; did you mean 'port'?"]),
        ("[either]\nname = 'x'\nport = 1\nnme = 'x'", ["app.toml:4:1: either.nme: unknown key; did you mean 'name'?"]),
        ("[record]\nnme = 1", ["app.toml:2:1: record.nme: unknown key; did you mean 'name'?"]),
        ("[typed]\nwdth = 1", ["app.toml:2:1: typed.wdth: unknown key; did you mean 'width'?"]),
    ],
)
def test_each_is_named_with_its_place_and_the_near_name(conf, text, faults):
    assert named(conf(text)) == faults


def test_what_the_class_refuses_is_a_fault_once(conf):
    with pytest.raises(ConfigError) as refused:
        conf("mesage = 1\n[strict]\nsze = 1", unknown="error").load()
    assert [str(fault) for fault in refused.value.report.faults] == [
        "app.toml:3:1: strict.sze: unknown key; did you mean 'size'?",
        "app.toml:1:1: mesage: unknown key; did you mean 'message'?",
    ]


def test_variables_and_values_of_the_program_are_not_meant(conf, monkeypatch):
    monkeypatch.setenv("APP_MESAGE", "x")
    monkeypatch.setenv("APP_SERVER__PRT", "1")
    assert named(conf(sources=[Memory({"mesage": 1, "server": {"prt": 1}})])) == []


def test_a_dotenv_file_and_an_overlay_are(conf, tmp_path):
    (tmp_path / ".env").write_text("APP_MESAGE=x\nAPP_SERVER__PRT=1\n")
    (tmp_path / "overlay.toml").write_text("[server]\nhst = 1\n")
    assert named(conf(sources=[".env"], overlay="overlay.toml")) == [
        ".env:2:1: server.prt: unknown key; did you mean 'port'?",
        ".env:1:1: mesage: unknown key; did you mean 'message'?",
        "overlay.toml:2:1: server.hst: unknown key; did you mean 'host'?",
    ]


def test_a_file_that_the_class_names_is(conf, tmp_path):
    (tmp_path / ".env").write_text("APP_MESAGE=x\n")
    own = type("Own", (App,), {"model_config": {"env_file": ".env"}})
    assert named(conf(model=own)) == [".env:1:1: mesage: unknown key; did you mean 'message'?"]


def test_documents_without_a_class_have_none(conf):
    assert named(conf("mesage = 1", model=Untyped)) == []


def test_ignore_says_nothing(conf, caplog):
    assert named(conf("mesage = 1", unknown="ignore")) == []
    assert "mesage" not in caplog.text


def test_a_name_that_quotes_a_secret_is_masked(conf):
    assert named(conf('[keys]\na = "hunter2hunter2"\n[server]\nhunter2hunter2 = 1')) == [
        "app.toml:4:1: server.**********: unknown key"
    ]


def test_each_is_logged_once_for_as_long_as_it_is_there(conf, caplog, tmp_path):
    caplog.set_level(logging.WARNING, logger="hotconf")
    live = conf("mesage = 1")

    def load(text):
        (tmp_path / "app.toml").write_text(text)
        caplog.clear()
        live.load()
        return caplog.messages

    mistyped = "mesage: unknown key; did you mean 'message'?"
    assert load("mesage = 1") == [f"app.toml:1:1: {mistyped}"]
    assert load("mesage = 1") == []
    assert load("# moved\nmesage = 2\nmessage = 'y'") == []
    assert load("mesage = 1\nzebra = 1") == ["app.toml:2:1: zebra: unknown key"]
    assert load("message = 'x'") == []
    assert load("mesage = 1") == [f"app.toml:1:1: {mistyped}"]
    assert load("\n".join(f"zebra{n} = 1" for n in range(30)))[-1] == "and 10 more unknown keys"


def test_error_rejects_a_reload_and_a_patch(conf, tmp_path):
    live = conf("message = 'x'", unknown="error", overlay="overlay.toml")
    live.load()
    (tmp_path / "app.toml").write_text("message = 'y'\nmesage = 1")
    with pytest.raises(ConfigError, match="2:1: mesage: unknown key; did you mean 'message'"):
        live.load()
    assert live.current.message == "x"
    assert live.reports[-1].stage == "validate"


def test_a_key_that_a_validator_may_read_is_not_unknown(conf):
    class Old(BaseModel):
        port: int = 80

        @model_validator(mode="before")
        @classmethod
        def renamed(cls, values: Any) -> Any:
            return {"port": values.pop("prot"), **values} if "prot" in values else values

    class New(BaseModel):
        port: int = 80

        @model_validator(mode="after")
        def checked(self) -> Any:
            return self

    class Both(BaseModel):
        old: Old = Old()
        new: New = New()

    assert named(conf("[old]\nprot = 1\n[new]\nprot = 2", model=Both)) == [
        "app.toml:4:1: new.prot: unknown key; did you mean 'port'?"
    ]


def test_a_dotenv_file_has_variables_for_other_readers_too(conf, tmp_path):
    class Redis(BaseSettings):
        model_config = {"env_prefix": "REDIS_", "env_file": ".env", "extra": "ignore"}
        host: str = "h"

    class Shared(BaseSettings):
        model_config = {"env_file": ".env", "extra": "ignore"}
        redis: Redis = Field(default_factory=Redis)
        again: Redis = Field(default_factory=Redis)
        message: str = ""

    lines = ["REDIS_HOST=a", "COMPOSE_PROJECT_NAME=b", "MESAGE=c", "REDIS_HSOT=d", "MESSAGE=f"]
    (tmp_path / ".env").write_text("\n".join(lines))
    shared = conf(model=Shared)
    assert named(shared) == [
        ".env:4:1: redis.hsot: unknown key; did you mean 'host'?",
        ".env:3:1: mesage: unknown key; did you mean 'message'?",
    ]
    assert (shared.current.redis.host, shared.current.message) == ("a", "f")
