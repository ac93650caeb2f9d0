"""Text of others: what a file, the environment or another process holds reaches no terminal as a command."""

from __future__ import annotations

import copy
import json
import re

import pytest
import yaml

import hotconf.formats as formats

# Clear the screen, ring, C1's CSI, a right-to-left override, a line separator, DEL, a carriage return.
EVIL = "\x1b[2J\a\x9b31m\u202ekey\u2028\x7f\r"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def assert_harmless(result):
    found = OBEYED.findall(result.out + result.err)
    assert not found, (result.out, result.err)


@pytest.mark.parametrize("style", ["toml", "json", "yaml"])
def test_a_value_and_a_key_are_shown_as_escapes_and_read_back(verb, folder, style):
    (folder / "any.json").write_text(json.dumps({"a": EVIL, EVIL: [EVIL, "é"]}))
    result = verb("show", "any.json", "--format", style)
    assert result.code == 0
    assert_harmless(result)
    read = {"json": json.loads, "yaml": yaml.safe_load, "toml": lambda text: formats.parse("toml", text.encode())}
    assert read[style](result.out) == {"a": EVIL, EVIL: [EVIL, "é"]}


@pytest.mark.parametrize(
    "words",
    [
        ["show", "any.json", "--origins"],
        ["show", "any.json", "--origins", "--format", "yaml"],
        ["explain", "any.json", "a"],
        ["explain", "any.json", "a", "--format", "json"],
        ["diff", "any.json", "other.json"],
        ["diff", "any.json", "other.json", "--format", "json"],
        ["check", "bad.toml"],
        ["check", "bad.toml", "--format", "json"],
        ["check", "bad.toml", "--format", "github"],
        ["check", "app:App", "any.json"],
        ["check", "app:App", "any.json", "--format", "github"],
        ["check", f"{EVIL}.toml"],
        ["check", f"{EVIL}.toml", "--format", "github"],
        ["show", f"{EVIL}.toml"],
        ["explain", "any.json", EVIL],
        ["schema", f"app:{EVIL}"],
        ["schema", "documented:App"],
        ["init", "documented:App"],
        [EVIL],
        ["show", f"--{EVIL}"],
        ["reload", f"http://{EVIL}"],
    ],
    ids=lambda words: " ".join(words).encode("unicode_escape").decode(),
)
def test_no_verb_prints_it_as_it_is(verb, folder, words):
    (folder / "any.json").write_text(json.dumps({"a": EVIL, EVIL: [EVIL]}))
    (folder / "other.json").write_text(json.dumps({"a": 1, EVIL: [1]}))
    (folder / "bad.toml").write_text(f'"{EVIL.encode("unicode_escape").decode()}" = \n')
    (folder / "documented.py").write_text(
        "from pydantic import Field\nfrom hotconf import Settings\n"
        f"class App(Settings):\n    text: str = Field({EVIL!r}, description={EVIL!r})\n"
    )
    assert_harmless(verb(*words))


# Answers of a process, the real ones of each kind, with text of others wherever there is text

FAULT = {"path": EVIL, "message": EVIL, "text": EVIL, "source": EVIL, "line": 1, "column": 2}
PENDING = {"path": EVIL, "running": EVIL, "wanted": EVIL, "origin": EVIL}
REPORT = {
    "id": 1,
    "outcome": "applied",
    "generation": 2,
    "stage": EVIL,
    "changed": [EVIL],
    "faults": [FAULT],
    "pending_restart": [PENDING],
    "commit_errors": [EVIL],
    "note": EVIL,
    "dry_run": True,
}
GENERATION = {"generation": 1, "loaded_at": EVIL, "triggers": [EVIL], "changed": [EVIL], "note": EVIL}
ANSWERS = {
    "config": {"a": EVIL, EVIL: EVIL},
    "explain": {
        "path": EVIL,
        "value": EVIL,
        "origin": EVIL,
        "shadowed": [{"value": EVIL, "origin": EVIL}],
        "values": [{"path": EVIL, "value": EVIL, "origin": EVIL}],
    },
    "history": {"running": 1, "generations": [GENERATION], "config": {"a": 1}},
    "schema": {"type": "object", "properties": {"a": {"type": "string"}}},
    "reload": REPORT,
    "rollback": REPORT,
    "confirm": REPORT,
}
USED = {
    "show": ["config", "explain"],
    "explain": ["explain"],
    "history": ["history"],
    "diff": ["history", "config"],
    "check": ["reload"],
    "reload": ["reload"],
    "rollback": ["rollback"],
    "confirm": ["confirm"],
    "set": ["config", "schema", "reload"],
}
"""The answers that a verb asks for."""

