"""The inbox: what stands between everything that asks for a reload and the one place that runs it.

However many triggers arrive while a reload runs, exactly one more follows. Whoever waits gets the outcome of a reload
that started after they asked, never of the one that was already under way. What does more than read the sources, such
as a rollback, has a reload of its own, in its turn.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hotconf.errors import NotRunning
from hotconf.reload.request import Errand

if TYPE_CHECKING:
    from hotconf.errors import HotconfError
    from hotconf.values.report import Report


@dataclass(slots=True, eq=False)
class Request:
    """What the next reload is for, and who waits for its outcome."""

    errand: Errand
    waiters: list[Future[Report]] = field(default_factory=list)

    def join(self, errand: Errand) -> bool:
        """Answer another errand as well, and return whether that is possible."""
        if not (self.errand.shared and errand.shared):
            return False
        triggers = tuple(dict.fromkeys((*self.errand.triggers, *errand.triggers)))
        self.errand = Errand(triggers, force=self.errand.force or errand.force)
        return True

    def answer(self, report: Report) -> None:
        """Give every waiter the outcome. One that has gone away is passed over."""
        for waiter in self.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(report)

    def fail(self, error: HotconfError | type[HotconfError]) -> None:
        """Give every waiter an error, one of its own where it is a class: there will be no outcome."""
        for waiter in self.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(error() if isinstance(error, type) else error)


class Inbox:
    """Filled from any thread, emptied by one task."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may ask in the very thread that stands inside.
        self._lock = threading.RLock()
        self._requests: deque[Request] = deque()
        self._refusal: type[HotconfError] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._filled = asyncio.Event()

    def put(self, trigger: str) -> None:
        """Ask for a reload and go on. Raises what `close` was given once the inbox is closed. Safe from any thread."""
        self._add(Errand((trigger,)), None)

    def ask(self, errand: Errand) -> Future[Report]:
        """Ask for a reload and return its outcome to come. Raises like `put`. Safe from any thread."""
        waiter: Future[Report] = Future()
        self._add(errand, waiter)
        return waiter

    def _add(self, errand: Errand, waiter: Future[Report] | None) -> None:
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            # Only the last one is joined, so that everything takes place in the order in which it was asked for.
            if not self._requests or not self._requests[-1].join(errand):
                self._requests.append(Request(errand))
            if waiter is not None:
                self._requests[-1].waiters.append(waiter)
            self._wake()

    def _wake(self) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._filled.set)
        except RuntimeError:  # the loop was closed without stopping the engine first
            self.detach()
            raise NotRunning from None

    async def take(self) -> Request:
        """Wait until anything was asked, and take it out. What is asked from now on belongs to the next reload."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        while True:
            self._filled.clear()
            with self._lock:
                if self._requests:
                    return self._requests.popleft()
            await self._filled.wait()

    @property
    def refusal(self) -> type[HotconfError] | None:
        """What every trigger is refused with, None while the inbox is open."""
        return self._refusal

    def close(self, refusal: type[HotconfError]) -> None:
        """Refuse whatever is asked from now on, and whatever nobody has taken yet, with this class of error."""
        with self._lock:
            self._refusal = self._refusal or refusal
            refused = list(self._requests)
            self._requests.clear()
        for request in refused:
            request.fail(self._refusal)

    def detach(self) -> None:
        """Close, and let go of the loop. For when the engine has stopped."""
        self.close(NotRunning)
        with self._lock:
            self._loop = None
