"""Watching a file: the time until its new content can be read."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import tempfile
import threading
import time
import tomllib
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from watchfiles import watch

from benchmarks.rows import Row, Target, compared, in_turns
from benchmarks.services import replace
from hotconf import HotConf, Section, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from hotconf import Change

WORK = "os.replace of a file → new value readable"
INOTIFY = "inotify, parsed and validated"
STEP_10 = "watchfiles, step=10"
DEFAULTS = "watchfiles, its defaults"

_IN_MOVED_TO = 0x80
_EVENT_BYTES = 4096
_PATIENCE = 10.0


class Server(Section):
    """A part of the settings."""

    port: int


class App(Settings):
    """The settings."""

    server: Server


class Watched:
    """A file that a watcher watches. The watcher calls `seen` when it has read a new value."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.path = folder / "app.toml"
        self.port = 1024
        self._seen = threading.Event()
        self._at = 0.0
        replace(self.path, self._text())

    def seen(self, port: int) -> None:
        """Record the time, if this is the value that was written last."""
        if port == self.port:
            self._at = time.perf_counter()
            self._seen.set()

    def change(self) -> float:
        """Replace the file, and return the milliseconds until the new value was seen."""
        time.sleep(0.03)  # the watchers are idle again
        self.port += 1
        self._seen.clear()
        beside = self.path.with_name("next")
        beside.write_text(self._text(), encoding="utf-8")
        before = time.perf_counter()
        os.replace(beside, self.path)
        if not self._seen.wait(_PATIENCE):
            raise TimeoutError(f"a change of {self.path} was not seen")
        return (self._at - before) * 1000

    def read(self) -> None:
        """Do what a program with a plain watcher has to do itself."""
        self.seen(App.model_validate(tomllib.loads(self.path.read_text(encoding="utf-8"))).server.port)

    def _text(self) -> str:
        return f"[server]\nport = {self.port}\n"


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic."""
    with tempfile.TemporaryDirectory() as name:
        return [
            *_latency_rows(Path(name), rounds=8 if quick else 40),
            _rested_row(Path(name), files=4 if quick else 10),
        ]


def _latency_rows(folder: Path, rounds: int) -> list[Row]:
    watchers = {"hotconf": _hotconf, STEP_10: _watchfiles_fast, DEFAULTS: _watchfiles_slow, INOTIFY: _inotify}
    with contextlib.ExitStack() as stack:
        files = {name: Watched(folder / str(index)) for index, name in enumerate(watchers)}
        for name, watcher in watchers.items():
            stack.enter_context(watcher(files[name]))
        samples = in_turns({name: file.change for name, file in files.items()}, rounds)
    return [
        compared(WORK, samples, STEP_10, unit="ms", target=Target("value", 20)),
        *(compared(WORK, samples, name, unit="ms") for name in (DEFAULTS, INOTIFY)),
    ]


def _rested_row(folder: Path, files: int) -> Row:
    """Change files after a pause that is longer than any watcher keeps polling fast."""
    watched = [Watched(folder / f"rested{index}") for index in range(files)]
    with contextlib.ExitStack() as stack:
        for file in watched:
            stack.enter_context(_hotconf(file))
        time.sleep(6)
        samples = [file.change() for file in watched]
    worst = f"the slowest of {files}: {max(samples):.0f} ms"
    work = f"{WORK}, after 6 s of rest"
    return Row(work, "", "ms", hotconf=median(samples), target=Target("value", 20), note=worst)


@contextlib.contextmanager
def _hotconf(file: Watched) -> Iterator[None]:
    conf = HotConf(App, files=[file.path])

    @conf.on_change
    def changed(change: Change[App]) -> None:
        file.seen(change.new.server.port)

    with conf.running(signals=()):
        yield


def _watchfiles_fast(file: Watched) -> AbstractContextManager[None]:
    return _watchfiles(file, step=10)


def _watchfiles_slow(file: Watched) -> AbstractContextManager[None]:
    return _watchfiles(file)


@contextlib.contextmanager
def _watchfiles(file: Watched, **options: Any) -> Iterator[None]:
    stop = threading.Event()

    def follow() -> None:
        for _ in watch(file.path.parent, stop_event=stop, rust_timeout=200, **options):
            file.read()

    with _thread(follow):
        yield
        stop.set()


@contextlib.contextmanager
def _inotify(file: Watched) -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(file.path.parent), _IN_MOVED_TO) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    ended = threading.Event()

    def follow() -> None:
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        while not ended.is_set():
            if ready.poll(100) and os.read(descriptor, _EVENT_BYTES):
                file.read()

    with _thread(follow):
        yield
        ended.set()
    os.close(descriptor)


@contextlib.contextmanager
def _thread(function: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=function)
    thread.start()
    try:
        yield
    finally:
        thread.join()
