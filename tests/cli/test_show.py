"""`hotconf show`: the effective configuration, secrets masked."""

from __future__ import annotations

import json
import math

import pytest
import yaml

import hotconf.formats as formats
from tests.cli.verbs import GOOD
from tests.support import environment

DOCUMENT = {
    "message": "hi",
    "port": 8080,
    "database": {"url": "postgres://db", "pool_size": 10, "password": "**********"},
}


@pytest.fixture(autouse=True)
def files(folder):
    (folder / "app.toml").write_text(GOOD)


@pytest.mark.parametrize(
    ("style", "read"),
    [("toml", lambda text: formats.parse("toml", text.encode())), ("json", json.loads), ("yaml", yaml.safe_load)],
)
def test_each_format_shows_the_whole(verb, style, read):
    result = verb("show", "app:conf", "--format", style)
    assert (result.code, result.err) == (0, "")
    assert read(result.out) == DOCUMENT
    assert "canary" not in result.out


def test_toml_is_the_default_and_leaves_out_a_key_that_is_null(verb, folder):
    (folder / "any.json").write_text('{"a": null, "b": [1, {"c": null}], "api_key": "canary"}')
    assert verb("show", "any.json").lines == ["b = [", "    1,", "    {},", "]", 'api_key = "**********"']
    assert json.loads(verb("show", "any.json", "--format", "json").out)["a"] is None


@pytest.mark.parametrize(
    ("text", "path"), [('{"a": [1, null, 2]}', "a.1"), ('{"a": [{"b": 1}, {"b": [[null]]}]}', "a.1.b.0.0")]
)
def test_a_null_in_a_list_is_refused_as_toml_with_its_path(verb, folder, text, path):
    (folder / "any.json").write_text(text)
    result = verb("show", "any.json")
    assert (result.code, result.out) == (1, "")
    assert f"{path} is null" in result.err
    for style, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        assert read(verb("show", "any.json", "--format", style).out) == json.loads(text)


WORKFLOW = """
name: build
on:
  push: {branches: [main, null]}
  schedule:
    - cron: '0 0 * * *'
ports:
  8080: web
  0x1F: other
  '8080': text
2020-01-01: {~: nothing, yes: 1.10}
until: 2020-01-01
password: hunter2
"""


def test_keys_that_are_no_strings_are_shown_by_each_format_as_it_can(verb, folder):
    (folder / "any.yaml").write_text(WORKFLOW)
    wanted = {**yaml.safe_load(WORKFLOW), "password": "**********"}
    shown = verb("show", "any.yaml", "--format", "yaml").out
    assert yaml.safe_load(shown) == wanted
    assert "\non:\n" in shown
    texts = json.loads(verb("show", "any.yaml", "--format", "json").out)
    assert texts["on"]["push"] == {"branches": ["main", None]}
    assert texts["ports"] == {"8080 (int)": "web", "0x1F": "other", "8080": "text"}
    assert texts["2020-01-01"] == {"~": "nothing", "yes": 1.1}
    refused = verb("show", "any.yaml")
    assert (refused.code, refused.err) == (
        1,
        "Error: on.push.branches.1 is null, and a list in TOML cannot hold a null; try --format json\n",
    )
    (folder / "any.yaml").write_text(WORKFLOW.replace(", null", ""))
    assert formats.parse("toml", verb("show", "any.yaml").out.encode())["on"]["push"] == {"branches": ["main"]}
    origins = json.loads(verb("show", "any.yaml", "--origins", "--format", "json").out)
    assert origins["on.push.branches.0"] == {"value": "main", "origin": "any.yaml:4:21"}
    assert origins['ports."8080 (int)"']["origin"] == "any.yaml:8:3"
    assert origins["2020-01-01.~"]["origin"] == "any.yaml:11:14"
    assert verb("explain", "any.yaml", "on.schedule").lines[0].endswith("from any.yaml:5:3")


def test_a_key_of_a_mapping_that_declares_numbers_is_written_as_one(verb, folder):
    (folder / "ports.py").write_text(
        "from pydantic import BaseModel\nclass App(BaseModel):\n    ports: dict[int, str]\n    on: bool = True\n"
    )
    (folder / "ports.yaml").write_text("ports: {0x50: web}\non: off\n")
    assert verb("show", "ports:App", "ports.yaml", "--format", "yaml").lines == ["ports:", "  80: web", "'on': false"]
    assert verb("show", "ports:App", "ports.yaml").lines == ["on = false", "", "[ports]", '80 = "web"']


FLOATS = """
from pydantic import RootModel
from hotconf import Section, Sensitive, Settings
from typing import Annotated

class Limit(RootModel[float]): ...

class Box(Section):
    most: float = float("inf")

class App(Settings):
    least: float = float("-inf")
    text: str = "Infinity"
    ratio: float = 1.5
    boxes: list[Box] = [Box()]
    limit: Limit = Limit(float("inf"))
    pin: Annotated[float, Sensitive()] = float("inf")
"""
FLOATS_TOML = """\
least = -inf
text = "Infinity"
ratio = 1.5
boxes = [
    { most = inf },
]
limit = inf
pin = "**********"
"""


def test_infinity_is_a_number_where_the_format_has_one(verb, folder):
    (folder / "floats.py").write_text(FLOATS)
    assert verb("show", "floats:App").out == FLOATS_TOML
    shown = yaml.safe_load(verb("show", "floats:App", "--format", "yaml").out)
    assert shown == {
        "least": -math.inf,
        "text": "Infinity",
        "ratio": 1.5,
        "boxes": [{"most": math.inf}],
        "limit": math.inf,
        "pin": "**********",
    }
    assert json.loads(verb("show", "floats:App", "--format", "json").out)["least"] == "-Infinity"