ASKING = [
    *(["show", "URL", *more] for more in ([], ["--format", "json"], ["--format", "yaml"], ["--origins"])),
    *(["explain", "URL", "a", *more] for more in ([], ["--format", "json"])),
    *(["history", "URL", *more] for more in ([], ["--format", "json"])),
    *(["diff", "URL", "1", *more] for more in ([], ["--format", "json"])),
    *(["check", "--against", "URL", "--format", style] for style in ("text", "json", "github")),
    *([word, "URL", *more] for word in ("reload", "rollback", "confirm") for more in ([], ["--format", "json"])),
    ["set", "URL", "a=1"],
]


def bodies(answers):
    """The answers of a server, by method and the first part of the path."""
    methods = {"reload": "POST", "rollback": "POST", "confirm": "POST"}
    encoded = {(methods.get(name, "GET"), name): json.dumps(answer).encode() for name, answer in answers.items()}
    return {**encoded, ("PATCH", "config"): encoded["POST", "reload"]}


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
@pytest.mark.parametrize("outcome", ["applied", "rejected", EVIL])
def test_no_verb_prints_an_answer_as_it_is(verb, stranger, words, outcome):
    answer, url = stranger
    report = {**REPORT, "outcome": outcome}
    answer.bodies = bodies({**ANSWERS, "reload": report, "rollback": report, "confirm": report})
    result = verb(*(url if word == "URL" else word for word in words))
    assert result.out
    assert not result.err
    assert_harmless(result)
    if "json" in words:
        assert json.loads(result.out)


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_no_verb_prints_the_detail_of_a_problem_as_it_is(verb, stranger, words):
    answer, url = stranger
    answer.status, answer.body = 400, json.dumps({"detail": EVIL, "faults": [FAULT]}).encode()
    result = verb(*(url if word == "URL" else word for word in words))
    assert (result.code, result.out) == (1, "")
    assert_harmless(result)


def malformed(answer):
    """Every answer that has another type at one place, at any depth, or lacks a key."""
    for path in places(answer):
        for wrong in (None, 5, "x", [], {}, [5], {"a": [None]}):
            copied = copy.deepcopy(answer)
            inner = copied
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = wrong
            yield copied
            if isinstance(inner, dict):
                del inner[path[-1]]
                yield copied


def places(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_an_answer_of_another_make_is_1_and_no_traceback(verb, words, monkeypatch):
    """Without a server in between, since there are hundreds of them."""
    from hotconf.web.client import Client, Reply

    current = {}

    async def get(self, path, *members):
        return Reply(current[path.split("/")[0]], '"1"')

    async def report(self, method, path, **_):
        return current["reload" if method == "PATCH" else path]

    async def text(self, path, media_type):
        return None

    monkeypatch.setattr(Client, "get", get)
    monkeypatch.setattr(Client, "text", text)
    monkeypatch.setattr(Client, "report", report)
    for name in USED[words[0]]:
        for answer in malformed(ANSWERS[name]):
            current.clear()
            current.update({**ANSWERS, name: answer})
            result = verb(*("http://127.0.0.1:1" if word == "URL" else word for word in words))
            assert result.code in (0, 1), answer
            assert_harmless(result)


def test_a_deeply_nested_answer_is_shown_or_1_and_no_traceback(verb, monkeypatch):
    from hotconf.web.client import Client, Reply

    deep = {}
    for _ in range(900):
        deep = {"a": deep}

    async def get(self, path, *members):
        return Reply(deep, '"1"')

    async def text(self, path, media_type):
        return None

    monkeypatch.setattr(Client, "get", get)
    monkeypatch.setattr(Client, "text", text)
    for style in ("toml", "json", "yaml"):
        result = verb("show", "http://127.0.0.1:1", "--format", style)
        if result.code == 0:  # how deep is too deep is up to the interpreter
            assert not result.err
        else:
            assert (result.code, result.out) == (1, "")
            assert "nested too deeply" in result.err or "cannot hold" in result.err
