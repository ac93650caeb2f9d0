"""The observer: the thread that waits for events, looks, and says what changed."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Literal, TypeAlias

from hotconf.sources.mounts import Mounts
from hotconf.watch.events import Events, Interval
from hotconf.watch.pace import STEP, PendingHint
from hotconf.watch.survey import Lookup, Survey, changed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Set as AbstractSet
    from pathlib import Path

    from hotconf.watch.events import Feed
    from hotconf.watch.pace import Pace

_log = logging.getLogger("hotconf")

Kind: TypeAlias = Literal["events", "polling"]

EXIT_PATIENCE = 1.0
"""Seconds. A thread stuck in a dead mount is left behind after that."""

_IDLE_STEP = 0.025  # seconds, in place of STEP, while nothing is going on: waking up is the whole cost of being idle
_ALERT = 5.0  # seconds for which something still counts as going on
_REARM_ATTEMPTS = 100
_MAX_FAULTS = 5  # of watchfiles itself, within the time of one poll


class Observer:
    """Watches `paths` in the thread that calls `run`. `stop` ends it from any thread."""

    def __init__(self, paths: Callable[[], Iterable[Path]], pace: Pace, *, polling: bool) -> None:
        self.stop = threading.Event()
        self.kind: Kind = "polling" if polling else "events"
        self.reason: str | None = None
        self._left = threading.Event()
        self._paths = paths
        self._pid = os.getpid()
        self._start = _working_folder()
        self._pace = pace
        self._pending = PendingHint(pace)
        self._feed: Feed = Interval()
        self._seen = Survey({})
        self._faults: deque[float] = deque(maxlen=_MAX_FAULTS)
        self._looked = self._alert = float("-inf")

    def run(self, listener: Listener) -> None:
        """Tell the listener of every hint until `stop` is set. An error of `paths` ends it, and is told too."""
        error: Exception | None = None
        atexit.register(self._leave)
        try:
            self._arm()
            self._pending.take()  # the first read comes after arming, so whatever was noted until here it sees
            listener.armed()
            while not self.stop.is_set():
                self._turn(listener)
        except BaseException as caught:  # noqa: BLE001 - handed over to whoever iterates over changes(), a panic too
            error = caught if isinstance(caught, Exception) else RuntimeError(f"{type(caught).__name__}: {caught}")
        finally:
            self._feed.close()
            self._left.set()
            atexit.unregister(self._leave)
            listener.end(error)

    def _leave(self) -> None:
        """Stop, before an interpreter that exits with a watcher entered aborts in the midst of watchfiles."""
        if os.getpid() != self._pid:
            return  # a forked child, which has no such thread to wait for
        self.stop.set()
        self._left.wait(EXIT_PATIENCE)

    def _turn(self, listener: Listener) -> None:
        due = min(self._pending.due, self._looked + self._pace.poll)
        events = self._seen.relevant(self._wait(due))
        if events:
            self._alert = monotonic() + _ALERT
        if events or monotonic() >= due:
            self._look(events)
        if monotonic() >= self._pending.due:
            listener.hint(self._pending.take())

    def _wait(self, due: float) -> AbstractSet[str]:
        try:
            return self._feed.wait(due, self.stop, STEP if monotonic() < self._alert else _IDLE_STEP)
        except (OSError, RuntimeError) as error:
            self._recover(str(error))
            return frozenset()

    def _recover(self, reason: str) -> None:
        # A name that is not UTF-8, in any of the folders, is enough to get here: a few are nothing, a habit is. The
        # events told along with it are lost, so everything counts as hinted at.
        self._pending.note(self._seen.traces.keys())
        self._faults.append(monotonic())
        if len(self._faults) == _MAX_FAULTS and self._faults[0] > monotonic() - self._pace.poll:
            self._fall_back(reason)
        self._arm()

    def _look(self, events: AbstractSet[str]) -> None:
        before = self._seen
        self._advance(events)
        # A folder made anew may bear the inode number of the one that was deleted: its event alone gives it away.
        if self._seen.places != before.places or not before.folders.keys().isdisjoint(events):
            self._arm()

    def _advance(self, events: AbstractSet[str]) -> None:
        """Survey again and note what differs, or had an event."""
        before, self._seen = self._seen, self._survey()
        self._looked = monotonic()
        self._pending.note(changed(before, self._seen, events))

    def _survey(self) -> Survey:
        lookup = Lookup(hashing=self.kind == "polling")
        return Survey({path: lookup.trace(os.path.join(self._start, path)) for path in self._paths()})  # noqa: PTH118

    def _arm(self) -> None:
        """Watch the folders that matter now. Repeated until they were the same before and after."""
        self._advance(frozenset())
        for _ in range(_REARM_ATTEMPTS):
            before = self._seen
            leftover = self._replace_feed()
            self._advance(leftover)
            if self._seen.places == before.places and self._feed.open:
                return
        self._fall_back("the folders on the way to it never rest")
        self._replace_feed()

    def _replace_feed(self) -> AbstractSet[str]:
        """Open the new feed, then close the old one: an event in a folder that both watch is in one of them."""
        old, self._feed = self._feed, self._open_feed()
        leftover = old.drain()
        old.close()
        return leftover

    def _open_feed(self) -> Feed:
        if self.kind == "polling":
            return Interval()
        try:
            return self._open_events()
        except FileNotFoundError:
            return Interval(open=False)  # a folder went away under our hands: survey again
        except (OSError, RuntimeError) as error:
            self._fall_back(str(error))
            return Interval()

    def _open_events(self) -> Feed:
        mounts = Mounts.read()
        remote = mounts.remote(self._seen.devices)
        if remote is not None:
            raise OSError(errno.ENOTSUP, f"the file system {remote} tells no events of changes made elsewhere")
        watched = [name for name, folder in self._seen.folders.items() if folder.required or _readable(name)]
        # A single file that is mounted (docker -v, subPath) has its events in a folder outside our sight.
        return Events([*watched, *(self._seen.ends & mounts.points)])

    def _fall_back(self, reason: str) -> None:
        self.kind, self.reason = "polling", reason
        _log.warning(
            "watching files by polling every %g s: %s (if the limit of inotify is reached, raise "
            "fs.inotify.max_user_watches or fs.inotify.max_user_instances, or the limit of open files)",
            self._pace.poll,
            reason,
        )


def _working_folder() -> str:
    """Return where relative paths start; where that folder was deleted they name nothing, and absolute ones go on."""
    try:
        return os.getcwd()  # noqa: PTH109 - resolved as text, like every path here
    except FileNotFoundError:
        return "/"


def _readable(folder: str) -> bool:
    """Whether a folder can be watched. Where a parent cannot, polling finds its replacement."""
    return os.access(folder, os.R_OK, effective_ids=True)


class Listener:
    """What the watcher's thread says to the loop. Saying anything but `end` to a closed loop raises RuntimeError."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        armed: Callable[[], None],
        hint: Callable[[frozenset[Path]], None],
        end: Callable[[Exception | None], None],
    ) -> None:
        self._loop = loop
        self._armed, self._hint, self._end = armed, hint, end

    def armed(self) -> None:
        """Say that nothing is missed from now on."""
        self._loop.call_soon_threadsafe(self._armed)

    def hint(self, paths: frozenset[Path]) -> None:
        """Hint that these may have changed."""
        self._loop.call_soon_threadsafe(self._hint, paths)

    def end(self, error: Exception | None) -> None:
        """Say no more. `error` is what ended the watch, None where it was stopped."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, error)
