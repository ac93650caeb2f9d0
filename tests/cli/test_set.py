"""`hotconf set`, `confirm`, `rollback` and `history`: steering a running process."""

from __future__ import annotations

import json
import re

import pytest

from hotconf.cli.set import value_of
from hotconf.jsonschema import json_schema
from hotconf.schema.settings import Section, Untyped
from tests.cli.verbs import GOOD
from tests.support import wait_until


class Inner(Section):
    text: str = ""
    number: int = 0


class Model(Section):
    text: str = ""
    number: int = 0
    ratio: float = 0.0
    flag: bool = False
    maybe: int | None = None
    either: int | str = 0
    names: list[str] = []
    inner: Inner = Inner()
    inners: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("text", "hello", "hello"),
        ("text", '"quoted"', "quoted"),
        ("text", "5", "5"),
        ("text", "1.10", "1.10"),
        ("text", "true", "true"),
        ("text", "", ""),
        ("text", "[1]", "[1]"),
        ("text", "2030-01-31", "2030-01-31"),
        ("text", "5\nother = 6", "5\nother = 6"),
        ("text", "#fff", "#fff"),
        ("text", "a=b", "a=b"),
        ("text", "\udcff", "\udcff"),
        ("number", "5", 5),
        ("number", "0x10", 16),
        ("number", "five", "five"),
        ("number", '"5"', '"5"'),
        ("ratio", "5", 5),
        ("ratio", "0.5", 0.5),
        ("ratio", "inf", "inf"),
        ("flag", "true", True),
        ("flag", "yes", "yes"),
        ("maybe", "7", 7),
        ("either", "7", 7),
        ("either", "seven", "seven"),
        ("names", '["a", "b"]', ["a", "b"]),
        ("inner", '{text = "x", number = 1}', {"text": "x", "number": 1}),
        ("inner.text", "5", "5"),
        ("inners.a.text", "5", "5"),
        ("inners.a.number", "5", 5),
        ("unknown", "5", 5),
    ],
)
def test_a_value_is_toml_where_the_schema_agrees_and_else_text(path, text, value):
    found = value_of(text, tuple(path.split(".")), json_schema(Model))
    assert (found, type(found)) == (value, type(value))


def test_without_a_schema_a_value_is_toml_where_it_can_be():
    for schema in ({}, json_schema(Untyped)):
        assert value_of("5", ("any", "where"), schema) == 5
        assert value_of("five", ("any",), schema) == "five"


def test_values_are_applied_and_go_to_the_overlay(verb, folder, served):
    process = served()
    result = verb("set", process.url, "message=5", "database.pool_size=20")
    assert (result.code, result.err) == (0, "")
    assert sorted(result.lines) == ["applied, generation 2", "changed: database.pool_size", "changed: message"]
    assert (process.conf.current.message, process.conf.current.database.pool_size) == ("5", 20)
    assert 'message = "5"' in (folder / "overlay.toml").read_text()
    assert verb("set", process.url, "--unset", "message").lines == ["applied, generation 3", "changed: message"]
    assert process.conf.current.message == "hi"


def test_what_does_not_fit_is_1_with_its_faults(verb, served):
    process = served()
    refused = verb("set", process.url, "database.pool_size=0")
    assert refused.code == 1
    assert refused.lines[0] == "rejected at validate; generation 1 stays in force"
    assert "database.pool_size: input should be greater than or equal to 1" in refused.lines[1]
    assert process.conf.current.database.pool_size == 10


def test_a_secret_is_refused_and_not_quoted(verb, served):
    refused = verb("set", served().url, "database.password=canary")
    assert refused.code == 1
    assert "database.password" in refused.out + refused.err
    assert "canary" not in refused.out + refused.err


def test_without_an_overlay_it_says_what_is_missing(verb, served):
    refused = verb("set", served(overlay=None).url, "message=x")
    assert (refused.code, refused.out) == (1, "")
    assert "overlay" in refused.err


