"""What several test files share: real processes, a raw HTTP client, and waiting for events instead of sleeping."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 20.0
"""Seconds after which what should take milliseconds has failed, on a machine that others use too."""

HOTCONF = (sys.executable, "-m", "hotconf")


def require_tool(name):
    """The path of a program that the machine may lack. Then the test is skipped or, where all must run, fails."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # where Debian has some servers
    if path is None and os.environ.get("HOTCONF_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{name} is not installed, and here every test must run")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def wait_until(condition, timeout=PATIENCE, what="the condition"):
    """Poll until a condition holds and return its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not hold within {timeout} s"
        time.sleep(0.005)
    return value


def environment(**extra):
    """The environment of a child: this checkout first, and nothing that configures it by accident."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEMO_", "APP_", "HOTCONF"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **extra}


class Output:
    """One stream of a process, read as it comes."""

    def __init__(self, stream):
        self._stream = stream
        self._text = ""
        self._ended = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def _pump(self):
        while chunk := os.read(self._stream.fileno(), 65536):
            with self._news:
                self._text += chunk.decode(errors="replace")
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def text(self):
        return self._text

    def find(self, pattern, timeout=PATIENCE, *, start=0):
        """Wait until a pattern has appeared at or after `start`, and return the match."""
        expression = re.compile(pattern, re.MULTILINE)
        with self._news:
            self._news.wait_for(lambda: self._ended or expression.search(self._text, start), timeout)
            found = expression.search(self._text, start)
        assert found, f"{pattern!r} did not appear; got:\n{self._text}"
        return found

    def close(self):
        self._thread.join(PATIENCE)
        self._stream.close()


class Process:
    """A child process whose output can be waited for. Ends with the test, whatever happens."""

    def __init__(self, command, **options):
        options.setdefault("env", environment())
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            **options,
        )
        self.pid = self._process.pid
        self.stdout = Output(self._process.stdout)
        self.stderr = Output(self._process.stderr)

    def send(self, *signums):
        for signum in signums:
            self._process.send_signal(signum)

    @property
    def alive(self):
        return self._process.poll() is None

    def end(self, timeout=PATIENCE):
        """Wait for the end and return the exit code; negative where a signal killed it."""
        self._process.wait(timeout)
        self.stdout.close()
        self.stderr.close()
        return self._process.returncode

    def terminate(self):
        """SIGTERM, then the exit code."""
        self.send(signal.SIGTERM)
        return self.end()

    def kill(self):
        if self.alive:
            self._process.kill()
        with suppress(ValueError):
            self.end()


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


def request(port, path="/", method="GET", body=None, headers=None, timeout=PATIENCE):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        return read_reply(connection)
    finally:
        connection.close()


def read_reply(connection):
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, response.read())


@contextmanager
def in_flight(port, path):
    """Send a request, and yield a function that returns its reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        yield lambda: read_reply(connection)
    finally:
        connection.close()


def refuses_connections(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def replace(path, text):
    """Write a file as careful writers do."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


class Demo(Process):
    """`hotconf demo` on a port that the kernel chose, with a configuration file of its own."""

    def __init__(self, folder, *options, text='message = "Before hot reload"\n', command=HOTCONF, **popen):
        self.config = folder / "demo.toml"
        if not self.config.exists():
            self.config.write_text(text, encoding="utf-8")
        words = [*command, "demo", "--port", "0", "--config", self.config, *options]
        super().__init__(words, cwd=folder, **popen)

    def ready(self):
        """Wait until it serves."""
        found = self.stdout.find(r"^hotconf demo: http://\S+:(\d+) with .*, pid (\d+)$")
        self.port = int(found[1])
        assert int(found[2]) == self.pid
        return self

    def write(self, text):
        replace(self.config, text)

    def say(self, message):
        self.write(f'message = "{message}"\n')

    def get(self, path="/", **options):
        return request(self.port, path, **options)

    def message(self):
        return self.get().text

    def status(self):
        return self.get("/status").json

    def reports(self):
        """The log's lines, one for each reload."""
        return re.findall(r"reload \d+ \(.*", self.stderr.text)
