"""Jobs: work that recurs. A running one finishes when the process drains; none starts then. And tasks, which last."""

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
    """A function that runs every `interval` seconds, first after one interval, never twice at once.

    Turns go by the event loop's clock. A run that takes longer than the interval makes the job skip the turns it
    missed. A sync function runs in a thread of its own, so that it may block for as long as it takes. What a run raises
    is logged and ends only that run; `sys.exit()` ends the job.
    `jitter` puts each run off by up to so many seconds. `runs` counts those that ended, whatever came of them;
    `started` (monotonic) is when the one under way began, None between two.
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
        """Start no further run. One that is under way goes on."""
        if self.started is not None:
            log.info("job %s: its run of %.1f s so far goes on to its end", self.name, time.monotonic() - self.started)
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
    """What runs as a task of a service: a long-running one, or the turns of a job."""

    function: Callable[[], Coroutine[Any, Any, Any]]
    name: str
    job: Job | None = None
    task: asyncio.Task[Any] | None = None
    started: float = 0.0

    def start(self) -> None:
        """Start it, in the running loop."""
        self.started = time.monotonic()
        self.task = asyncio.create_task(self._live(), name=self.name)

    async def _live(self) -> None:
        with system_exit_as_error():
            await self.function()

    @property
    def under_way(self) -> bool:
        """Whether anything would be lost by ending it now: a job between two runs loses nothing."""
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
    result = await _in_thread(function)
    if inspect.isawaitable(result):  # a callable object may hide that it is async
        await result


async def _in_thread(function: Callable[[], Any]) -> Any:
    # Not in one of the loop's own threads: those are few, and reloads read in them.
    thread = ThreadPoolExecutor(1, thread_name_prefix="hotconf-job")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, contextvars.copy_context().run, function)
    finally:
        thread.shutdown(wait=False)
