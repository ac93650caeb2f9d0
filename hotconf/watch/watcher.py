"""The watcher: change notices for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Literal

from hotconf.watch.follower import Callbacks, Follower, WatchTimings
from hotconf.watch.thread import watch_threads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from hotconf.watch.follower import Kind

EXIT_TIMEOUT = 1.0
"""Seconds to wait at the end for the watch thread to have let go of the folders."""


class Watcher:
    """Change notices for `paths`. An async context manager, entered once.

    Inside the context no change is missed any more, so the first read belongs there. All watchers of a process share
    one thread, which ends with the last of them.

    Args:
        paths: Called afresh at every look, in a thread. A file's path stands for the file, whether it
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
        self._follower = Follower(paths, WatchTimings(debounce, max_wait, poll), polling=mode == "poll")
        self._armed = asyncio.Event()
        self._noticed = asyncio.Event()
        self._ended = asyncio.Event()
        self._changed: set[Path] = set()
        self._refreshing: set[asyncio.Event] = set()
        self._error: Exception | None = None

    @property
    def kind(self) -> Kind:
        """Whether changes are told by events or found by polling."""
        return self._follower.kind

    @property
    def reason(self) -> str | None:
        """Why events were given up for polling; None while they were not, or were not asked for."""
        return self._follower.reason

    async def __aenter__(self) -> Self:
        self._follower.callbacks = Callbacks(asyncio.get_running_loop(), self._armed.set, self._notice, self._end)
        watch_threads.follow(self._follower)
        try:
            await self._armed.wait()
        except asyncio.CancelledError:
            self._follower.stop()
            raise
        if self._error is not None:
            raise self._error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._follower.stop()
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
        self._follower.refresh(looked.set)
        await looked.wait()
        self._refreshing.discard(looked)

    def _notice(self, paths: frozenset[Path]) -> None:
        self._changed |= paths
        self._noticed.set()

    def _end(self, error: Exception | None) -> None:
        self._error = error
        for event in (self._ended, self._armed, self._noticed, *self._refreshing):
            event.set()
