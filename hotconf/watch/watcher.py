"""The watcher: hints for the event loop, from a thread that observes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Literal

from hotconf.watch.observer import EXIT_PATIENCE, Listener, Observer
from hotconf.watch.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from hotconf.watch.observer import Kind


class Watcher:
    """Hints that some of `paths` may have changed. An async context manager, entered once.

    `paths` is called afresh at every look, in the watcher's thread. A file's path stands for the file, existing or
    not; a folder's path for its direct children; `folder/*.toml` for those whose names end so and are not hidden. What
    else lies in the folder, such as the log of whoever reads it, is no reason to read again. A relative path starts
    where the process stood at construction.

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
        self._observer = Observer(paths, Pace(debounce, max_wait, poll), polling=mode == "poll")
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
        listener = Listener(asyncio.get_running_loop(), armed=self._armed.set, hint=self._hint, end=self._end)
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
            await asyncio.wait_for(self._ended.wait(), EXIT_PATIENCE)

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
