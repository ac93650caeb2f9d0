"""What `cls()` gives, `HotConf(cls)` gives: one test for each kind of difference that there once was.

Each class is of the kind that pydantic-settings' own documentation shows. Kinds 3 and 26, nested classes and own
constructors, are in `test_construct`; 10, bare generics, in `tests/schema/test_fields`; 20, samples, in `tests/sample`.
"""

import asyncio
import contextlib
import contextvars
import gc
import importlib.resources
import sys
import typing
import weakref
import zipfile
from importlib.metadata import version
from typing import Literal

import pytest
import yaml
from pydantic import AliasChoices, AliasPath, BaseModel, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    CliUnknownArgs,
    EnvSettingsSource,
    JsonConfigSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    TomlConfigSettingsSource,
    YamlConfigSettingsSource,
)

from hotconf import ConfigError, HotConf
from hotconf.jsonschema import json_schema
from tests.heart import QUIET, until

OF_2_16 = pytest.mark.skipif(version("pydantic-settings") < "2.16", reason="pydantic-settings 2.15 does otherwise")


def loaded(model, **given):
    conf = HotConf(model, options=QUIET, **given)
    conf.load()
    return conf


def fault_of(model, **given):
    """The only fault of a load, as text."""
    with pytest.raises(ConfigError) as caught:
        loaded(model, **given)
    (fault,) = caught.value.report.faults
    return str(fault)


def reading(*makers, **config):
    """A class that reads from the given sources alone."""

    class App(BaseSettings):
        model_config = {"extra": "ignore", **config}
        message: str = "default"
        port: int = 0

        @classmethod
        def settings_customise_sources(cls, settings_cls, **sources):
            return tuple(make(settings_cls) for make in makers) or tuple(sources.values())

    return App


class Told(PydanticBaseSettingsSource):
    """A source that says what it is told to say."""

    said: typing.ClassVar = {}

    def get_field_value(self, field, field_name):
        raise NotImplementedError

    def __call__(self):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


# 1: every file is watched, whichever way the class names it, alone and beside others