def test_a_change_waits_to_be_confirmed(verb, folder, served):
    process = served()
    result = verb("set", process.url, "message=soon", "--confirm", "60s")
    assert result.lines[-1] == f"taken back in 60s unless confirmed: hotconf confirm {process.url}"
    assert process.conf.current.message == "soon"
    assert process.conf.unconfirmed > 30
    assert not (folder / "overlay.toml").exists()
    assert verb("confirm", process.url).code == 0
    assert 'message = "soon"' in (folder / "overlay.toml").read_text()
    again = verb("confirm", process.url)
    assert again.code == 1
    assert "confirm" in again.err


def test_an_unconfirmed_change_is_taken_back(verb, served):
    process = served()
    assert verb("set", process.url, "message=soon", "--confirm", "0.2").code == 0
    wait_until(lambda: process.conf.current.message == "hi")


def test_a_concurrent_change_causes_one_retry(verb, served, monkeypatch):
    from hotconf.web.client import Client

    process, get = served(), Client.get

    async def slowly(self, path, *members):
        """Let another change come between the tag and the first patch."""
        reply = await get(self, path, *members)
        if path == "config" and process.conf.snapshot.generation == 1:
            await self.report("PATCH", "config", body={"database": {"pool_size": 11}}, etag=reply.etag)
        return reply

    monkeypatch.setattr(Client, "get", slowly)
    assert verb("set", process.url, "message=mine").code == 0
    assert (process.conf.current.message, process.conf.current.database.pool_size) == ("mine", 11)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name what to change"),
        (["message"], "'message' is no assignment: write KEY=VALUE"),
        (["=5"], "an assignment needs a KEY"),
        (["a..b=5"], "is not a dotted path"),
        (["a=1", "a.b=2"], "a.b lies within a"),
        (["a=1", "--confirm", "soon"], "must be a time such as 30, 30s or 2m"),
        (["--unset", ""], "needs a KEY"),
    ],
)
def test_unusable_arguments_are_2_without_a_request(verb, words, message):
    result = verb("set", "http://127.0.0.1:1", *words)
    assert result.code == 2
    assert message in result.err


# History and rollback


def test_the_history_and_back_again(verb, folder, served):
    process = served()
    (folder / "app.toml").write_text(GOOD.replace("hi", "ho"))
    verb("reload", process.url)
    lines = verb("history", process.url).lines
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"     1  {stamp}  start: message, port, database", lines[0])
    assert re.fullmatch(rf"\*    2  {stamp}  http: message", lines[1])
    shown = json.loads(verb("history", process.url, "--format", "json").out)
    assert (shown["running"], [entry["generation"] for entry in shown["generations"]]) == (2, [1, 2])
    back = verb("rollback", process.url, "1")
    assert (back.code, back.lines[:2]) == (0, ["applied, generation 3", "changed: message"])
    assert process.conf.current.message == "hi"
    assert verb("rollback", process.url).lines[0] == "applied, generation 4"
    assert process.conf.current.message == "ho"


def test_a_generation_that_is_not_there_is_1(verb, served):
    refused = verb("rollback", served().url, "77")
    assert (refused.code, refused.out) == (1, "")
    assert "77" in refused.err
    assert verb("rollback", "http://127.0.0.1:1", "first").code == 2


def test_diff_of_generations_and_of_files_with_a_process(verb, folder, served):
    process = served()
    (folder / "app.toml").write_text(GOOD.replace("hi", "ho").replace("canary-in-file", "canary-new"))
    verb("reload", process.url)
    for words in (["1", "2"], ["1"]):
        assert verb("diff", process.url, *words).lines == ['message: "hi" -> "ho"']
    (folder / "next.toml").write_text(GOOD + "pool_size = 5\n")
    between = verb("diff", "app:App", process.url, "next.toml")
    assert between.lines == ['message: "ho" -> "hi"', "database.pool_size: 10 -> 5"]
    assert verb("diff", process.url, process.url, "--exit-code").code == 0
    untyped = verb("diff", "next.toml", process.url)
    assert "canary" not in untyped.out
    assert "port: (absent) -> 8080" in untyped.lines
    assert verb("diff", process.url, "9").code == 1
