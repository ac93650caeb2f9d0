"""`hotconf serve`: any configuration over HTTP, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from tests.cli.verbs import GOOD
from tests.support import HOTCONF, PATIENCE, environment, refuses_connections, replace, request, wait_until

ANY = "motto: plain\npin: canary\ndb:\n  password: canary\n  port: 5\n"


def port_of(process):
    return int(process.stdout.find(r"hotconf serve: http://127\.0\.0\.1:(\d+) with ")[1])


def logged(process):
    return [json.loads(line) for line in process.stderr.text.splitlines()]


def test_any_file_is_served_and_followed_with_its_secrets_masked(launch, folder):
    path = folder / "any.yaml"
    path.write_text(ANY)
    options = ("--port", "0", "--secret", "pin", "--pid-file", "pid", "--log-format", "json")
    process = launch("serve", "any.yaml", *options, cwd=folder)
    port = port_of(process)
    masked = {"motto": "plain", "pin": "**********", "db": {"password": "**********", "port": 5}}
    assert request(port, "/config").json == masked
    front = request(port, "/")
    assert (front.status, front.headers["location"]) == (302, "dashboard")
    assert request(port, "/dashboard").headers["content-type"].startswith("text/html")
    assert (folder / "pid").read_text() == f"{process.pid}\n"
    replace(path, ANY.replace("plain", "other"))
    wait_until(lambda: request(port, "/config/motto").json == "other")
    replace(path, "motto: [\n")
    wait_until(lambda: request(port, "/status").json["consecutive_failures"])
    assert request(port, "/config/motto").json == "other"
    process.send(signal.SIGHUP)
    wait_until(lambda: request(port, "/status").json["consecutive_failures"] > 1)
    assert process.terminate() == 0
    assert not (folder / "pid").exists()
    lines = logged(process)
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    reports = [line["hotconf"] for line in lines if "hotconf" in line]
    assert [report["outcome"] for report in reports] == ["applied", "applied", "rejected", "rejected"]
    assert lines[-1]["message"].startswith("drain: closing took")
    assert "canary" not in process.stderr.text + process.stdout.text


def test_a_refused_configuration_is_a_line_of_json_in_a_json_log(launch, folder):
    (folder / "app.toml").write_text("message = 5\n")
    process = launch("serve", "app:conf", "--port", "0", "--log-format", "json", cwd=folder)
    assert process.end() == 2
    (line,) = logged(process)
    assert line["level"] == "ERROR"
    assert line["message"].startswith("configuration refused: 2 faults\n")
    assert [fault["path"] for fault in line["hotconf"]["faults"]] == ["message", "database"]


def test_a_taken_port_is_a_line_of_json_in_a_json_log(launch, folder):
    (folder / "any.toml").write_text("a = 1\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        process = launch("serve", "any.toml", "--port", str(port), "--log-format", "json", cwd=folder)
        assert process.end() == 1
    assert logged(process)[-1]["level"] == "ERROR"
    reason = f"could not start: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert logged(process)[-1]["message"] == reason


def test_no_line_of_the_log_is_lost_at_the_exit_where_logging_was_imported_first(launch, folder):
    (folder / "any.toml").write_text("a = 1\n")
    script = """
import logging, os, time
write = os.write
def slowly(descriptor, data):
    if b"closing took" in data:
        time.sleep(0.6)
    return write(descriptor, data)
