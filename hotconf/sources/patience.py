"""Patience with what may never respond: a limit for one attempt, and the pauses between attempts."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

R = TypeVar("R")


class Overdue(TimeoutError):
    """Work that hotconf has given up, and not one that gave up by itself."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no response within {seconds:g} s")


class Backoff:
    """Pauses that are random between 0 and a bound which doubles with each (full jitter).

    Clients that lost the same server at the same time do not come back in step.

    Args:
        first: Seconds, the bound of the first pause.
        most: Seconds, the largest bound.
    """

    def __init__(self, first: float = 0.2, most: float = 30.0) -> None:
        self._first = first
        self._most = most
        self._bound = first

    def reset(self) -> None:
        """Begin with the shortest pauses again: an attempt has succeeded."""
        self._bound = self._first

    def pause(self) -> float:
        """Return the seconds to wait before the next attempt."""
        bound, self._bound = self._bound, min(self._bound * 2, self._most)
        return random.uniform(0, bound)  # noqa: S311 - no secret


async def within(timeout: float | None, work: Coroutine[Any, Any, R]) -> R:
    """Return the result of `work`, which runs in a task of its own. Work that goes on although cancelled is left alone.

    Args:
        timeout: Seconds; None waits for ever.
        work: What to do. It may raise anything.

    Raises:
        Overdue: It took longer.
    """
    task = asyncio.create_task(outcome(work))
    try:
        await asyncio.wait((task,), timeout=timeout)
    finally:
        if not task.done():
            task.cancel()
    if timeout is not None and not task.done():
        raise Overdue(timeout)
    result, error = task.result()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # None only beside an error


async def outcome(work: Coroutine[Any, Any, R]) -> tuple[R | None, BaseException | None]:
    """Return the result of `work`, or the error that it raised: a SystemExit that leaves a task ends the event loop."""
    try:
        return await work, None
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return None, error
