"""The inbox: one slot between everything that asks for a reload and the one place that runs it.

However many triggers arrive while a reload runs, exactly one more follows. Whoever waits gets the outcome of a reload
that started after they asked, never of the one that was already under way.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hotconf.errors import NotRunning

if TYPE_CHECKING:
    from hotconf.errors import HotconfError
    from hotconf.report import Report


@dataclass(slots=True, eq=False)
class Request:
    """What the next reload answers: its distinct triggers in the order they came, and who waits for the outcome."""

    triggers: dict[str, None] = field(default_factory=dict)
    waiters: list[Future[Report]] = field(default_factory=list)
    force: bool = False

    def answer(self, report: Report) -> None:
        """Give every waiter the outcome. One that has gone away is passed over."""
        for waiter in self.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(report)

    def fail(self, error: type[HotconfError]) -> None:
        """Give every waiter an error of its own: there will be no outcome."""
        for waiter in self.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(error())


class Inbox:
    """One slot, filled from any thread, emptied by one task."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may ask in the very thread that stands inside.
        self._lock = threading.RLock()
        self._request: Request | None = None
        self._refusal: type[HotconfError] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._filled = asyncio.Event()

    def put(self, trigger: str) -> None:
        """Ask for a reload and go on. Raises what `close` was given once the inbox is closed. Safe from any thread."""
        self._add(trigger, None, force=False)

    def ask(self, trigger: str, *, force: bool = False) -> Future[Report]:
        """Ask for a reload and return its outcome to come. Raises like `put`. Safe from any thread."""
        waiter: Future[Report] = Future()
        self._add(trigger, waiter, force=force)
        return waiter

    def _add(self, trigger: str, waiter: Future[Report] | None, *, force: bool) -> None:
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            if self._request is None:
                self._request = Request()
            self._request.triggers.setdefault(trigger)
            self._request.force |= force
            if waiter is not None:
                self._request.waiters.append(waiter)
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
        """Wait until anything was asked, then empty the slot. What is asked from now on belongs to the next reload."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        while True:
            self._filled.clear()
            request = self._empty()
            if request is not None:
                return request
            await self._filled.wait()

    def _empty(self) -> Request | None:
        with self._lock:
            request = self._request
            if request is not None:
                self._request = None
            return request

    @property
    def refusal(self) -> type[HotconfError] | None:
        """What every trigger is refused with, None while the inbox is open."""
        return self._refusal

    def close(self, refusal: type[HotconfError]) -> None:
        """Refuse whatever is asked from now on, and whatever nobody has taken yet, with this class of error."""
        with self._lock:
            self._refusal = self._refusal or refusal
            request = self._empty()
        if request is not None:
            request.fail(self._refusal)

    def detach(self) -> None:
        """Close, and let go of the loop. For when the engine has stopped."""
        self.close(NotRunning)
        with self._lock:
            self._loop = None
