"""`hotconf watch`: a part of a running process, a line a change, across its restarts."""

from __future__ import annotations

import json
import signal
import socket
import sys
from contextlib import closing

import pytest

from tests.cli.verbs import GOOD
from tests.support import refuses_connections, replace, wait_until


@pytest.fixture
def port():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return taken.getsockname()[1]


@pytest.fixture
def serve(launch, folder, port):
    """Start `hotconf serve` on one and the same port."""
    (folder / "app.toml").write_text(GOOD)

    def start():
        process = launch("serve", "app:App", "app.toml", "--port", port, cwd=folder)
        process.stdout.find("hotconf serve: ")
        return process

    return start


def test_a_line_for_each_change_of_that_part_and_of_no_other(launch, folder, serve, port):
    served = serve()
    watching = launch("watch", f"127.0.0.1:{port}", "message", cwd=folder)
    watching.stdout.find('^generation 1  message = "hi"\n')
    replace(folder / "app.toml", GOOD + "pool_size = 3\n")
    served.stderr.find("generation 2, changed: database.pool_size")
    replace(folder / "app.toml", GOOD.replace("hi", "ho"))
    watching.stdout.find('^generation 3  message = "ho"\n')
    watching.send(signal.SIGINT)
    assert watching.end() == 130
    assert watching.stdout.text.count("\n") == 2
    assert not watching.stderr.text
    assert served.terminate() == 0


def test_it_survives_a_restart_and_says_only_what_is_new(launch, folder, serve, port):
    served = serve()
    watching = launch("watch", f"http://127.0.0.1:{port}", "database", "--format", "json", cwd=folder)
    watching.stdout.find('"generation": 1')
    assert served.terminate() == 0
    watching.stderr.find(rf"cannot reach http://127\.0\.0\.1:{port}: Connection refused; trying again\n")
    assert refuses_connections(port)
    served = serve()  # the same values: nothing to be told
    replace(folder / "app.toml", GOOD + "pool_size = 3\n")
    watching.stdout.find('"pool_size": 3')
    said = len(watching.stderr.text)
    served.terminate()
    replace(folder / "app.toml", GOOD + "pool_size = 4\n")
    watching.stderr.find("trying again", start=said)
    served = serve()  # changed while it was away
    watching.stdout.find('"pool_size": 4')
    watching.send(signal.SIGTERM)
    assert watching.end() == 143
    events = [json.loads(line) for line in watching.stdout.text.splitlines()]
    assert [event["value"]["pool_size"] for event in events] == [10, 3, 4]
    assert {event["path"] for event in events} == {"database"}
    assert "canary" not in watching.stdout.text
    assert watching.stderr.text.count("trying again") == 2
    assert served.terminate() == 0


def test_the_whole_and_a_part_that_is_not_there(verb, served, monkeypatch):
    process = served()
    missing = verb("watch", process.url, "nothing")
    assert (missing.code, missing.out) == (1, "")
    assert "nothing" in missing.err
    assert verb("watch", process.url, "a..b").code == 2


def test_a_reader_that_leaves_ends_it(launch, folder, serve, port):
    served = serve()
    piped = launch(
        "-c",
        f"{sys.executable} -m hotconf watch http://127.0.0.1:{port} message | head -n 1",
        command=("bash",),
        cwd=folder,
    )
    piped.stdout.find("generation 1")
    replace(folder / "app.toml", GOOD.replace("hi", "ho"))
    wait_until(lambda: not piped.alive)
    piped.end()
    assert "Traceback" not in piped.stderr.text
    served.terminate()
