"""A source that does what a test says: it holds values, fails, hangs, and tells of changes."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from hotconf.sources.memory import Memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from hotconf.values.layer import Layer


class FakeSource(Memory):
    """A Memory with faults and a trigger of its own. Every method may be called from any thread.

    `reads` counts the reads that began, those that failed included. `required=False` makes it what an optional remote
    source is: while it fails with an OSError, its last layer stands and is shown as stale.
    """

    kind = "fake"

    def __init__(self, values: Mapping[str, Any] | None = None, *, name: str = "fake", required: bool = True) -> None:
        super().__init__(values, name=name)
        self.required = required
        self.reads = 0
        self._error: Exception | None = None
        self._failures = 0
        self._hold: _Bell | None = None
        self._hints = _Bell()

    def fail(self, error: Exception, *, times: int = 1) -> None:
        """Raise an error from the next reads, so many of them."""
        self._error, self._failures = error, times

    def hang(self) -> None:
        """Let every read from now on wait until `release`."""
        self._hold = self._hold or _Bell()

    def release(self) -> None:
        """Let the reads that hang go on. Each returns what is set then."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.ring()

    def hint(self) -> None:
        """Tell that something may have changed: a running configuration reloads, and names this source the trigger."""
        self._hints.ring()

    async def read(self) -> Layer:
        """Return the values that were set last, as soon as it may, or raise what it was told to raise."""
        self.reads += 1
        if self._hold is not None:
            await self._hold.beyond(0)
        if self._failures and self._error is not None:
            self._failures -= 1
            raise self._error
        return await super().read()

    def changes(self) -> AsyncIterator[object]:
        """Yield for every `hint` from now on; hints that come together are one."""
        return self._changes(self._hints.rung)

    async def _changes(self, heard: int) -> AsyncIterator[object]:
        while True:
            heard = await self._hints.beyond(heard)
            yield None


class _Bell:
    """Wakes whoever waits, in whatever event loop they do, and counts how often it rang."""

    def __init__(self) -> None:
        self.rung = 0
        self._lock = threading.Lock()
        self._waiting: list[Future[None]] = []

    def ring(self) -> None:
        with self._lock:
            self.rung += 1
            waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if waiter.set_running_or_notify_cancel():  # not one that was cancelled meanwhile
                waiter.set_result(None)

    async def beyond(self, count: int) -> int:
        """Wait until it has rung more often than that, and return how often."""
        waiter: Future[None] = Future()
        with self._lock:
            if self.rung > count:
                return self.rung
            self._waiting.append(waiter)
        await asyncio.wrap_future(waiter)
        return self.rung
