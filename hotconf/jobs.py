"""Jobs: work that recurs. A running one finishes when the process drains; none starts then."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

log = logging.getLogger("hotconf")


@dataclass(slots=True, eq=False)
class Job:
    """A function that runs every `interval` seconds, first after one interval, never twice at once.

    Times are monotonic. A run that takes longer than the interval makes the job skip the turns it missed. A sync
    function runs in a thread, so that it may block. What a run raises is logged and ends only that run.
    """

    function: Callable[[], Any]
    interval: float
    name: str
    hold: Callable[[], AbstractContextManager[Any]]
    runs: int = 0
    started: float | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Start no further run. One that is under way goes on."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until stopped, and until the last run has finished."""
        origin = time.monotonic()
        turn = 1
        while not await self._stopped_before(origin + turn * self.interval):
            await self._run_once()
            turn = max(turn, math.floor((time.monotonic() - origin) / self.interval)) + 1
        log.info("job %s: no further run, %d finished", self.name, self.runs)

    async def _stopped_before(self, moment: float) -> bool:
        try:
            async with asyncio.timeout(moment - time.monotonic()):
                await self._stopping.wait()
        except TimeoutError:
            return self._stopping.is_set()
        return True

    async def _run_once(self) -> None:
        self.started = time.monotonic()
        try:
            with self.hold():
                await _call(self.function)
        except Exception:
            log.exception("job %s raised; its next run is not affected", self.name)
        finally:
            self.started = None
        self.runs += 1


async def _call(function: Callable[[], Any]) -> None:
    if inspect.iscoroutinefunction(function):
        await function()
        return
    result = await asyncio.to_thread(function)
    if inspect.isawaitable(result):  # a partial or a callable object may hide that it is async
        await result
