"""The pytest plugin, in a pytest of its own; and without it pytest is not imported."""

import subprocess
import sys

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


def test_the_fixtures_last_as_long_as_their_test(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_app.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    alone = environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")  # no other plugin is needed
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_the_kit_alone_needs_no_pytest():
    script = "import sys, hotconf.testing; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
