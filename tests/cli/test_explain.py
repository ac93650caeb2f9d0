"""`hotconf explain`: where a value comes from, and what it shadows."""

from __future__ import annotations

import json

import pytest

from tests.cli.verbs import GOOD


@pytest.fixture(autouse=True)
def files(folder, monkeypatch):
    (folder / "app.toml").write_text(GOOD)
    (folder / "more.toml").write_text('message = "more"\n')
    monkeypatch.setenv("SHOP_MESSAGE", "outside")


def test_the_key_is_the_last_argument_or_an_option(verb):
    expected = [
        'message = "outside"  from env SHOP_MESSAGE',
        '  shadows "more"  from more.toml:1:1',
        '  shadows "hi"  from app.toml:1:1',
    ]
    files = ["app:App", "app.toml", "more.toml"]
    for words in ([*files, "message"], ["--key", "message", *files], ["app:conf", "--config", "more.toml", "message"]):
        result = verb("explain", *words)
        assert (result.code, result.lines) == (0, expected)


def test_json(verb):
    shown = json.loads(verb("explain", "app:conf", "message", "--format", "json").out)
    assert shown == {
        "path": "message",
        "value": "outside",
        "origin": "env SHOP_MESSAGE",
        "shadowed": [{"value": "hi", "origin": "app.toml:1:1"}],
    }


def test_a_secret_is_masked_on_its_own_and_in_its_section(verb):
    for key in ("database.password", "database"):
        result = verb("explain", "app:conf", key)
        assert result.code == 0
        assert "**********" in result.out
        assert "canary" not in result.out


def test_list_items_and_quoted_keys(verb, folder):
    (folder / "any.toml").write_text('hosts = ["a", "b"]\n[labels]\n"x.y" = 1\n')
    assert verb("explain", "any.toml", "hosts.1").lines == ['hosts.1 = "b"  from any.toml:1:15']
    assert verb("explain", "any.toml", 'labels."x.y"').lines == ['labels."x.y" = 1  from any.toml:3:1']


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the KEY to explain"),
        (["app:conf"], "name the KEY to explain"),
        (["app:conf", ""], "name the KEY to explain"),
        (["app:conf", "mesage"], "App has no field 'mesage'; did you mean 'message'?"),
        (["app:conf", "database.x"], "App.database has no field 'x'"),
        (["app:App", "app.toml"], "has no field 'app'; KEY is the last argument"),
        (["app:conf", "a..b"], "is not a dotted path"),
        (["app.toml", "nothing"], "the configuration has no 'nothing'"),
        (["message"], "name a TARGET (module:attr), a file, or both"),
        (["http://127.0.0.1:1"], "name the KEY to explain"),
        (["http://127.0.0.1:1", "a..b"], "is not a dotted path"),
        (["http://127.0.0.1:1", "app.toml", "message"], "stands alone"),
    ],
)
def test_a_key_that_is_not_there_is_2(verb, words, message):
    result = verb("explain", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


# A running process


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("key", ["message", "database", "database.password", "port"])
def test_a_process_explains_as_its_files_do(verb, served, style, key):
    url = served().url
    of_files = verb("explain", "app:conf", key, "--format", style)
    of_process = verb("explain", url, key, "--format", style)
    assert (of_process.code, of_process.err) == (0, "")
    assert of_process.out == of_files.out
    assert "canary" not in of_process.out


def test_a_process_knows_keys_that_are_no_words(verb, served, folder):
    (folder / "any.toml").write_text('[labels]\n"x.y" = 1\n"a/b %2F?#" = 2\n')
    url = served("any.toml").url
    assert verb("explain", url, 'labels."x.y"').lines == ['labels."x.y" = 1  from any.toml:2:1']
    assert verb("explain", url, 'labels."a/b %2F?#"').lines[0].endswith(":3:1")


def test_a_key_that_a_process_does_not_have_is_1_and_the_near_one_is_named(verb, served):
    result = verb("explain", served().url, "mesage")
    assert (result.code, result.out) == (1, "")
    assert "the configuration has no 'mesage'; did you mean 'message'?" in result.err


def test_a_process_with_a_token_wants_it(verb, served, folder):
    (folder / "token").write_text("let-me-in-please")
    url = served(token="let-me-in-please").url
    assert "--token-file" in verb("explain", url, "message").err
    assert verb("explain", url, "--token-file", "token", "message").code == 0
