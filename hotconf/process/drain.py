"""The drain: the order in which a process lets go, and the one budget that bounds it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotconf.reload.subscribers import being_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from hotconf.abc import Server

log = logging.getLogger("hotconf")

CLOSING = 3.0
"""Seconds after the grace period in which resources close, at the least. Together they bound the whole."""

CUT = 1.0
"""Seconds of them that cancelled work has to end, and the last ones for the interpreter to exit by itself."""


@dataclass(slots=True, eq=False)
class DrainFlag:
    """Whether the process drains. True or false at once, and something to wait for in the service's loop."""

    _event: asyncio.Event

    def __bool__(self) -> bool:
        return self._event.is_set()

    def is_set(self) -> bool:
        """Whether the drain has begun."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return when the drain begins."""
        await self._event.wait()


@dataclass(frozen=True, slots=True)
class Budget:
    """The time that a drain has, on the loop's clock: T is the first signal."""

    began: float
    delay: float
    grace: float
    closing: float = CLOSING

    @property
    def deadline(self) -> float:
        """When what remains is cut."""
        return self.began + self.grace

    @property
    def serves_until(self) -> float:
        """When servers stop accepting. The delay counts towards the grace period."""
        return self.began + min(self.delay, self.grace)

    def closed_by(self, now: float) -> float:
        """When servers and resources that begin to close now are cut, however much of the grace period is left."""
        return min(now + self.closing, self.end - CUT)

    @property
    def end(self) -> float:
        """When the process ends, whatever is left."""
        return self.deadline + self.closing


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Log one step of the drain with the time it took."""
    started = time.monotonic()
    yield
    log.info("drain: %s took %.2f s", name, time.monotonic() - started)


async def until(condition: Callable[[], bool], deadline: float, *, interval: float = 0.02) -> bool:
    """Wait until a condition holds; False at the deadline, on the loop's clock."""
    clock = asyncio.get_running_loop().time
    while not condition():
        if clock() >= deadline:
            return False
        await asyncio.sleep(min(interval, max(0.0, deadline - clock())))
    return True


async def bounded(work: Awaitable[object], deadline: float, what: str) -> bool:
    """Await a last step, and go on without it at the deadline or when it raises: the exit must not depend on it.

    Return False where the deadline cut it. What it awaited may have been cancelled: then it raised, like any other.
    """
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            await work
    except (Exception, asyncio.CancelledError):
        if being_cancelled():
            raise
        if limit.expired():
            log.error("drain: %s did not finish in time", what)  # noqa: TRY400 - a stack would show only this line
            return False
        log.exception("drain: %s raised", what)
    return True


async def drained(server: Server, budget: Budget) -> Iterable[str]:
    """Drain one server and return what it cut. One that breaks, or breaks its promise to end, is cut itself."""
    limit = asyncio.timeout_at(budget.deadline + 1.5 * CUT)
    try:
        with step(server.name):
            async with limit:
                return await server.drain(deadline=budget.deadline)
    except (Exception, asyncio.CancelledError):
        if being_cancelled():
            raise
        log.exception("drain: %s %s", server.name, "did not finish in time" if limit.expired() else "raised")
        return (server.name,)
