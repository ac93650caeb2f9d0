"""Dotenv files: given to HotConf, or declared by the class. Their variables mean what the environment's would."""

import threading

import pytest
from pydantic import BaseModel
from pydantic_settings import BaseSettings, DotEnvSettingsSource

from hotconf import HotConf
from hotconf.sources import File


class Database(BaseModel):
    url: str = "none"
    pool_size: int = 10


class App(BaseSettings):
    model_config = {"env_prefix": "APP_", "env_nested_delimiter": "__"}
    message: str = "default"
    database: Database = Database()


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "prod.env"
    found.write_text('# settings\nAPP_MESSAGE="hi"\nexport APP_DATABASE__POOL_SIZE=12\n')
    return found


async def test_variables_are_read_by_prefix_and_delimiter(path):
    conf = HotConf(App, files=[path])
    await conf.reload()
    assert (conf.current.message, conf.current.database.pool_size) == ("hi", 12)
    assert str(conf.explain("message").origin) == f"{path}:2:1"
    assert str(conf.explain("database.pool_size").origin) == f"{path}:3:8"


async def test_the_loop_is_free_while_variables_are_matched_with_fields(path, monkeypatch):
    threads, match = [], DotEnvSettingsSource.__call__

    def noting(source):
        threads.append(threading.get_ident())
        return match(source)

    monkeypatch.setattr(DotEnvSettingsSource, "__call__", noting)
    assert (await HotConf(App, files=[path]).reload()).outcome == "applied"
    assert threads
    assert threading.get_ident() not in threads


async def test_the_environment_stands_above_the_file(path, monkeypatch):
    monkeypatch.setenv("APP_MESSAGE", "from the environment")
    conf = HotConf(App, files=[path])
    await conf.reload()
    explained = conf.explain("message")
    assert (explained.value, str(explained.origin)) == ("from the environment", "env APP_MESSAGE")
    assert [str(shadowed.origin) for shadowed in explained.shadowed] == [f"{path}:2:1"]


async def test_an_unknown_variable_and_a_wrong_value_are_faults_at_their_lines(path):
    path.write_text("APP_DATABASE__POOL_SIZE=twelve\nUNKNOWN=1\n")
    report = await HotConf(App, files=[path]).reload()
    texts = [str(fault) for fault in report.faults]
    assert len(texts) == 2
    assert any(text.startswith(f"{path}:1:1: database.pool_size: ") for text in texts), texts
    assert any(text.startswith(f"{path}:2:1: unknown: unknown key") for text in texts), texts


async def test_an_optional_file_may_be_absent(tmp_path):
    conf = HotConf(App, sources=[File(tmp_path / "none.env", required=False)])
    assert (await conf.reload()).outcome == "applied"
    assert conf.current.message == "default"


async def test_I6_unchanged_bytes_keep_their_layer(path):
    conf = HotConf(App, files=[path])
    await conf.reload()
    [source] = [state.source for state in conf._stack.states if state.source.name == str(path)]
    assert await source.read() is await source.read()


@pytest.mark.parametrize("declared", [True, False])
async def test_I5_a_line_that_cannot_be_read_rejects(path, declared):
    path.write_text("APP_MESSAGE=hi\nthis is = 'not closed\n")

    class Declared(App):
        model_config = {"env_file": path if declared else None}

    report = await HotConf(Declared, files=[] if declared else [path]).reload()
    assert report.outcome == "rejected"
    assert [(fault.origin.source, fault.origin.line) for fault in report.faults] == [(str(path), 2)]


async def test_a_plain_model_reads_the_variables_as_keys(path):
    class Plain(BaseModel):
        MESSAGE: str

    path.write_text("MESSAGE=hi\n")
    conf = HotConf(Plain, files=[path])
    await conf.reload()
    assert conf.current.MESSAGE == "hi"


@pytest.mark.parametrize("declared", [False, True])
async def test_a_variable_that_is_no_json_is_blamed_with_its_line(path, declared):
    path.write_text("APP_MESSAGE=hi\n\nAPP_DATABASE={hunter2\n")

    class Declared(App):
        model_config = {"env_file": path if declared else None}

    report = await HotConf(Declared, files=[] if declared else [path]).reload()
    assert list(map(str, report.faults)) == [
        f"{path}:3:1: database: is not the JSON that a value of this type needs",
    ]
