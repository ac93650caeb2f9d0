"""Work in processes of its own, where memory, signals or CPU time must not be shared."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

T = TypeVar("T")

_SPAWN = multiprocessing.get_context("spawn")


def alone(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function of a module in a fresh process, and return what it returns."""
    return started(function, *arguments).result()


def started(function: Callable[..., T], *arguments: Any) -> Future[T]:
    """Start a function of a module in a fresh process, which ends with it."""
    pool = ProcessPoolExecutor(1, mp_context=_SPAWN)
    future = pool.submit(function, *arguments)
    pool.shutdown(wait=False)
    return future


@contextlib.contextmanager
def companion(function: Callable[..., None], *arguments: Any) -> Iterator[tuple[int, Connection]]:
    """Run `function(connection, *arguments)` beside the block, in a fresh process: its id, and our end of the pipe.

    It is expected to end when the pipe is closed, and is terminated otherwise.
    """
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=function, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield process.pid or 0, ours
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def resident() -> int:
    """Return this process's resident memory, in KiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4


def cpu_time(pid: int) -> float:
    """Return the processor time that another process has used, in seconds."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), which Python does not have
