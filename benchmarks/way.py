"""The way of a reload through the code: which functions run, in how many files. Run it: `python -m benchmarks.way`.

One SIGHUP that changes a value, from the signal to the swap, and one PATCH over HTTP, from the request to the response.
Counted are the named functions of hotconf that a profiler sees, each once. The figures say where to look; they are no
targets.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import hotconf
from hotconf import HotConf, Options, Section, Settings
from hotconf.web import Server, config_app

if TYPE_CHECKING:
    from types import CodeType

PACKAGE = str(Path(hotconf.__file__).parent) + os.sep


class Database(Section):
    url: str = "db://one"
    pool_size: int = 10


class App(Settings):
    message: str = "hello"
    database: Database = Database()


class Way:
    """Records the functions of hotconf that are called while it is entered, in every thread.

    Made before the threads are, since Python 3.11 profiles only threads that start later.
    """

    def __init__(self) -> None:
        self.seen: dict[CodeType, None] = {}
        self._is_entered = False
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def __enter__(self) -> Self:
        self._is_entered = True
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_entered = False

    def _note(self, frame: Any, event: str, _argument: object) -> None:
        code = frame.f_code
        if self._is_entered and event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name[0] != "<":
            self.seen.setdefault(code)

    def __str__(self) -> str:
        files = {code.co_filename for code in self.seen}
        lines = [
            f"{code.co_filename.removeprefix(PACKAGE)}:{code.co_firstlineno} {code.co_qualname}" for code in self.seen
        ]
        return "\n".join([*lines, f"{len(self.seen)} functions in {len(files)} files"])


async def _sighup(folder: Path, way: Way) -> None:
    file = folder / "app.toml"
    file.write_text('message = "one"\n')
    conf = HotConf(App, files=[file], options=Options(watch=False))
    swapped = asyncio.Event()
    async with conf.running():
        conf.on_change("message")(lambda _change: swapped.set())
        file.write_text('message = "two"\n')
        with way:
            os.kill(os.getpid(), signal.SIGHUP)
            await swapped.wait()


async def _patch(folder: Path, way: Way) -> None:
    conf = HotConf(App, options=Options(watch=False, overlay=folder / "overlay.toml"))
    server = Server(config_app(conf), host="127.0.0.1", port=0)
    async with conf.running(signals=()):
        await server.start()
        try:
            headers = {"Content-Type": "application/json", "If-Match": "*"}
            body = json.dumps({"message": "patched"}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{server.port}/config", body, headers, method="PATCH")
            with way:
                await asyncio.to_thread(_send, request)
        finally:
            await server.stop()


def _send(request: urllib.request.Request) -> None:
    with urllib.request.urlopen(request, timeout=30) as response:
        response.read()


def main() -> None:
    """Print both ways."""
    for title, walk in (("SIGHUP to swap", _sighup), ("PATCH to response", _patch)):
        way = Way()
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(walk(Path(folder), way))
        print(f"--- {title} ---", way, sep="\n")


if __name__ == "__main__":
    main()
