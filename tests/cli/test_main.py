"""The command itself: verbs, help, and signals from the moment that its handlers are in."""

from __future__ import annotations

import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import click
import pytest

from hotconf.cli.main import VERBS, command, run
from hotconf.signals import SignalRouter
from tests.support import HOTCONF, PATIENCE, ROOT, Demo, environment

# The command, with a byte on stderr from the moment that its handlers are in.
WITH_A_BYTE = """
import os
from hotconf import signals

class SaysWhen(signals.SignalRouter):
    def install(self):
        super().install()
        os.write(2, b"#")

signals.SignalRouter = SaysWhen
from hotconf.__main__ import main
main()
"""
SAYS_WHEN = (sys.executable, "-c", WITH_A_BYTE)


def test_the_handlers_are_in_before_anything_heavy(launch):
    heavy = {"asyncio", "logging", "pydantic", "aiohttp", "click", "watchfiles", "typing_extensions"}
    script = WITH_A_BYTE.replace('b"#"', 'b"#" + repr(sorted(sys.modules)).encode() + b"#"').replace(
        "import os", "import os, sys"
    )
    process = launch("--version", command=(sys.executable, "-c", script))
    assert process.end() == 0
    loaded = ast.literal_eval(process.stderr.text.split("#")[1])
    assert not heavy & set(loaded)


# Verbs and help


def test_help_lists_the_verbs_and_imports_none(launch):
    process = launch("--help", command=(sys.executable, "-X", "importtime", "-m", "hotconf"))
    assert process.end() == 0
    assert "demo" in process.stdout.text
    for heavy in ("aiohttp", "pydantic", "watchfiles", "hotconf.cli.demo"):
        assert f" {heavy}\n" not in process.stderr.text


def test_no_verb_imports_anything_heavy_before_it_is_used(launch):
    script = "import sys; from hotconf.cli.main import VERBS, command\n"
    script += "for verb in VERBS: command.get_command(None, verb)\nprint(*sys.modules)"
    process = launch(command=(sys.executable, "-c", script))
    assert process.end() == 0
    loaded = {name.partition(".")[0] for name in process.stdout.text.split()}
    assert not {"aiohttp", "pydantic", "pydantic_settings", "watchfiles", "asyncio", "yaml", "rtoml"} & loaded


def test_help_tells_the_same_of_a_verb_wherever_it_is_asked():
    context = click.Context(command)
    assert list(VERBS) == command.list_commands(context)
    for name in VERBS:
        assert command.get_command(context, name).name == name


@pytest.mark.parametrize(
    ("shell", "start"), [("bash", "_hotconf_completion()"), ("zsh", "#compdef hotconf"), ("fish", "function _hotconf")]
)
def test_shells_can_complete(launch, shell, start):
    process = launch(env=environment(_HOTCONF_COMPLETE=f"{shell}_source"))
    assert process.end() == 0
    assert process.stdout.text.startswith(start)


@pytest.mark.parametrize(
    ("line", "found"),
    [("hotconf sh", "plain,show"), ("hotconf check --ag", "plain,--against"), ("hotconf check app", "file,app")],
)
def test_verbs_options_and_files_are_completed(launch, line, found):
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_HOTCONF_COMPLETE": "bash_complete"}
    process = launch(env=environment(**variables))
    assert process.end() == 0
    assert found in process.stdout.text.splitlines()


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join
)
def test_asking_is_0(run_here, capsys, words):
    assert run_here(*words) == 0
    asked = capsys.readouterr()
    assert asked.out
    assert not asked.err


@pytest.fixture
def run_here(monkeypatch, tmp_path):
    """Run a verb in this process, for what never gets as far as a service. Signals stay as they are."""
    monkeypatch.chdir(tmp_path)

    def run_words(*words):
        monkeypatch.setattr(sys, "argv", ["hotconf", *words])
        return run(SignalRouter())

    return run_words


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["unknown"],
        ["demo", "--unknown"],
        ["demo", "surplus"],
        ["demo", "--port", "many"],
        ["demo", "--port", "-1"],
        ["demo", "--port", "65536"],
        ["demo", "--grace-period", "-1"],
        ["demo", "--grace-period", "nan"],
        ["demo", "--grace-period", "inf"],
        ["demo", "--shutdown-delay", "nan"],
        ["demo", "--token-file", "missing"],
        ["demo", "--allow-host", ""],
        ["demo", "--host", "0.0.0.0"],
        ["demo", "--host", ""],
    ],
    ids=" ".join,
)
def test_unusable_arguments_are_2_with_one_message(run_here, tmp_path, capsys, words):
    assert run_here(*words) == 2
    assert capsys.readouterr().err.startswith("Usage: hotconf")
    assert not list(tmp_path.iterdir())  # nothing was begun


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe"])
def test_a_token_file_without_a_token_is_2(run_here, tmp_path, capsys, content):
    (tmp_path / "token").write_bytes(content)
    assert run_here("demo", "--token-file", "token") == 2
    assert "it must hold a token" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_2_with_a_way_out(run_here, tmp_path, capsys):
    # A dangling link: it does not exist, and cannot be written through, not even by root.
    (tmp_path / "hotconf-demo.toml").symlink_to(tmp_path / "no such folder" / "file")
    assert run_here("demo", "--port", "0") == 2
    assert "--config" in capsys.readouterr().err


def test_an_unknown_verb_in_a_process_is_2_without_traceback(launch):
    process = launch("unknown")
    assert process.end() == 2
    assert process.stderr.text.splitlines()[-1] == "Error: No such command 'unknown'."
    assert "Traceback" not in process.stderr.text


