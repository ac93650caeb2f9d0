"""Settings classes within settings, and constructors of their own: as the class makes them, each source asked once."""

import contextlib
import json
import os
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from hotconf import HotConf, Options, RestartRequired
from tests.heart import QUIET, until

ASKED = []


class Counting(PydanticBaseSettingsSource):
    """A source that notes when it is asked."""

    def get_field_value(self, field, field_name):
        raise NotImplementedError

    def __call__(self):
        ASKED.append(self.settings_cls.__name__)
        return {}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    ASKED.clear()
    monkeypatch.chdir(tmp_path)


class Counted(BaseSettings):
    model_config = {"extra": "ignore"}

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, dotenv_settings, **_others):
        return init_settings, env_settings, dotenv_settings, Counting(settings_cls)


class Credentials(Counted):
    model_config = {"env_prefix": "CRED_", "env_file": "cred.env"}
    user: str = "nobody"
    token: str = ""


class Db(Counted):
    model_config = {"env_prefix": "DB_", "env_file": "db.env"}
    url: str = "sqlite://"
    port: int = 1
    cred: Credentials = Field(default_factory=Credentials)


class App(Counted):
    model_config = {"env_nested_delimiter": "__"}
    name: str = "app"
    db: Db = Field(default_factory=Db)


def loaded(model, **given):
    conf = HotConf(model, options=QUIET, **given)
    conf.load()
    return conf


def origins(conf, *paths):
    return [str(conf.explain(path).origin) for path in paths]


def test_a_settings_class_within_settings_reads_with_its_own_prefix_and_files(monkeypatch):
    monkeypatch.setenv("DB_URL", "postgres://x")
    monkeypatch.setenv("CRED_USER", "me")
    with open("cred.env", "w") as file:
        file.write("\nCRED_TOKEN=t\n")
    conf = loaded(App)
    assert conf.current == App()
    assert conf.current.model_fields_set == App().model_fields_set == set()
    places = origins(conf, "db.url", "db.cred.user", "db.cred.token", "db.port")
    assert places == ["env DB_URL", "env CRED_USER", "cred.env:2:1", "default"]


async def test_each_source_is_asked_once_for_a_load_and_once_for_a_reload(monkeypatch):
    conf = loaded(App)
    assert sorted(ASKED) == ["App", "Credentials", "Db"]
    ASKED.clear()
    assert (await conf.reload()).outcome == "unchanged"
    assert sorted(ASKED) == ["App", "Credentials", "Db"]
    monkeypatch.setenv("DB_URL", "other")
    ASKED.clear()
    assert (await conf.reload()).outcome == "applied"
    assert sorted(ASKED) == ["App", "Credentials", "Db"]
    assert conf.current.db.url == "other"


def test_the_parents_values_are_what_the_constructor_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("DB_URL", "nested")
    monkeypatch.setenv("DB_PORT", "5")
    monkeypatch.setenv("DB__URL", "parent")
    file = tmp_path / "app.toml"
    file.write_text("name = 'x'\n[db]\nport = 7\n")
    conf = loaded(App, files=[file])
    assert (conf.current.db.url, conf.current.db.port) == ("parent", 7)
    assert conf.current.db == Db(url="parent", port=7)
    assert origins(conf, "db.url", "db.port") == ["env DB__URL", f"{file}:3:1"]
    assert [(entry.value, str(entry.origin)) for entry in conf.explain("db.port").shadowed] == [("5", "env DB_PORT")]


async def test_every_file_of_a_nested_class_is_watched(tmp_path):
    (tmp_path / "cred.env").write_text("CRED_TOKEN=one\n")
    conf = HotConf(App)
    async with conf.running(signals=()):
        assert conf.current.db.cred.token == "one"
        (tmp_path / "cred.env").write_text("CRED_TOKEN=two\n")
        await until(lambda: conf.current.db.cred.token == "two")
        (tmp_path / "db.env").write_text("DB_PORT=4\n")
        await until(lambda: conf.current.db.port == 4)


