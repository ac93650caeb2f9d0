"""What the tests in other people's processes share: a configuration, and processes that are gone after each test."""

import os
import signal
import sys
from contextlib import suppress

import pytest

from tests.support import Process, environment, replace, request, wait_until

PRELUDE = """
import asyncio, logging, os, signal, sys, threading, time
logging.basicConfig(level=logging.INFO, format="%(process)d %(message)s")

from hotconf import HotConf, Options, Settings


class App(Settings):
    message: str = "default"


def watching():
    return HotConf(App, files=["app.toml"])


def unwatched(file="app.toml"):
    return HotConf(App, files=[file], options=Options(watch=False))


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def hangup_is(handler):
    return signal.getsignal(signal.SIGHUP) == handler
"""


class Host(Process):
    """A process of another program, in a folder with an app.toml."""

    def __init__(self, folder, *command, **variables):
        # A session of its own: no terminal that could hang up, and `kill` reaches its workers.
        super().__init__(command, cwd=folder, env=environment(**variables), start_new_session=True)
        self.config = folder / "app.toml"

    def listening(self, pattern=r"(?:running on|Listening at:) http://127\.0\.0\.1:(\d+)"):
        """Wait until it serves."""
        self.port = int(self.stderr.find(pattern)[1])
        return self

    def write(self, message):
        replace(self.config, f'message = "{message}"\n')

    def message(self):
        return request(self.port).text

    def shows(self, message):
        wait_until(lambda: self.message() == message, what=f"message {message!r}")

    def hang_up(self, pid=None):
        os.kill(pid or self.pid, signal.SIGHUP)

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        super().kill()


@pytest.fixture
def launch(tmp_path):
    """Start a command as a Host, with `scripts` next to it, after a prelude."""
    hosts = []
    replace(tmp_path / "app.toml", 'message = "one"\n')

    def launch(*command, scripts=None, **variables):
        for name, text in (scripts or {}).items():
            (tmp_path / name).write_text(PRELUDE + text, encoding="utf-8")
        hosts.append(Host(tmp_path, sys.executable, *command, **variables))
        return hosts[-1]

    yield launch
    for host in hosts:
        host.kill()


@pytest.fixture
def run(launch):
    """Run a script to its end, which must be clean. Return its lines on stdout and its log."""

    def run(script):
        host = launch("script.py", scripts={"script.py": script})
        code = host.end()
        assert code == 0, host.stderr.text
        assert "Traceback" not in host.stderr.text, host.stderr.text
        return host.stdout.text.splitlines(), host.stderr.text

    return run
