"""SIGHUP: the time from `kill -HUP`, sent to an idle process, until the new settings are in force."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import companion
from benchmarks.rows import Row, Target, compared, in_turns
from benchmarks.services import Parts, replace, toml_of
from benchmarks.topics import quiet
from hotconf import HotConf, Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from hotconf import Change

KEYS = 100
WORK = f"kill -HUP → swapped, {KEYS} keys"
CALLBACK = "signal to an empty callback of asyncio"

_PATIENCE = 10.0
_REST = 0.12  # seconds between two signals: sooner ones are merged into one reload


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.toml"
        replace(path, toml_of(KEYS, 0))
        with companion(_serve_hotconf, path) as ours, companion(_serve_callback) as theirs:
            work = {"hotconf": _kill_after_write(path, *ours), CALLBACK: _kill(*theirs)}
            samples = in_turns(work, rounds=10 if quick else 80)
    return [compared(WORK, samples, CALLBACK, unit="ms", target=Target("value", 3))]


def _kill_after_write(path: Path, pid: int, connection: Connection) -> Callable[[], float]:
    kill = _kill(pid, connection)
    serials = iter(range(1, 1_000_000))

    def write_and_kill() -> float:
        replace(path, toml_of(KEYS, next(serials)))
        return kill()

    return write_and_kill


def _kill(pid: int, connection: Connection) -> Callable[[], float]:
    """Return a function that sends the signal, and returns the milliseconds until its effect."""
    _next(connection)  # the handler is installed

    def kill() -> float:
        time.sleep(_REST)
        before = time.monotonic_ns()
        os.kill(pid, signal.SIGHUP)
        return (_next(connection) - before) / 1e6

    return kill


def _next(connection: Connection) -> int:
    if not connection.poll(_PATIENCE):
        raise TimeoutError("no answer to a signal")
    moment: int = connection.recv()
    return moment


# In their own processes. The monotonic clock is the same for all of them.


def _serve_hotconf(connection: Connection, path: Path) -> None:
    quiet()
    asyncio.run(_hotconf(connection, path))


async def _hotconf(connection: Connection, path: Path) -> None:
    conf = HotConf(Parts, files=[path], options=Options(watch=False))

    @conf.on_change
    def changed(_change: Change[Parts]) -> None:
        connection.send(time.monotonic_ns())

    async with conf.running(signals=("HUP",)):
        await _until_closed(connection)


def _serve_callback(connection: Connection) -> None:
    asyncio.run(_callback(connection))


async def _callback(connection: Connection) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: connection.send(time.monotonic_ns()))
    await _until_closed(connection)


async def _until_closed(connection: Connection) -> None:
    connection.send(time.monotonic_ns())
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(connection.fileno(), closed.set)
    await closed.wait()
    asyncio.get_running_loop().remove_reader(connection.fileno())