os.write = slowly
from hotconf.__main__ import main
main()
"""
    process = launch("serve", "any.toml", "--port", "0", command=(sys.executable, "-c", script), cwd=folder)
    port_of(process)
    assert process.terminate() == 0
    assert "drain: closing took" in process.stderr.text.splitlines()[-1]


@pytest.fixture
def full_pipe():
    """The writing end of a pipe that is full and is not read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1024))
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("stalled", ["stdout", "stderr"])
def test_a_reader_of_its_output_that_stalls_does_not_stop_the_process(folder, full_pipe, stalled):
    (folder / "any.toml").write_text("a = 1\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stalled: full_pipe}
    command = [*HOTCONF, "serve", "any.toml", "--port", str(port)]
    buffered = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(command, cwd=folder, env=buffered, **streams)
    try:
        wait_until(lambda: not refuses_connections(port))
        for generation in (2, 3):
            replace(folder / "any.toml", f"a = {generation}\n")
            wait_until(lambda: request(port, "/config/a").json == generation)  # noqa: B023 - called at once
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("words", [["bad.toml"], ["any.toml", "--unix-socket", "any.toml"]])
def test_a_start_that_fails_ends_with_an_unread_stderr(folder, full_pipe, words):
    (folder / "bad.toml").write_text("a = \n")
    (folder / "any.toml").write_text("a = 1\n")
    process = subprocess.Popen([*HOTCONF, "serve", *words], cwd=folder, env=environment(), stderr=full_pipe)
    try:
        assert process.wait(PATIENCE) in (1, 2)
    finally:
        process.kill()
        process.wait()


def test_a_socket_path_that_is_a_file_is_named_as_such(launch, folder):
    (folder / "any.toml").write_text("a = 1\n")
    (folder / "s").write_text("precious")
    process = launch("serve", "any.toml", "--unix-socket", "s", cwd=folder)
    assert process.end() == 1
    reason = "hotconf: could not start: cannot listen on unix:s: the path exists and is no socket"
    assert process.stderr.text.splitlines()[-1] == reason
    assert (folder / "s").read_text() == "precious"


def test_its_options_reach_the_configuration_and_the_server(launch, folder, verb):
    (folder / "app.toml").write_text(GOOD)
    (folder / "token").write_text("open sesame\n")
    url, token = f"unix:{folder}/s", ("--token-file", "token")
    process = launch(
        *("serve", "app:conf", "--unix-socket", "s", "--token-file", "token", "--no-watch"),
        *("--overlay", "overlay.toml", "--last-good", "good.toml", "--heartbeat", "0.1", "--max-watchers", "1"),
        cwd=folder,
    )
    process.stdout.find(r"hotconf serve: unix:s with app:conf, pid \d+\n")
    assert (folder / "s").stat().st_mode & 0o777 == 0o600
    assert verb("reload", url).code == 1  # no token
    assert verb("set", url, "message=overlaid", *token).code == 0
    assert "overlaid" in (folder / "overlay.toml").read_text()
    with stream(folder / "s", "open sesame") as file:
        while b": here" not in file.readline():
            pass
        refused = verb("watch", url, *token)
        assert (refused.code, refused.out) == (1, "")
        assert "too many" in refused.err
    (folder / "app.toml").write_text("broken")  # not watched
    assert verb("diff", url, url, *token).code == 0
    assert verb("reload", url, *token).lines[0] == "rejected at read; generation 2 stays in force"
    assert process.terminate() == 0
    again = launch("serve", "app:conf", "--unix-socket", "s", "--last-good", "good.toml", cwd=folder)
    again.stdout.find("hotconf serve: ")
    assert verb("watch", url, "nothing").code == 1
    assert again.terminate() == 0


def test_its_tokens_follow_their_files(launch, folder, verb):
    (folder / "app.toml").write_text(GOOD)
    (folder / "token").write_text("open sesame\n")
    (folder / "new").write_text("rotated\n")
    (folder / "read").write_text("just looking\n")
    url = f"unix:{folder}/s"
    process = launch(
        *("serve", "app:conf", "--unix-socket", "s", "--token-file", "token", "--read-token-file", "read"), cwd=folder
    )
    process.stdout.find("hotconf serve: ")
    assert verb("reload", url, "--token-file", "token").code == 0
    assert verb("history", url, "--token-file", "read").code == 0
    refused = verb("reload", url, "--token-file", "read")
    assert (refused.code, "this token may only read" in refused.err) == (1, True)
    (folder / "old").write_text("open sesame\n")
    (folder / "token").write_text("rotated\n")
    process.send(signal.SIGHUP)
    assert verb("reload", url, "--token-file", "new").code == 0
    assert verb("reload", url, "--token-file", "old").code == 1
    (folder / "token").write_text("")
    assert verb("reload", url, "--token-file", "new").code == 0
    assert verb("reload", url).code == 1
    assert process.terminate() == 0
    assert "token is empty: it must hold a token; the last token stays in force" in process.stderr.text


@contextlib.contextmanager
def stream(path, token):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(os.fspath(path))
        connection.send(f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        with connection.makefile("rb") as file:
            yield file


def test_it_refuses_to_start_like_any_service(launch, folder, verb):
    (folder / "app.toml").write_text("message = 5\n")
    process = launch("serve", "app:conf", "--port", "0", cwd=folder)
    assert process.end() == 2
    assert "app.toml:1:1: message: input should be a valid string" in process.stderr.text
    assert not process.stdout.text
    (folder / "app.toml").write_text(GOOD)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        process = launch("serve", "app:conf", "--port", taken.getsockname()[1], cwd=folder)
        assert process.end() == 1
    assert "Address already in use" in process.stderr.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a TARGET (module:attr), a file, or both"),
        (["app:conf", "--host", "0.0.0.0"], "that needs --token-file"),
        (["app:conf", "--overlay", "overlay.yaml"], "must be a .toml file"),
        (["app:conf", "--last-good", "app.toml"], "app.toml is a source already: it would be written over"),
        (["app:conf", "--heartbeat", "0"], "--heartbeat"),
        (["app:conf", "--heartbeat", "nan"], "--heartbeat"),
        (["app:conf", "--max-watchers", "0"], "--max-watchers"),
        (["app:conf", "--log-format", "xml"], "--log-format"),
        (["app:conf", "--token-file", "missing"], "missing"),
        (["app:conf", "--read-token-file", "missing"], "missing"),
        (["app:nothing"], "app has no 'nothing'"),
        (["http://localhost"], "is a URL"),
    ],
)
def test_unusable_arguments_are_2(verb, words, message):
    result = verb("serve", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_a_socket_whose_name_is_too_long_is_1(launch, folder):
    (folder / "app.toml").write_text(GOOD)
    process = launch("serve", "app:conf", "--unix-socket", "s" * 200, cwd=folder)
    assert process.end() == 1
    assert "Traceback" not in process.stderr.text
