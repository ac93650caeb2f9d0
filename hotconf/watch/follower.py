"""A follower: the paths of one watcher as the watch thread knows them, and the next notice about them."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from hotconf.sources.mounts import Mounts
from hotconf.watch.events import SHORTEST, STEP
from hotconf.watch.states import FileStates, PathResolver

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet
    from pathlib import Path

    from hotconf.watch.thread import WatchThread

_log = logging.getLogger("hotconf")

Kind: TypeAlias = Literal["events", "polling"]

_OPEN_ATTEMPTS = 100
_REST = 1000  # beside events, looks take at most one part in so many of a processor


class WatchTimings(NamedTuple):
    """The watcher's times, in seconds."""

    debounce: float
    max_wait: float
    poll: float


class Callbacks(NamedTuple):
    """What is called in the event loop of a watcher.

    When no change is missed any more; with paths that may have changed; with the error that ended the watch, None where
    it was stopped.
    """

    loop: asyncio.AbstractEventLoop
    armed: Callable[[], object]
    notice: Callable[[frozenset[Path]], object]
    ended: Callable[[Exception | None], object]


@dataclass(slots=True)
class Look:
    """What one look at the paths has seen, or the error that ended it.

    `folders` are those to watch, `remote` a file system that tells no events, `cost` the seconds of a processor.
    """

    events: set[str]
    refreshes: list[Callable[[], object]]
    states: FileStates = field(default_factory=lambda: FileStates({}))
    folders: frozenset[str] = frozenset()
    remote: str | None = None
    cost: float = 0.0
    error: Exception | None = None