async def test_a_nested_file_that_falls_silent_rejects(tmp_path):
    (tmp_path / "db.env").write_text("DB_PORT=4\n")
    conf = loaded(App)
    (tmp_path / "db.env").write_text("")
    report = await conf.reload()
    assert report.outcome == "rejected"
    assert "db.env: is gone or empty" in str(report)


def test_a_fault_in_a_nested_class_has_its_place(monkeypatch, tmp_path):
    monkeypatch.setenv("DB_PORT", "many")
    (tmp_path / "cred.env").write_text("CRED_TOKEN='\n")
    with pytest.raises(Exception, match=r"cred.env:1:1: expected NAME=value") as caught:
        loaded(App)
    (tmp_path / "cred.env").unlink()
    with pytest.raises(Exception, match=r"env DB_PORT: db.port: input should be a valid integer") as caught:
        loaded(App)
    assert len(caught.value.report.faults) == 1


class Many(Counted):
    parts: list[Db] = []
    named: dict[str, Credentials] = {}
    either: Db | None = None


def test_a_nested_class_may_stand_in_lists_mappings_and_unions(monkeypatch, tmp_path):
    monkeypatch.setenv("DB_URL", "from env")
    monkeypatch.setenv("CRED_USER", "me")
    file = tmp_path / "app.toml"
    file.write_text('[[parts]]\nport = 2\n[[parts]]\nurl = "own"\n[named.x]\ntoken = "t"\n')
    conf = loaded(Many, files=[file])
    expected = Many(parts=[{"port": 2}, {"url": "own"}], named={"x": {"token": "t"}})
    assert conf.current == expected
    places = origins(conf, "parts.0.port", "parts.0.url", "parts.1.url", "parts.1.cred.user", "named.x.user")
    assert places == [f"{file}:2:1", "env DB_URL", f"{file}:4:1", "env CRED_USER", "env CRED_USER"]
    assert conf.current.either is None


class Cat(Counted):
    model_config = {"env_prefix": "CAT_"}
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(Counted):
    model_config = {"env_prefix": "DOG_"}
    kind: Literal["dog"] = "dog"
    legs: int = 4


class Owner(Counted):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


def test_of_a_union_only_the_member_that_is_there_is_asked(monkeypatch):
    monkeypatch.setenv("DOG_LEGS", "3")
    conf = loaded(Owner, init={"pet": {"kind": "dog"}})
    assert conf.current == Owner(pet={"kind": "dog"})
    assert origins(conf, "pet.legs") == ["env DOG_LEGS"]
    assert "Cat" not in ASKED


class EnvFirst(Counted):
    model_config = {"env_prefix": "FIRST_"}
    port: int = 0
    host: str = ""

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_others):
        return env_settings, init_settings


class Holder(Counted):
    part: EnvFirst


def test_the_order_of_a_nested_class_is_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("FIRST_PORT", "2")
    file = tmp_path / "app.toml"
    file.write_text('[part]\nport = 1\nhost = "h"\n')
    conf = loaded(Holder, files=[file])
    assert conf.current.part == EnvFirst(port=1, host="h")
    assert origins(conf, "part.port", "part.host") == ["env FIRST_PORT", f"{file}:3:1"]


class Plain(BaseModel):
    """No settings class, and one of its fields is."""

    name: str = "plain"
    db: Db = Field(default_factory=Db)


async def test_a_plain_model_may_hold_a_settings_class(monkeypatch):
    monkeypatch.setenv("DB_URL", "one")
    conf = loaded(Plain, init={"name": "given"})
    assert (conf.current.name, conf.current.db.url) == ("given", "one")
    assert origins(conf, "name", "db.url") == ["init", "env DB_URL"]
    monkeypatch.setenv("DB_URL", "two")
    assert (await conf.reload()).outcome == "applied"


class Marked(Counted):
    name: str = ""
    db: Annotated[Db, RestartRequired()] = Field(default_factory=Db)