def test_nan_is_a_number_where_the_format_has_one(verb, folder):
    (folder / "any.toml").write_text("a = nan\nb = [inf, { c = -inf }]\n")
    lines = "\n".join(verb("show", "any.toml").lines)
    assert formats.parse("toml", lines.encode())["b"] == [math.inf, {"c": -math.inf}]
    assert math.isnan(yaml.safe_load(verb("show", "any.toml", "--format", "yaml").out)["a"])
    assert [line.split("  ")[0] for line in verb("show", "any.toml", "--origins").lines] == [
        "a = nan",
        "b.0 = inf",
        "b.1.c = -inf",
    ]
    origins = yaml.safe_load(verb("show", "any.toml", "--origins", "--format", "yaml").out)
    assert origins["b.1.c"] == {"value": -math.inf, "origin": "any.toml:2:13"}
    assert json.loads(verb("show", "any.toml", "--origins", "--format", "json").out)["a"]["value"] == "NaN"


def test_origins_of_every_leaf(verb, monkeypatch):
    monkeypatch.setenv("SHOP_PORT", "1")
    result = verb("show", "app:conf", "--origins")
    assert [tuple(part.strip() for part in line.split("  #")) for line in result.lines] == [
        ('message = "hi"', "app.toml:1:1"),
        ("port = 1", "env SHOP_PORT"),
        ('database.url = "postgres://db"', "app.toml:4:1"),
        ("database.pool_size = 10", "default"),
        ('database.password = "**********"', "app.toml:5:1"),
    ]
    assert len({line.index("#") for line in result.lines}) == 1


@pytest.mark.parametrize(("style", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_origins_for_programs(verb, style, read):
    shown = read(verb("show", "app:conf", "--origins", "--format", style).out)
    assert shown["database.url"] == {"value": "postgres://db", "origin": "app.toml:4:1"}


def test_a_refused_configuration_shows_its_faults_and_nothing_else(verb, folder):
    (folder / "app.toml").write_text("message = 1\n")
    result = verb("show", "app:conf")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        "app.toml: database: field required: no source sets it",
        "app.toml:1:1: message: input should be a valid string",
    ]


def test_a_key_can_be_masked_by_name(verb, folder):
    (folder / "any.toml").write_text('pin = "canary"\n[deep]\n"Pin" = "canary"\nport = 1\n')
    result = verb("show", "any.toml", "--secret", "pin")
    assert "canary" not in result.out
    assert "port = 1" in result.out


def test_what_a_terminal_cannot_write_is_escaped_and_no_traceback(launch, folder):
    (folder / "any.toml").write_text('a = "a → b"\n', encoding="utf-8")
    process = launch("show", "any.toml", cwd=folder, env=environment(PYTHONIOENCODING="latin-1"))
    assert process.end() == 0
    assert process.stdout.text == 'a = "a \\u2192 b"\n'


# A running process


@pytest.mark.parametrize("style", ["toml", "json", "yaml"])
@pytest.mark.parametrize("options", [[], ["--origins"]])
def test_a_process_shows_what_it_runs_with_as_its_files_do(verb, served, style, options):
    url = served().url
    of_files = verb("show", "app:conf", "--format", style, *options)
    of_process = verb("show", url, "--format", style, *options)
    assert (of_process.code, of_process.err) == (0, "")
    assert of_process.out == of_files.out
    assert "canary" not in of_process.out


@pytest.mark.parametrize("style", ["toml", "yaml"])
@pytest.mark.parametrize("options", [[], ["--origins"]])
def test_a_process_shows_values_that_json_lacks_as_its_files_do(verb, served, folder, style, options):
    (folder / "floats.py").write_text(FLOATS)
    (folder / "any.yaml").write_text("8080: web\nuntil: 2020-01-01\nmost: .inf\n")
    for words in (["floats:App"], ["any.yaml"]):
        url = served(*words).url
        of_files = verb("show", *words, "--format", style, *options)
        assert verb("show", url, "--format", style, *options).out == of_files.out
    assert ("2020-01-01" if options else "\nuntil") in of_files.out


def test_a_process_shows_what_is_in_force_and_not_what_is_in_its_files(verb, served, folder):
    url = served().url
    assert verb("set", url, "message=patched").code == 0
    (folder / "app.toml").write_text("broken")
    assert json.loads(verb("show", url, "--format", "json").out) == {**DOCUMENT, "message": "patched"}


def test_a_process_with_a_token_wants_it(verb, served, folder):
    (folder / "token").write_text("let-me-in-please")
    url = served(token="let-me-in-please").url
    refused = verb("show", url)
    assert (refused.code, refused.out) == (1, "")
    assert "--token-file" in refused.err
    assert verb("show", url, "--token-file", "token").code == 0


def test_a_process_that_is_not_there_is_1_and_named(verb):
    result = verb("show", "http://127.0.0.1:1")
    assert (result.code, result.out) == (1, "")
    assert "127.0.0.1:1" in result.err


@pytest.mark.parametrize("more", [["app.toml"], ["--config", "app.toml"], ["--secret", "pin"]])
def test_a_url_stands_alone(verb, more):
    result = verb("show", "http://127.0.0.1:1", *more)
    assert (result.code, result.out) == (2, "")
    assert "stands alone" in result.err