class Follower:
    """The paths of one watcher, as its watch thread knows them.

    `stop` and `refresh` may be called from any thread. All else is for the watch thread, except for the look itself: it
    touches the file system and calls `paths`, both of which may hang, so it runs in a thread of its own.
    """

    def __init__(self, paths: Callable[[], Iterable[Path]], timings: WatchTimings, *, polling: bool) -> None:
        self.kind: Kind = "polling" if polling else "events"
        self.reason: str | None = None
        self.timings = timings
        self.callbacks: Callbacks
        self.thread: WatchThread
        self.folders = frozenset[str]()
        self.is_over = False
        self.must_open = False
        self.looking_since: float | None = None
        self._paths = paths
        try:
            self._start = os.getcwd()  # noqa: PTH109 - resolved as text, like every path here
        except FileNotFoundError:  # the folder was deleted: relative paths name nothing, absolute ones still work
            self._start = "/"
        self._seen = FileStates({})
        self._opened: Mapping[str, tuple[int, int]] | None = None  # the places of the folders that are watched
        self._attempts = 0
        self._events = set[str]()
        self._next_look = float("-inf")
        self._looked: Look | None = None
        self._pending = Debounced(timings)
        self._refreshes: deque[Callable[[], object]] = deque()
        self._refreshing: list[Callable[[], object]] = []
        self._is_armed = self._has_ended = False

    def stop(self) -> None:
        """End the watch. Safe from any thread."""
        self.is_over = True
        self.thread.wake()

    def refresh(self, looked: Callable[[], object]) -> None:
        """Look at the paths, without a notice for new ones, and then call `looked` in the event loop. Thread-safe."""
        self._refreshes.append(looked)
        self.thread.wake()

    def due(self, now: float) -> float:
        """Return when something is to be done without an event (monotonic)."""
        return min(self._notice_due, self._look_due(now))

    @property
    def _notice_due(self) -> float:
        return self._pending.due if self._is_armed else float("inf")

    def _look_due(self, now: float) -> float:
        if self.looking_since is not None:
            return float("inf")
        return now if self._events or self._refreshes else self._next_look

    def add_events(self, events: AbstractSet[str]) -> bool:
        """Note the events that may concern a path. Return whether any is known to."""
        concerning = self._seen.relevant(events)
        # A look under way may find another way to the paths: which events concern that one is not known yet.
        self._events |= concerning if self.looking_since is None else events
        if not concerning.isdisjoint(self._seen.folders):
            self._opened = None  # a new folder may have the inode number of the one that was deleted
        return bool(concerning)

    def lose_events(self) -> None:
        """Give a notice for every path, and have the folders watched again."""
        self._pending.add(self._seen.paths.keys())
        self._opened, self.must_open = None, True

    def start_look(self, now: float) -> bool:
        """Look at every path, where it is time. Return whether a look has begun."""
        if self._look_due(now) > now:
            return False
        refreshes = [self._refreshes.popleft() for _ in range(len(self._refreshes))]
        look = Look(self._events, refreshes)
        try:
            threading.Thread(target=self._look, args=(look, self.kind), name="hotconf-look", daemon=True).start()
        except RuntimeError:  # there are too many threads, or the interpreter exits: later again
            self._refreshes.extendleft(reversed(refreshes))
            self._next_look = now + self.timings.poll
            return False
        self._events, self.looking_since = set(), now
        return True

    def _look(self, look: Look, kind: Kind) -> None:
        begun, start = thread_time(), self._start
        resolver = PathResolver(digests=kind == "polling")
        try:
            paths = _without_children(self._paths())
            look.states = FileStates({path: resolver.resolve(os.path.join(start, path)) for path in paths})  # noqa: PTH118 - as text
            if kind == "events":
                mounts = Mounts.read()
                look.remote = mounts.remote(look.states.devices)
                # A single mounted file (docker -v, subPath) has its events in a folder that may be out of sight.
                look.folders = look.states.watchable | (look.states.ends & mounts.points)
        except BaseException as caught:  # noqa: BLE001 - raised by changes(), as an Exception even where Rust panics
            look.error = caught if isinstance(caught, Exception) else RuntimeError(f"{type(caught).__name__}: {caught}")
        look.cost = thread_time() - begun
        self._looked = look  # before the thread is read, which may be another one from now on
        self.thread.wake()

    def take_look(self) -> None:
        """Go on from what the last look has seen: note the paths that have changed or had an event."""
        look, self._looked = self._looked, None
        if look is None:
            return
        self.looking_since = None
        self._refreshing += look.refreshes
        if look.error is not None:
            self.end(look.error)
            return
        before, self._seen, self.folders = self._seen, look.states, look.folders
        self._events = {*before.relevant(self._events), *self._seen.relevant(self._events)}
        changed = self._seen.changed_since(before, look.events)
        self._pending.add(changed & before.paths.keys() if look.refreshes else changed)
        rest = self.timings.poll if self.kind == "polling" else max(self.timings.poll, look.cost * _REST)
        self._next_look = monotonic() + rest
        if look.remote is not None:
            self.fall_back(f"the file system {look.remote} tells no events of changes made elsewhere")
        elif self.kind == "events" and self._opened != self._seen.places:
            self.must_open = True
        else:
            self._arm()

    def _arm(self) -> None:
        """Tell the watcher that no change is missed any more."""
        self._attempts = 0
        if not self._is_armed:
            self._is_armed = True
            self._pending.take()  # the first read comes after arming and sees whatever was noted until here
            self._tell(self.callbacks.armed)
        while self._refreshing:
            self._tell(self._refreshing.pop())

    def was_opened(self, *, completely: bool) -> None:
        """Look once more: a change before the folders were watched had no event.

        Args:
            completely: False where a folder was removed meanwhile: that look comes before the next attempt.
        """
        self._opened, self.must_open = self._seen.places if completely else None, False
        self._next_look = float("-inf")
        self._attempts += 1
        if self._attempts > _OPEN_ATTEMPTS:
            self._attempts = 0
            self.thread.give_up([self], "the folders on the way to it never rest")

    def fall_back(self, reason: str) -> None:
        """Go on without events."""
        self.kind, self.reason, self.must_open = "polling", reason, False
        self._next_look = float("-inf")
        _log.warning(
            "watching files by polling every %g s: %s (if the limit of inotify is reached, raise "
            "fs.inotify.max_user_watches or fs.inotify.max_user_instances, or the limit of open files)",
            self.timings.poll,
            reason,
        )

    def give_notice(self, now: float) -> None:
        """Tell which paths may have changed, where that is due."""
        if now >= self._notice_due:
            self._tell(self.callbacks.notice, self._pending.take())

    def end(self, error: Exception | None) -> None:
        """Tell the watcher that the watch has ended, once."""
        self.is_over = True
        if not self._has_ended:
            self._has_ended = True
            self._tell(self.callbacks.ended, error)

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self.callbacks.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the event loop is closed
            self.is_over = True


@dataclass(slots=True)
class Debounced:
    """The paths of the next notice, and when it is due."""

    timings: WatchTimings
    paths: set[Path] = field(default_factory=set)
    first: float = 0.0
    last: float = 0.0

    def add(self, paths: AbstractSet[Path]) -> None:
        """Add paths. The notice then waits for the debounce from now, within the longest wait."""
        if paths:
            self.last = monotonic()
            self.first = self.first if self.paths else self.last
            self.paths |= paths

    @property
    def due(self) -> float:
        """When the notice should be given (monotonic); infinity while it names no path."""
        if not self.paths:
            return float("inf")
        # Events are looked for once a step: that much of the wait is over when they are found.
        quiet = max(SHORTEST, self.timings.debounce - STEP)
        return min(self.last + quiet, self.first + self.timings.max_wait)

    def take(self) -> frozenset[Path]:
        """Return the paths and begin the next notice."""
        taken = frozenset(self.paths)
        self.paths.clear()
        return taken


def _without_children(paths: Iterable[Path]) -> list[Path]:
    """Leave out the files that a pattern among the paths stands for: a folder may have a thousand of them."""
    split = [(path, *os.path.split(path)) for path in paths]
    patterns = {(folder, name[1:]) for _, folder, name in split if name.startswith("*.")}
    return [
        path
        for path, folder, name in split
        if name.startswith((".", "*.")) or (folder, os.path.splitext(name)[1]) not in patterns  # noqa: PTH122 - as text
    ]
