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
    ],
)
def test_a_key_that_is_not_there_is_2(verb, words, message):
    result = verb("explain", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
