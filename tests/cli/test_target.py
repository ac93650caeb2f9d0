"""TARGET and files: what verbs read, and what they say about arguments that name nothing."""

from __future__ import annotations

import sys

import pytest

from tests.cli.verbs import GOOD

VERBS = ("check", "show", "explain", "schema", "init")


def test_a_class_a_conf_and_files(verb, folder):
    (folder / "app.toml").write_text(GOOD)
    (folder / "more.toml").write_text('message = "more"\n')
    for words in (["app:App", "app.toml"], ["app:conf"], ["app.toml"], ["--config", "app.toml"]):
        assert 'message = "hi"' in verb("show", *words).out
    for words in (["app:App", "app.toml", "more.toml"], ["app:conf", "--config", "more.toml"]):
        assert 'message = "more"' in verb("show", *words).out
    # What --config names stands above what was named before it, wherever it was written.
    assert 'message = "hi"' in verb("show", "--config", "app.toml", "app:App", "more.toml").out


def test_the_environment_is_read_as_the_class_says(verb, folder, monkeypatch):
    (folder / "app.toml").write_text(GOOD)
    monkeypatch.setenv("SHOP_DATABASE__POOL_SIZE", "33")
    assert "pool_size = 33" in verb("show", "app:conf").out
    monkeypatch.setenv("SHOP_PORT", "many")
    faulty = verb("check", "app:conf")
    assert (faulty.code, faulty.lines) == (
        1,
        ["env SHOP_PORT: port: input should be a valid integer, unable to parse string as an integer"],
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a TARGET (module:attr), a file, or both"),
        (["app:App", "app:conf"], "there can be one TARGET only, not app:App and app:conf"),
        (["nowhere:App"], "cannot import nowhere: there is no module 'nowhere'"),
        (["app.py:App"], "a TARGET names the module app, and not its file"),
        (["app.sub:App"], "cannot import app.sub: there is no module 'app.sub'"),
        (["app:Ap"], "app has no 'Ap'; did you mean 'App'?"),
        (["app:App.x"], "app has no 'App.x'"),
        (["app:"], "app has no ''"),
        (["app:function"], "app:function is a function: a TARGET is a pydantic settings class or a HotConf"),
        (["app:Field"], "app:Field is a function"),
        (["app:SecretStr"], "app:SecretStr is the class SecretStr"),
        (["some-file:App"], "a TARGET is module:attr, such as app.settings:App"),
        (["app"], "app names a module, and no file: a TARGET is module:attr"),
        (["app.App", "good.toml"], "app.App names a module, and no file: a TARGET is module:attr"),
        (["no/such.toml:3"], "a TARGET is module:attr, such as app.settings:App"),
        (["http://localhost"], "http://localhost is a URL: this verb works on a TARGET and files"),
        (["app:App", "--secret", "pin"], "--secret is for files without a TARGET"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_no_target_is_2_and_says_why(verb, words, message):
    result = verb("check", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("Error: ") == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = nothing", "NameError: name 'nothing' is not defined"),
        ("x = (", "SyntaxError: '(' was never closed (broken.py, line 1)"),
        ("raise RuntimeError('canary')", "RuntimeError ("),
        ("raise SystemExit(3)", "SystemExit ("),
        ("1 / 0", "broken.py:1)"),
        ("class BaseModel: ...\nApp = BaseModel()", "broken:App is a BaseModel"),
    ],
)
def test_a_module_that_cannot_be_imported_is_2_and_quotes_no_value(verb, folder, code, message):
    (folder / "broken.py").write_text(code)
    result = verb("check", "broken:App")
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert "canary" not in result.err


def test_a_class_that_cannot_be_used_is_2(verb, folder):
    (folder / "odd.py").write_text(
        "from pydantic_settings import BaseSettings\nclass App(BaseSettings):\n    inner: 'NotDefined'\n"
    )
    result = verb("check", "odd:App")
    assert (result.code, result.out) == (2, "")
    assert result.err == "Error: App refers to a type that is not defined yet: NotDefined\n"


def test_what_a_module_prints_does_not_get_between(verb, folder):
    (folder / "chatty.py").write_text("print('chatter')\nfrom app import App, conf\n")
    (folder / "app.toml").write_text(GOOD)
    result = verb("show", "chatty:conf", "--format", "json")
    assert result.out.startswith("{")
    assert "chatter" in result.err


def test_a_class_that_reads_the_command_line_does_not_read_ours(verb, folder):
    (folder / "cli.py").write_text(
        "from hotconf import Settings\n"
        "class App(Settings):\n    model_config = {'cli_parse_args': True}\n    message: str = 'hello'\n"
    )
    assert verb("show", "cli:App", "--format", "toml").lines == ['message = "hello"']


def test_a_conf_that_was_loaded_already_is_read_anew(verb, folder):
    (folder / "app.toml").write_text(GOOD)
    (folder / "eager.py").write_text("from app import conf\nconf.load()\n")
    assert 'message = "hi"' in verb("show", "eager:conf").out
    refused = verb("show", "eager:conf", "--config", "app.toml")
    assert refused.code == 2
    assert "only before the first load" in refused.err


def test_a_file_whose_name_looks_like_a_target_is_a_file(verb, folder):
    (folder / "a:b.toml").write_text("x = 1\n")
    assert verb("show", "a:b.toml").lines == ["x = 1"]


def test_the_folder_is_where_modules_are_found_as_python_m_has_it(verb, folder, monkeypatch):
    (folder / "app.toml").write_text(GOOD)
    assert verb("check", "app:conf").code == 0
    assert sys.path[0] == str(folder)


@pytest.mark.parametrize("word", VERBS)
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00" * 100, b"[" * 10_000, b"= 1", "ключ".encode("cp1251")])
def test_whatever_a_file_holds_there_is_a_message_and_no_traceback(verb, folder, word, content):
    (folder / "odd.toml").write_bytes(content)
    more = ["key"] if word == "explain" else []
    result = verb(word, "odd.toml", *more)
    assert result.code in (1, 2)
    assert result.out + result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("word", ["app.toml", "app.env", "nowhere", "a-b", "site.yaml"])
def test_a_file_that_is_not_there_is_no_module(verb, folder, word):
    result = verb("check", word)
    assert (result.code, result.lines) == (1, [f"{word}: does not exist"])


def test_a_module_is_not_imported_to_find_that_it_is_one(verb, folder):
    (folder / "loud.py").write_text("print('imported')\n")
    result = verb("check", "loud")
    assert (result.code, "imported" in result.out + result.err) == (2, False)
