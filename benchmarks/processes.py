"""Work in separate processes, where memory, signals or processor time must not be shared."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

T = TypeVar("T")

_SPAWN = multiprocessing.get_context("spawn")


class Alone(Generic[T]):
    """A function of a module that runs in a new process."""

    def __init__(self, function: Callable[..., T], *arguments: Any) -> None:
        self._answer, theirs = _SPAWN.Pipe(duplex=False)
        self._process = _SPAWN.Process(target=_answer, args=(theirs, function, arguments))
        self._process.start()
        theirs.close()

    def result(self) -> T:
        """Return the result of the function. Raises RuntimeError if it raised; the traceback is on stderr."""
        try:
            answer: T = self._answer.recv()
        except EOFError:
            raise RuntimeError("a measurement failed, see above") from None
        finally:
            self._process.join()
        return answer


def _answer(connection: Connection, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    connection.send(function(*arguments))


@contextlib.contextmanager
def companion(function: Callable[..., None], *arguments: Any) -> Iterator[tuple[int, Connection]]:
    """Run `function(connection, *arguments)` beside the block, in a fresh process: its id, and our end of the pipe.

    It is expected to end when the pipe is closed, and is killed otherwise.
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
