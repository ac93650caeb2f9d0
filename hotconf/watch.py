"""Watches: hints that something the sources read may have changed.

A hint is no more than a reason to read again: what changed, and whether anything did, is for the reading to say. So a
hint too many costs one read and a hint too few is a fault. Three things keep a change from being missed:

- Folders are watched, never files, and every folder on the way from the root to the file, through each symbolic link. A
  file, a link or a parent folder that is replaced by a rename is an event in a folder that stays.
- A watch belongs to a folder's inode. When the way leads through other folders than before, the watches are set afresh,
  and what was seen before setting them is compared with what is seen after.
- At a slow pace everything is looked at without being asked, for what events do not tell (an overflowing queue, a write
  through a memory map).

All of it, watchfiles and every stat included, runs in one thread of the watcher's own. A dead network mount blocks that
thread and nothing else.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import hashlib
import logging
import os
import stat
import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from hotconf.mounts import Mounts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Set as AbstractSet
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from watchfiles._rust_notify import RustNotify

_log = logging.getLogger("hotconf")

Kind: TypeAlias = Literal["events", "polling"]

DIGEST_LIMIT = 4 * 2**20
"""Bytes. While polling, the content of larger files is not looked at: their size, times and inode must tell."""

_STEP = 0.01  # seconds between two looks at the queue of events, while something is going on
_IDLE_STEP = 0.025  # and when nothing is: waking up is the whole cost of an idle watcher
_SHORTEST = 0.002  # and at the least; also how long it must be quiet before a hint, however short the debounce
_GROUP = 10  # milliseconds after which events are told although more are being added
_ALERT = 5.0  # seconds for which something still counts as going on
_CLOCK_SLACK = 0.5  # seconds
_REARM_ATTEMPTS = 100
_MAX_FAULTS = 5  # of watchfiles itself, within the time of one poll
_MAX_LINKS = 40  # the kernel's own limit
_EXIT_PATIENCE = 1.0  # seconds; a thread stuck in a dead mount is left behind after that


class Watcher:
    """Hints that some of `paths` may have changed. An async context manager, entered once.

    `paths` is called afresh at every look, in the watcher's thread. A file's path stands for the file, existing or
    not; a folder's path for its direct children. A relative path starts where the process stood at construction.

    A hint comes `debounce` seconds after the last event, at the latest `max_wait` seconds after the first one. Every
    `poll` seconds the watcher looks for itself. Where events are not to be had (`mode="poll"`, no watches left, a
    network file system) that is the only way, and it then compares content too.

    Inside the context nothing is missed any more, so the first read belongs there. Leaving it ends the thread.
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
        self._observer = _Observer(paths, _Pace(debounce, max_wait, poll), polling=mode == "poll")
        self._armed = asyncio.Event()
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._hinted: set[Path] = set()
        self._error: Exception | None = None

    @property
    def kind(self) -> Kind:
        """Whether changes are told by events or found by polling."""
        return self._observer.kind

    @property
    def reason(self) -> str | None:
        """Why events were given up for polling; None while they were not, or were never wanted."""
        return self._observer.reason

    async def __aenter__(self) -> Self:
        listener = _Listener(asyncio.get_running_loop(), armed=self._armed.set, hint=self._hint, end=self._end)
        threading.Thread(target=self._observer.run, args=(listener,), name="hotconf-watch", daemon=True).start()
        try:
            await self._armed.wait()
        except asyncio.CancelledError:
            self._observer.stop.set()
            raise
        if self._error is not None:
            raise self._error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._observer.stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _EXIT_PATIENCE)

    async def changes(self) -> AsyncGenerator[frozenset[Path], None]:
        """Yield which of `paths` may have changed, never none. Hints that were not yet taken are merged into one.

        For one consumer, who may be cancelled and ask again without loss. Ends when the watcher is left. An error of
        `paths` is raised here.
        """
        while not self._ended.is_set():
            await self._news.wait()
            self._news.clear()
            if self._hinted:
                hint, self._hinted = frozenset(self._hinted), set()
                yield hint
        if self._error is not None:
            raise self._error

    def _hint(self, paths: frozenset[Path]) -> None:
        self._hinted |= paths
        self._news.set()

    def _end(self, error: Exception | None) -> None:
        self._error = error
        for event in (self._ended, self._armed, self._news):
            event.set()


