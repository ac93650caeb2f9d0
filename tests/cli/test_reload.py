"""`hotconf reload` and `check --against`: the verdict of a running process, foretold and given."""

from __future__ import annotations

import json

import pytest

from hotconf.errors import Refuse
from tests.cli.verbs import GOOD


def refuses_ho(conf):
    @conf.prepare("message")
    def prepare(change):
        if change.new.message == "ho":
            raise Refuse("ho is not allowed")


def test_a_change_is_applied_and_listed(verb, folder, served):
    process = served()
    (folder / "app.toml").write_text(GOOD.replace("hi", "ho"))
    result = verb("reload", process.url)
    assert (result.code, result.err) == (0, "")
    assert result.lines == ["applied, generation 2", "changed: message"]
    assert process.conf.current.message == "ho"


def test_json_is_the_report(verb, served):
    report = json.loads(verb("reload", served().url, "--format", "json").out)
    assert (report["outcome"], report["generation"], report["triggers"]) == ("unchanged", 1, ["http"])


def test_the_guard_can_be_overruled(verb, folder, served):
    path = folder / "many.toml"
    path.write_text("".join(f"key{number} = 1\n" for number in range(20)))
    process = served("many.toml")
    path.write_text("key0 = 1\n")
    refused = verb("reload", process.url)
    assert refused.code == 1
    assert refused.lines[0] == "rejected at guard; generation 1 stays in force"
    assert verb("reload", process.url, "--force").lines[0] == "applied, generation 2"


def test_a_socket_file_and_a_token(verb, folder, served):
    (folder / "token").write_text("open sesame\n")
    process = served(token="open sesame", unix_socket=folder / "s")
    for url in (process.url, f"unix:{folder}/s"):
        assert verb("reload", url, "--token-file", "token").lines == ["unchanged, generation 1"]
    refused = verb("reload", process.url)
    assert (refused.code, refused.out) == (1, "")
    assert "see --token-file" in refused.err


# What `check --against` foretells is what the reload then does.

CASES = {
    "applied": (
        GOOD.replace("hi", "hello"),
        0,
        ["applied, generation {}", "changed: message"],
    ),
    "unchanged": (f"# touched\n{GOOD}", 0, ["unchanged, generation 1"]),
    "pending restart": (
        f"port = 9000\n{GOOD}",
        0,
        ["unchanged, generation 1", "pending restart: port: 8080 -> 9000 from app.toml:1:1"],
    ),
    "refused by validation": (
        GOOD.replace('"hi"', "5") + "pool_size = 0\n",
        1,
        [
            "rejected at validate; generation 1 stays in force",
            "app.toml:1:1: message: input should be a valid string",
            "app.toml:6:1: database.pool_size: input should be greater than or equal to 1",
        ],
    ),
    "refused by a subscriber": (
        GOOD.replace("hi", "ho"),
        1,
        ["rejected at prepare; generation 1 stays in force", "{} ho is not allowed"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_check_against_a_process_foretells_what_its_reload_does(verb, folder, served, case):
    text, code, expected = CASES[case]
    process = served(set_up=refuses_ho)
    (folder / "app.toml").write_text(text)
    before = process.conf.snapshot
    foretold = verb("check", "--against", process.url)
    assert process.conf.snapshot is before
    done = verb("reload", process.url)
    assert (foretold.code, done.code) == (code, code)
    assert foretold.lines[0].startswith("dry run: ")
    # The same, word by word, but for the number that a generation gets only when it is there.
    assert [numberless(line) for line in foretold.lines] == [numberless(line) for line in done.lines]
    for line, wanted in zip(done.lines, expected, strict=True):
        start, _, end = wanted.partition("{}")
        assert line.startswith(start)
        assert line.endswith(end)


def numberless(line):
    return line.removeprefix("dry run: ").replace("generation 2", "generation 1")


def test_check_against_as_json_and_annotations(verb, folder, served):
    process = served()
    (folder / "app.toml").write_text(GOOD.replace('"hi"', "5"))
    report = json.loads(verb("check", "--against", process.url, "--format", "json").out)
    assert (report["outcome"], report["dry_run"]) == ("rejected", True)
    result = verb("check", "--against", process.url, "--format", "github")
    assert (result.code, result.lines) == (
        1,
        ["::error file=app.toml,line=1,col=1::message: input should be a valid string"],
    )


def test_files_are_checked_here_before_the_process_is_asked(verb, folder, served):
    process = served()
    (folder / "bad.toml").write_text("message = 5\n")
    assert "bad.toml:1:1" in verb("check", "app:App", "bad.toml", "--against", process.url).out
    both = verb("check", "app:App", "app.toml", "--against", process.url)
    assert (both.code, both.lines) == (0, ["dry run: unchanged, generation 1"])


def test_reload_dry_run_is_the_same_question(verb, folder, served):
    process = served()
    (folder / "app.toml").write_text(GOOD.replace("hi", "ho"))
    assert verb("reload", process.url, "--dry-run").out == verb("check", "--against", process.url).out
    assert process.conf.current.message == "hi"
