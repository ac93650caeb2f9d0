"""A source for tests: it holds values, fails, hangs, and reports changes, as a test says."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from hotconf.sources.memory import Memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from hotconf.values.layer import Layer


class FakeSource(Memory):
    """A Memory with faults, and with change notices of its own. All methods can be called from any thread.

    Args:
        values: What it holds, None for nothing.
        name: Its name in origins and status.
        required: False makes it an optional remote source: while it fails with an OSError, its last layer stays in
            force and is shown as stale.
        outage: "keep" gives a required one this behaviour too, "reject" takes it from an optional one.
        max_stale: Seconds for which the last layer may be kept; None: without limit.
        quiet: Seconds without a hint that the engine waits for after one.

    Attributes:
        reads: How many reads have begun, failed ones included.
    """

    kind = "fake"

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        name: str = "fake",
        required: bool = True,
        outage: Literal["keep", "reject"] | None = None,
        max_stale: float | None = None,
        quiet: float = 0.0,
    ) -> None:
        super().__init__(values, name=name)
        self.required = required
        self.outage = outage or ("reject" if required else "keep")
        self.max_stale = max_stale
        self.quiet = quiet
        self._lost: Exception | None = None
        self.reads = 0
        self._error: Exception | None = None
        self._failures = 0
        self._released: _Counter | None = None
        self._hints = _Counter()

    def fail(self, error: Exception, *, times: int = 1) -> None:
        """Raise an error from the next reads, from so many of them."""
        self._error, self._failures = error, times

    def hang(self) -> None:
        """Let every read from now on wait until `release`."""
        self._released = self._released or _Counter()

    def release(self) -> None:
        """Let the hanging reads go on. Each returns the values that are set by then."""
        released, self._released = self._released, None
        if released is not None:
            released.increase()

    def hint(self) -> None:
        """Report a possible change: a running configuration reloads, with the name of this source as the trigger."""
        self._hints.increase()

    def lose(self, error: Exception) -> None:
        """End the change notices with an error, once, as a broken connection does. They can be entered again."""
        self._lost = error
        self._hints.increase()

    async def read(self) -> Layer:
        """Return the values that were set last, after `release` where it hangs.

        Raises:
            Exception: The error that `fail` was given.
        """
        self.reads += 1
        if self._released is not None:
            await self._released.above(0)
        if self._failures and self._error is not None:
            self._failures -= 1
            raise self._error
        return await super().read()

    def changes(self) -> AsyncIterator[object]:
        """Yield for every `hint` from now on. Hints that come together are one."""
        return self._changes(self._hints.value)

    async def _changes(self, seen: int) -> AsyncIterator[object]:
        while True:
            seen = await self._hints.above(seen)
            if self._lost is not None:
                error, self._lost = self._lost, None
                raise error
            yield None


class _Counter:
    """A number that tasks of any event loop can wait for."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()
        self._waiting: list[Future[None]] = []

    def increase(self) -> None:
        with self._lock:
            self.value += 1
            waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if waiter.set_running_or_notify_cancel():  # False for one that was cancelled meanwhile
                waiter.set_result(None)

    async def above(self, value: int) -> int:
        """Wait until the number is higher than that, and return it."""
        waiter: Future[None] = Future()
        with self._lock:
            if self.value > value:
                return self.value
            self._waiting.append(waiter)
        await asyncio.wrap_future(waiter)
        return self.value
