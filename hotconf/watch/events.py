"""Event sources: what happens in folders, as watchfiles tells it, or nothing but the passing of time."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set as AbstractSet

STEP = 0.01
"""Seconds between two looks at the queue of events, while something is going on."""

SHORTEST = 0.002
"""The least number of seconds between two looks; also how long it must be quiet, however short the debounce."""

_GROUP = 10  # milliseconds after which events are told although more are being added
_CLOCK_SLACK = 0.5  # seconds


class EventSource(Protocol):
    """What tells of events. `open` is False where nothing could be opened yet."""

    open: bool

    def wait(self, until: float, stop: threading.Event, step: float) -> AbstractSet[str]:
        """Return the paths of events; none when `until` (monotonic) has come or `stop` is set.

        Looks for events every `step` seconds.
        """

    def drain(self) -> AbstractSet[str]:
        """Return the events that are already there."""

    def close(self) -> None:
        """Release the thread and the descriptors."""


@dataclass(slots=True)
class PollTimer:
    """No events: only the time passes."""

    open: bool = True

    def wait(self, until: float, stop: threading.Event, step: float) -> AbstractSet[str]:  # noqa: ARG002 - the protocol
        """Return nothing, when `until` has come or `stop` is set."""
        stop.wait(max(0.0, until - monotonic()))
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
        # and has one pause and one timeout for all waits. A timeout drops the events that arrive in the same instant,
        # so it must be rare.
        from watchfiles._rust_notify import RustNotify

        self.open = True
        with _panics_as_errors():
            self._notify = RustNotify(
                list(folders),
                debug=False,
                force_polling=False,
                poll_delay_ms=300,
                recursive=False,
                ignore_permission_denied=False,
            )

    def wait(self, until: float, stop: threading.Event, step: float) -> AbstractSet[str]:
        """Return the first events that come. Raises RuntimeError where watchfiles breaks: those events are lost."""
        rest = max(SHORTEST, until - monotonic())
        pauses = _Pauses(stop, min(step, rest), until + _CLOCK_SLACK)
        with _panics_as_errors():
            told = self._notify.watch(_GROUP, 0, round(rest * 1000), pauses)
        return frozenset() if isinstance(told, str) else {path for _, path in told}

    def drain(self) -> AbstractSet[str]:
        """Return the events that are already there; none where watchfiles breaks."""
        with contextlib.suppress(RuntimeError):
            return self.wait(monotonic(), threading.Event(), SHORTEST)
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


class _Pauses:
    """The stop event that watchfiles is given: it asks `is_set` before each look at its queue, which makes the pauses.

    watchfiles returns what it found once a second look finds no more. A pause before only every other look costs half
    the delay of the equal steps that watchfiles would make by itself.

    A stop drops the events since the last look. So a wait ends by the timeout of watchfiles, although that counts by
    the wall clock; `latest` (monotonic) ends a wait during which that clock was set back.
    """

    def __init__(self, stop: threading.Event, step: float, latest: float) -> None:
        self._stop = stop
        self._step = step
        self._latest = latest
        self._second = True

    def is_set(self) -> bool:
        self._second = not self._second
        if not self._second:
            sleep(self._step)  # not stop.wait(), which costs twice as much
        return self._stop.is_set() or monotonic() >= self._latest
