"""Under gunicorn: the master's signals are its own, each worker has a configuration that is live in it."""

import re

import pytest

from tests.support import wait_until

CONF = """
conf = watching()


@conf.on_change
def changed(change):
    say(os.getpid(), "has", change.new.message)
"""

WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [conf.current.message.encode()]
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        async with conf.running(signals=()):
            say(os.getpid(), "starts with", conf.current.message)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        say(os.getpid(), "left")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": conf.current.message.encode()})
"""

ENTERED_ON_IMPORT = """
live = conf.running(signals=())
live.__enter__()
say(os.getpid(), "starts with", conf.current.message)
"""

HOOKS = """
import app


def post_fork(server, worker):
    worker.live = app.conf.running(signals=())
    worker.live.__enter__()
    say(os.getpid(), "starts with", app.conf.current.message)


def worker_exit(server, worker):
    worker.live.__exit__(None, None, None)
    say(os.getpid(), "left", app.conf.status.state)
"""

NO_HOOKS = ""


def gunicorn(launch, app, hooks, *options):
    words = ("-m", "gunicorn", "app:app", "--bind", "127.0.0.1:0", "--workers", "2", "--config", "gunicorn.conf.py")
    scripts = {"app.py": app, "gunicorn.conf.py": "import sys\nsys.path.insert(0, '.')\n" + hooks}
    return launch(*words, "--no-control-socket", *options, scripts=scripts).listening()


def started(server, message):
    """The workers that began with a message."""
    return {int(pid) for pid in re.findall(rf"^(\d+) starts with {message}$", server.stdout.text, re.MULTILINE)}


def two_started(server, message):
    wait_until(lambda: len(started(server, message)) == 2, what=f"two workers with {message!r}")
    return started(server, message)


def check(server):
    workers = two_started(server, "one")
    server.write("two")
    for pid in workers:
        server.stdout.find(rf"^{pid} has two$")
    assert server.message() == "two"

    server.hang_up()  # to the master: new workers, as always
    server.stderr.find("Handling signal: hup")
    assert workers.isdisjoint(two_started(server, "two"))
    server.shows("two")
    assert server.terminate() == 0
    assert "Traceback" not in server.stderr.text, server.stderr.text


def test_threaded_engine_entered_after_the_fork(launch):
    server = gunicorn(launch, CONF + WSGI, HOOKS, "--worker-class", "sync")
    check(server)
    assert server.stdout.text.count("left stopped") == 4


def test_threaded_engine_entered_by_the_application(launch):
    check(gunicorn(launch, CONF + ENTERED_ON_IMPORT + WSGI, NO_HOOKS, "--worker-class", "gthread"))


def test_live_in_the_master_and_entered_anew_in_each_worker(launch):
    app = CONF + ENTERED_ON_IMPORT.replace("starts with", "imported") + WSGI
    server = gunicorn(launch, app, HOOKS, "--preload")
    workers = two_started(server, "one")
    server.write("two")
    for pid in {*workers, server.pid}:
        server.stdout.find(rf"^{pid} has two$")
    assert server.terminate() == 0


@pytest.mark.parametrize("worker", ["uvicorn.workers.UvicornWorker", "asgi"])
def test_asgi_workers_use_their_lifespan(launch, worker):
    server = gunicorn(launch, CONF + ASGI, NO_HOOKS, "--worker-class", worker)
    check(server)


def test_I7_a_worker_that_routes_sighup_reloads_on_it(launch):
    app = CONF.replace("watching()", "unwatched()") + ENTERED_ON_IMPORT.replace("signals=()", "") + WSGI
    server = gunicorn(launch, app, NO_HOOKS, "--worker-class", "gthread")
    pid = min(two_started(server, "one"))
    server.write("two")
    server.hang_up(pid)
    server.stdout.find(rf"^{pid} has two$")
    assert server.terminate() == 0
