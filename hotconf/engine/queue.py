"""The queue: what lies between everything that asks for a reload and the task that runs it.

However many triggers arrive while a reload runs, exactly one more reload follows. A waiter gets the outcome of a reload
that started after it asked, and not of the one that was under way. An operation, such as a rollback, has a reload of
its own, in its turn.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hotconf.errors import NotRunning
from hotconf.reload.request import ReloadRequest

if TYPE_CHECKING:
    from hotconf.errors import HotconfError
    from hotconf.values.report import Report


@dataclass(slots=True, eq=False)
class QueuedReload:
    """One reload to come, and what waits for its report."""

    request: ReloadRequest
    waiters: list[Future[Report]] = field(default_factory=list)

    def answer(self, report: Report) -> None:
        """Give every waiter the report. A cancelled one is passed over."""
        for waiter in self.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(report)

    def fail(self, error: HotconfError | type[HotconfError]) -> None:
        """Raise an error in every waiter, an instance of its own where it is a class: there will be no report."""
        for waiter in self.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(error() if isinstance(error, type) else error)


class ReloadQueue:
    """Filled from any thread, emptied by one task. In a hand-over it goes on from one engine to the next."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may ask in the very thread that holds the lock.
        self._lock = threading.RLock()
        self._queued: deque[QueuedReload] = deque()
        self._refusal: type[HotconfError] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._filled = asyncio.Event()  # of that loop

    def put(self, trigger: str) -> None:
        """Ask for a reload and go on. Safe from any thread. Raises what `close` was given once the queue is closed."""
        self._add(ReloadRequest((trigger,)), None)

    def ask(self, request: ReloadRequest) -> Future[Report]:
        """Ask for a reload and return its report to come. Raises like `put`. Safe from any thread."""
        waiter: Future[Report] = Future()
        self._add(request, waiter)
        return waiter

    def _add(self, request: ReloadRequest, waiter: Future[Report] | None) -> None:
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            # Only the last one is joined, so that everything runs in the order in which it was asked for.
            joined = self._queued[-1].request.joined(request) if self._queued else None
            if joined is None:
                self._queued.append(QueuedReload(request))
            else:
                self._queued[-1].request = joined
            if waiter is not None:
                self._queued[-1].waiters.append(waiter)
            if self._loop is not None:
                try:
                    self._loop.call_soon_threadsafe(self._filled.set)
                except RuntimeError:  # the loop was closed without stopping the engine first
                    self.detach()
                    raise NotRunning from None

    async def take(self) -> QueuedReload:
        """Wait until a reload is queued, and take it out. Later requests belong to the next one."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._loop is not loop:
                self._loop, self._filled = loop, asyncio.Event()
        while True:
            self._filled.clear()
            with self._lock:
                if self._queued:
                    return self._queued.popleft()
            await self._filled.wait()

    def put_back(self, queued: QueuedReload) -> None:
        """Put back what was taken out and has changed nothing: the next engine runs it first."""
        with self._lock:
            if self._refusal is None:
                self._queued.appendleft(queued)
                return
        queued.fail(self._refusal)

    @property
    def is_empty(self) -> bool:
        """Whether no reload is queued."""
        return not self._queued

    @property
    def refusal(self) -> type[HotconfError] | None:
        """The error that every request raises, None while the queue is open."""
        return self._refusal

    def close(self, refusal: type[HotconfError]) -> None:
        """Reject new requests and all queued ones with this class of error."""
        with self._lock:
            self._refusal = self._refusal or refusal
            refused = list(self._queued)
            self._queued.clear()
        for queued in refused:
            queued.fail(self._refusal)

    def detach(self) -> None:
        """Close, and let go of the loop. For when the engine has stopped."""
        self.close(NotRunning)
        self.release()

    def release(self) -> None:
        """Let go of the loop. Requests wait for the next one that takes them."""
        with self._lock:
            self._loop = None
