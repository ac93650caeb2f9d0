"""Processes for the tests of the command: each test's own end with the test, a shared one with the file."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hotconf.cli.main import run
from hotconf.cli.target import configuration
from hotconf.process.service import Service
from hotconf.signals import SignalRouter
from hotconf.web.app import config_server
from hotconf.web.safety import Safety
from tests.cli.verbs import APP, GOOD, Result
from tests.support import HOTCONF, PATIENCE, Demo, Process


@pytest.fixture
def launch():
    """Start a command; it is killed at the end if it still runs."""
    with contextlib.ExitStack() as stack:

        def start(*words, command=HOTCONF, **options):
            process = Process([*command, *words], **options)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def demo(tmp_path):
    """Start a demo in a folder of its own, and wait until it serves."""
    with contextlib.ExitStack() as stack:

        def start(*options, ready=True, **more):
            process = Demo(tmp_path, *options, **more)
            stack.callback(process.kill)
            return process.ready() if ready else process

        yield start


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of a verb, with a settings class in `app.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "app.py").write_text(APP)
    logger = logging.getLogger("hotconf")
    before = list(logger.handlers), logger.propagate, logger.level
    yield tmp_path
    logger.handlers, logger.propagate, logger.level = before
    forget_modules(tmp_path)


def forget_modules(folder):
    """Let the next verb import what is in a folder anew, as a new process does."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def verb(folder, monkeypatch, capsys):
    """Run a verb in this process. Signals stay as they are."""

    def run_words(*words):
        monkeypatch.setattr(sys, "argv", ["hotconf", *map(str, words)])
        forget_modules(folder)
        capsys.readouterr()
        code = run(SignalRouter())
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run_words


class Served:
    """A configuration that is served by a thread of this process, so that verbs can ask it."""

    def __init__(self, conf, *, token=None, unix_socket=None):
        self.conf = conf
        self._service = Service(conf, router=SignalRouter(()))
        self._server = config_server(
            self._service, conf, safety=Safety(token=token), host="127.0.0.1", port=0, unix_socket=unix_socket
        )
        self._ready = threading.Event()
        self._service.on_ready(self._ready.set)
        self._thread = threading.Thread(target=asyncio.run, args=(self._service.serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        self.url = self._server.url

    def stop(self):
        self._service.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def served(folder):
    """Serve `app:App` with `app.toml`, which is not watched, and an overlay; `set_up` gets the HotConf before."""
    with contextlib.ExitStack() as stack:

        def start(*words, set_up=lambda conf: None, token=None, unix_socket=None, **options):
            path = folder / "app.toml"
            if not path.exists():
                path.write_text(GOOD)
            options = {"watch": False, "overlay": folder / "overlay.toml", **options}
            conf = configuration(words or ("app:App", "app.toml"), **options)
            set_up(conf)
            process = Served(conf, token=token, unix_socket=unix_socket)
            stack.callback(process.stop)
            return process

        yield start


@pytest.fixture
def stranger():
    """A server that is not hotconf's, as the class with its answers, and its URL.

    `bodies` maps a method and the first part of a path to an answer; `body` is for all others.
    """

    class Answer(BaseHTTPRequestHandler):
        status, kind, body, bodies = 200, "text/html", b"<html>hello</html>", {}

        def do_GET(self):
            name = self.path.partition("?")[0].split("/")[1]
            body = self.bodies.get((self.command, name), self.body)
            self.send_response(self.status)
            self.send_header("Content-Type", self.kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_GET  # noqa: N815 - the library's names

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield Answer, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
