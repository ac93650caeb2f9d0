"""Jobs, which recur, and tasks, which last. In a drain a run in flight finishes, and no further run starts."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hotconf.reload.subscribers import being_cancelled, system_exit_as_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager

log = logging.getLogger("hotconf")


@dataclass(slots=True, eq=False)
class Job:
    """A function that runs every `interval` seconds, for the first time after one interval, and never twice at once.

    The schedule goes by the event loop's clock. A run that is longer than the interval skips the turns that it misses.
    What a run raises is logged and ends that run alone; `sys.exit()` ends the job.

    Attributes:
        hold: Returns a context manager that is entered for the time of each run.
        jitter: Seconds by which each run is delayed at most, at random.
        runs: How many runs have ended, in whatever way.
        started: When the run in flight began, on the monotonic clock; None between two runs.
    """

    function: Callable[[], Any]
    interval: float
    name: str
    hold: Callable[[], AbstractContextManager[Any]]
    jitter: float = 0.0
    runs: int = 0
    started: float | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Start no further run. A run in flight goes on."""
        if self.started is not None:
            log.info("job %s: waiting for a run of %.1f s so far", self.name, time.monotonic() - self.started)
        self._stopping.set()

    async def run(self) -> None:
        """Run until stopped, and until the last run has finished."""
        clock = asyncio.get_running_loop().time
        origin = clock()
        turn = 1
        while not await self._stopped_before(origin + turn * self.interval + random.uniform(0, self.jitter)):  # noqa: S311
            await self._run_once()
            turn = max(turn, math.floor((clock() - origin) / self.interval)) + 1
        log.info("job %s: no further run, %d finished", self.name, self.runs)

    async def _stopped_before(self, moment: float) -> bool:
        try:
            async with asyncio.timeout_at(moment):
                await self._stopping.wait()
        except TimeoutError:
            return self._stopping.is_set()
        return True

    async def _run_once(self) -> None:
        self.started = time.monotonic()
        try:
            with self.hold():
                await _call(self.function)
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            log.exception("job %s awaited something that was cancelled; its next run is not affected", self.name)
        except Exception:
            log.exception("job %s raised; its next run is not affected", self.name)
        finally:
            self.started = None
        self.runs += 1


@dataclass(slots=True, eq=False)
class Work:
    """A task of a service: a long-running function, or the loop of a job."""

    function: Callable[[], Coroutine[Any, Any, Any]]
    name: str
    job: Job | None = None
    task: asyncio.Task[Any] | None = None
    started: float = 0.0

    def start(self) -> asyncio.Task[Any]:
        """Start it in the running loop, and return its task."""
        self.started = time.monotonic()
        self.task = asyncio.create_task(self._run(), name=self.name)
        return self.task

    async def _run(self) -> None:
        with system_exit_as_error():
            await self.function()

    @property
    def in_flight(self) -> bool:
        """Whether ending it now would lose work. A job between two runs has none to lose."""
        if self.task is None or self.task.done():
            return False
        return self.job is None or self.job.started is not None

    def __str__(self) -> str:
        since = self.job.started if self.job and self.job.started else self.started
        return f"{self.name} ({time.monotonic() - since:.1f} s)"


async def _call(function: Callable[[], Any]) -> None:
    if inspect.iscoroutinefunction(function):
        await function()
        return
    # In a thread of its own: the loop's default threads are few, reloads read in them, and this one may block.
    thread = ThreadPoolExecutor(1, thread_name_prefix="hotconf-job")
    try:
        result = await asyncio.get_running_loop().run_in_executor(thread, contextvars.copy_context().run, function)
    finally:
        thread.shutdown(wait=False)
    if inspect.isawaitable(result):  # a callable object can hide that it is async
        await result
