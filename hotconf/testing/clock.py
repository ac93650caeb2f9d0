"""A clock that stands still until a test moves it: schedules, timeouts and delays without a second of waiting."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor
    from contextvars import Context

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ManualClock:
    """The time of an event loop. It passes when `advance` is awaited, and only then.

    What asks the loop for the time obeys it: `asyncio.sleep` and `timeout`, a service's jobs and drain, every limit of
    hotconf that runs in the loop. What asks the system does not: files, threads of one's own, `time.monotonic`.
    Network and threads still work, and take the time that they take.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._loop: _Loop | None = None

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self._now

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Do what `asyncio.run` does, by this clock."""
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(main)

    async def advance(self, seconds: float = 0.0) -> None:
        """Let time pass. Whatever falls due does so in order, each thing at its own moment.

        Returns when nobody has anything left to do but to wait: calls of `asyncio.to_thread` have come back. So zero
        seconds lets everything settle. Must be awaited inside `run`, by one task at a time.
        """
        loop = self._loop
        if loop is None or loop is not asyncio.get_running_loop():
            raise RuntimeError("time passes in the loop of this clock: await advance() inside run()")
        end = self._now + seconds
        await loop.idle()
        while (due := loop.next_due()) is not None and due <= end:
            self._now = max(self._now, due)
            await loop.idle()
        self._now = end

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = _Loop(self)
        return self._loop


class _Loop(asyncio.SelectorEventLoop):
    """An event loop by a clock of ours, which knows what is due next and when there is nothing left to do."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._in_threads = 0
        self._quiet: asyncio.Future[None] | None = None
        super().__init__(_Selector(self._rest))

    def time(self) -> float:
        return self._clock.time()

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self._in_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._back)
        return future

    def next_due(self) -> float | None:
        """Return when the next timer is due, None where there is none."""
        while self._timers and (self._timers[0][2].cancelled() or self._timers[0][0] <= self.time()):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    async def idle(self) -> None:
        """Wait until there is nothing left to do at this moment."""
        self._quiet = self.create_future()
        await self._quiet

    def _back(self, _future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1

    def _rest(self) -> bool:
        """End the wait for idleness, if somebody waits and nobody is still at work. Return whether that is so."""
        quiet = self._quiet
        if quiet is None or quiet.done() or self._in_threads:
            return False
        quiet.set_result(None)
        return True


class _Selector(selectors.DefaultSelector):
    """Tells when the loop is about to wait, since only then is nothing ready to run. No timer ends a wait."""

    def __init__(self, rest: Callable[[], bool]) -> None:
        super().__init__()
        self._rest = rest

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0 or self._rest():
            return ready
        return super().select(None)
