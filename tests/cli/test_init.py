"""`hotconf init`: a sample that `check` accepts."""

from __future__ import annotations


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
    (folder / "strict.toml").write_text(result.out)
    assert verb("check", "strict:App", "strict.toml").code == 1


def test_unusable_arguments_are_2(verb):
    for words in ([], ["app.toml"], ["app:App", "app:conf"], ["app:App", "--output", "no/such/folder"]):
        assert verb("init", *words).code == 2
