"""`hotconf init`: a sample that `check` accepts."""

from __future__ import annotations

import json

import pytest


def test_its_output_passes_check(verb, folder):
    printed = verb("init", "app:App")
    assert (printed.code, printed.err) == (0, "")
    (folder / "app.toml").write_text(printed.out)
    checked = verb("check", "app:conf")
    assert (checked.code, checked.out) == (0, "")
    assert "canary" not in printed.out
    written = verb("init", "app:conf", "--output", "other.toml")
    assert (written.code, written.out) == (0, "")
    assert (folder / "other.toml").read_text() == printed.out


def test_it_overwrites_nothing(verb, folder):
    (folder / "app.toml").write_text("mine = 1\n")
    result = verb("init", "app:App", "--output", "app.toml")
    assert result.code == 2
    assert "app.toml exists already" in result.err
    assert (folder / "app.toml").read_text() == "mine = 1\n"


def test_what_has_no_placeholder_is_named(verb, folder):
    (folder / "strict.py").write_text(
        "from typing import Annotated\nfrom pydantic import Field\nfrom hotconf import Settings\n"
        "class App(Settings):\n    code: Annotated[str, Field(pattern=r'^x\\d{9}z$')]\n"
    )
    result = verb("init", "strict:App")
    assert result.code == 0
    assert result.err == "to be filled in: code: field required: no source sets it\n"
    assert "\n# code =\n" in result.out
    (folder / "strict.toml").write_text(result.out)
    assert verb("check", "strict:App", "strict.toml").code == 1


def test_unusable_arguments_are_2(verb):
    for words in (
        [],
        ["app.toml"],
        ["app:App", "app:conf"],
        ["app:App", "mesage"],
        ["app:App", "--format", "ini"],
        ["app:App", "--output", "app.yaml", "--format", "toml"],
        ["app:App", "--output", "no/such/folder"],
    ):
        assert verb("init", *words).code == 2
    assert "did you mean 'message'" in verb("init", "app:App", "mesage").err


@pytest.mark.parametrize("name", ["sample.toml", "sample.yaml", "sample.yml", "sample.json", "sample.env", ".env"])
def test_the_suffix_of_the_file_is_the_format_and_check_accepts_it(verb, folder, name):
    written = verb("init", "app:App", "--output", name)
    assert (written.code, written.out, written.err) == (0, "", "")
    checked = verb("check", "app:App", name)
    assert (checked.code, checked.out) == (0, "")
    shown = json.loads(verb("show", "app:App", name, "--format", "json").out)
    assert shown["database"] == {"url": "change-me", "pool_size": 10, "password": "**********"}
    assert "canary" not in (folder / name).read_text()


def test_only_what_is_required_is_active(verb):
    assert verb("init", "app:App").lines == [
        "# Settings of App.",
        "# The shop.",
        "",
        '# string; default "hello"',
        '# message = "hello"',
        "",
        "# integer; default 8080; needs a restart",
        "# port = 8080",
        "",
        "# Where the data lives.",
        "# required",
        "[database]",
        "",
        "# string; required",
        'url = "change-me"',
        "",
        "# Connections.",
        "# integer, at least 1, at most 100; default 10",
        "# pool_size = 10",
        "",
        "# string; default not shown; secret",
        '# password = ""',
    ]
    assert verb("init", "app:App", "--format", "env").lines[-9:] == [
        "# string; required",
        "SHOP_DATABASE__URL=change-me",
        "",
        "# Connections.",
        "# integer, at least 1, at most 100; default 10",
        "# SHOP_DATABASE__POOL_SIZE=10",
        "",
        "# string; default not shown; secret",
        "# SHOP_DATABASE__PASSWORD=",
    ]


def test_what_is_asked_for_is_active_too(verb):
    lines = verb("init", "app:App", "message", "database.pool_size", "--format", "yaml").lines
    active = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert active == ["message: hello", "database:", "  url: change-me", "  pool_size: 10"]
    whole = verb("init", "app:App", "database", "--format", "json").out
    assert json.loads(whole) == {"database": {"url": "change-me", "pool_size": 10, "password": ""}}


def test_json_has_no_comments_and_holds_what_is_required(verb):
    assert json.loads(verb("init", "app:App", "--format", "json").out) == {"database": {"url": "change-me"}}


def test_markdown_is_a_table_of_all_settings(verb, folder):
    assert verb("init", "app:App", "--output", "settings.md").code == 0
    assert (folder / "settings.md").read_text().splitlines() == [
        "# Settings of App",
        "",
        "The shop.",
        "",
        "| name | type | default | description | variable | marks |",
        "| --- | --- | --- | --- | --- | --- |",
        '| `message` | string | `"hello"` |  | `SHOP_MESSAGE` |  |',
        "| `port` | integer | `8080` |  | `SHOP_PORT` | needs a restart |",
        "| `database` | section |  | Where the data lives. | `SHOP_DATABASE` | required |",
        "| `database.url` | string | required |  | `SHOP_DATABASE__URL` |  |",
        (
            "| `database.pool_size` | integer, at least 1, at most 100 | `10` | Connections. "
            "| `SHOP_DATABASE__POOL_SIZE` |  |"
        ),
        "| `database.password` | string | not shown |  | `SHOP_DATABASE__PASSWORD` | secret |",
    ]
