"""`hotconf diff`: what differs, secrets masked."""

from __future__ import annotations

import json

import pytest

from tests.cli.verbs import GOOD


@pytest.fixture(autouse=True)
def files(folder):
    (folder / "old.toml").write_text(GOOD + "old = 1\n[list]\na = [1, 2]\n")
    (folder / "new.toml").write_text(
        GOOD.replace("hi", "ho").replace("in-file", "new") + "[list]\na = [1, 3, 4]\nb.c = 1\n"
    )


def test_untyped_files_key_by_key(verb):
    result = verb("diff", "old.toml", "new.toml")
    assert (result.code, result.err) == (0, "")
    assert sorted(result.lines) == [
        "database.old: 1 -> (absent)",
        'database.password: "**********" -> "**********"',
        "list.a.1: 2 -> 3",
        "list.a.2: (absent) -> 4",
        'list.b: (absent) -> {"c": 1}',
        'message: "hi" -> "ho"',
    ]


def test_typed_files_with_their_defaults_and_by_value(verb, folder):
    (folder / "old.toml").write_text('# no message\n[database]\nurl = "x"\n')
    (folder / "new.toml").write_text(
        'message = "hello"\n[database]\nurl = "x"\npool_size = "11"\npassword = "canary"\n'
    )
    assert verb("diff", "app:App", "old.toml", "new.toml").lines == [
        "database.pool_size: 10 -> 11",
        'database.password: "**********" -> "**********"',
    ]


def test_the_exit_code_tells_only_when_asked(verb):
    assert verb("diff", "old.toml", "new.toml").code == 0
    assert verb("diff", "old.toml", "new.toml", "--exit-code").code == 1
    same = verb("diff", "old.toml", "old.toml", "--exit-code")
    assert (same.code, same.out) == (0, "")


def test_json(verb):
    shown = json.loads(verb("diff", "old.toml", "new.toml", "--format", "json").out)
    assert {"path": "message", "old": "hi", "new": "ho"} in shown
    assert {"path": "database.old", "old": 1} in shown
    assert {"path": "list.a.2", "new": 4} in shown


def test_a_key_can_be_masked_by_name(verb):
    lines = verb("diff", "old.toml", "new.toml", "--secret", "message").lines
    assert 'message: "**********" -> "**********"' in lines


def test_a_faulty_side_is_1_with_its_faults(verb):
    result = verb("diff", "app:App", "old.toml", "missing.toml")
    assert (result.code, result.out) == (1, "")
    assert "database.old" in result.err


@pytest.mark.parametrize("words", [[], ["old.toml"], ["app:App", "old.toml"], ["a.toml", "b.toml", "c.toml"]])
def test_anything_but_two_is_2(verb, words):
    assert verb("diff", *words).code == 2
