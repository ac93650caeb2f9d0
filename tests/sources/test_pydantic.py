"""The class's own sources: found where pydantic-settings finds them, and blamed by their full names."""

import asyncio
import json
import os

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    TomlConfigSettingsSource,
)

from hotconf import ConfigError, HotConf, Options, Settings
from hotconf.sources.pydantic import SettingsSources
from tests.heart import QUIET, until


class Pool(BaseModel):
    size: int = 1
    hosts: list[str] = []
    name: str = ""


class Own(BaseSettings):
    model_config = {"env_prefix": "OWN_", "env_nested_delimiter": "__", "extra": "forbid"}

    port: int = 0
    tags: list[str] = []
    pool: Pool = Pool()
    pools: dict[str, Pool] = {}
    secret_key: str = "none"
    api: str = Field("none", validation_alias=AliasChoices("OWN_API_URL", "api_url"))
    first: str = Field("none", validation_alias=AliasPath("OWN_LIST", 0))


def conf_of(model=Own, **options):
    return HotConf(model, options=QUIET, **options)


def fault_of(model=Own, **options):
    """The only fault of a load, as text."""
    with pytest.raises(ConfigError) as caught:
        conf_of(model, **options).load()
    (fault,) = caught.value.report.faults
    return str(fault)


# The same values as pydantic-settings


@pytest.mark.parametrize(
    "environment",
    [
        {"OWN_PORT": "1"},
        {"own_port": "1"},
        {"OWN_TAGS": '["a", "b"]'},
        {"OWN_POOL__SIZE": "3", "OWN_POOL__HOSTS": '["h"]'},
        {"OWN_POOL": '{"size": 4, "name": "n"}', "OWN_POOL__SIZE": "5"},
        {"OWN_POOLS__MAIN__SIZE": "6"},
        {"OWN_POOLS": '{"a": {"size": 7}}', "OWN_POOLS__B__SIZE": "8"},
        {"OWN_API_URL": "u"},
        {"api_url": "v"},
        {"OWN_LIST": '["x", "y"]'},
    ],
    ids=json.dumps,
)
def test_the_environment_means_what_it_means_to_the_class(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    conf = conf_of()
    conf.load()
    assert conf.current == Own()


def test_names_are_told_apart_where_the_class_says_so(monkeypatch):
    class Careful(Own):
        model_config = {"case_sensitive": True}

    monkeypatch.setenv("OWN_port", "1")
    monkeypatch.setenv("OWN_PORT", "2")
    conf = conf_of(Careful)
    conf.load()
    assert conf.current.port == 1
    assert str(conf.explain("port").origin) == "env OWN_port"


def test_splitting_may_be_limited(monkeypatch):
    class Split(Own):
        model_config = {"env_nested_delimiter": "_", "env_nested_max_split": 1}

    monkeypatch.setenv("OWN_POOL_SIZE", "9")
    conf = conf_of(Split)
    conf.load()
    assert conf.current.pool.size == 9
    assert str(conf.explain("pool.size").origin) == "env OWN_POOL_SIZE"


# Origins


@pytest.mark.parametrize(
    ("environment", "path", "origin"),
    [
        ({"OWN_PORT": "1"}, "port", "env OWN_PORT"),
        ({"own_port": "1"}, "port", "env own_port"),
        ({"OWN_POOL__SIZE": "3"}, "pool.size", "env OWN_POOL__SIZE"),
        ({"OWN_POOL": '{"size": 4}'}, "pool.size", "env OWN_POOL"),
        ({"OWN_POOLS__main__SIZE": "6"}, "pools.main.size", "env OWN_POOLS__main__SIZE"),
        ({"OWN_API_URL": "u"}, "api", "env OWN_API_URL"),
        ({"OWN_LIST": '["x"]'}, "first", "env OWN_LIST"),
    ],
    ids=str,
)
def test_a_value_is_blamed_on_the_variable_by_its_full_name(monkeypatch, environment, path, origin):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    conf = conf_of()
    conf.load()
    assert str(conf.explain(path).origin) == origin


def test_a_variable_of_the_same_name_without_the_prefix_is_not_blamed(monkeypatch):
    monkeypatch.setenv("PORT", "99")
    monkeypatch.setenv("OWN_PORT", "1")
    conf = conf_of()
    conf.load()
    assert str(conf.explain("port").origin) == "env OWN_PORT"


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        ({"OWN_PORT": "many"}, "env OWN_PORT: port: "),
        ({"OWN_POOL__SIZE": "many"}, "env OWN_POOL__SIZE: pool.size: "),
        ({"OWN_TAGS": "[1,"}, "env OWN_TAGS: tags: is not the JSON that a value of this type needs"),
        ({"OWN_POOL": "{"}, "env OWN_POOL: pool: is not the JSON"),
        ({"OWN_POOL__HOSTS": "a,b"}, "env OWN_POOL__HOSTS: pool: is not the JSON"),
        ({"OWN_POOL__HOSTS__0": "a"}, "env OWN_POOL__HOSTS__0: pool.hosts: input should be a valid list"),
        ({"OWN_POOLS__A__SIZE__C": "1"}, "env OWN_POOLS__A__SIZE__C: pools.a.size: input should be a valid integer"),
        ({"OWN_POOL": "{}", "OWN_POOL__HOSTS": "a"}, "env OWN_POOL__HOSTS: pool: is not the JSON"),
        ({"OWN_POOL__NAME": "{", "OWN_POOL__HOSTS": "[1,"}, "env OWN_POOL__HOSTS: pool: is not the JSON"),
    ],
    ids=str,
)
def test_a_value_that_the_environment_spoils_is_blamed_on_the_variable(monkeypatch, tmp_path, environment, fault):
    file = tmp_path / "app.toml"
    file.write_text('port = 1\ntags = ["fine"]\n[pool]\nsize = 1\n')
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert fault_of(files=[file]).startswith(fault)


