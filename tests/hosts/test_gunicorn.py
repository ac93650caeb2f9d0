"""Under gunicorn with the recipe of docs/library.md: a worker that is born while the file is broken serves."""

import os
import signal

import pytest

WSGI = """
conf = HotConf(App, files=["app.toml"], options=Options(last_good=True))


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {conf.current.message}".encode()]
"""

ASGI = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

conf = HotConf(App, files=["app.toml"], options=Options(last_good=True))


@asynccontextmanager
async def lifespan(_app):
    async with conf.running():
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=PlainTextResponse)
async def root():
    return f"{os.getpid()} {conf.current.message}"
"""

RECIPE = """
def post_worker_init(worker):
    from app import conf

    conf.start()


def worker_exit(server, worker):
    from app import conf

    conf.stop()
"""


@pytest.fixture
def gunicorn(launch, tmp_path):
    def gunicorn(*options, app=WSGI, recipe=RECIPE):
        words = ("-m", "gunicorn", "app:app", "--bind", "127.0.0.1:0", "--workers", "2", "--no-control-socket")
        scripts = {"app.py": app, "gunicorn.conf.py": recipe}
        return launch(*words, *options, scripts=scripts, STATE_DIRECTORY=str(tmp_path / "state")).listening()

    return gunicorn


def hang_up(server):
    """SIGHUP to the master: it starts new workers, and ends the old ones."""
    return lambda _old, _users: server.hang_up()


def test_workers_that_end_after_some_requests(gunicorn, break_and_mend):
    server = gunicorn("--worker-class", "sync", "--max-requests", "5", "--max-requests-jitter", "5")
    break_and_mend(server, lambda _old, _users: None)
    assert server.terminate() == 0
    assert "Traceback" not in server.stderr.text


@pytest.mark.soak
@pytest.mark.parametrize(
    "options",
    [
        ("--worker-class", "sync"),
        ("--worker-class", "gthread", "--threads", "4"),
        ("--worker-class", "gthread", "--max-requests", "5"),
        ("--worker-class", "sync", "--preload"),
    ],
    ids=" ".join,
)
def test_a_hangup_to_the_master(gunicorn, break_and_mend, options):
    server = gunicorn(*options)
    break_and_mend(server, hang_up(server))
    assert server.terminate() == 0
    assert "Traceback" not in server.stderr.text


@pytest.mark.soak
@pytest.mark.parametrize("worker", ["uvicorn.workers.UvicornWorker", "asgi"])
def test_asgi_workers(gunicorn, break_and_mend, worker):
    server = gunicorn("--worker-class", worker, app=ASGI, recipe="")
    break_and_mend(server, hang_up(server), may_reset=True)
    assert server.terminate() == 0


@pytest.mark.soak
@pytest.mark.parametrize("options", [("gthread",), ("sync", "--preload")], ids=" ".join)
def test_a_worker_reloads_on_its_own_sighup(gunicorn, clients, options):
    server = gunicorn("--worker-class", *options)
    with clients(server.port) as users:
        workers = users.wait_for("one", set())
        for pid in workers:
            os.kill(pid, signal.SIGHUP)
            server.stderr.find(rf"^{pid} reload \d+ \(SIGHUP\): unchanged")
    assert users.failures == []
    assert server.terminate() == 0


@pytest.mark.soak
def test_a_hangup_to_the_master_brings_new_code(gunicorn, clients, tmp_path):
    """The recipe imports the application in the worker: an import in the master would keep the old code for ever."""
    server = gunicorn()
    with clients(server.port) as users:
        old = users.wait_for("one", set())
        (tmp_path / "app.py").write_text((tmp_path / "app.py").read_text().replace("{conf", "new {conf"))
        server.hang_up()
        users.wait_for("new one", old)
    assert users.failures == []
    assert server.terminate() == 0


@pytest.mark.soak
def test_a_start_without_last_good_says_so_once(gunicorn, clients):
    server = gunicorn(app=WSGI.replace("last_good=True", ""))
    with clients(server.port) as users:
        workers = users.wait_for("one", set())
    assert server.terminate() == 0
    for pid in workers:
        assert server.stderr.text.count(f"{pid} a worker of gunicorn that starts while a source is broken") == 1
