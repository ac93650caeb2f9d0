"""Under uvicorn with two workers: one that is killed while the file is broken is replaced by one that serves."""

import os
import signal

import pytest

from tests.hosts.test_gunicorn import ASGI
from tests.support import wait_until


@pytest.fixture
def uvicorn(launch, tmp_path):
    def uvicorn(app=ASGI):
        words = ("-m", "uvicorn", "--port", "0", "--workers", "2", "--no-access-log", "app:app")
        return launch(*words, scripts={"app.py": app}, STATE_DIRECTORY=str(tmp_path / "state")).listening()

    return uvicorn


@pytest.mark.soak
def test_killed_workers(uvicorn, break_and_mend):
    def kill(old, users):
        for number, pid in enumerate(old):
            with users.between_requests():
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: len(users.seen["one"] - old) > number, what="a new worker")  # noqa: B023 - at once

    server = uvicorn()
    break_and_mend(server, kill)
    assert server.terminate() == 0


@pytest.mark.soak
def test_a_start_without_last_good_says_so_once(uvicorn, clients):
    server = uvicorn(ASGI.replace("last_good=True", ""))
    with clients(server.port) as users:
        workers = users.wait_for("one", set())
    assert server.terminate() == 0
    for pid in workers:
        assert server.stderr.text.count(f"{pid} a worker of uvicorn that starts while a source is broken") == 1
