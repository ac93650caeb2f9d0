"""The watcher: change notices for the event loop, from a thread that waits for events and looks at the files."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from hotconf.sources.mounts import Mounts
from hotconf.watch.events import SHORTEST, STEP, NativeEvents, PollTimer
from hotconf.watch.states import FileStates, PathResolver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Set as AbstractSet
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from hotconf.watch.events import EventSource

_log = logging.getLogger("hotconf")

Kind: TypeAlias = Literal["events", "polling"]

EXIT_TIMEOUT = 1.0
"""Seconds to wait for the thread to end. A thread stuck in a dead mount is left behind after that."""

_ALERT = 5.0  # seconds after the start, and after an event, for which something counts as going on
_REARM_ATTEMPTS = 100
_MAX_FAULTS = 5  # of watchfiles itself, within the time of one poll


class WatchTimings(NamedTuple):
    """The watcher's times, in seconds."""

    debounce: float
    max_wait: float
    poll: float


class Watcher:
    """Change notices for `paths`. An async context manager, entered once.

    Inside the context no change is missed any more, so the first read belongs there. Leaving it ends the thread.

    Args:
        paths: Called afresh at every look, in the watcher's thread. A file's path stands for the file, whether it
            exists or not; a folder's path for its direct children; `folder/*.toml` for the children whose names end so
            and are not hidden. Other files in the folder, such as a log of the service, give no notice. A relative path
            starts where the process stood at construction.
        debounce: Seconds without an event after which a notice is given.
        max_wait: Seconds after the first event at which a notice is given at the latest.
        poll: Seconds between two looks without an event. Where there are no events (`mode="poll"`, no watches left, a
            network file system) these are the only looks, and they compare content too.
        mode: `"poll"` does without events from the start.
    """

    def __init__(
        self,
        paths: Callable[[], Iterable[Path]],
        *,
        debounce: float,
        max_wait: float,
        poll: float,
        mode: Literal["auto", "poll"] = "auto",
    ) -> None:
        self._watch = WatchLoop(paths, WatchTimings(debounce, max_wait, poll), polling=mode == "poll")
        self._armed = asyncio.Event()
        self._noticed = asyncio.Event()
        self._ended = asyncio.Event()
        self._changed: set[Path] = set()
        self._refreshing: set[asyncio.Event] = set()
        self._error: Exception | None = None

    @property
    def kind(self) -> Kind:
        """Whether changes are told by events or found by polling."""
        return self._watch.kind

    @property
    def reason(self) -> str | None:
        """Why events were given up for polling; None while they were not, or were not asked for."""
        return self._watch.reason

    async def __aenter__(self) -> Self:
        callbacks = (asyncio.get_running_loop(), self._armed.set, self._notice, self._end)
        threading.Thread(target=self._watch.run, args=callbacks, name="hotconf-watch", daemon=True).start()
        try:
            await self._armed.wait()
        except asyncio.CancelledError:
            self._watch.stop()
            raise
        if self._error is not None:
            raise self._error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), EXIT_TIMEOUT)

    async def changes(self) -> AsyncGenerator[frozenset[Path], None]:
        """Yield which of `paths` may have changed. Notices that were not yet taken are merged into one.

        For one consumer, which may be cancelled and ask again without loss. Ends when the context is left.

        Yields:
            The paths of one notice, at least one.

        Raises:
            Exception: What `paths` raised.
        """
        while not self._ended.is_set():
            await self._noticed.wait()
            self._noticed.clear()
            if self._changed:
                changed, self._changed = frozenset(self._changed), set()
                yield changed
        if self._error is not None:
            raise self._error

    async def refresh(self) -> None:
        """Call `paths` again now, and return when no change of what it names is missed any more.

        A path that is new gives no notice by itself: the caller knows when it was read.
        """
        if self._ended.is_set():
            return
        looked = asyncio.Event()
        self._refreshing.add(looked)  # and set at the end of the watch, if not before
        self._watch.refresh(looked.set)
        await looked.wait()
        self._refreshing.discard(looked)

    def _notice(self, paths: frozenset[Path]) -> None:
        self._changed |= paths
        self._noticed.set()

    def _end(self, error: Exception | None) -> None:
        self._error = error
        for event in (self._ended, self._armed, self._noticed, *self._refreshing):
            event.set()