async def test_I8_a_nested_class_may_be_kept_until_a_restart(monkeypatch):
    monkeypatch.setenv("DB_URL", "one")
    conf = loaded(Marked)
    monkeypatch.setenv("DB_URL", "two")
    monkeypatch.setenv("NAME", "new")
    report = await conf.reload()
    assert report.outcome == "applied"
    assert [(entry.path, entry.running, entry.wanted) for entry in report.pending_restart] == [("db.url", "one", "two")]
    assert (conf.current.db.url, conf.current.name) == ("one", "new")
    monkeypatch.setenv("DB_URL", "one")
    assert (await conf.reload()).pending_restart == ()


def test_a_nested_class_may_be_overridden(monkeypatch):
    monkeypatch.setenv("DB_URL", "one")
    conf = loaded(App)
    ASKED.clear()
    with conf.override(db={"port": 9}):
        assert (conf.current.db.url, conf.current.db.port) == ("one", 9)
        assert origins(conf, "db.port", "db.url") == ["override", "env DB_URL"]
    assert conf.current.db.port == 1
    assert ASKED == []


async def test_a_rollback_asks_no_source(monkeypatch):
    monkeypatch.setenv("DB_URL", "one")
    conf = HotConf(App, options=Options(watch=False))
    async with conf.running(signals=()):
        monkeypatch.setenv("DB_URL", "two")
        await conf.reload()
        ASKED.clear()
        await conf.rollback()
        assert conf.current.db.url == "one"
        assert origins(conf, "db.url") == ["env DB_URL"]


async def test_a_patch_reaches_into_a_nested_class(monkeypatch, tmp_path):
    monkeypatch.setenv("DB_URL", "one")
    conf = HotConf(App, options=Options(watch=False, overlay=tmp_path / "overlay.toml"))
    async with conf.running(signals=()):
        await conf.patch({"db": {"port": 3}})
        assert (conf.current.db.port, conf.current.db.url) == (3, "one")
        assert (await conf.reload()).outcome == "unchanged"


def test_the_last_known_good_starts_a_nested_class(monkeypatch, tmp_path):
    monkeypatch.setenv("DB_URL", "one")
    file = tmp_path / "app.toml"
    file.write_text("name = 'x'\n")
    options = Options(watch=False, last_good=tmp_path / "good.json")
    HotConf(App, files=[file], options=options).load()
    file.write_text("name = [\n")
    conf = HotConf(App, files=[file], options=options)
    conf.load()
    assert (conf.current.name, conf.current.db.url) == ("x", "one")


# Constructors of their own


class Own(Counted):
    model_config = {"env_prefix": "OWN_"}
    port: int = 0
    where: str = ""
    made: int = 0

    def __init__(self, config="own.env", **values):
        super().__init__(_env_file=config, **values)
        self.made += 1


async def test_a_constructor_of_the_classs_own_is_called_as_the_class_calls_it(tmp_path):
    (tmp_path / "own.env").write_text("OWN_PORT=1\n")
    (tmp_path / "other.env").write_text("OWN_PORT=2\n")
    conf = loaded(Own)
    assert conf.current == Own()
    assert (conf.current.port, conf.current.made) == (1, 1)
    assert origins(conf, "port") == ["own.env:1:1"]
    other = loaded(Own, init={"where": "here"}, settings_options={"config": "other.env"})
    assert other.current == Own("other.env", where="here")
    assert origins(other, "port", "where") == ["other.env:1:1", "init"]
    (tmp_path / "own.env").write_text("OWN_PORT=3\n")
    ASKED.clear()
    assert (await conf.reload()).outcome == "applied"
    assert (conf.current.port, ASKED) == (3, ["Own"])


async def test_the_files_of_a_constructor_are_watched(tmp_path):
    (tmp_path / "own.env").write_text("OWN_PORT=1\n")
    async with HotConf(Own).running(signals=()) as conf:
        (tmp_path / "own.env").write_text("OWN_PORT=2\n")
        await until(lambda: conf.current.port == 2)


async def test_what_a_constructor_reads_by_itself_comes_with_a_reload(tmp_path):
    file = tmp_path / "app.json"
    file.write_text('{"port": 1}')

    class App(BaseSettings):
        port: int = 0

        def __init__(self, **values):
            super().__init__(**json.loads(file.read_text()), **values)

    conf = HotConf(App, options=QUIET)
    conf.load()
    file.write_text('{"port": 2}')
    assert (await conf.reload()).outcome == "applied"
    assert conf.current.port == App().port == 2


