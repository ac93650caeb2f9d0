"""Following one source: its hints become reloads, and its watch is set again whenever it has ended."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

from hotconf.abc import Checkable
from hotconf.schema.redact import traceback_without_message
from hotconf.sources.patience import Backoff, outcome, within
from hotconf.sources.stack import OUTAGES
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotconf.sources.stack import SourceState

log = logging.getLogger("hotconf")

CHECK = 60.0
"""Seconds between two looks whether a quiet watch has missed a change, give or take a fifth."""

LOOK = 2.0
"""Seconds between two looks whether reads of the source still succeed."""

SETTLED = 0.2
"""Seconds after which a watch that has not ended counts as set."""

CLOSING = 1.0
"""Seconds that a source has to end its watch, or to close its connections."""


class Follower:
    """Follows one source for as long as its `run` is not cancelled.

    Args:
        state: The source, which has `changes()`, and how it stands.
        ask: Asks for a reload in its name.
        check_timeout: Seconds that a look may take.
        max_wait: Seconds that a source which is never quiet can delay a reload.
    """

    def __init__(self, state: SourceState, ask: Callable[[], None], *, check_timeout: float, max_wait: float) -> None:
        self._state = state
        self._source: Any = state.source
        self._ask = ask
        self._check_timeout = check_timeout
        self._max_wait = max_wait
        self._quiet: float = getattr(state.source, "quiet", 0.0)
        self._backoff = Backoff()
        self._is_checkable = isinstance(state.source, Checkable)
        self._is_first = True
        self._has_hinted = False
        self._asking: tuple[float, asyncio.TimerHandle] | None = None
        self._lost_at: float | None = None

    async def run(self) -> None:
        """Follow, for ever."""
        while True:
            self._has_hinted = False
            hearing = asyncio.create_task(outcome(self._hear()))
            try:
                error = await self._until_ended(hearing)
            except Exception as failure:  # noqa: BLE001 - of a look; it is reported like an error of the watch
                error = failure
            finally:
                hearing.cancel()
                await asyncio.wait((hearing,), timeout=CLOSING)
            self._note_end(error)
            await asyncio.sleep(self._backoff.pause())
            self._is_first = False

    async def _hear(self) -> None:
        async for _ in self._source.changes():
            self._has_hinted = True
            self._note_following()
            self._backoff.reset()
            self._hint()

    def _hint(self) -> None:
        """Ask for a reload, where the source wants that after it has been quiet for a while."""
        if not self._quiet:
            self._ask()
            return
        loop = asyncio.get_running_loop()
        first = loop.time()
        if self._asking is not None:
            first, timer = self._asking
            timer.cancel()
        at = min(loop.time() + self._quiet, first + self._max_wait)
        self._asking = first, loop.call_at(at, self._ask_now)

    def _ask_now(self) -> None:
        self._asking = None
        self._ask()

    async def _until_ended(self, hearing: asyncio.Task[tuple[None, BaseException | None]]) -> BaseException | None:
        """Return when the watch has ended, with its error if there was one, or is dead. Raises what a look raises."""
        loop = asyncio.get_running_loop()
        has_settled = False
        due = loop.time() + SETTLED
        while True:
            pause = min(LOOK, max(0.0, due - loop.time())) if self._is_checkable or not has_settled else None
            await asyncio.wait((hearing,), timeout=pause)
            if hearing.done():
                return hearing.result()[1]
            is_stale = self._state.state == "stale"  # a read found so, and the watch did not
            if loop.time() < due and not (is_stale and has_settled):
                continue
            missed = (has_settled or not self._is_first) and await self._has_missed()
            if not has_settled:
                has_settled = True
                self._note_following()
                if missed and not self._has_hinted:  # what changed between the two watches
                    self._hint()
            elif missed:
                self._hint()
                if not is_stale:
                    log.warning("source %s did not tell of a change; it is watched anew", self._source.name)
                    return None
            due = loop.time() + CHECK * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    async def _has_missed(self) -> bool:
        """Whether the source holds something else than was read last, as far as it can tell."""
        if not self._is_checkable:
            self._backoff.reset()
            return True
        missed: bool = await within(self._check_timeout, self._source.outdated())
        self._backoff.reset()
        if not missed:
            self._state.confirm()
        return missed

    def _note_following(self) -> None:
        if not isinstance(self._state.following, str) and self._state.following is not None:
            return
        self._state.following = utcnow()
        if self._lost_at is not None:
            seconds = time.monotonic() - self._lost_at
            log.info("source %s is in reach again, after %.1f s", self._source.name, seconds)
            self._lost_at = None

    def _note_end(self, error: BaseException | None) -> None:
        name = self._source.name
        if error is None:
            self._state.following = "it has ended; it is entered again"
            return
        self._state.lost(error)
        if not isinstance(error, OUTAGES):
            message = "source %s stopped reporting changes; trying again\n%s"
            log.error(message, name, traceback_without_message(error))
        elif self._lost_at is None:
            self._lost_at = time.monotonic()
            log.warning("source %s is out of reach, it is tried again: %s", name, self._state.following)
