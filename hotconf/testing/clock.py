"""A clock that a test moves: schedules, timeouts and delays without a second of waiting."""

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
    """The time of an event loop. It passes only while `advance` is awaited.

    All that asks the loop for the time follows this clock: `asyncio.sleep` and `timeout`, jobs and drain of a Service,
    every time limit of hotconf in the loop. What asks the system does not: files, other threads, `time.monotonic`.
    Network and threads work, and take as long as they take.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._loop: _Loop | None = None

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self._now

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine as `asyncio.run` does, in a loop with this clock.

        Args:
            main: The coroutine.

        Returns:
            Its result.
        """
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(main)

    async def advance(self, seconds: float = 0.0) -> None:
        """Let time pass. All that falls due meanwhile happens in order, each at its own moment.

        It returns when the loop has nothing left to do but to wait, and calls of `asyncio.to_thread` have returned. So
        zero seconds let everything happen that is due now.

        Args:
            seconds: The time to pass.

        Raises:
            RuntimeError: Not awaited inside `run`.
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
    """An event loop with another clock, which knows what is due next and when there is nothing left to do."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._in_threads = 0
        self._idle: asyncio.Future[None] | None = None
        super().__init__(_Selector(self._on_wait))

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
        future.add_done_callback(self._on_thread_done)
        return future

    def _on_thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1

    def next_due(self) -> float | None:
        """Return when the next timer is due; None for no timer."""
        while self._timers and (self._timers[0][2].cancelled() or self._timers[0][0] <= self.time()):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    async def idle(self) -> None:
        """Wait until there is nothing left to do at this moment."""
        self._idle = self.create_future()
        await self._idle

    def _on_wait(self) -> bool:
        """End `idle` if no thread is at work. Return whether that gave the loop something to do."""
        idle = self._idle
        if idle is None or idle.done() or self._in_threads:
            return False
        idle.set_result(None)
        return True


class _Selector(selectors.DefaultSelector):
    """Reports when the loop is about to wait, since only then nothing is ready to run. No timer ends a wait."""

    def __init__(self, on_wait: Callable[[], bool]) -> None:
        super().__init__()
        self._on_wait = on_wait

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0 or self._on_wait():
            return ready
        return super().select(None)
