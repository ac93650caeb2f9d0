"""Events: what happens in folders, told by watchfiles. Without it: only the time passes."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol

from hotconf.watch.pace import SHORTEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set as AbstractSet

    from watchfiles._rust_notify import RustNotify

_GROUP = 10  # milliseconds after which events are told although more are being added
_CLOCK_SLACK = 0.5  # seconds


class Feed(Protocol):
    """Where events come from. `open` is False where nothing could be opened yet."""

    open: bool

    def wait(self, until: float, stop: threading.Event, step: float) -> AbstractSet[str]:
        """Return the paths of events; none when `until` (monotonic) has come or `stop` is set.

        Looks for them every `step` seconds.
        """

    def drain(self) -> AbstractSet[str]:
        """Return the events that are already there."""

    def close(self) -> None:
        """Let go of the thread and the descriptors."""


@dataclass(slots=True)
class Interval:
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
        """Nothing is held."""


class Events:
    """Events of the direct children of folders, from watchfiles.

    Raises FileNotFoundError where a folder does not exist, OSError or RuntimeError where it cannot be watched.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self.open = True
        with _panics_as_errors():
            self._notify = _open_notify(list(folders))

    def wait(self, until: float, stop: threading.Event, step: float) -> AbstractSet[str]:
        """Return the first events that come. Raises RuntimeError where watchfiles breaks: those events are lost."""
        return self._collect(step, until, stop)

    def drain(self) -> AbstractSet[str]:
        """Return the events that are already there; none where watchfiles breaks."""
        with contextlib.suppress(RuntimeError):
            return self._collect(SHORTEST, monotonic(), threading.Event())
        return frozenset()

    def close(self) -> None:
        """End the thread of watchfiles and its watches."""
        with contextlib.suppress(RuntimeError), _panics_as_errors():  # after one panic its lock may be good for nothing
            self._notify.close()

    def _collect(self, step: float, until: float, stop: threading.Event) -> AbstractSet[str]:
        rest = max(SHORTEST, until - monotonic())
        rhythm = _Rhythm(stop, min(step, rest), until + _CLOCK_SLACK)
        with _panics_as_errors():
            told = self._notify.watch(_GROUP, 0, round(rest * 1000), rhythm)
        return frozenset() if isinstance(told, str) else {path for _, path in told}


def _open_notify(folders: list[str]) -> RustNotify:
    # Not awatch: it gives no sign of having set its watches, and WATCHFILES_FORCE_POLLING would overrule us.
    from watchfiles._rust_notify import RustNotify

    return RustNotify(
        folders,
        debug=False,
        force_polling=False,
        poll_delay_ms=300,
        recursive=False,
        ignore_permission_denied=False,
    )


@contextlib.contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Raise RuntimeError in place of what is no Exception, as Rust raises when it panics."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:  # in a thread of ours nobody else's wish to end can arrive
        raise RuntimeError(f"watchfiles broke: {type(error).__name__}: {error}") from error


class _Rhythm:
    """The pauses of watchfiles, and its end from outside; it asks `is_set` before each look at its queue.

    It returns what it found once a second look finds no more. Pausing only before every other look costs half the delay
    of the equal steps that it would make by itself.

    Being ended drops the events since the last look. So the end of a wait is left to its own timeout, though it counts
    by the wall clock; `latest` (monotonic) is for the day when that clock is set back.
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
