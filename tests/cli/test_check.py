"""`hotconf check`: every fault of a configuration at once, in three styles."""

from __future__ import annotations

import json

import pytest

from tests.cli.verbs import BAD, GOOD

FAULTS = [
    "bad.toml:1:1: message: input should be a valid string",
    "bad.toml:5:1: database.pool_sise: unknown key; did you mean 'pool_size'?",
    "bad.toml:6:1: database.password: input should be a valid string",
]


@pytest.fixture(autouse=True)
def files(folder):
    (folder / "good.toml").write_text(GOOD)
    (folder / "bad.toml").write_text(BAD)


def test_no_fault_is_0_and_silence(verb):
    for words in (["app:App", "good.toml"], ["good.toml"], ["bad.toml"]):  # without a class it has no fault
        result = verb("check", *words)
        assert (result.code, result.out, result.err) == (0, "", "")


def test_every_fault_is_one_line_with_its_place(verb):
    result = verb("check", "app:App", "bad.toml")
    assert (result.code, result.lines, result.err) == (1, FAULTS, "")


def test_every_file_is_looked_at(verb, folder):
    (folder / "broken.toml").write_text("a = \n")
    (folder / "broken.json").write_text('{"a" 1}')
    result = verb("check", "missing.toml", "broken.toml", "good.toml", "broken.json", ".", "app.py")
    assert result.code == 1
    assert [line.split(": ")[0] for line in result.lines] == [
        "missing.toml",
        "broken.toml:1:5",
        "broken.json:1:6",
        ".",
        "app.py",
    ]


def test_json(verb):
    result = verb("check", "app:App", "bad.toml", "--format", "json")
    faults = json.loads(result.out)["faults"]
    assert result.code == 1
    assert [fault["text"] for fault in faults] == FAULTS
    assert (faults[0]["source"], faults[0]["line"], faults[0]["column"]) == ("bad.toml", 1, 1)
    assert json.loads(verb("check", "good.toml", "--format", "json").out) == {"faults": []}


def test_github_annotations(verb, folder, monkeypatch):
    (folder / "a,b%.toml").write_text('message = 1\n[database]\nurl = "x"\n')
    monkeypatch.setenv("SHOP_PORT", "many")
    result = verb("check", "app:App", "a,b%.toml", "--format", "github")
    assert result.lines == [
        "::error file=a%2Cb%25.toml,line=1,col=1::message: input should be a valid string",
        "::error::env SHOP_PORT: port: input should be a valid integer, unable to parse string as an integer",
    ]
    missing = verb("check", "missing.toml", "--format", "github")
    assert missing.lines == ["::error file=missing.toml::does not exist"]


def test_no_fault_quotes_a_value_of_a_secret(verb, folder):
    (folder / "bad.toml").write_text('[database]\nurl = "x"\npassword = ["canary"]\n')
    result = verb("check", "app:App", "bad.toml")
    assert result.code == 1
    assert "canary" not in result.out


def test_an_unknown_format_is_2(verb):
    assert verb("check", "good.toml", "--format", "xml").code == 2


LOOSE = """
from pydantic import BaseModel
from pydantic_settings import BaseSettings
from hotconf import HotConf, Options

class Database(BaseModel):
    url: str
    pool_size: int = 3

class App(BaseSettings):
    model_config = {"extra": "ignore"}
    message: str
    database: Database = Database(url="x")

conf = HotConf(App, ["loose.toml"], options=Options(unknown="error"))
started = HotConf(App, ["loose.toml"])
started.load()
"""


@pytest.fixture
def loose(folder):
    """A class that ignores unknown keys, and a file with two of them."""
    (folder / "loose.py").write_text(LOOSE)
    (folder / "loose.toml").write_text('message = "x"\nmesage = 1\n[database]\nurl = "x"\npol_size = 4\n')
    return [
        "loose.toml:2:1: mesage: unknown key; did you mean 'message'?",
        "loose.toml:5:1: database.pol_size: unknown key; did you mean 'pool_size'?",
    ]


@pytest.mark.parametrize("target", ["loose:App", "loose:started"])
def test_unknown_keys_are_warnings_where_the_class_ignores_them(verb, loose, target):
    result = verb("check", target, "loose.toml") if target == "loose:App" else verb("check", target)
    assert (result.code, result.lines) == (0, [f"{line} (warning)" for line in loose])


def test_unknown_keys_can_be_faults_or_nothing(verb, loose):
    assert (result := verb("check", "loose:App", "loose.toml", "--unknown", "error")).code == 1
    assert result.lines == loose
    assert verb("check", "loose:conf").lines == loose
    assert verb("check", "loose:conf", "--unknown", "warn").code == 0
    quiet = verb("check", "loose:App", "loose.toml", "--unknown", "ignore")
    assert (quiet.code, quiet.out) == (0, "")


def test_a_refused_file_has_its_unknown_keys_named_too(verb, loose, folder):
    (folder / "loose.toml").write_text("mesage = 1\n")
    (folder / "loose.py").write_text(LOOSE.replace("started.load()", ""))
    result = verb("check", "loose:App", "loose.toml", "--format", "github")
    assert result.code == 1
    assert result.lines == [
        "::error file=loose.toml::message: field required: no source sets it",
        "::warning file=loose.toml,line=1,col=1::mesage: unknown key; did you mean 'message'?",
    ]
    shown = json.loads(verb("check", "loose:App", "loose.toml", "--format", "json").out)
    assert [(entry, len(found)) for entry, found in shown.items()] == [("faults", 1), ("warnings", 1)]


def test_a_file_that_is_one_of_several_may_lack_what_is_required(verb, loose, folder):
    (folder / "loose.py").write_text(LOOSE.replace("started.load()", ""))
    (folder / "part.toml").write_text("[database]\npool_size = 4\n")
    assert verb("check", "loose:App", "part.toml").code == 1
    assert (result := verb("check", "loose:App", "part.toml", "--partial")).code == 0
    assert result.out == ""
    (folder / "part.toml").write_text("[database]\npool_size = []\n")
    assert verb("check", "loose:App", "part.toml", "--partial").lines == [
        "part.toml:2:1: database.pool_size: input should be a valid integer"
    ]
