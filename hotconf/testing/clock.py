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
    """The clock of an event loop. Its time passes only while `advance` is awaited.

    Everything that uses the clock of the loop follows it: `asyncio.sleep` and `timeout`, a service's jobs and drain,
    every limit of hotconf that runs in the loop. Files, threads and `time.monotonic` use the clock of the system.
    Network and threads work, and take real time.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._loop: _Loop | None = None

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self._now

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Do what `asyncio.run` does, with this clock."""
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(main)

    async def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and run all timers that are due in order, each at its own time.

        It returns when the loop is idle and all calls of `asyncio.to_thread` have returned. Await it inside `run`, in
        one task at a time.

        Args:
            seconds: How much time passes. Zero lets everything that is ready run.

        Raises:
            RuntimeError: Awaited outside the loop of this clock.
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
    """An event loop with a manual clock. It knows its next timer, and when it is idle."""

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
        """Wait until nothing is ready to run at the present time."""
        self._quiet = self.create_future()
        await self._quiet

    def _back(self, _future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1

    def _rest(self) -> bool:
        """End the wait of `idle`, if there is one and no thread is at work. Return whether it was ended."""
        quiet = self._quiet
        if quiet is None or quiet.done() or self._in_threads:
            return False
        quiet.set_result(None)
        return True


class _Selector(selectors.DefaultSelector):
    """Calls `rest` when the loop is about to wait: only then is nothing ready to run. No timer ends a wait."""

    def __init__(self, rest: Callable[[], bool]) -> None:
        super().__init__()
        self._rest = rest

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0 or self._rest():
            return ready
        return super().select(None)