class WatchLoop:
    """What the watcher's thread does: wait for events, look at the files, tell of changes."""

    def __init__(self, paths: Callable[[], Iterable[Path]], timings: WatchTimings, *, polling: bool) -> None:
        self.kind: Kind = "polling" if polling else "events"
        self.reason: str | None = None
        self._paths = paths
        self._timings = timings
        self._pid = os.getpid()
        try:
            self._start = os.getcwd()  # noqa: PTH109 - resolved as text, like every path here
        except FileNotFoundError:  # the folder was deleted: relative paths name nothing, absolute ones still work
            self._start = "/"
        self._source: EventSource = PollTimer()
        self._seen = FileStates({})
        self._pending = Debounced(timings)
        self._looked = self._alert_until = float("-inf")
        self._faults: deque[float] = deque(maxlen=_MAX_FAULTS)
        self._refreshes: deque[Callable[[], object]] = deque()
        self._stopped = False
        self._wake = threading.Event()
        self._left = threading.Event()

    def stop(self) -> None:
        """End the watch. Safe from any thread."""
        self._stopped = True
        self._wake.set()

    def refresh(self, looked: Callable[[], object]) -> None:
        """Look at the paths, without a notice for new ones, and then call `looked` in the event loop. Thread-safe."""
        self._refreshes.append(looked)
        self._wake.set()

    def run(
        self,
        loop: asyncio.AbstractEventLoop,
        armed: Callable[[], object],
        notice: Callable[[frozenset[Path]], object],
        ended: Callable[[Exception | None], object],
    ) -> None:
        """Watch until `stop` is called.

        The callbacks are called in the event loop: when no change is missed any more, with paths that may have changed,
        and with the error that ended the watch, None where it was stopped.
        """
        error: Exception | None = None
        atexit.register(self._at_exit)
        try:
            self._arm()
            self._pending.take()  # the first read comes after arming and sees whatever was noted until here
            self._alert_until = monotonic() + _ALERT  # a refresh may follow the first read
            loop.call_soon_threadsafe(armed)
            while not self._stopped:
                due = min(self._pending.due, self._looked + self._timings.poll)
                events = self._seen.relevant(self._wait(due))
                self._wake.clear()  # before what it stands for is looked at, so that no request is lost
                if events:
                    self._alert_until = monotonic() + _ALERT
                refreshes = [self._refreshes.popleft() for _ in range(len(self._refreshes))]
                if events or refreshes or monotonic() >= due:
                    before = self._look(events, notice_new=not refreshes)
                    # A new folder may have the inode number of the one that was deleted: only its event tells.
                    if self._seen.places != before.places or not before.folders.keys().isdisjoint(events):
                        self._arm()
                for looked in refreshes:
                    loop.call_soon_threadsafe(looked)
                if monotonic() >= self._pending.due:
                    loop.call_soon_threadsafe(notice, self._pending.take())
        except BaseException as caught:  # noqa: BLE001 - raised by changes(), as an Exception even where Rust panics
            error = caught if isinstance(caught, Exception) else RuntimeError(f"{type(caught).__name__}: {caught}")
        finally:
            self._source.close()
            self._left.set()
            atexit.unregister(self._at_exit)
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(ended, error)

    def _at_exit(self) -> None:
        """Stop: an interpreter that exits while the thread is inside watchfiles aborts."""
        if os.getpid() == self._pid:  # a forked child has no such thread to wait for
            self.stop()
            self._left.wait(EXIT_TIMEOUT)

    def _wait(self, due: float) -> AbstractSet[str]:
        """Return the next events; none when it is `due` to look without one, or where watchfiles breaks."""
        try:
            return self._source.wait(due, self._wake, self._alert_until)
        except (OSError, RuntimeError) as error:
            # One name that is not UTF-8, in any of the folders, is enough to get here, so a few faults are accepted.
            # The events told along with it are lost: every path may have changed.
            self._pending.add(self._seen.paths.keys())
            self._faults.append(monotonic())
            if len(self._faults) == _MAX_FAULTS and self._faults[0] > monotonic() - self._timings.poll:
                self._fall_back(str(error))
            self._arm()
            return frozenset()

    def _look(self, events: AbstractSet[str], *, notice_new: bool = True) -> FileStates:
        """Look at every path, note those that changed or had an event, and return what was seen before."""
        resolver = PathResolver(digests=self.kind == "polling")
        before = self._seen
        self._seen = FileStates({path: resolver.resolve(os.path.join(self._start, path)) for path in self._paths()})  # noqa: PTH118 - as text
        self._looked = monotonic()
        changed = self._seen.changed_since(before, events)
        self._pending.add(changed if notice_new else changed & before.paths.keys())
        return before

    def _arm(self) -> None:
        """Watch the folders that lead to the paths now. Repeated until they are the same before and after."""
        self._look(frozenset())
        for _ in range(_REARM_ATTEMPTS):
            before = self._look(self._replace_source())
            if self._seen.places == before.places and self._source.open:
                return
        self._fall_back("the folders on the way to it never rest")
        self._replace_source()

    def _replace_source(self) -> AbstractSet[str]:
        """Open the new source, then close the old one: an event in a folder that both watch is in one of them.

        Returns the events that the old source had left.
        """
        old, self._source = self._source, self._open_source()
        leftover = old.drain()
        old.close()
        return leftover

    def _open_source(self) -> EventSource:
        if self.kind == "polling":
            return PollTimer()
        mounts = Mounts.read()
        remote = mounts.remote(self._seen.devices)
        if remote is not None:
            return self._fall_back(f"the file system {remote} tells no events of changes made elsewhere")
        # A parent that cannot be read cannot be watched: polling finds its replacement.
        folders = [
            name
            for name, folder in self._seen.folders.items()
            if folder.required or os.access(name, os.R_OK, effective_ids=True)
        ]
        # A single file that is mounted (docker -v, subPath) has its events in a folder that may be out of sight.
        mounted_files = self._seen.ends & mounts.points
        try:
            return NativeEvents([*folders, *mounted_files])
        except FileNotFoundError:
            return PollTimer(open=False)  # a folder was removed meanwhile: look again
        except (OSError, RuntimeError) as error:
            return self._fall_back(str(error))

    def _fall_back(self, reason: str) -> PollTimer:
        self.kind, self.reason = "polling", reason
        _log.warning(
            "watching files by polling every %g s: %s (if the limit of inotify is reached, raise "
            "fs.inotify.max_user_watches or fs.inotify.max_user_instances, or the limit of open files)",
            self._timings.poll,
            reason,
        )
        return PollTimer()


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