def test_files_reach_a_class_with_a_constructor_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "app.toml").write_text("port = 5\nwhere = 'file'\n")
    monkeypatch.setenv("OWN_PORT", "6")
    conf = loaded(Own, files=["app.toml"])
    assert (conf.current.port, conf.current.where) == (6, "file")


class Refusing(Counted):
    port: int = 0

    def __init__(self, **values):
        super().__init__(**values)
        if self.port > 1:
            raise ValueError("the port is too high")


async def test_what_a_constructor_raises_rejects(monkeypatch):
    conf = loaded(Refusing)
    monkeypatch.setenv("PORT", "2")
    report = await conf.reload()
    assert report.outcome == "rejected"
    assert "the port is too high" in str(report)
    assert conf.current.port == 0


class Argued(Counted):
    """Makes settings in code, with arguments of its own."""

    region: str = "eu"
    db: Db | None = None

    @model_validator(mode="after")
    def make(self):
        self.db = Db(port=len(self.region))
        return self


class Outer(Counted):
    inner: Argued = Field(default_factory=Argued)


async def test_what_code_constructs_is_asked_once_too(monkeypatch):
    monkeypatch.setenv("DB_URL", "one")
    conf = loaded(Outer)
    assert conf.current == Outer()
    assert sorted(ASKED[:4]) == ["Argued", "Credentials", "Db", "Outer"]
    assert origins(conf, "inner.db.url") == ["env DB_URL"]
    monkeypatch.setenv("REGION", "north")
    monkeypatch.setenv("DB_URL", "two")
    assert (await conf.reload()).outcome == "applied"
    assert (conf.current.inner.db.url, conf.current.inner.db.port) == ("two", 5)


async def test_a_default_object_that_its_class_made_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CRED_USER", "me")

    class Inner(Counted):
        model_config = {"env_file": "inner.env"}
        port: int = 1
        cred: Credentials = Credentials()

    class Defaulted(Counted):
        inner: Inner = Inner()
        given: Inner = Inner(port=5)

    conf = loaded(Defaulted)
    assert conf.current == Defaulted()
    assert conf.current.model_fields_set == set()
    assert origins(conf, "inner.cred.user", "given.port") == ["env CRED_USER", "default"]
    (tmp_path / "inner.env").write_text("PORT=2\n")
    report = await conf.reload()
    assert (report.outcome, report.changed) == ("applied", ("inner.port",))
    assert (conf.current.inner.port, conf.current.given.port) == (2, 5)
    assert origins(conf, "inner.port") == ["inner.env:1:1"]
    (tmp_path / "inner.env").write_text("PORT=x\n")
    assert str((await conf.reload()).faults[0]).startswith("inner.env:1:1: inner.port: input should be a valid integer")


def test_outside_a_construction_nothing_is_different(monkeypatch):
    loaded(App)
    ASKED.clear()
    monkeypatch.setenv("DB_URL", "direct")
    assert Db().url == "direct"
    assert ASKED == ["Db", "Credentials"]
    with contextlib.suppress(KeyError):
        del os.environ["DB_URL"]


class Toml(BaseSettings):
    model_config = {"extra": "ignore"}
    port: int = 0

    @classmethod
    def settings_customise_sources(cls, settings_cls, **_others):
        return (TomlConfigSettingsSource(settings_cls, toml_file="nested.toml"),)


class WithToml(BaseSettings):
    part: Toml = Field(default_factory=Toml)


async def test_a_file_that_a_nested_class_names_by_argument_is_watched(tmp_path):
    (tmp_path / "nested.toml").write_text("port = 1\n")
    async with HotConf(WithToml).running(signals=()) as conf:
        assert origins(conf, "part.port") == ["nested.toml:1:1"]
        (tmp_path / "nested.toml").write_text("port = 2\n")
        await until(lambda: conf.current.part.port == 2)