class _Pace(NamedTuple):
    """The watcher's times, in seconds."""

    debounce: float
    max_wait: float
    poll: float


class _Listener:
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
        self._loop.call_soon_threadsafe(self._armed)

    def hint(self, paths: frozenset[Path]) -> None:
        self._loop.call_soon_threadsafe(self._hint, paths)

    def end(self, error: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, error)


@dataclass(slots=True)
class _Pending:
    """The paths of the next hint, and when it is due."""

    pace: _Pace
    paths: set[Path] = field(default_factory=set)
    first: float = 0.0
    last: float = 0.0

    def note(self, paths: AbstractSet[Path]) -> None:
        if not paths:
            return
        self.last = monotonic()
        self.first = self.first if self.paths else self.last
        self.paths |= paths

    @property
    def due(self) -> float:
        if not self.paths:
            return float("inf")
        # Events are looked for once a step: that much of the wait is over when they are found.
        quiet = max(_SHORTEST, self.pace.debounce - _STEP)
        return min(self.last + quiet, self.first + self.pace.max_wait)

    def take(self) -> frozenset[Path]:
        taken = frozenset(self.paths)
        self.paths.clear()
        return taken


class _Observer:
    """The thread's side: waits for events, looks, and says what changed. `stop` ends it from any thread."""

    def __init__(self, paths: Callable[[], Iterable[Path]], pace: _Pace, *, polling: bool) -> None:
        self.stop = threading.Event()
        self.kind: Kind = "polling" if polling else "events"
        self.reason: str | None = None
        self._left = threading.Event()
        self._paths = paths
        self._pid = os.getpid()
        self._start = os.getcwd()  # noqa: PTH109 - resolved as text, like every path below
        self._pace = pace
        self._pending = _Pending(pace)
        self._feed: _Feed = _Interval()
        self._seen = _Survey({})
        self._faults: deque[float] = deque(maxlen=_MAX_FAULTS)
        self._looked = self._alert = float("-inf")

    def run(self, listener: _Listener) -> None:
        error: Exception | None = None
        atexit.register(self._leave)
        try:
            self._arm()
            self._pending.take()  # the first read comes after arming, so whatever was noted until here it sees
            listener.armed()
            while not self.stop.is_set():
                self._turn(listener)
        except Exception as caught:  # noqa: BLE001 - handed over to whoever iterates over changes()
            error = caught
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
        self._left.wait(_EXIT_PATIENCE)

    def _turn(self, listener: _Listener) -> None:
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
            return self._feed.wait(due, self.stop, _STEP if monotonic() < self._alert else _IDLE_STEP)
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
        self._pending.note(_changed(before, self._seen, events))

    def _survey(self) -> _Survey:
        lookup = _Lookup(hashing=self.kind == "polling")
        return _Survey({path: lookup.trace(os.path.join(self._start, path)) for path in self._paths()})  # noqa: PTH118

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

    def _open_feed(self) -> _Feed:
        if self.kind == "polling":
            return _Interval()
        try:
            return self._open_events()
        except FileNotFoundError:
            return _Interval(open=False)  # a folder went away under our hands: survey again
        except (OSError, RuntimeError) as error:
            self._fall_back(str(error))
            return _Interval()

    def _open_events(self) -> _Feed:
        mounts = Mounts.read()
        remote = mounts.remote(self._seen.devices)
        if remote is not None:
            raise OSError(errno.ENOTSUP, f"the file system {remote} tells no events of changes made elsewhere")
        watched = [name for name, folder in self._seen.folders.items() if folder.required or _readable(name)]
        # A single file that is mounted (docker -v, subPath) has its events in a folder outside our sight.
        return _Events([*watched, *(self._seen.ends & mounts.points)])

    def _fall_back(self, reason: str) -> None:
        self.kind, self.reason = "polling", reason
        _log.warning(
            "watching files by polling every %g s: %s (if the limit of inotify is reached, raise "
            "fs.inotify.max_user_watches or fs.inotify.max_user_instances, or the limit of open files)",
            self._pace.poll,
            reason,
        )


def _readable(folder: str) -> bool:
    """Whether a folder can be watched. Where a parent cannot, polling finds its replacement."""
    return os.access(folder, os.R_OK, effective_ids=True)


