"""The pin of WSGI, and Flask."""

import re
from pathlib import Path

import pytest
from flask import Flask, Response
from werkzeug.test import Client

from hotconf import HotConf, Options, Section
from hotconf.integrations.flask import HotConfFlask, request_snapshot
from hotconf.integrations.wsgi import PinSnapshot, request_snapshot as environ_snapshot, start
from hotconf.sources import Memory


class App(Section):
    message: str = "one"


@pytest.fixture
def memory():
    return Memory({"message": "one"})


@pytest.fixture
def conf(memory):
    conf = HotConf(App, sources=[memory], options=Options(watch=False))
    with conf.running(signals=()):
        yield conf


def test_a_response_is_pinned_to_its_last_byte(conf, memory):
    events = []

    class Body:
        def __iter__(self):
            yield environ_snapshot(environs[0]).settings.message.encode()
            assert conf.leased == {1: 1}
            yield b"!"

        def close(self):
            events.append(dict(conf.leased))

    environs = []

    def app(environ, start_response):
        environs.append(environ)
        memory.set({"message": "two"})
        conf.reload_blocking(20)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body()

    answer = Client(PinSnapshot(app, conf)).get("/", buffered=True)
    assert (answer.text, answer.headers["Hotconf-Generation"]) == ("one!", "1")
    assert events == [{1: 1}]
    assert conf.leased == {}


def test_an_application_that_raises_leaves_no_lease(conf):
    def app(environ, start_response):
        raise ValueError

    with pytest.raises(ValueError):
        Client(PinSnapshot(app, conf)).get("/")
    assert conf.leased == {}


def test_a_generation_that_a_response_names_itself_is_kept(conf):
    def app(environ, start_response):
        start_response("200 OK", [("HOTCONF-Generation", "7")])
        return [b""]

    assert Client(PinSnapshot(app, conf)).get("/").headers.getlist("Hotconf-Generation") == ["7"]


def test_without_the_pin_the_error_says_what_is_missing():
    with pytest.raises(KeyError, match="put PinSnapshot around"):
        environ_snapshot({})


def test_a_live_configuration_is_not_started_again(conf):
    start(conf)
    assert conf.status.state == "ready"


def test_flask_has_one_snapshot_from_the_first_hook_to_the_last_byte(conf, memory):
    app = Flask("app")
    live = HotConfFlask(app, conf)
    seen = []

    @app.before_request
    def before():
        seen.append(live.settings.message)
        memory.set({"message": "two"})
        conf.reload_blocking(20)

    @app.after_request
    def after(response):
        seen.append(request_snapshot().settings.message)
        return response

    @app.get("/")
    def root():
        snapshot = live.snapshot
        return Response(part for part in (snapshot.settings.message, str(conf.leased)))

    answer = app.test_client().get("/", buffered=True)
    assert (answer.text, seen, conf.leased) == ("one{1: 1}", ["one", "one"], {})
    assert answer.headers["Hotconf-Generation"] == "1"


SHOP = """
from flask import Flask
from hotconf.integrations.flask import HotConfFlask

conf = HotConf(App, files=["app.toml"], options=Options(last_good=True))
app = Flask(__name__)
live = HotConfFlask(app, conf)


@app.get("/")
def root():
    return f"{os.getpid()} {live.settings.message}"


@app.cli.command()
def report():
    say(conf.status.state, conf.current.message)
"""


def flask(launch, *words):
    return launch("-m", "flask", "--app", "shop", *words, scripts={"shop.py": SHOP})


def test_flask_run_reloads_by_file_and_hangup(launch):
    server = flask(launch, "run", "--port", "0").listening(r"Running on http://127.0.0.1:(\d+)")
    assert server.message() == f"{server.pid} one"
    server.write("two")
    server.shows(f"{server.pid} two")
    server.hang_up()
    server.stderr.find(r"\(SIGHUP\): unchanged")
    server.terminate()


@pytest.mark.parametrize(
    ("command", "state"), [("report", "new one"), pytest.param("routes", "static", marks=pytest.mark.soak)]
)
def test_other_commands_start_no_engine(launch, command, state):
    program = flask(launch, command)
    assert program.end() == 0, program.stderr.text
    assert state in program.stdout.text
    assert "(start)" not in program.stderr.text


@pytest.mark.soak
@pytest.mark.parametrize("options", [("gthread",), ("gthread", "--preload")], ids=" ".join)
def test_flask_under_gunicorn_outlives_a_broken_file(launch, break_and_mend, tmp_path, options):
    words = ("-m", "gunicorn", "shop:app", "--bind", "127.0.0.1:0", "--workers", "2", "--no-control-socket")
    state = str(tmp_path / "state")
    server = launch(*words, "--worker-class", *options, scripts={"shop.py": SHOP}, STATE_DIRECTORY=state).listening()
    said = r"\(resume\): rejected" if "--preload" in options else "started from the last known good"
    break_and_mend(server, lambda _old, _users: server.hang_up(), said=said)
    assert server.terminate() == 0
    assert "Traceback" not in server.stderr.text


def test_the_page_adopts_it_in_six_lines():
    page = (Path(__file__).parents[2] / "docs/hosts/flask.md").read_text("utf-8")
    recipe = page.partition("```python\n")[2].partition("```")[0]
    assert len(re.findall(r"^.*\b(?:conf|live|HotConf\w*)\b.*$", recipe, re.MULTILINE)) <= 6
