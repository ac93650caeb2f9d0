"""A source that a test controls: it returns values, fails, hangs, and sends change notices."""

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
    """A Memory that fails, hangs and sends change notices on command. Every method may be called from any thread.

    `reads` counts the reads that began, failed ones included. With `required=False` it acts as an optional remote
    source: while it fails with an OSError, its last layer stays in use and is shown as stale.
    """

    kind = "fake"

    def __init__(self, values: Mapping[str, Any] | None = None, *, name: str = "fake", required: bool = True) -> None:
        super().__init__(values, name=name)
        self.required = required
        self.reads = 0
        self._error: Exception | None = None
        self._failures = 0
        self._hold: _Notices | None = None
        self._hints = _Notices()

    def fail(self, error: Exception, *, times: int = 1) -> None:
        """Raise an error from the next `times` reads."""
        self._error, self._failures = error, times

    def hang(self) -> None:
        """Make every read from now on wait until `release`."""
        self._hold = self._hold or _Notices()

    def release(self) -> None:
        """Let the waiting reads continue. Each returns the values that are set then."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.send()

    def hint(self) -> None:
        """Send a change notice: a running configuration reloads, with the name of this source as the trigger."""
        self._hints.send()

    async def read(self) -> Layer:
        """Return the values that were set last, or raise the error of `fail`. Waits while it hangs."""
        self.reads += 1
        if self._hold is not None:
            await self._hold.beyond(0)
        if self._failures and self._error is not None:
            self._failures -= 1
            raise self._error
        return await super().read()

    def changes(self) -> AsyncIterator[object]:
        """Yield for every `hint` from now on; several at once are one."""
        return self._changes(self._hints.count)

    async def _changes(self, heard: int) -> AsyncIterator[object]:
        while True:
            heard = await self._hints.beyond(heard)
            yield None


class _Notices:
    """Counts notices, and wakes waiting tasks in any event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()
        self._waiting: list[Future[None]] = []

    def send(self) -> None:
        with self._lock:
            self.count += 1
            waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if waiter.set_running_or_notify_cancel():  # False for one that was cancelled
                waiter.set_result(None)

    async def beyond(self, count: int) -> int:
        """Wait until there were more notices than `count`, and return how many."""
        waiter: Future[None] = Future()
        with self._lock:
            if self.count > count:
                return self.count
            self._waiting.append(waiter)
        await asyncio.wrap_future(waiter)
        return self.count
