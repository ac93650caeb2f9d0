"""The pytest plugin, in a pytest of its own; and without it pytest is not imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import environment

CONFTEST = 'pytest_plugins = ["hotconf.testing.fixtures"]\n'
TESTS = """
import asyncio, threading
from hotconf import HotConf, Section
from hotconf.testing import FakeSource


class App(Section):
    message: str = "hello"


source = FakeSource()
conf = HotConf(App, sources=[source])


def test_live(live):
    assert live(conf) is conf
    assert conf.status.state == "ready"
    source.set({"message": "two"})
    assert conf.reload_blocking().outcome == "applied"


def test_not_live_any_more():
    assert conf.status.state == "stopped"
    assert not any(thread.name == "hotconf-engine" for thread in threading.enumerate())


def test_override(override, live):
    live(conf)
    override(conf, message="three")
    assert conf.current.message == "three"
    override(conf, message="four")
    assert conf.current.message == "four"


def test_nothing_is_overridden_any_more():
    assert conf.current.message == "two"


def test_clock(manual_clock):
    async def main():
        sleeping = asyncio.create_task(asyncio.sleep(60))
        await manual_clock.advance(60)
        assert sleeping.done()

    manual_clock.run(main())
"""


def run(folder, *words, **variables):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False, timeout=50
    )


def test_the_fixtures_last_as_long_as_their_test(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_app.py").write_text(TESTS)
    done = run(tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")  # no other plugin is needed
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


@pytest.mark.parametrize("conftest", ["", CONFTEST], ids=["found by its entry point", "named in conftest.py too"])
def test_the_plugin_is_there_where_hotconf_is_installed(tmp_path, conftest):
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_app.py").write_text(TESTS)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_the_plugin_can_be_left_out(tmp_path):
    (tmp_path / "test_app.py").write_text(TESTS)
    done = run(tmp_path, "-p", "no:hotconf.testing.fixtures", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "fixture 'live' not found" in done.stdout


def test_the_plugin_imports_nothing_before_a_fixture_is_used(tmp_path):
    (tmp_path / "test_app.py").write_text("""
import sys


def test_what_is_loaded():
    packages = {"hotconf", "pydantic", "watchfiles", "aiohttp"}
    loaded = {name for name in sys.modules if name.partition(".")[0] in packages}
    assert loaded == {"hotconf", "hotconf.testing", "hotconf.testing.fixtures"}
""")
    done = run(tmp_path, "-p", "hotconf.testing.fixtures", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 0, done.stdout


ORDERS = {"as written": [], "backwards": ["-p", "backwards"], "scattered": ["-p", "xdist", "-n", "2", "--dist", "load"]}
BACKWARDS = """
def pytest_collection_modifyitems(items):
    items.reverse()
"""

SESSION = """
import threading
from contextlib import contextmanager

import pytest
from hotconf import HotConf, Section
from hotconf.sources import Memory


class App(Section):
    url: str = "prod"


conf = HotConf(App, sources=[Memory({"url": "prod"})])
lone = HotConf(App, sources=[Memory({"url": "prod"})])


@conf.resource("url")
@contextmanager
def pool(candidate):
    yield candidate.settings.url


class Client:
    # As a TestClient does, it runs the application in a thread of its own for the whole session.

    def __enter__(self):
        self.asked, self.answered = threading.Semaphore(0), threading.Semaphore(0)
        self.ends = False
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        assert self.answered.acquire(timeout=20)
        return self

    def __exit__(self, *_):
        self.ends = True
        self.asked.release()
        self.thread.join(20)

    def serve(self):
        with conf.running(signals=()):
            self.answered.release()
            while self.asked.acquire() and not self.ends:
                with conf.pin() as snapshot:
                    self.answer = snapshot.settings.url, snapshot[pool]
                self.answered.release()

    def get(self):
        self.asked.release()
        assert self.answered.acquire(timeout=20)
        return self.answer


@pytest.fixture(scope="session")
def client():
    with Client() as client:
        yield client


def test_production(client):
    assert client.get() == ("prod", "prod")


def test_an_override(client, override):
    override(conf, url="test")
    assert client.get() == ("test", "test")


def test_production_again(client):
    assert client.get() == ("prod", "prod")


def test_two_overrides(client, override):
    override(conf, url="outer")
    override(conf, url="inner")
    assert client.get() == ("inner", "inner")


def test_an_override_loads(override):
    override(lone, url="test")
    assert lone.current.url == "test"


def test_live(live):
    assert live(lone).current.url == "prod"


def test_live_again(live, override):
    live(lone)
    live(conf)
    override(conf, url="both")
    assert (conf.current.url, lone.current.url) == ("both", "prod")
"""


@pytest.mark.parametrize("order", ORDERS)
def test_no_test_depends_on_those_before_it(tmp_path, order):
    (tmp_path / "backwards.py").write_text(BACKWARDS)
    (tmp_path / "test_app.py").write_text(SESSION)
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    words = ["-p", "hotconf.testing.fixtures", *ORDERS[order]]
    done = run(tmp_path, *words, PYTHONPATH=path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def test_the_kit_alone_needs_no_pytest():
    script = "import sys, hotconf.testing; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
