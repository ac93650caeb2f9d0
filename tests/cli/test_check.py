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
    (folder / "broken.json").write_text('{"a": 1,}')
    result = verb("check", "missing.toml", "broken.toml", "good.toml", "broken.json", ".", "app.py")
    assert result.code == 1
    assert [line.split(": ")[0] for line in result.lines] == [
        "missing.toml",
        "broken.toml:1:5",
        "broken.json:1:9",
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
