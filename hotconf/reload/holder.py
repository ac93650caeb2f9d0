"""The holder: one pointer to the snapshot in force, which readers read without a lock.

Readers far outnumber reloads, so a read is a plain slot: `holder.current` costs what any attribute costs. Before the
first load an instance belongs to a subclass whose `current` raises; the first publication changes its class.

A forked child keeps the settings. No other thread may hold the lock of a swap when the child is made, since it would
stay locked in the child for ever.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from hotconf.errors import NotLoaded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import Self

    from hotconf.reload.snapshot import Snapshot

S = TypeVar("S")


class Lease(Generic[S]):
    """A hold on one snapshot: its resources stay open until the lease ends.

    A context manager, entered by one task or thread at a time. Entering it again while it is held raises RuntimeError,
    ending it again does nothing.
    """

    __slots__ = ("_code", "_holder", "_owner", "_snapshot", "_thread", "reported", "since")

    def __init__(self, holder: Holder[S], owner: str) -> None:
        self._holder = holder
        self._owner = owner
        self._snapshot: Snapshot[S] | None = None
        self._code: CodeType | None = None
        self._thread = 0
        self.since = 0.0
        self.reported = False

    @property
    def owner(self) -> str:
        """What holds it: the name that was given, else the function that entered it."""
        if self._owner or self._code is None:
            return self._owner
        return f"{self._code.co_qualname} ({Path(self._code.co_filename).name}:{self._code.co_firstlineno})"

    @property
    def is_of_this_thread(self) -> bool:
        """Whether it was entered in the thread that asks."""
        return self._thread == threading.get_ident()

    def __enter__(self) -> Snapshot[S]:
        if self._snapshot is not None:
            raise RuntimeError("this lease is held already: call pin() once for each request or job")
        # All that a leak is named by later; a request pays for it, so that nothing is looked up before.
        self._code, self._thread, self.since = sys._getframe(1).f_code, threading.get_ident(), time.monotonic()  # noqa: SLF001
        self._snapshot = snapshot = self._holder._acquire(self)  # noqa: SLF001 - one mechanism in two classes
        return snapshot

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            self._holder._release(snapshot, self)  # noqa: SLF001


class Holder(Generic[S]):
    """Holds the settings in force. Reading is safe from any thread or task; publishing is for one thread at a time."""

    # `current` is the one pointer; `_snapshot` follows it under `_swap` and is never trusted on its own.
    __slots__ = ("__weakref__", "_callback", "_leases", "_released", "_snapshot", "_swap", "current")

    current: S
    _snapshot: Snapshot[S] | None
    _leases: dict[Lease[S], Snapshot[S]]
    _released: Callable[[], None]
    _swap: threading.RLock
    _callback: Callable[[], None]

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        """Make an instance that is not loaded."""
        return cast("Self", object.__new__(_unloaded(cls)))

    def __init__(self) -> None:
        set_slot = object.__setattr__
        # Reentrant: a signal handler or a finalizer may read in the very thread that stands inside.
        set_slot(self, "_swap", threading.RLock())
        set_slot(self, "_leases", {})
        set_slot(self, "_released", _ignore)
        set_slot(self, "_snapshot", None)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _READ_ONLY:
            raise AttributeError(f"{name} is replaced by a reload, not by assignment")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name in _READ_ONLY:
            raise AttributeError(f"{name} cannot be deleted")
        object.__delattr__(self, name)

    @property
    def snapshot(self) -> Snapshot[S]:
        """The snapshot in force: settings, generation, origins and resources that belong together."""
        settings, snapshot = self.current, self._snapshot
        if snapshot is not None and snapshot.settings is settings:
            return snapshot
        with self._swap:  # another thread stands between the two stores of a swap
            return cast("Snapshot[S]", self._snapshot)

    @property
    def loaded(self) -> bool:
        """Whether a first snapshot has been published: once true, `current` never raises."""
        return True

    def pin(self, owner: str = "") -> Lease[S]:
        """Return a context manager that holds the snapshot in force until it exits: for one request or one job.

        `owner` is what a leak is named by; without it, the function that entered it.
        """
        return Lease(self, owner)

    @property
    def leased(self) -> dict[int, int]:
        """The number of live leases by generation."""
        counts: dict[int, int] = {}
        for snapshot in self._leases.copy().values():
            counts[snapshot.generation] = counts.get(snapshot.generation, 0) + 1
        return counts

    def overdue(self, seconds: float) -> list[tuple[int, Lease[S]]]:
        """Return the leases of replaced snapshots that have been held for longer, each with its generation."""
        latest = time.monotonic() - seconds
        return [
            (snapshot.generation, lease)
            for lease, snapshot in self._leases.copy().items()
            if snapshot is not self._snapshot and lease.since < latest
        ]

    def _publish(self, snapshot: Snapshot[S]) -> Snapshot[S] | None:
        """Swap. Return the snapshot that was in force, None the first time. Settings must be an object of their own."""
        with self._swap:
            before = self._snapshot
            object.__setattr__(self, "_snapshot", snapshot)
            # The slot is filled before the class changes, so that no thread ever finds it empty.
            _CURRENT.__set__(self, snapshot.settings)
            if before is None:
                object.__setattr__(self, "__class__", type(self).__bases__[1])
        return before

    def _unpublish(self) -> None:
        """Go back to the state before the first publication. For an override that made it, in a test."""
        with self._swap:
            object.__setattr__(self, "__class__", _unloaded(type(self)))
            object.__setattr__(self, "_snapshot", None)

    def _acquire(self, lease: Lease[S]) -> Snapshot[S]:
        # Every request pins, and a lock costs as much as all the rest of it. So the lease is entered first, and then
        # the snapshot must be in force still: a swap before that look is seen here, and one after it sees the lease.
        while (snapshot := self._snapshot) is not None:
            self._leases[lease] = snapshot
            if snapshot is self._snapshot:
                return snapshot
            self._release(snapshot, lease)
        raise NotLoaded

    def _release(self, snapshot: Snapshot[S], lease: Lease[S]) -> None:
        self._leases.pop(lease, None)  # a forked child has forgotten those of other threads
        if snapshot is not self._snapshot:
            self._released()

    def _follow_forks(self) -> None:
        """Let forked children leave this process properly from now on. For the end of construction."""
        _holders[id(self)] = self

    def _leave_parent(self) -> None:
        """Go on in a forked child.

        The leases of other threads are forgotten: those threads are not there to end them.
        """
        for lease in [lease for lease in self._leases if not lease.is_of_this_thread]:
            del self._leases[lease]

    def _on_next_read(self, callback: Callable[[], None]) -> None:
        """Call a function once, in the thread that reads or pins next."""
        names = {"__slots__": (), "__module__": type(self).__module__, "__qualname__": type(self).__qualname__}
        object.__setattr__(self, "_callback", callback)
        object.__setattr__(self, "__class__", type(type(self).__name__, (_CallsBack, type(self)), names))

    def _cancel_on_next_read(self) -> bool:
        """Take `_on_next_read` back, and return whether there was a function to call."""
        with self._swap:  # in one of several threads
            waits = isinstance(self, _CallsBack)
            if waits:
                object.__setattr__(self, "__class__", type(self).__bases__[1])
            return waits

    def _on_release(self, callback: Callable[[], None]) -> None:
        """Have a function called, in the releasing thread, whenever a lease of a replaced snapshot ends."""
        object.__setattr__(self, "_released", callback)


_CURRENT: Any = vars(Holder)["current"]
_READ_ONLY = frozenset({"current", "snapshot", "loaded"})


def _ignore() -> None:
    pass


def _refuse(_holder: object) -> NoReturn:
    raise NotLoaded


class _Unloaded:
    __slots__ = ()
    current = property(_refuse)
    snapshot = property(_refuse)
    loaded = False


class _CallsBack:
    """Precedes the class of an instance until that is read for the first time."""

    __slots__ = ()

    @property
    def current(self) -> Any:
        return _called_back(self).current

    def pin(self, owner: str = "") -> Any:
        return _called_back(self).pin(owner)


def _called_back(holder: Any) -> Any:
    if holder._cancel_on_next_read():  # noqa: SLF001 - a part of it
        holder._callback()  # noqa: SLF001
    return holder


def _unloaded(cls: type) -> type:
    """Return a subclass for an instance to belong to until its first publication."""
    namespace = {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (_Unloaded, cls), namespace)


def keep_for_ever(*objects: object) -> None:
    """Never collect these, in a forked child: coroutines of the parent, above all.

    A coroutine that is collected runs its `finally` blocks. Here these would close what the parent still uses: remove
    its files, end its connections. A reference in a module is not enough, since the interpreter drops it at its end.
    """
    for kept in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


_holders: weakref.WeakValueDictionary[int, Holder[Any]] = weakref.WeakValueDictionary()
_fork = threading.local()


def _before_fork() -> None:
    _fork.locked = []
    for reference in _holders.valuerefs():  # a list at once: other threads may construct meanwhile
        if (holder := reference()) is not None:
            holder._swap.acquire()  # noqa: SLF001 - this module's own
            _fork.locked.append(holder)


def _after_fork_in_parent() -> None:
    for holder in _fork.locked:
        holder._swap.release()  # noqa: SLF001
    del _fork.locked


def _after_fork_in_child() -> None:
    holders = _fork.locked
    _after_fork_in_parent()
    for holder in holders:
        holder._leave_parent()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
