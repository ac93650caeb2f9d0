"""Under uvicorn: a FastAPI application whose lifespan makes the configuration live."""

import os
import signal

import pytest

from tests.support import in_flight, request

APP = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

conf = watching() if "WATCH" in os.environ else unwatched()
started, finish = asyncio.Event(), asyncio.Event()


@conf.on_change
def changed(change):
    say(os.getpid(), "has", change.new.message)


@asynccontextmanager
async def lifespan(app):
    before = {name: signal.getsignal(getattr(signal, name)) for name in ("SIGHUP", "SIGINT", "SIGTERM")}
    async with conf.running():
        say(os.getpid(), "starts with", conf.current.message)
        yield
        finish.set()
    say("restored", before == {name: signal.getsignal(getattr(signal, name)) for name in before})


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=PlainTextResponse)
async def root():
    return conf.current.message


@app.get("/held", response_class=PlainTextResponse)
async def held():
    with conf.pin() as snapshot:
        say("held")
        await asyncio.sleep(1)
        return snapshot.settings.message
"""


WITHOUT_HOTCONF = """
async def app(scope, receive, send):
    pass
"""


def uvicorn(launch, *options, **variables):
    words = ("-m", "uvicorn", "--port", "0", "--no-access-log", *options)
    return launch(*words, scripts={"app.py": APP, "without.py": WITHOUT_HOTCONF}, **variables)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_I7_hangup_reloads_and_sigterm_stays_uvicorns(launch, loop):
    # uvicorn raises the signal again at its end; how that shows is its own business, and must not change.
    without = uvicorn(launch, "without:app", "--lifespan", "off", "--loop", loop)
    server = uvicorn(launch, "app:app", "--loop", loop).listening()
    assert server.message() == "one"

    server.write("two")
    server.hang_up()
    server.shows("two")
    server.hang_up()
    server.stderr.find(r"reload 3 \(SIGHUP\): unchanged")
    for number in range(50):  # I7
        server.hang_up()
        assert request(server.port).status == 200, number

    with in_flight(server.port, "/held") as reply:
        server.stdout.find("^held$")
        server.send(signal.SIGTERM)
        assert reply().text == "two"
    code = server.end()
    assert code == without.listening().terminate()
    assert "restored True" in server.stdout.text
    assert "Application shutdown complete" in server.stderr.text


def test_every_worker_watches_for_itself(launch):
    server = uvicorn(launch, "app:app", "--workers", "2", WATCH="1")
    first = server.stdout.find(r"^(\d+) starts with one$")
    second = server.stdout.find(r"^(\d+) starts with one$", start=first.end())
    workers = {int(first[1]), int(second[1])}

    server.write("two")
    for pid in workers:
        server.stdout.find(rf"^{pid} has two$")
    os.kill(int(first[1]), signal.SIGHUP)  # one worker's signal is its own
    server.stderr.find(rf"^{first[1]} reload \d+ \(SIGHUP\): unchanged")

    mark = len(server.stdout.text)
    server.hang_up()  # to the supervisor it means what it always meant: new workers
    third = server.stdout.find(r"^(\d+) starts with two$", start=mark)
    fourth = server.stdout.find(r"^(\d+) starts with two$", start=third.end())
    assert workers.isdisjoint({int(third[1]), int(fourth[1])})
    assert server.terminate() == 0