class _Feed(Protocol):
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
class _Interval:
    """No events: only the time passes."""

    open: bool = True

    def wait(self, until: float, stop: threading.Event, step: float) -> AbstractSet[str]:  # noqa: ARG002 - the protocol
        stop.wait(max(0.0, until - monotonic()))
        return frozenset()

    def drain(self) -> AbstractSet[str]:
        return frozenset()

    def close(self) -> None:
        pass


class _Events:
    """Events of the direct children of folders, from watchfiles.

    Raises FileNotFoundError where a folder does not exist, OSError or RuntimeError where it cannot be watched.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self.open = True
        self._notify = _open_notify(list(folders))

    def wait(self, until: float, stop: threading.Event, step: float) -> AbstractSet[str]:
        return self._collect(step, until, stop)

    def drain(self) -> AbstractSet[str]:
        with contextlib.suppress(RuntimeError):
            return self._collect(_SHORTEST, monotonic(), threading.Event())
        return frozenset()

    def close(self) -> None:
        self._notify.close()

    def _collect(self, step: float, until: float, stop: threading.Event) -> AbstractSet[str]:
        rest = max(_SHORTEST, until - monotonic())
        rhythm = _Rhythm(stop, min(step, rest), until + _CLOCK_SLACK)
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


class _Stamp(NamedTuple):
    """What tells one state of a file from another. Times in nanoseconds; no digest where content was not read."""

    device: int
    inode: int
    mode: int
    size: int
    modified: int
    changed: int
    digest: bytes


_State: TypeAlias = "_Stamp | int | tuple[tuple[str, _Stamp | int], ...]"
"""Of a file, its stamp; of a folder, its children's; the errno where there is nothing to be seen."""


class _Folder(NamedTuple):
    """A folder on the way, by device and inode.

    `required`: it holds a link or the end of the way, and must be watched. A mere parent may stay unwatched where it
    cannot be read.
    """

    place: tuple[int, int]
    required: bool


@dataclass(frozen=True, slots=True)
class _Trace:
    """How one path resolved, name by name.

    `names` are the names that were looked up, each as the real path of its folder plus the name: an event on one of
    them concerns the path. `inside` is the folder of which any child does.
    """

    names: AbstractSet[str]
    folders: Mapping[str, _Folder]
    end: str
    inside: str | None
    state: _State

    def met_by(self, events: AbstractSet[str]) -> bool:
        inside = self.inside is not None and any(os.path.dirname(event) == self.inside for event in events)  # noqa: PTH120
        return inside or not self.names.isdisjoint(events)


class _Survey:
    """The traces of all paths at one time."""

    def __init__(self, traces: Mapping[Path, _Trace]) -> None:
        self.traces = traces
        self.folders = _union(trace.folders for trace in traces.values())
        self.places = {name: folder.place for name, folder in self.folders.items()}
        self.ends = {trace.end for trace in traces.values()}
        self._names = frozenset[str]().union(*(trace.names for trace in traces.values()))
        self._inside = {trace.inside for trace in traces.values()} - {None}

    @property
    def devices(self) -> set[int]:
        files = (trace.state for trace in self.traces.values())
        return {device for device, _ in self.places.values()} | {
            state.device for state in files if isinstance(state, _Stamp)
        }

    def relevant(self, events: AbstractSet[str]) -> AbstractSet[str]:
        return {
            event
            for event in events
            if event in self._names or event in self.folders or os.path.dirname(event) in self._inside  # noqa: PTH120
        }


def _union(parts: Iterable[Mapping[str, _Folder]]) -> dict[str, _Folder]:
    folders: dict[str, _Folder] = {}
    for part in parts:
        for name, folder in part.items():
            known = folders.get(name, folder)
            folders[name] = folder._replace(required=known.required or folder.required)
    return folders


def _changed(before: _Survey, after: _Survey, events: AbstractSet[str]) -> set[Path]:
    return {path for path, trace in after.traces.items() if _trace_changed(before.traces.get(path), trace, events)}


def _trace_changed(before: _Trace | None, after: _Trace, events: AbstractSet[str]) -> bool:
    if before is None or before.state != after.state:
        return True
    # An event counts even where everything is as it was: what was there in between may have been read.
    return before.met_by(events)


