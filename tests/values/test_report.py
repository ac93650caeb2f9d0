"""Reports: one line, one mapping, and what they must not let through."""

import datetime as dt
import json

import pytest

from hotconf import ConfigError, Fault, Origin, Report
from hotconf.values.report import PendingRestart, jsonable

NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
FAULT = Fault("database.url", "field required", Origin("file", "app.toml", 3, 7))


def report(outcome="applied", **details):
    return Report(7, outcome, ("file", "SIGHUP"), 3, NOON, 0.0123, **details)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (FAULT, "app.toml:3:7: database.url: field required"),
        (Fault("", "does not exist", Origin("file", "app.toml")), "app.toml: does not exist"),
        (Fault("port", "no number", Origin("env", "APP_PORT")), "env APP_PORT: port: no number"),
        (Fault("", "bad"), "bad"),
    ],
)
def test_a_fault_is_one_line_that_starts_with_its_place(fault, text):
    assert str(fault) == text
    assert jsonable(fault)["text"] == text


@pytest.mark.parametrize("text", ["two\nlines", "two\r\nlines", "an\x1b[31mescape", "\u2028separator"])
def test_no_message_key_or_trigger_can_forge_a_line(text):
    lines = [str(Fault(text, text)), str(report("rejected", faults=(Fault("", text),))), str(report(note=text))]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (report(changed=("port",)), "reload 7 (file, SIGHUP): applied, generation 3, changed: port [12.3 ms]"),
        (report(changed=("",)), "reload 7 (file, SIGHUP): applied, generation 3, changed: everything [12.3 ms]"),
        (report("unchanged"), "reload 7 (file, SIGHUP): unchanged, generation 3 [12.3 ms]"),
        (
            report("rejected", faults=(FAULT, Fault("", "bad"))),
            f"reload 7 (file, SIGHUP): rejected, generation 3 stays in force: {FAULT}; bad [12.3 ms]",
        ),
        (report("unchanged", dry_run=True), "dry run 7 (file, SIGHUP): unchanged, generation 3 [12.3 ms]"),
        (
            report(commit_errors=("commit of pool raised ValueError",)),
            "reload 7 (file, SIGHUP): applied, generation 3, commit of pool raised ValueError [12.3 ms]",
        ),
    ],
)
def test_a_report_is_one_line(made, text):
    assert str(made) == text


def test_a_rejected_first_load_says_that_nothing_is_in_force():
    assert "nothing is in force" in str(Report(1, "rejected", ("load",), 0, NOON, 0.1, faults=(FAULT,)))


def test_a_long_list_of_changes_is_cut_short_in_the_line_and_whole_in_the_mapping():
    made = report(changed=tuple(f"f{number}" for number in range(25)))
    assert "f9 and 15 more" in str(made)
    assert len(jsonable(made)["changed"]) == 25


def test_pending_restarts_are_listed():
    pending = PendingRestart("port", 80, 81, Origin("file", "app.toml", 1, 1))
    made = report("unchanged", pending_restart=(pending,))
    assert "pending restart: port" in str(made)
    assert jsonable(made)["pending_restart"] == [
        {"path": "port", "running": 80, "wanted": 81, "origin": "app.toml:1:1"}
    ]


def test_a_report_is_json():
    shown = json.loads(json.dumps(jsonable(report("rejected", stage="validate", faults=(FAULT,)))))
    assert shown["started_at"] == "2026-01-02T12:00:00+00:00"
    assert shown["faults"][0] == {
        "path": "database.url",
        "message": "field required",
        "origin": "app.toml:3:7",
        "source": "app.toml",
        "line": 3,
        "column": 7,
        "text": "app.toml:3:7: database.url: field required",
    }


@pytest.mark.parametrize(("faults", "head"), [((FAULT,), "1 fault"), ((FAULT, FAULT), "2 faults")])
def test_a_config_error_has_a_line_for_each_fault(faults, head):
    lines = str(ConfigError(report("rejected", faults=faults))).splitlines()
    assert lines == [f"configuration refused: {head}", *[f"  {fault}" for fault in faults]]


def test_the_line_of_the_log_stays_readable_however_many_faults_there_are():
    faults = tuple(Fault(f"key{index}", "unknown key") for index in range(60))
    made = report("rejected", faults=faults)
    assert str(made).count("unknown key") == 50
    assert "; and 10 more" in str(made)
    assert len(jsonable(made)["faults"]) == 60