def test_what_a_broken_variable_holds_is_not_quoted(monkeypatch):
    monkeypatch.setenv("OWN_TAGS", "[hunter2")
    assert "hunter2" not in fault_of()


# Dotenv and secrets


def own_with(**config):
    return type("Own", (Own,), {"model_config": config})


def test_a_dotenv_is_blamed_with_file_line_and_column(tmp_path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("# first\nOWN_PORT=2\n  OWN_POOL__SIZE=3\n")
    conf = conf_of(own_with(env_file=str(dotenv)))
    conf.load()
    assert (conf.current.port, conf.current.pool.size) == (2, 3)
    assert str(conf.explain("port").origin) == f"{dotenv}:2:1"
    assert str(conf.explain("pool.size").origin) == f"{dotenv}:3:3"
    dotenv.write_text("OWN_PORT=many\n")
    assert fault_of(own_with(env_file=str(dotenv))).startswith(f"{dotenv}:1:1: port: ")


async def test_a_dotenv_that_is_edited_is_read_afresh(tmp_path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("OWN_PORT=2\n")
    conf = HotConf(own_with(env_file=str(dotenv)))
    async with conf.running(signals=()):
        dotenv.write_text("OWN_PORT=3\n")
        await until(lambda: conf.current.port == 3)


def test_the_later_of_two_dotenv_files_counts(tmp_path):
    first, second = tmp_path / "a.env", tmp_path / "b.env"
    first.write_text("OWN_PORT=1\n")
    second.write_text("OWN_PORT=2\n")
    conf = conf_of(own_with(env_file=(first, second)))
    conf.load()
    assert conf.current.port == 2
    assert str(conf.explain("port").origin) == f"{second}:1:1"


def test_a_secret_is_blamed_on_its_file(tmp_path):
    (tmp_path / "own_secret_key").write_text("hunter2\n")
    (tmp_path / "own_port").write_text("many")
    model = own_with(secrets_dir=str(tmp_path))
    text = fault_of(model)
    assert text.startswith(f"{tmp_path}/own_port: port: ")
    (tmp_path / "own_port").write_text("4")
    conf = conf_of(model)
    conf.load()
    assert (conf.current.port, conf.current.secret_key) == (4, "hunter2")
    assert str(conf.explain("secret_key").origin) == f"{tmp_path}/own_secret_key"


async def test_a_secret_that_is_swapped_reloads_by_itself(tmp_path):
    (tmp_path / "own_secret_key").write_text("one")
    conf = HotConf(own_with(secrets_dir=str(tmp_path)))
    async with conf.running(signals=()):
        (tmp_path / "new").write_text("two")
        os.replace(tmp_path / "new", tmp_path / "own_secret_key")
        await until(lambda: conf.current.secret_key == "two")


async def test_I5_a_secret_that_is_half_written_is_not_read(tmp_path):
    secret = tmp_path / "own_secret_key"
    secret.write_text("first")
    (tmp_path / "of_no_field").write_text("")
    conf = HotConf(own_with(secrets_dir=str(tmp_path)), options=Options(watch=False))
    async with conf.running(signals=()):
        assert [source["protection"] for source in conf.status.sources] == ["lease"]
        with secret.open("w") as writer, (tmp_path / "of_no_field").open("w"):
            writer.write("sec")
            writer.flush()
            asked = asyncio.create_task(conf.reload())
            await asyncio.wait([asked], timeout=0.3)
            assert not asked.done()
            writer.write("ond")
            writer.close()
            assert (await asked).outcome == "applied"
        assert conf.current.secret_key == "second"


async def test_one_secret_may_be_the_value_of_two_fields(tmp_path):
    class Twice(Settings):
        model_config = {"secrets_dir": str(tmp_path)}
        name: str = "none"
        again: str = Field("none", validation_alias="name")

    (tmp_path / "name").write_text("once")
    conf = conf_of(Twice)
    await conf.reload()
    assert conf.current.again == "once"


async def test_two_secrets_that_are_swapped_together_are_read_together(tmp_path, monkeypatch):
    for name, text in (("old", "1"), ("new", "2")):
        (tmp_path / name).mkdir()
        for secret in ("own_port", "own_secret_key"):
            (tmp_path / name / secret).write_text(text)
    (tmp_path / "..data").symlink_to("old")
    for secret in ("own_port", "own_secret_key"):
        (tmp_path / secret).symlink_to(f"..data/{secret}")
    conf = conf_of(own_with(secrets_dir=str(tmp_path)))
    await conf.reload()
    find = SecretsSettingsSource.find_case_path

    def swapping(folder, name, case_sensitive):
        if name == "own_secret_key":
            (tmp_path / "..tmp").symlink_to("new")
            (tmp_path / "..tmp").replace(tmp_path / "..data")
        return find(folder, name, case_sensitive)

    monkeypatch.setattr(SecretsSettingsSource, "find_case_path", staticmethod(swapping))
    await conf.reload()
    assert (conf.current.port, conf.current.secret_key) == (2, "2")


async def test_beside_secrets_a_source_of_the_class_is_asked_once_at_the_start(tmp_path):
    (tmp_path / "own_port").write_text("1")
    asked = []

    class Remote(PydanticBaseSettingsSource):
        def get_field_value(self, field, field_name):
            return None, field_name, False

        def __call__(self):
            asked.append(self)
            return {"secret_key": "remote"}

    class WithRemote(own_with(secrets_dir=str(tmp_path))):
        @classmethod
        def settings_customise_sources(cls, settings_cls, **sources):
            return (Remote(settings_cls), sources["file_secret_settings"])

    conf = conf_of(WithRemote)
    await conf.reload()
    assert (conf.current.port, conf.current.secret_key) == (1, "remote")
    assert len(asked) == 1


@pytest.mark.filterwarnings("default:directory")
def test_what_the_class_names_is_watched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = own_with(env_file=".env", secrets_dir=("/run/secrets", tmp_path / "more"))
    conf = conf_of(model)
    assert set(conf._stack.paths()) == {tmp_path / ".env", tmp_path / "more", type(tmp_path)("/run/secrets")}


async def test_where_the_working_folder_was_deleted_absolute_paths_are_read_and_watched(tmp_path, monkeypatch):
    file, gone = tmp_path / "app.toml", tmp_path / "release"
    file.write_text("port = 1\n")
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    conf = HotConf(own_with(env_file=".env"), files=[file])
    async with conf.running(signals=()):
        assert conf.current.port == 1
        file.write_text("port = 2\n")
        await until(lambda: conf.current.port == 2)


# The class's own further sources


async def test_a_file_that_a_custom_source_reads_is_blamed_and_watched(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text("port = 1\n")

    class Toml(Settings):
        port: int = 0

        @classmethod
        def settings_customise_sources(cls, settings_cls, env_settings, **others):
            return env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    conf = HotConf(Toml)
    conf.load()
    assert str(conf.explain("port").origin) == f"{file}:1:1"
    async with conf.running(signals=()):
        file.write_text("port = 2\n")
        await until(lambda: conf.current.port == 2)


class Broken(PydanticBaseSettingsSource):
    outcome = None

    def get_field_value(self, field, field_name):
        raise NotImplementedError

    def __call__(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Customised(Settings):
    port: int = 0

    @classmethod
    def settings_customise_sources(cls, settings_cls, **others):
        return (Broken(settings_cls),)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (ConnectionRefusedError("vault:hunter2@host"), "cannot be read: ConnectionRefusedError"),
        (KeyError("hunter2"), "cannot be read: KeyError"),
        (KeyError("region"), "cannot be read: KeyError: 'region'"),
        (ValueError("is\nsealed"), "cannot be read: ValueError: is sealed"),
        (
            ValueError("GET https://me:hunter2@vault/v1 failed"),
            "cannot be read: ValueError: GET https://me:**********@vault/v1 failed",
        ),
        (PermissionError(13, "hunter2", "/etc/app.ini"), "cannot be read: PermissionError: Permission denied"),
        (None, "cannot be read: TypeError: returned NoneType where a mapping is needed"),
        ([("port", 1)], "cannot be read: TypeError: returned list where a mapping is needed"),
    ],
    ids=str,
)
async def test_I5_a_custom_source_that_fails_rejects_and_is_named(monkeypatch, outcome, reason):
    monkeypatch.setattr(Broken, "outcome", {"port": 1})
    conf = conf_of(Customised)
    async with conf.running(signals=()):
        monkeypatch.setattr(Broken, "outcome", outcome)
        report = await conf.reload()
        assert report.outcome == "rejected"
        assert [str(fault) for fault in report.faults] == [f"Broken: {reason}"]
        assert conf.current.port == 1
        monkeypatch.setattr(Broken, "outcome", {"port": 2})
        assert (await conf.reload()).outcome == "applied"


def test_every_source_that_fails_is_named_at_once(monkeypatch):
    class Both(Own):
        @classmethod
        def settings_customise_sources(cls, settings_cls, env_settings, **others):
            return env_settings, Broken(settings_cls)

    monkeypatch.setattr(Broken, "outcome", ValueError("x"))
    monkeypatch.setenv("OWN_TAGS", "[")
    with pytest.raises(ConfigError) as caught:
        conf_of(Both).load()
    assert [str(fault.origin) for fault in caught.value.report.faults] == ["env OWN_TAGS", "Broken"]


def test_a_source_may_look_at_what_the_stronger_ones_said(monkeypatch):
    class Looking(Broken):
        def __call__(self):
            return {"secret_key": f"for {self.current_state['pool']['name']}"}

    class Chained(Own):
        @classmethod
        def settings_customise_sources(cls, settings_cls, env_settings, **others):
            return env_settings, Looking(settings_cls)

    monkeypatch.setenv("OWN_POOL__NAME", "main")
    conf = conf_of(Chained)
    conf.load()
    assert conf.current.secret_key == "for main"


def test_a_dotenv_may_have_any_name(tmp_path):
    path = tmp_path / "app.conf"
    path.write_text("\nOWN_PORT=7\n")
    conf = conf_of(own_with(env_file=path))
    conf.load()
    assert (conf.current.port, str(conf.explain("port").origin)) == (7, f"{path}:2:1")


@pytest.mark.parametrize("name", ["app.toml", "settings.conf"])
def test_a_file_of_a_custom_source_that_does_not_parse_is_the_one_that_is_blamed(tmp_path, name):
    path, folder = tmp_path / name, tmp_path / "secrets"
    folder.mkdir()
    path.write_text("port = \n")

    class Toml(Own):
        model_config = {"toml_file": path, "secrets_dir": folder}

        @classmethod
        def settings_customise_sources(cls, settings_cls, file_secret_settings, **_others):
            return TomlConfigSettingsSource(settings_cls), file_secret_settings

    assert fault_of(Toml).startswith(f"{path}:1:8: ")


async def test_I5_half_a_dotenv_of_the_class_is_not_read(tmp_path):
    path = tmp_path / ".env"
    path.write_text("OWN_PORT=1\nOWN_API_URL=one\n")
    conf = conf_of(own_with(env_file=path))
    conf.load()
    with path.open("w") as writer:
        writer.write("OWN_PORT=2\n")
        writer.flush()
        reload = asyncio.create_task(conf.reload())
        done, _ = await asyncio.wait({reload}, timeout=0.3)
        assert not done
        writer.write("OWN_API_URL=two\n")
    assert (await reload).outcome == "applied"
    assert (conf.current.port, conf.current.api) == (2, "two")
    assert conf.status.sources[-1]["protection"] == "lease"


async def test_I5_a_dotenv_of_the_class_that_changes_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / ".env"
    path.write_text("OWN_PORT=1\n")
    conf = conf_of(own_with(env_file=path))
    real = SettingsSources._ask

    def ask(own, *others):
        asked = real(own, *others)
        path.write_text("OWN_PORT=2\n")
        return asked

    monkeypatch.setattr(SettingsSources, "_ask", ask)
    conf.load()
    assert conf.current.port == 2


def test_an_item_of_an_argument_is_blamed_on_the_argument():
    arguments = own_with(cli_parse_args=["--pools", json.dumps({"a": {"hosts": ["x", [1]]}})])
    assert fault_of(arguments).startswith("--pools: pools.a.hosts.1: ")


def test_a_secret_that_is_no_text_is_named(tmp_path):
    (tmp_path / "own_port").write_bytes(b"\xff\xfe")
    assert fault_of(own_with(secrets_dir=tmp_path)) == f"{tmp_path}/own_port: port: is not UTF-8 text"


async def test_a_dotenv_may_be_a_fifo_which_is_read_once(tmp_path):
    path = tmp_path / "fifo.env"
    os.mkfifo(path)
    writer = asyncio.create_task(asyncio.to_thread(path.write_text, "OWN_PORT=3\n"))
    conf = conf_of(own_with(env_file=path))
    await conf.reload()
    await writer
    assert (conf.current.port, str(conf.explain("port").origin)) == (3, str(path))
