"""Event sources: what happens in folders, as watchfiles tells it, or nothing but the passing of time."""

from __future__ import annotations

import contextlib
import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set as AbstractSet

STEP = 0.01
"""Seconds between two looks at the queue of events, while something is going on."""

SHORTEST = 0.002
"""The least number of seconds between two looks; also how long it must be quiet, however short the debounce."""

_IDLE_STEP = 0.025  # seconds, in place of STEP, while nothing is going on: waking up is the whole cost of being idle
_GROUP = 10  # milliseconds after which events are told although more are being added


class EventSource(Protocol):
    """What tells of events."""

    def wait(self, until: float, wake: threading.Event, alert_until: float) -> AbstractSet[str]:
        """Return the paths of events; none when `until` (monotonic) has come or `wake` is set.

        Looks for them more often until `alert_until` (monotonic), and notices `wake` at once only as long.
        """

    def drain(self) -> AbstractSet[str]:
        """Return the events that are already there."""

    def close(self) -> None:
        """Release the thread and the descriptors."""


class PollTimer:
    """No events: only the time passes."""

    def wait(self, until: float, wake: threading.Event, alert_until: float) -> AbstractSet[str]:  # noqa: ARG002 - the protocol
        """Return nothing, when `until` has come or `wake` is set."""
        wake.wait(min(max(0.0, until - monotonic()), threading.TIMEOUT_MAX))
        return frozenset()

    def drain(self) -> AbstractSet[str]:
        """Return nothing."""
        return frozenset()

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class NativeEvents:
    """Events of the direct children of folders, from watchfiles.

    Raises FileNotFoundError where a folder does not exist, OSError or RuntimeError where it cannot be watched.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        # The backend, which watchfiles documents, and not its watch(): that gives no sign of having set its watches,
        # has one pause for all waits, and ends each of them in a way that drops events; see _Pauses.
        from watchfiles._rust_notify import RustNotify

        with _panics_as_errors():
            self._notify = RustNotify(
                list(folders),
                debug=False,
                force_polling=False,
                poll_delay_ms=300,
                recursive=False,
                ignore_permission_denied=False,
            )

    def wait(self, until: float, wake: threading.Event, alert_until: float) -> AbstractSet[str]:
        """Return the first events that come. Raises RuntimeError where watchfiles breaks: those events are lost."""
        with _panics_as_errors():
            try:
                told = self._notify.watch(_GROUP, 0, 0, _Pauses(until, wake, alert_until))
            except _WaitEnded:
                return frozenset()
        return frozenset() if isinstance(told, str) else {path for _, path in told}

    def drain(self) -> AbstractSet[str]:
        """Return the events that are already there; none where watchfiles breaks."""
        with contextlib.suppress(RuntimeError):
            return self.wait(monotonic(), threading.Event(), 0.0)
        return frozenset()

    def close(self) -> None:
        """End the thread of watchfiles and its watches."""
        with contextlib.suppress(RuntimeError), _panics_as_errors():  # after one panic its lock may be unusable
            self._notify.close()


@contextlib.contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Raise RuntimeError in place of a BaseException that is no Exception, such as a panic in Rust."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:  # not an interrupt: those go to the main thread
        raise RuntimeError(f"watchfiles broke: {type(error).__name__}: {error}") from error


class _WaitEnded(Exception):
    """Raised through watchfiles to end a wait."""


class _Pauses:
    """The stop event that watchfiles is given: it asks `is_set` before each look at its queue, which makes the pauses.

    watchfiles returns what it found once a second look finds no more. A pause before only every other look costs half
    the delay of the equal steps that watchfiles would make by itself.

    An exception ends the wait, because it leaves the events in the queue. A stop or a timeout of watchfiles drops those
    that arrive in the same instant, and its timeout counts by the wall clock.
    """

    __slots__ = ("_alert_until", "_idle_step", "_is_second", "_looked", "_step", "_until", "_wake")

    def __init__(self, until: float, wake: threading.Event, alert_until: float) -> None:
        rest = max(SHORTEST, until - monotonic())
        self._step, self._idle_step = min(STEP, rest), min(_IDLE_STEP, rest)
        self._until = until
        self._wake = wake
        self._alert_until = alert_until
        self._looked = self._is_second = False

    def is_set(self) -> bool:
        # As short as it can be: while nothing happens, this is the work of the whole watcher.
        if self._is_second:
            self._is_second = False
            return False
        now = monotonic()
        if self._looked and (now >= self._until or self._wake.is_set()):
            raise _WaitEnded
        self._looked = self._is_second = True
        if now < self._alert_until:
            self._wake.wait(self._step)
        else:
            sleep(self._idle_step)  # costs half as much as a wait
        return False