class _Lookup:
    """Resolves paths name by name, as the kernel does. Asks for each name once: one lookup serves one survey."""

    def __init__(self, *, hashing: bool) -> None:
        self._hashing = hashing
        self._known: dict[str, os.stat_result | int] = {}

    def trace(self, path: str) -> _Trace:
        walk = _Walk(self.stat)
        end, found = walk.follow("/", path)
        folder = not isinstance(found, int) and stat.S_ISDIR(found.st_mode)
        state = self._children(walk, end) if folder else self._stamp(end, found)
        return _Trace(walk.names, walk.folders, end, end if folder else None, state)

    def stat(self, name: str) -> os.stat_result | int:
        """Return what a name stands for, links not followed, or the errno."""
        if name not in self._known:
            try:
                self._known[name] = os.lstat(name)
            except OSError as error:
                self._known[name] = error.errno or errno.EIO
        return self._known[name]

    def _children(self, walk: _Walk, folder: str) -> _State:
        walk.enter(folder, required=True)
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
        except OSError as error:
            return error.errno or errno.EIO
        return tuple((name, self._child(walk, folder, name)) for name in names)

    def _child(self, walk: _Walk, folder: str, name: str) -> _Stamp | int:
        return self._stamp(*walk.follow(folder, name))

    def _stamp(self, end: str, found: os.stat_result | int) -> _Stamp | int:
        if isinstance(found, int):
            return found
        if stat.S_ISDIR(found.st_mode):  # the times and size of a folder within a folder are its own affair
            return _Stamp(found.st_dev, found.st_ino, found.st_mode, 0, 0, 0, b"")
        digest = _digest(end) if self._hashing and stat.S_ISREG(found.st_mode) else b""
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return _Stamp(found.st_dev, found.st_ino, found.st_mode, found.st_size, *times, digest)


def _digest(name: str) -> bytes:
    """Return the digest of a file's content; nothing where it cannot be read, is too large, or is no regular file."""
    try:
        # The file may have become a FIFO since it was looked at: opening one must not wait for its writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > DIGEST_LIMIT:
                return b""
            return hashlib.blake2b(file.read(DIGEST_LIMIT)).digest()
    except OSError:
        return b""


class _Walk:
    """The names and folders met while following one path and, of a folder, its children."""

    def __init__(self, lookup: Callable[[str], os.stat_result | int]) -> None:
        self.names: set[str] = set()
        self.folders: dict[str, _Folder] = {}
        self._lookup = lookup

    def follow(self, here: str, path: str) -> tuple[str, os.stat_result | int]:
        """Follow `path` from the folder `here`. Returns the place where the way ends, and what is there."""
        names = _names_of(path)
        links = 0
        while names:
            name = names.pop()
            if name == "..":
                here = os.path.dirname(here)  # noqa: PTH120
                continue
            place = os.path.join(here, name)  # noqa: PTH118
            found = self._look_up(here, place)
            if isinstance(found, int):
                return place, found
            if stat.S_ISLNK(found.st_mode):
                links += 1
                target = _read_link(place)
                if links > _MAX_LINKS or target is None:
                    return place, errno.ELOOP
                here = "/" if target.startswith("/") else here
                names += _names_of(target)
            elif names and not stat.S_ISDIR(found.st_mode):
                return place, errno.ENOTDIR
            else:
                here = place
        return here, self._lookup(here)

    def enter(self, folder: str, *, required: bool) -> None:
        """Note a folder, where it can be looked into."""
        found = self._lookup(folder)
        if isinstance(found, int):
            return
        known = self.folders.get(folder)
        required = required or (known is not None and known.required)
        self.folders[folder] = _Folder((found.st_dev, found.st_ino), required)

    def _look_up(self, folder: str, place: str) -> os.stat_result | int:
        found = self._lookup(place)
        self.names.add(place)
        if found != errno.EACCES:  # a folder that cannot be entered is watched for from above
            plain = not isinstance(found, int) and stat.S_ISDIR(found.st_mode)
            self.enter(folder, required=not plain)
        return found


def _names_of(path: str) -> list[str]:
    """Return the names of a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _read_link(place: str) -> str | None:
    try:
        return os.readlink(place)  # noqa: PTH115
    except OSError:
        return None