def write(path, text):
    """Replace a file as a whole, as an editor does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


TOML, YAML, JSON, ENV = 'message = "{}"\n', "message: {}\n", '{{"message": "{}"}}\n', "MESSAGE={}\n"
WATCHED = {
    "toml by argument": (lambda c: TomlConfigSettingsSource(c, toml_file="sub/a.toml"), "sub/a.toml", TOML),
    "yaml by argument": (lambda c: YamlConfigSettingsSource(c, yaml_file="a.yaml"), "a.yaml", YAML),
    "json, the second of two": (lambda c: JsonConfigSettingsSource(c, ["none.json", "b.json"]), "b.json", JSON),
    "toml in the home folder": (lambda c: TomlConfigSettingsSource(c, "~/h.toml"), "h.toml", TOML),
    "pyproject.toml": (PyprojectTomlConfigSettingsSource, "pyproject.toml", "[tool.pydantic-settings]\n" + TOML),
}


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
@pytest.mark.parametrize("kind", WATCHED)
async def test_1_a_file_that_the_class_names_by_argument_is_watched_from_the_first_start(
    tmp_path, monkeypatch, kind, beside
):
    make, name, text = WATCHED[kind]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "other.toml").write_text("")
    write(tmp_path / name, text.format("one"))
    conf = HotConf(reading(make), files=["other.toml"] if beside else [])
    async with conf.running(signals=()):
        assert conf.current.message == "one"
        assert str(conf.explain("message").origin).partition(":")[0].endswith(name)
        write(tmp_path / name, text.format("two"))
        await until(lambda: conf.current.message == "two")


@pytest.mark.parametrize("kind", [pytest.param("dotenv", marks=OF_2_16), "pyproject"])
async def test_1_a_file_further_up_is_watched_and_so_is_the_nearer_one_that_appears(tmp_path, monkeypatch, kind):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    if kind == "dotenv":
        name, text, model = ".env", ENV, reading(env_file=".env", env_file_depth=1)
    else:
        name, text = "pyproject.toml", "[tool.pydantic-settings]\n" + TOML
        model = reading(PyprojectTomlConfigSettingsSource, pyproject_toml_depth=2)
    write(tmp_path / name, text.format("far"))
    conf = HotConf(model)
    async with conf.running(signals=()):
        assert conf.current.message == "far"
        write(tmp_path / name, text.format("edited"))
        await until(lambda: conf.current.message == "edited")
        write(tmp_path / "sub" / name, text.format("near"))
        await until(lambda: conf.current.message == "near")


class Db(BaseModel):
    password: str = "none"
    port: int = 0


def nested_secrets(folder, **config):
    class App(BaseSettings):
        model_config = {"secrets_dir": folder, **config}
        db: Db = Db()

        @classmethod
        def settings_customise_sources(cls, settings_cls, env_settings, file_secret_settings, **_others):
            return NestedSecretsSettingsSource(file_secret_settings), env_settings

    return App


async def test_1_secrets_in_a_folder_of_a_folder_are_watched(tmp_path):
    write(tmp_path / "db" / "password", "one")
    conf = HotConf(nested_secrets(tmp_path, secrets_nested_subdir=True))
    async with conf.running(signals=()):
        assert conf.current.db.password == "one"
        write(tmp_path / "db" / "password", "two")
        await until(lambda: conf.current.db.password == "two")
        assert str(conf.explain("db.password").origin) == str(tmp_path / "db" / "password")


async def test_1_a_source_of_the_users_own_says_what_it_reads(tmp_path):
    path = tmp_path / "app.ini"
    write(path, "one")

    class Ini(Told):
        def __call__(self):
            return {"message": path.read_text()}

        def paths(self):
            return [path]

    conf = HotConf(reading(Ini))
    async with conf.running(signals=()):
        assert conf.current.message == "one"
        write(path, "two")
        await until(lambda: conf.current.message == "two")


# 2, 17: the values given to the constructor are where the class wants them, under the keys that it takes


class Reversed(BaseSettings):
    port: int = 1
    chosen: str = "dev"
    seen: str = ""

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_others):
        seen = {"seen": str(init_settings.init_kwargs.get("chosen"))}
        return env_settings, init_settings, lambda: seen


def test_2_init_keeps_its_place_in_the_order_of_the_class(monkeypatch):
    monkeypatch.setenv("PORT", "2")
    conf = loaded(Reversed, init={"port": 3, "chosen": "prod"})
    assert conf.current == Reversed(port=3, chosen="prod")
    assert (conf.current.port, conf.current.seen) == (2, "prod")
    explained = conf.explain("port")
    assert str(explained.origin) == "env PORT"
    assert [(shadowed.value, str(shadowed.origin)) for shadowed in explained.shadowed] == [(3, "init")]


def test_2_the_command_line_stands_above_init():
    model = reading(cli_parse_args=["--port=4"])
    assert loaded(model, init={"port": 3}).current.port == 4


def test_2_a_class_that_takes_no_init_values_gets_none():
    assert loaded(reading(Told), init={"port": 3}).current.port == 0


def test_17_init_values_may_lie_where_an_alias_path_looks():
    class Deep(BaseSettings, populate_by_name=True):
        value: int = Field(validation_alias=AliasPath("payload", "value"))

    given = {"payload": {"value": 7}}
    assert loaded(Deep, init=given).current == Deep(**given)


def test_17_the_keys_of_init_are_those_that_the_class_takes():
    class Named(BaseSettings, extra="ignore"):
        port: int = 1
        last_name: str = Field("", validation_alias=AliasChoices("surname", "last_name"))

    given = {"PORT": 2, "surname": "doe", "last_name": "smith"}
    assert loaded(Named, init=given).current == Named(**given)
    assert Named(**given).last_name == "doe"


# 4: an origin is right or vague, never wrong


def test_4_the_section_of_a_file_has_its_own_lines(tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text("port: 1   # another program's\na.b:\n  port: x\n")
    fault = fault_of(reading(YamlConfigSettingsSource, yaml_file=path, yaml_config_section="a.b"))
    assert fault.startswith(f"{path}:3:3: port: ")


def test_4_the_variable_that_counts_is_named_not_one_like_it(monkeypatch):
    class Alias(BaseSettings):
        model_config = {"env_prefix": "APP_"}
        port: int = Field(0, validation_alias="PORT")
        other: int = Field(0, validation_alias=AliasChoices("FIRST", "SECOND"))
        again: int = Field(0, validation_alias=AliasChoices("SECOND", "THIRD"))

    for name, value in {"PORT": "1", "APP_PORT": "2", "FIRST": "3", "SECOND": "4"}.items():
        monkeypatch.setenv(name, value)
    conf = loaded(Alias)
    assert [str(conf.explain(name).origin) for name in Alias.model_fields] == ["env PORT", "env FIRST", "env SECOND"]


def test_4_a_nested_secret_is_no_variable(tmp_path, monkeypatch):
    (tmp_path / "db__port").write_text("x")
    monkeypatch.setenv("DB__PORT", "5432")
    fault = fault_of(nested_secrets(tmp_path, secrets_nested_delimiter="__", env_nested_delimiter="__"))
    assert fault.startswith(f"{tmp_path}/db__port: db.port: ")


def test_4_an_empty_variable_that_is_ignored_is_not_named(monkeypatch):
    class App(BaseSettings):
        model_config = {"env_nested_delimiter": "__", "env_ignore_empty": True}
        db: Db = Db()

    monkeypatch.setenv("DB", '{"port": 1}')
    monkeypatch.setenv("DB__PORT", "")
    assert str(loaded(App).explain("db.port").origin) == "env DB"


class Cloud(EnvSettingsSource):
    """Derives from the source that reads the environment, as those of pydantic-settings that ask a cloud do."""

    texts: typing.ClassVar = {"message": "two"}

    def _load_env_vars(self):
        return dict(self.texts)


def test_4_a_source_that_asks_a_cloud_is_not_the_environment(monkeypatch):
    monkeypatch.setenv("MESSAGE", "from the environment")
    conf = loaded(reading(EnvSettingsSource, Cloud))
    explained = conf.explain("message")
    assert (explained.value, str(explained.origin)) == ("from the environment", "env MESSAGE")
    assert [(entry.value, str(entry.origin)) for entry in explained.shadowed] == [("two", "Cloud")]


def test_4_a_value_that_a_source_has_from_elsewhere_is_not_said_to_be_a_variable(monkeypatch):
    class Vault(EnvSettingsSource):
        def get_field_value(self, field, field_name):
            super().get_field_value(field, field_name)
            return ("from the vault", field_name, False) if field_name == "message" else (None, field_name, False)

    monkeypatch.setenv("MESSAGE", "from the environment")
    assert str(loaded(reading(Vault)).explain("message").origin) == "Vault"


# 5, 13: nothing half, emptied or vanished is put into force


async def test_5_half_a_nested_secret_is_not_read(tmp_path):
    path = tmp_path / "db__password"
    path.write_text("correct horse battery staple")
    conf = loaded(nested_secrets(tmp_path, secrets_nested_delimiter="__"))
    with path.open("w") as writer:
        writer.write("correct horse")
        writer.flush()
        reload = asyncio.create_task(conf.reload())
        done, _ = await asyncio.wait({reload}, timeout=0.3)
        assert not done
        writer.write(" 2")
    assert (await reload).outcome == "applied"
    assert conf.current.db.password == "correct horse 2"


@pytest.mark.parametrize("how", ["emptied", "vanished"])
@pytest.mark.parametrize("kind", ["env_file", "toml by argument", "one of two", "secret"])
async def test_5_a_file_of_the_class_that_held_values_may_not_fall_silent(tmp_path, how, kind):
    path = tmp_path / "message"
    (tmp_path / "port.toml").write_text("port = 1\n")
    files = [tmp_path / "port.toml", path]
    model, text = {
        "env_file": (reading(env_file=path), ENV),
        "toml by argument": (reading(lambda c: TomlConfigSettingsSource(c, path)), TOML),
        "one of two": (reading(lambda c: TomlConfigSettingsSource(c, files)), TOML),
        "secret": (reading(secrets_dir=tmp_path), "{}"),
    }[kind]
    path.write_text(text.format("kept"))
    conf = loaded(model)
    path.write_text("") if how == "emptied" else path.unlink()
    report = await conf.reload()
    assert report.outcome == "rejected"
    assert [str(fault) for fault in report.faults] == [
        f"{path}: is gone or empty, and held values; if that is meant, force the reload"
    ]
    assert conf.current.message == "kept"
    assert (await conf.reload()).outcome == "rejected"
    assert (await conf.reload(force=True)).outcome == "applied"


async def test_5_a_file_of_the_class_that_never_was_there_may_be_absent(tmp_path):
    conf = loaded(reading(env_file=tmp_path / ".env"))
    assert (await conf.reload()).outcome == "unchanged"
    (tmp_path / ".env").write_text("MESSAGE=here\n")
    assert (await conf.reload()).outcome == "applied"


async def test_13_a_source_that_swallows_an_outage_applies_no_defaults(monkeypatch):
    conf = loaded(reading(Cloud))
    assert conf.current.message == "two"
    monkeypatch.setattr(Cloud, "texts", {})
    report = await conf.reload()
    assert report.outcome == "rejected"
    assert "Cloud: holds no values any more" in str(report)
    assert conf.current.message == "two"


async def test_13_a_variable_may_be_taken_away(monkeypatch):
    monkeypatch.setenv("MESSAGE", "here")
    conf = loaded(reading())
    monkeypatch.delenv("MESSAGE")
    assert (await conf.reload()).outcome == "applied"


# 6, 7, 14: the command line


def test_6_the_command_line_is_as_sensitive_to_case_as_the_class():
    assert loaded(reading(cli_parse_args=["--PORT=1"], cli_ignore_unknown_args=True)).current.port == 1


def test_7_a_command_line_source_of_the_class_gets_the_arguments(monkeypatch):
    class App(BaseSettings):
        model_config = {"cli_parse_args": ["--port=7"]}
        port: int = 0

        @classmethod
        def settings_customise_sources(cls, settings_cls, env_settings, **_others):
            return env_settings, CliSettingsSource(settings_cls)

    assert loaded(App).current.port == 7
    monkeypatch.setenv("PORT", "8")
    assert loaded(App).current.port == 8


def test_14_no_arguments_are_a_command_line_too(monkeypatch):
    class App(BaseSettings):
        model_config = {"cli_parse_args": [], "cli_enforce_required": True, "cli_exit_on_error": False}
        port: int

    monkeypatch.setenv("PORT", "1")
    fault = fault_of(App)
    assert fault.endswith("SettingsError: error parsing CLI: the following arguments are required: --port")


# 8, 15: default objects that are changed in part


class Memory(BaseModel):
    kind: Literal["memory"] = "memory"
    ttl: int = 60


class Redis(BaseModel):
    kind: Literal["redis"] = "redis"
    ttl: int = 3600


class Cached(BaseSettings):
    model_config = {"nested_model_default_partial_update": True, "env_nested_delimiter": "__"}
    cache: Memory | Redis = Field(Memory(ttl=61), discriminator="kind")


def test_8_the_default_of_another_member_of_a_union_does_not_show(tmp_path, monkeypatch):
    assert loaded(Cached).current == Cached()
    assert str(loaded(Cached).explain("cache.ttl").origin) == "default"
    monkeypatch.setenv("CACHE__KIND", "redis")
    assert loaded(Cached).current == Cached() == Cached.model_construct(cache=Redis())
    monkeypatch.delenv("CACHE__KIND")
    (tmp_path / "app.toml").write_text('cache.kind = "redis"\n')
    assert loaded(Cached, files=[tmp_path / "app.toml"]).current.cache == Redis()


@OF_2_16
async def test_8_a_patch_may_choose_another_member(tmp_path):
    conf = HotConf(Cached, options=QUIET.model_copy(update={"overlay": tmp_path / "overlay.toml"}))
    conf.load()
    await conf.patch({"cache": {"kind": "redis"}})
    assert conf.current.cache == Redis()
    await conf.patch({"cache": {"kind": None, "ttl": 5}})
    assert conf.current.cache == Memory(ttl=5)


def test_15_a_default_that_nothing_changed_is_no_input():
    class Hidden(BaseModel):
        url: str
        token: str = Field(exclude=True)

    class App(BaseSettings):
        model_config = {"nested_model_default_partial_update": True}
        db: Hidden = Hidden(url="db", token="t")

    conf = loaded(App)
    assert conf.current == App()
    assert conf.current.model_fields_set == App().model_fields_set == set()


# 9, 24: what a source says of its failure is told


def test_9_why_a_source_failed_is_told(tmp_path):
    path = tmp_path / "app.toml"
    path.write_text("port = 1\n")
    header = reading(TomlConfigSettingsSource, toml_file=path, toml_table_header=("tool", "app"))
    assert fault_of(header) == (
        f"TomlConfigSettingsSource: cannot be read: KeyError: 'toml_table_header key \"tool\" not found in {path}'"
    )
    unknown = reading(cli_parse_args=["--prot=1"], cli_exit_on_error=False)
    assert "error parsing CLI: unrecognized arguments: --prot=1" in fault_of(unknown)
    (tmp_path / "secrets").write_text("")
    fault = fault_of(reading(secrets_dir=tmp_path / "secrets"))
    assert fault == "secrets: cannot be read: SettingsError: secrets_dir must reference a directory, not a file"


async def test_9_why_a_source_cannot_be_made_is_told_and_what_it_would_read_is_watched(tmp_path):
    folder = tmp_path / "secrets"
    model = reading(NestedSecretsSettingsSource, secrets_dir=folder, secrets_dir_missing="error")
    model.settings_customise_sources = classmethod(
        lambda _cls, _settings_cls, file_secret_settings, **_others: (
            NestedSecretsSettingsSource(file_secret_settings),
        )
    )
    assert f'directory "{folder}" does not exist' in fault_of(model)
    folder.mkdir()
    conf = HotConf(model)
    async with conf.running(signals=()):
        folder.rename(tmp_path / "away")
        assert f'directory "{folder}" does not exist' in str((await conf.reload()).faults)
        (tmp_path / "away" / "message").write_text("back")
        (tmp_path / "away").rename(folder)
        await until(lambda: conf.current.message == "back")


def test_9_a_text_that_does_not_parse_is_told_with_its_place(tmp_path):
    path = tmp_path / "app.yaml"
    path.write_text("port: 1\nmessage: [\n")
    assert fault_of(reading(lambda c: YamlConfigSettingsSource(c, path))).startswith(f"{path}:3:1: ")


def test_9_a_text_that_a_source_of_the_users_own_cannot_parse_has_its_place(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("message: 'hunter2\nport: [\n")

    class Own(Told):
        def __call__(self):
            return yaml.safe_load(path.read_text())

        def paths(self):
            return [path]

    fault = fault_of(reading(Own))
    assert fault.startswith(f"{path}:3:1: cannot be read: ScannerError: found unexpected end of stream")
    assert "hunter2" not in fault


def test_9_a_secret_in_the_text_of_an_error_is_not_told(monkeypatch):
    class App(BaseSettings):
        password: SecretStr = SecretStr("")

        @classmethod
        def settings_customise_sources(cls, settings_cls, env_settings, **_others):
            return env_settings, Told(settings_cls)

    monkeypatch.setenv("PASSWORD", "hunter2")
    monkeypatch.setattr(Told, "said", ValueError("login with hunter2 failed"))
    assert fault_of(App).endswith("ValueError: login with ********** failed")


def test_24_json_is_missed_only_where_it_was_wanted(monkeypatch):
    class Comma(EnvSettingsSource):
        def prepare_field_value(self, field_name, field, value, value_is_complex):
            return [int(part) for part in value.split(",")]

    class App(BaseSettings):
        numbers: list[int]

        @classmethod
        def settings_customise_sources(cls, settings_cls, **_others):
            return (Comma(settings_cls),)

    monkeypatch.setenv("NUMBERS", "1,2,x")
    assert fault_of(App) == (
        "env NUMBERS: numbers: cannot be read: ValueError: invalid literal for int() with base 10: 'x'"
    )


# 11: files=[".env"] and env_file=".env" read alike


@pytest.mark.parametrize(
    "config",
    [{}, {"env_ignore_empty": True}, {"env_parse_none_str": "null"}, {"env_file_encoding": "latin-1"}],
    ids=str,
)
def test_11_a_dotenv_file_means_the_same_however_it_is_named(tmp_path, monkeypatch, config):
    class App(BaseSettings):
        model_config = {"extra": "ignore", **config}
        host: str = "none"
        url: str = "none"
        level: str | None = "info"
        bare: str = "default"
        empty: str = "default"

    path = tmp_path / ".env"
    text = "HOST=bücher\nURL=http://${HOST}/${WHERE:-here}\nLEVEL=null\nBARE\nEMPTY=\n"
    path.write_text(text, config.get("env_file_encoding", "utf-8"))
    monkeypatch.setenv("WHERE", "there")
    conf = loaded(App, files=[path])
    assert conf.current == App(_env_file=path)
    assert conf.current.url == "http://bücher/there"
    assert str(conf.explain("url").origin) == f"{path}:2:1"


# 12: options of the constructor


def test_12_options_of_the_constructor_have_a_place(tmp_path, monkeypatch):
    class App(BaseSettings):
        model_config = {"env_file": tmp_path / "dev.env"}
        port: int = 1
        host: str = ""

    (tmp_path / "prod.env").write_text("APP_PORT=7\n")
    (tmp_path / "given.env").write_text("APP_HOST=here\n")
    monkeypatch.setenv("PORT", "8")
    options = {"_env_file": tmp_path / "prod.env", "_env_prefix": "APP_"}
    conf = loaded(App, files=[tmp_path / "given.env"], settings_options=options)
    assert conf.current == App(host="here", **options)
    assert conf.current.port == 7
    assert str(conf.explain("port").origin) == f"{tmp_path}/prod.env:1:1"


def test_12_options_may_stand_among_the_values_as_for_the_class(tmp_path):
    (tmp_path / "prod.env").write_text("PORT=7\n")
    given = {"_env_file": tmp_path / "prod.env", "message": "given"}
    model = reading()
    assert loaded(model, init=given).current == model(**given)


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (BaseSettings, {"_env_fil": "x"}, "'_env_fil'; did you mean '_env_file'"),
        (BaseSettings, {"env_file": "x"}, "'env_file'; did you mean '_env_file'"),
        (Db, {"_env_file": "x"}, "Db is no BaseSettings"),
    ],
)
def test_12_an_option_that_the_constructor_does_not_have_is_refused(model, options, reason):
    with pytest.raises(TypeError, match=reason):
        HotConf(model, settings_options=options)


# 16: the caller's context


def test_16_sources_see_the_context_of_the_caller():
    chosen = contextvars.ContextVar("chosen", default="dev")
    model = reading(lambda _cls: lambda: {"message": chosen.get()})
    chosen.set("prod")
    assert loaded(model).current.message == "prod"
    conf = HotConf(model, options=QUIET)
    with conf.running(signals=()):
        assert conf.current.message == "prod"
        assert conf.reload_blocking().outcome == "unchanged"


# 18, 23: what a source is told of the others, and how often it is asked


def test_18_a_source_is_told_what_the_stronger_ones_said(monkeypatch):
    class Looking(Told):
        def __call__(self):
            seen = self.settings_sources_data["EnvSettingsSource"], self.current_state["region"]
            return {"message": str(seen)}

    class App(BaseSettings):
        region: str = "?"
        message: str = "?"

        @classmethod
        def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_others):
            return init_settings, env_settings, Looking(settings_cls)

    monkeypatch.setenv("REGION", "eu")
    assert loaded(App, init={"region": "us"}).current.message == "({'region': 'eu'}, 'us')"


async def test_23_sources_are_made_once_for_each_read(tmp_path):
    made, asked = [], []

    class Counting(Told):
        def __init__(self, settings_cls):
            made.append(self)
            super().__init__(settings_cls)

        def __call__(self):
            asked.append(self)
            return {"message": "asked"}

    write(tmp_path / "port", "1")
    conf = HotConf(reading(Counting, lambda c: TomlConfigSettingsSource(c, tmp_path / "no.toml")), options=QUIET)
    async with conf.running(signals=()):
        assert (len(made), len(asked)) == (1, 1)
        await conf.reload()
        assert (len(made), len(asked)) == (2, 2)


# 19: several files, headers, encodings


def test_19_of_several_files_the_one_that_counts_is_named(tmp_path):
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text('port = 1\nmessage = "here"\n')
    second.write_text("\nport = 2\n")
    conf = loaded(reading(TomlConfigSettingsSource, toml_file=[first, second]))
    assert str(conf.explain("port").origin) == f"{second}:2:1"
    assert str(conf.explain("message").origin) == f"{first}:2:1"


def test_19_a_header_and_an_encoding_leave_the_line_known(tmp_path):
    header, latin = tmp_path / "c.toml", tmp_path / "d.json"
    header.write_text('port = 1\n[app]\nport = "x"\n')
    fault = fault_of(reading(TomlConfigSettingsSource, toml_file=header, toml_table_header=("app",)))
    assert fault.startswith(f"{header}:3:1: port: ")
    latin.write_text('{"message": "ü",\n "port": 2}', "latin-1")
    conf = loaded(reading(JsonConfigSettingsSource, json_file=latin, json_file_encoding="latin-1"))
    assert str(conf.explain("port").origin) == f"{latin}:2:2"


# 21: packaged resources


def test_21_a_file_in_a_package_may_lie_in_an_archive(tmp_path, monkeypatch):
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("packed_settings/__init__.py", "")
        file.writestr("packed_settings/defaults.json", '{"port": 5}')
    monkeypatch.syspath_prepend(str(archive))
    resource = importlib.resources.files("packed_settings") / "defaults.json"
    conf = loaded(reading(JsonConfigSettingsSource, json_file=resource))
    assert conf.current.port == 5
    assert archive in set(conf._stack.paths())
    assert str(conf.explain("port").origin).endswith("defaults.json:1:2")
    sys.modules.pop("packed_settings")


# 22: warnings


def test_22_what_pydantic_settings_warns_of_is_warned_of():
    class App(BaseSettings):
        model_config = {"toml_file": "app.toml"}
        port: int = 1

    with pytest.warns(UserWarning, match="`toml_file` is set in model_config but will be ignored"):
        loaded(App)


# 25: flags as they were typed


def test_25_an_argument_is_named_as_it_was_typed():
    class App(BaseSettings):
        model_config = {
            "cli_parse_args": ["-v", "2", "--no-use-cache", "--db.port=3", "input.txt"],
            "cli_kebab_case": True,
            "cli_implicit_flags": True,
        }
        file: CliPositionalArg[str]
        use_cache: bool = True
        verbose: int = Field(0, validation_alias=AliasChoices("v", "verbose"))
        db: Db = Db()

    conf = loaded(App)
    names = ["file", "use_cache", "verbose", "db.port"]
    assert [str(conf.explain(name).origin) for name in names] == ["FILE", "--no-use-cache", "-v", "--db.port"]


def test_25_arguments_may_be_several():
    class App(BaseSettings):
        model_config = {"cli_parse_args": ["--known=1", "--what", "--ever"], "cli_ignore_unknown_args": True}
        known: int = 0
        rest: CliUnknownArgs

    conf = loaded(App)
    assert conf.current.rest == ["--what", "--ever"]
    assert [str(conf.explain(name).origin) for name in ("known", "rest")] == ["--known", "command line"]


def test_25_arguments_may_be_an_option_of_the_constructor():
    model = reading(cli_implicit_flags=True)
    options = {"_cli_parse_args": ["--port", "3", "-m=x"], "_cli_shortcuts": {"message": "m"}}
    conf = loaded(model, settings_options=options)
    assert [str(conf.explain(name).origin) for name in ("port", "message")] == ["--port", "-m"]


# 27: small


def test_27_a_function_is_called_by_its_name():
    def from_vault():
        return {"message": "here"}

    assert str(loaded(reading(lambda _cls: from_vault)).explain("message").origin) == "from_vault"


def test_27_a_missing_field_is_named_by_the_key_that_counts():
    class App(BaseSettings):
        foobar: str = Field(validation_alias="FOO_URL")

    assert fault_of(App) == "foobar: field required: no source sets FOO_URL"


@pytest.mark.parametrize("live", [False, True])
def test_27_a_class_is_freed_with_its_configuration(live):
    def used():
        class Node(BaseModel):
            name: str = ""
            below: "list[Node]" = []

        class App(BaseSettings):
            node: Node = Node()
            words: dict[int, str] = {1: "one"}

        conf = HotConf(App, init={"node": {"below": [{"name": "a"}]}}, options=QUIET)
        conf.load()
        with conf.running(signals=()) if live else contextlib.nullcontext():
            conf.reload_blocking()
            told = conf.explain("node.below.0.name"), conf.snapshot.document, conf.snapshot.digest, json_schema(App)
        assert all(told)
        return weakref.ref(App), weakref.ref(Node)

    freed = used()
    gc.collect()  # the configuration
    gc.collect()  # what caches knew of its class
    assert [found() for found in freed] == [None, None]


# What all of this stands on


@pytest.mark.parametrize("name", ["_settings_init_sources", "_settings_build_values"])
def test_pydantic_settings_constructs_in_the_two_steps_that_hotconf_takes_part_in(name):
    assert isinstance(vars(BaseSettings)[name], classmethod)


def test_the_constructor_leads_to_both_steps(monkeypatch):
    taken = []
    for name in ("_settings_init_sources", "_settings_build_values"):
        step = vars(BaseSettings)[name].__func__

        def taking(cls, *args, _name=name, _step=step, **given):
            taken.append(_name)
            return _step(cls, *args, **given)

        monkeypatch.setattr(BaseSettings, name, classmethod(taking))
    reading()(port=1)
    assert taken == ["_settings_init_sources", "_settings_build_values"]
