"""The watch thread: one for all watchers of the process. It waits for events and has the files looked at."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from hotconf.watch.events import NativeEvents, PollTimer

if TYPE_CHECKING:
    from collections.abc import Sequence, Set as AbstractSet

    from hotconf.watch.events import EventSource
    from hotconf.watch.follower import Follower

EXIT_TIMEOUT = 1.0
"""Seconds to wait for the thread when the interpreter exits."""

_ALERT = 5.0  # seconds after a start, and after an event, for which something counts as going on
_LOOKING = 0.05  # the same after the start of a look
_PATIENCE = 0.02  # seconds for which one look is waited for before the next one starts
_MAX_FAULTS = 5  # of watchfiles itself, within the time of one poll


class WatchThread:
    """Waits for the events of all its followers, with one instance of inotify, and tells each of them what is due.

    It touches no file and calls no function of the program, so a follower that hangs or fails concerns no other one.
    What watchfiles refuses to all of them at once is tried again with each of them in a watch thread of its own.

    `join`, and `wake` after a follower has changed, may be called from any thread.
    """

    def __init__(self) -> None:
        self.joining: deque[Follower] = deque()
        self._followers: list[Follower] = []
        self._source: EventSource = PollTimer()
        self._opened = frozenset[str]()
        self._alert_until = float("-inf")
        self._faults: deque[float] = deque(maxlen=_MAX_FAULTS)
        self._pid = os.getpid()
        self._stopped = False
        self._wake = threading.Event()
        self._left = threading.Event()

    def start(self) -> None:
        """Start the thread. It ends with its last follower."""
        threading.Thread(target=self._run, name="hotconf-watch", daemon=True).start()

    def join(self, follower: Follower) -> None:
        """Take on a follower."""
        follower.thread = self
        self.joining.append(follower)
        self.wake()

    def wake(self) -> None:
        """Notice at once what has changed in a follower."""
        self._wake.set()

    def give_up(self, followers: Sequence[Follower], reason: str) -> None:
        """Let a follower that is alone go on by polling, and each of several ones in a thread of its own."""
        if len(self._followers) == 1:
            followers[0].fall_back(reason)
            return
        for follower in followers:
            self._followers.remove(follower)
            alone = WatchThread()
            alone.join(follower)
            alone.start()

    def _run(self) -> None:
        error: Exception | None = None
        atexit.register(self._at_exit)
        try:
            self._follow()
        except Exception as caught:  # noqa: BLE001 - raised by the watchers
            error = caught
        finally:
            self._source.close()
            self._left.set()
            atexit.unregister(self._at_exit)
            watch_threads.has_left(self, unasked=True)
            for follower in (*self._followers, *self.joining):
                follower.end(error)

    def _at_exit(self) -> None:
        """Stop: an interpreter that exits while the thread is inside watchfiles aborts."""
        if os.getpid() == self._pid:  # a forked child has no such thread to wait for
            self._stopped = True
            self.wake()
            self._left.wait(EXIT_TIMEOUT)

    def _follow(self) -> None:
        while not self._stopped:
            events = self._wait()
            self._wake.clear()  # before what it stands for is looked at, so that no request is lost
            self._add_events(events)
            while self.joining:
                self._followers.append(self.joining.popleft())
                self._alert_until = monotonic() + _ALERT  # a refresh may follow the first read
            for follower in tuple(self._followers):
                follower.take_look()
            gone = [follower for follower in self._followers if follower.is_over]
            if len(gone) == len(self._followers) and watch_threads.has_left(self):
                return
            for follower in gone:
                self._followers.remove(follower)
            if any(follower.must_open for follower in self._followers) or self._folders() < self._opened:
                self._open()
            for follower in gone:
                follower.end(None)
            now = monotonic()
            for follower in self._followers:
                follower.give_notice(now)
                if self._next_look(now) <= now and follower.start_look(now):
                    self._alert_until = max(self._alert_until, now + _LOOKING)

    def _next_look(self, now: float) -> float:
        """Return when the next look may start: they take turns, unless one takes long."""
        begun = (follower.looking_since for follower in self._followers)
        return max((since + _PATIENCE for since in begun if since is not None), default=now)

    def _wait(self) -> AbstractSet[str]:
        """Return the next events; none when something is due without one, or where watchfiles breaks."""
        now = monotonic()
        due = min((follower.due(now) for follower in self._followers), default=now)
        try:
            return self._source.wait(max(due, self._next_look(now)), self._wake, self._alert_until)
        except (OSError, RuntimeError) as error:
            # One name that is not UTF-8, in any of the folders, is enough to get here, so a few faults are accepted.
            # The events told along with it are lost: every path may have changed.
            native = self._native()
            for follower in native:
                follower.lose_events()
            self._faults.append(monotonic())
            window = min((follower.timings.poll for follower in native), default=0.0)
            if len(self._faults) == _MAX_FAULTS and self._faults[0] > monotonic() - window:
                self.give_up(native, str(error))
            self._open()
            return frozenset()

    def _add_events(self, events: AbstractSet[str]) -> None:
        for follower in self._followers:
            if follower.add_events(events):
                self._alert_until = monotonic() + _ALERT

    def _native(self) -> list[Follower]:
        return [follower for follower in self._followers if follower.kind == "events"]

    def _folders(self) -> frozenset[str]:
        return frozenset[str]().union(*(follower.folders for follower in self._native()))

    def _open(self) -> None:
        """Watch the folders on the ways of all followers.

        The new source is opened before the old one is closed: an event in a folder that both watch is in one of them.
        """
        native = self._native()
        self._opened = folders = self._folders()
        changed = [follower for follower in native if follower.must_open]
        try:
            source: EventSource = NativeEvents(folders) if folders else PollTimer()
        except FileNotFoundError:
            for follower in native:
                follower.was_opened(completely=False)
            return
        except (OSError, RuntimeError) as error:
            if changed:
                self.give_up(changed, str(error))
                self._open()
            return
        old, self._source = self._source, source
        leftover = old.drain()
        old.close()
        for follower in changed:
            follower.was_opened(completely=True)
        self._add_events(leftover)


class WatchThreads:
    """The watch thread that the watchers of this process share, while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: WatchThread | None = None
        self._inherited: list[WatchThread] = []

    def follow(self, follower: Follower) -> None:
        """Have a follower watched. Safe from any thread."""
        with self._lock:
            if self._shared is not None:
                self._shared.join(follower)
                return
            thread = WatchThread()
            thread.join(follower)
            thread.start()
            self._shared = thread

    def has_left(self, thread: WatchThread, *, unasked: bool = False) -> bool:
        """Let no follower join a thread any more, unless one has just done so. Return whether that is so."""
        with self._lock:
            if thread.joining and not unasked:
                return False
            if self._shared is thread:
                self._shared = None
            return True

    def leave_parent(self) -> None:
        """Begin anew in a forked child, which has no thread of its parent."""
        inherited = [*self._inherited, *([self._shared] if self._shared else [])]
        self.__init__()  # type: ignore[misc]
        self._inherited = inherited  # kept: closing what watchfiles opened in the parent waits for its thread


watch_threads = WatchThreads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch_threads.leave_parent)