def test_the_console_script_is_the_same_command(launch, tmp_path):
    """As installers write it: it imports `main` and passes what it returns to `sys.exit`."""
    script = "import sys; from hotconf.__main__ import main; sys.argv[0] = 'hotconf'; sys.exit(main())"
    module = launch("--help")
    installed = launch("--help", command=(sys.executable, "-c", script))
    assert (module.end(), module.stdout.text) == (installed.end(), installed.stdout.text)
    assert 'hotconf = "hotconf.__main__:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("words", ["--help", "show any.toml", "schema hotconf.demo.service:Demo"])
def test_a_reader_that_leaves_early_is_no_traceback(tmp_path, words):
    (tmp_path / "any.toml").write_text("a = 1\n")
    reader, writer = os.pipe()
    os.close(reader)
    command, env = [*HOTCONF, *words.split()], environment()
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=env, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


# Signals from the first moment on


def awaited_byte(process):
    process.stderr.find("#")


def interrupted(folder, signum, delay):
    """Send a signal so long after the handlers are in; None: when the configuration is read and nothing listens."""
    folder.mkdir()
    process = Demo(folder, command=SAYS_WHEN)
    try:
        awaited_byte(process)
        if delay is None:
            process.stderr.find(r"reload 1 \(start\)")
        else:
            time.sleep(delay)
        process.send(signum)
        return process.end(), process.stderr.text
    finally:
        process.kill()


def test_int_and_term_at_fifty_random_moments_of_the_start(tmp_path):
    """Before the loop: 128+N. From there on: 0, whether the start was cancelled or the service drained."""
    dice = random.Random(2)
    longest = how_long_a_start_takes(tmp_path / "measured") * 1.1
    moments = [*(dice.uniform(0, longest) for _ in range(44)), *[None] * 6]
    dice.shuffle(moments)
    cases = [
        (tmp_path / str(number), dice.choice([signal.SIGINT, signal.SIGTERM]), moment)
        for number, moment in enumerate(moments)
    ]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda case: interrupted(*case), cases))
    for (_, signum, moment), (code, stderr) in zip(cases, results, strict=True):
        assert code in ((0,) if moment is None else (0, 128 + signum)), f"{signum.name} after {moment} s\n{stderr}"
        assert "Traceback" not in stderr, f"{signum.name} after {moment} s:\n{stderr}"
    assert {0, 128 + signal.SIGINT, 128 + signal.SIGTERM} == {code for code, _ in results}


def how_long_a_start_takes(folder):
    """Seconds from the byte to ready, so that the moments lie where the start is, on any machine."""
    folder.mkdir()
    process = Demo(folder, command=SAYS_WHEN)
    try:
        awaited_byte(process)
        began = time.monotonic()
        process.ready()
        return time.monotonic() - began
    finally:
        process.kill()


def test_I7_sighup_never_kills_from_the_handlers_to_the_last_instruction(tmp_path):
    """A HUP every few milliseconds, through start, service and exit: the last ones meet a process that is gone."""
    process = Demo(tmp_path, command=SAYS_WHEN)
    try:
        awaited_byte(process)
        ready_at, deadline = None, time.monotonic() + PATIENCE
        while process.alive:
            process.send(signal.SIGHUP)
            time.sleep(0.001)
            if ready_at is None and "hotconf demo: " in process.stdout.text:
                ready_at = time.monotonic()
                process.send(signal.SIGTERM)
            assert time.monotonic() < deadline
        assert process.end() == 0
        assert "Traceback" not in process.stderr.text
        assert ready_at is not None
    finally:
        process.kill()


@pytest.mark.parametrize("words", [["--help"], ["unknown"]])
def test_I7_sighup_does_not_kill_a_verb_that_ends_by_itself(words, launch):
    process = launch(*words, command=SAYS_WHEN)
    awaited_byte(process)
    while process.alive:
        process.send(signal.SIGHUP)
        time.sleep(0.0002)
    assert process.end() == (0 if words == ["--help"] else 2)


@pytest.mark.skipif(not shutil.which("env"), reason="env is not installed")
def test_a_process_that_was_started_with_its_signals_ignored_obeys_them(tmp_path):
    """As nohup and the background of a shell start it."""
    ignoring = ("env", "--ignore-signal=HUP,INT,TERM", *HOTCONF)
    process = Demo(tmp_path, command=ignoring)
    try:
        process.ready()
        process.send(signal.SIGHUP)
        process.stderr.find(r"\(SIGHUP\): unchanged")
        process.send(signal.SIGINT)
        assert process.end() == 0
    finally:
        process.kill()


def test_a_ctrl_c_at_a_random_moment_of_the_exit_is_no_traceback(tmp_path):
    """With the drain done, what is left is the interpreter's own end, and even that is no place for a traceback."""
    dice = random.Random(3)

    def interrupted_at_the_end(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        process = Demo(folder)
        try:
            process.ready().send(signal.SIGTERM)
            process.stderr.find("drain: leases")
            time.sleep(dice.uniform(0, 0.03))
            process.send(signal.SIGINT)
            return process.end(), process.stderr.text
        finally:
            process.kill()

    with ThreadPoolExecutor(2) as pool:
        for code, stderr in pool.map(interrupted_at_the_end, range(4)):
            assert code in (0, 130)
            assert "Traceback" not in stderr


def test_a_mistyped_verb_names_the_nearest_one():
    run = subprocess.run([sys.executable, "-m", "hotconf", "chek"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "there is no verb 'chek'; did you mean 'check'?" in run.stderr
