"""The examples: each is a short program, run here in a folder of its own."""

import asyncio
import contextlib
import json
import re
import shutil
import sqlite3
import ssl
import subprocess
import sys

import pytest

from hotconf.testing.conformance import SourceConformance
from tests.support import ROOT, Process, environment, replace, request, require_tool, wait_until

EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


class Example(Process):
    """One example, run in a folder with a copy of its files."""

    def __init__(self, folder, name, *command, **variables):
        for path in EXAMPLES.glob(f"{name}.*"):
            shutil.copy(path, folder)
        self.config = folder / f"{name}.toml"
        super().__init__(command or (sys.executable, f"{name}.py"), cwd=folder, env=environment(**variables))

    def edit(self, old, new):
        text = self.config.read_text()
        assert old in text
        replace(self.config, text.replace(old, new))

    def serving(self, pattern):
        """Wait until it serves."""
        found = wait_until(lambda: re.search(pattern, self.stdout.text + self.stderr.text), what="an address")
        self.port = int(found[1])

    def shows(self, path, text):
        wait_until(lambda: text in request(self.port, path).text, what=f"{text!r} at {path}")


@pytest.fixture
def run(tmp_path):
    """Start an example; it is gone when the test ends."""
    with contextlib.ExitStack() as processes:

        def run(name, *command, **variables):
            example = Example(tmp_path, name, *command, **variables)
            processes.callback(example.kill)
            return example

        yield run


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_is_short_explains_itself_and_has_a_test(program):
    text = program.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    assert text.startswith('"""')
    assert f'run("{program.stem}"' in (ROOT / "tests/test_example_programs.py").read_text()


def test_minimal(run):
    example = run("minimal")
    example.stdout.find("^Hello$")
    example.edit("Hello", "Good evening")
    example.stdout.find("^Good evening$")
    replace(example.config, "message = [")
    example.stderr.find(r"WARNING reload 3 \(file\): rejected, generation 2 stays in force: \S+minimal.toml:1:12: ")
    assert example.terminate() == 0


def test_aiohttp_service(run):
    refused = run("aiohttp_service", SHOP_PORT="many")
    assert refused.end() == 2
    assert "Traceback" not in refused.stderr.text
    example = run("aiohttp_service", SHOP_PORT="0")
    example.serving(r"serving on http://127.0.0.1:(\d+)")
    example.shows("/price/100", "119.00 EUR")
    example.edit("0.19", "0.21")
    example.shows("/price/100", "121.00 EUR")
    assert request(example.port, "/admin/config/tax").json == 0.21
    example.edit("0.21", "21")
    reply = request(example.port, "/admin/reload", "POST")
    assert reply.status == 422
    assert [fault["path"] for fault in reply.json["faults"]] == ["tax"]
    assert request(example.port, "/price/100").text == "121.00 EUR"
    assert example.terminate() == 0


def test_fastapi_service(run):
    example = run("fastapi_service", sys.executable, "-m", "uvicorn", "--port", "0", "fastapi_service:app")
    example.serving(r"running on http://127.0.0.1:(\d+)")
    assert request(example.port, "/hello/Ada").json == "Hello, Ada!"
    example.edit("Hello", "Good evening")
    example.shows("/hello/Ada", "Good evening, Ada!")
    assert request(example.port, "/hotconf/status").json["generation"] == 2
    assert request(example.port, "/timeout").json == 5.0
    replace(example.config, "timeout = 7.5")
    example.shows("/timeout", "7.5")
    example.terminate()  # uvicorn's own exit code: it raises the signal again
    example.stderr.text.index("Application shutdown complete")


def test_tls_service(run, tmp_path):
    openssl = require_tool("openssl")

    def renew(name):
        command = f"{openssl} req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -keyout key.pem -out cert.pem"
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)

    def presented():
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", example.port)))

    renew("first.example")
    example = run("tls_service", APP_PORT="0")
    example.serving(r"serving on https://127.0.0.1:(\d+)")
    assert b"first.example" in presented()
    renew("second.example")
    wait_until(lambda: b"second.example" in presented(), what="the renewed certificate")
    (tmp_path / "cert.pem").write_text("no certificate")
    example.stderr.find("rejected")
    assert b"second.example" in presented()
    assert example.terminate() == 0


def test_threaded_worker(run):
    example = run("threaded_worker")
    example.stderr.find("^INFO 2 workers$")
    example.edit("rate = 10.0", "rate = 500.0")
    example.stderr.find("^INFO job 20$")
    example.edit("workers = 2", "workers = 5")
    example.stderr.find("^INFO 5 workers$")
    example.edit("workers = 5", "workers = 1")
    example.edit('"job"', '"task"')
    example.stderr.find(r"^INFO task 1\d\d$")
    assert example.terminate() == 0
    done = [int(number) for number in re.findall(r"^INFO (?:job|task) (\d+)$", example.stderr.text, re.MULTILINE)]
    assert sorted(done) == list(range(1, len(done) + 1))  # each once, and those in hand were finished


def test_two_phase_pool(run):
    example = run("two_phase_pool")
    assert example.end() == 0, example.stderr.text
    seen = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", example.stdout.text)}
    assert (seen["applied"], seen["rejected"]) == (24, 6)
    assert seen["opened"] == seen["closed"] == 25
    assert seen["right"] > 100
    assert "wrong" not in seen


def test_logging_levels(run):
    example = run("logging_levels")
    example.stderr.find("^INFO shop.orders: an order$")
    assert "DEBUG" not in example.stderr.text
    example.edit('"hotconf" = "INFO"', '"hotconf" = "INFO"\n"shop.orders" = "DEBUG"')
    example.stderr.find("^DEBUG shop.orders: looking for the customer$")
    example.edit('"shop.orders" = "DEBUG"', "")
    quiet = example.stderr.find(r"^INFO hotconf: reload 3 \(file\): applied")
    example.stderr.find("^INFO shop.orders: an order$", start=quiet.end())
    assert "DEBUG" not in example.stderr.text[quiet.end() :]
    assert example.terminate() == 0


def test_custom_source(run, tmp_path):
    example = run("custom_source")
    example.stdout.find("^Good day$")
    store(tmp_path / "custom_source.db", {"message": "Good evening"})
    example.stdout.find("^Good evening$")
    assert example.terminate() == 0


def store(path, values):
    """Make a database hold exactly these values."""
    rows = [(key, json.dumps(value)) for key, value in flat(values)]
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT)")
        database.execute("DELETE FROM settings")
        database.executemany("INSERT INTO settings VALUES (?, ?)", rows)


def flat(values, *above):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, *above, key)
        else:
            yield ".".join((*above, key)), value


class TestCustomSource(SourceConformance):
    """The source of the example keeps the contract."""

    @pytest.fixture(autouse=True)
    def database(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(EXAMPLES)
        self.path = tmp_path / "settings.db"

    def make(self, *, required):
        import custom_source

        return custom_source.Table(self.path, required=required, poll=0.01)

    def write(self, values):
        if self.path.exists() and not self.path.read_bytes().startswith(b"SQLite"):
            self.path.unlink()
        store(self.path, values)

    def corrupt(self):
        self.path.write_bytes(b"no database" * 100)

    def remove(self):
        self.path.unlink()

    def test_a_value_that_is_not_json_is_named_and_not_quoted(self):
        self.write({"name": "one"})
        with contextlib.closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE settings SET value = 'hunter2'")
        with pytest.raises(Exception, match="name: is not JSON") as raised:
            asyncio.run(self.make(required=True).read())
        assert "hunter2" not in str(raised.value)
