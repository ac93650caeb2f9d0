"""What verbs print: colour on a terminal only, and a sign of life where something takes its time."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading

import pytest

import hotconf.cli.output as output
from hotconf.cli.output import in_order, progress
from hotconf.values.layer import Origin
from hotconf.values.report import Fault
from tests.cli.verbs import BAD
from tests.support import HOTCONF, environment, wait_until

ESCAPE = "\x1b["


def on_terminal(folder, *words, **variables):
    """Run a verb whose output goes to a terminal, and return what arrives there."""
    ours, theirs = pty.openpty()
    env = environment(**{"TERM": "xterm", **variables})
    done = subprocess.run([*HOTCONF, *words], cwd=folder, env=env, stdout=theirs, stderr=theirs, check=False)
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # on Linux: the other end is closed
        pass
    os.close(ours)
    return done.returncode, said.decode()


def test_colour_is_for_terminals_that_want_it(folder, verb):
    (folder / "bad.toml").write_text(BAD)
    words = ("check", "app:App", "bad.toml")
    code, said = on_terminal(folder, *words)
    assert (code, ESCAPE in said) == (1, True)
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, said = on_terminal(folder, *words, **variables)
        assert (code, ESCAPE in said) == (1, False)
        assert "bad.toml:1:1: message: " in said
    assert ESCAPE in on_terminal(folder, *words, NO_COLOR="")[1]
    assert ESCAPE not in verb(*words).out


def test_a_long_wait_is_explained_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(output, "PATIENCE", 0.01)
    with progress("waiting for the moon"):
        wait_until(lambda: "waiting for the moon ...\n" in (said := capsys.readouterr()).err or said.err)


def test_what_is_quick_says_nothing(capsys):
    before = threading.active_count()
    with progress("waiting for nothing"):
        pass
    assert capsys.readouterr().err == ""
    wait_until(lambda: threading.active_count() <= before)


def test_faults_stand_in_the_order_of_their_places():
    def fault(*place):
        return Fault("", "", Origin("file", *place) if place else None)

    faults = [fault("b", 2, 1), fault("a", 9), fault("b", 1, 5), fault(), fault("b"), fault("b", 1, 2)]
    assert in_order(faults) == [
        fault("b"),
        fault("b", 1, 2),
        fault("b", 1, 5),
        fault("b", 2, 1),
        fault("a", 9),
        fault(),
    ]


PRINTING = {
    "show": ["show", "any.toml"],
    "show --origins": ["show", "any.toml", "--origins"],
    "explain": ["explain", "any.toml", "a"],
    "diff": ["diff", "any.toml", "other.toml"],
    "check": ["check", "bad.toml"],
    "check --format json": ["check", "any.toml", "--format", "json"],
    "schema": ["schema", "app:App"],
    "init": ["init", "app:App"],
    "--help": ["--help"],
    "--version": ["--version"],
}


@pytest.fixture
def some_files(folder):
    (folder / "any.toml").write_text("a = 1\n")
    (folder / "other.toml").write_text("a = 2\n")
    (folder / "bad.toml").write_text("a = \n")


@pytest.mark.parametrize("words", PRINTING.values(), ids=PRINTING)
def test_a_full_disk_is_1_with_one_line(verb, some_files, monkeypatch, words):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        result = verb(*words)
    assert (result.code, result.err) == (1, "Error: cannot write the output: No space left on device\n")


@pytest.mark.parametrize(("words", "code"), [(["nonsense"], 2), (["show", "bad.toml"], 1)])
def test_the_exit_code_of_an_error_stands_where_stderr_is_full(verb, some_files, monkeypatch, words, code):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        result = verb(*words)
    assert result.code == code
