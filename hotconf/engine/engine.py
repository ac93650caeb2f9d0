"""The engine: what runs reloads while a configuration is live. Triggers go in, reports come out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import time
from typing import TYPE_CHECKING, Any

import hotconf.reload.last_good as last_good
from hotconf.abc import Connected, Settling
from hotconf.engine.follow import CLOSING as CLOSING_SOURCES, Follower
from hotconf.errors import ConfigError, Draining, HotconfError, NotRunning, OperationRefused
from hotconf.reload.request import EndOverride, ReloadRequest, Resume, Revert
from hotconf.reload.subscribers import being_cancelled
from hotconf.schema.fields import masked_by_name
from hotconf.schema.redact import traceback_without_message
from hotconf.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from hotconf.engine.queue import QueuedReload, ReloadQueue
    from hotconf.reload.last_good import LastGood
    from hotconf.reload.reloader import Reloader
    from hotconf.schema.settings import Options
    from hotconf.sources.stack import Stack
    from hotconf.values.report import Report

log = logging.getLogger("hotconf")

CLOSING = 3.0
"""Seconds that all resources together have to close when the engine stops, unless it is told otherwise."""

_LISTENERS_TIMEOUT = 1.0
"""Seconds that async on_change subscribers have to finish when the engine stops."""


class Engine:
    """Runs reloads for one configuration in one event loop. An async context manager, used once.

    One that `resumes` goes on with what is running, without reading, and then reads: its start cannot be rejected for a
    source that is broken just now.

    Entering watches first and reads second, so that no change falls between. It raises ConfigError, with nothing left
    behind, when the first reload is rejected.
    """

    def __init__(
        self,
        reloader: Reloader[Any],
        stack: Stack,
        *,
        queue: ReloadQueue,
        last_good: LastGood | None,
        options: Options,
        closing: float = CLOSING,
        resumes: bool = False,
    ) -> None:
        self._reloader = reloader
        self._stack = stack
        self._last_good = last_good
        self._options = options
        self._closing = closing
        self._resumes = resumes
        self._tasks: set[asyncio.Task[None]] = set()
        self._entered = contextlib.AsyncExitStack()
        self._connections = contextlib.AsyncExitStack()
        self._awaited_writers: list[Settling] = []
        self._serving: asyncio.Task[None] | None = None
        self._is_reloading = False
        self._revert_timer: asyncio.TimerHandle | None = None
        self._lease_timer: asyncio.TimerHandle | None = None
        self.queue = queue
        self.watcher: Watcher | None = None
        self._watched: set[Path] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.hands_over = False

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        try:
            if self._last_good is None:
                last_good.advise_workers()
            await self._watch()
            resumes = self._resumes and self._reloader.running is not None
            operation = Resume() if resumes else None
            request = ReloadRequest(
                ("resume",) if resumes else ("start",), operation=operation, phase="start", raises=True
            )
            report = await last_good.start(self._reloader, self._stack, self._last_good, request)
            if report.outcome == "rejected":
                raise ConfigError(report)  # noqa: TRY301 - what was begun ends below
            await self._watch_found()
            await last_good.save(self._reloader, self._last_good)
        except BaseException:
            await self._stop()
            raise
        if masked := masked_by_name(self._stack.model):
            log.info("masked because of their names: %s; Annotated[…, Public()] shows a value", ", ".join(masked))
        self._serving = self._spawn(self._serve(), "hotconf-reloads")
        self._schedule_revert()
        self._reloader.notify_listeners()
        self._reloader.notify_initial()
        if resumes and self.queue.refusal is None:  # what has changed while no engine ran
            self.request_from_outside("resume")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def freeze(self) -> None:
        """Refuse every trigger from now on, and cancel a reload under way, which then changes nothing.

        Safe from any thread.
        """
        self.queue.close(Draining)
        if self.loop is not None and self._serving is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                self.loop.call_soon_threadsafe(self._serving.cancel)

    @property
    def has_failed(self) -> bool:
        """Whether reloads have ended although nothing stopped the engine: a subscriber may cancel their task."""
        return self._serving is not None and self._serving.done() and self.queue.refusal is NotRunning

    def request_from_outside(self, trigger: str) -> None:
        """Ask for a reload for a trigger that cannot be told of a refusal, such as a signal. Safe from any thread."""
        try:
            self.queue.put(trigger)
        except HotconfError as refusal:
            log.info("reload (%s) refused: %s", trigger, refusal)

    def run_inline(self, request: ReloadRequest) -> Report:
        """Run a reload to its end in the thread of this loop, which cannot await meanwhile.

        Raises:
            OperationRefused: another reload is under way, or something in this one has to be awaited.
        """
        if self.queue.refusal is not None:
            if isinstance(request.operation, EndOverride):  # no reload of this engine will take it away
                self._reloader.drop_override(request.operation)
            raise self.queue.refusal
        if self.hands_over:
            raise OperationRefused("the configuration is leaving this event loop for a thread: use `async with`")
        if self._is_reloading or not self.queue.is_empty:
            raise OperationRefused("another reload is under way and has to be awaited: use `async with`")
        reload = self._reloader.reload(dataclasses.replace(request, inline=True))
        try:
            reload.send(None)
        except StopIteration as done:
            report: Report = done.value
        else:
            reload.close()
            raise OperationRefused("a subscriber has to be awaited: use `async with`")
        self._after_reload(report)
        return report

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)
        return task

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s ended with an error", task.get_name(), exc_info=task.exception())

    async def _serve(self) -> None:
        try:
            while not being_cancelled():  # what was being written then has been applied first
                queued = await self.queue.take()
                self._is_reloading = True
                try:
                    await self._answer(queued)
                finally:
                    self._is_reloading = False
        finally:
            if not self.hands_over:
                self.queue.close(NotRunning)  # no waiter may wait for a task that has ended

    async def _answer(self, queued: QueuedReload) -> None:
        try:
            report = await self._reloader.reload(queued.request)
        except OperationRefused as refusal:
            queued.fail(refusal)
            return
        except BaseException:
            if self.hands_over:
                self.queue.put_back(queued)
            else:
                queued.fail(self.queue.refusal or NotRunning)
            raise
        try:
            await last_good.save(self._reloader, self._last_good)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            message = "the last known good is not written; the next reload tries again\n%s"
            log.error(message, traceback_without_message(error))  # noqa: TRY400 - not its text
        finally:  # whatever becomes of the copy, this reload has taken place
            queued.answer(report)
        self._after_reload(report)

    def _after_reload(self, report: Report) -> None:
        self._reloader.notify_listeners()
        self._await_writers()
        # Not awaited: a source's paths() may fail, and a look at a dead mount may take for ever.
        self._spawn(self._watch_found(), "hotconf-watch-found")
        self._schedule_revert()
        if report.outcome == "applied":
            self._schedule_lease_check()

    def _schedule_lease_check(self) -> None:
        """Look later which replaced snapshots are still leased."""
        limit = self._options.lease_warning
        if limit is not None and self._lease_timer is None:
            self._lease_timer = asyncio.get_running_loop().call_later(limit, self._check_leases, limit)

    def _check_leases(self, limit: float) -> None:
        self._lease_timer = None
        for generation, lease in self._reloader.overdue_leases(limit):
            if not lease.reported:
                log.warning("generation %d is still leased by %s, for more than %g s", generation, lease.owner, limit)
            lease.reported = True
        if self._reloader.overdue_leases(0):
            self._schedule_lease_check()

    def _schedule_revert(self) -> None:
        """Take a pending patch back at its deadline, unless it is confirmed before."""
        pending = self._reloader.editor.pending
        if self._revert_timer is not None:
            self._revert_timer.cancel()
            self._revert_timer = None
        if pending is not None:
            delay = pending.deadline - time.monotonic()
            # Taking it back may be rejected too: then it is tried again, and not at once.
            delay = delay if delay > 0 else self._pause
            self._revert_timer = asyncio.get_running_loop().call_later(delay, self._revert)

    def _revert(self) -> None:
        with contextlib.suppress(HotconfError):  # a drain has begun: the patch ends with the process
            self.queue.ask(ReloadRequest(("unconfirmed",), operation=Revert()))

    def _await_writers(self) -> None:
        """Ask again as soon as the writers of busy sources are done: closing a file causes no event."""
        busy: list[Any] = [state.source for state in self._stack.states if state.busy]
        busy += [self._stack.contents] if self._stack.contents.busy else []
        for source in busy:
            if isinstance(source, Settling) and source not in self._awaited_writers:
                self._awaited_writers.append(source)
                self._spawn(self._await_writer(source), f"hotconf-busy-{getattr(source, 'name', 'source')}")

    async def _await_writer(self, source: Settling) -> None:
        try:
            await source.until_quiet()
        finally:
            self._awaited_writers.remove(source)
        self.request_from_outside("file")

    async def _watch(self) -> None:
        for state in self._stack.states:
            if isinstance(state.source, Connected):
                await self._connections.enter_async_context(state.source.connect())
            if state.is_followed:
                ask = functools.partial(self.request_from_outside, state.source.name)
                timeout, max_wait = self._options.read_timeout, self._options.max_wait
                follower = Follower(state, ask, check_timeout=timeout, max_wait=max_wait)
                self._spawn(follower.run(), f"hotconf-hints-{state.source.name}")
        await self._watch_files()

    async def _watch_files(self) -> None:
        """Watch the files that the sources name now."""
        paths = set(self._stack.paths())
        if not self._options.watch or paths <= self._watched:
            return
        self._watched = paths
        if self.watcher is not None:
            await self.watcher.refresh()
            return
        debounce = self._options.debounce
        if debounce is None:
            # A folder's files are several, although they are not known before the first read.
            debounce = 0.01 if len(paths) == 1 and not next(iter(paths)).is_dir() else 0.1
        watcher = Watcher(
            self._stack.paths, debounce=debounce, max_wait=self._options.max_wait, poll=self._options.poll
        )
        self.watcher = await self._entered.enter_async_context(watcher)
        self._spawn(self._follow_files(watcher), "hotconf-watch")

    async def _watch_found(self) -> None:
        """Watch files that only a read told of, and read again where one has changed before it was watched."""
        before = self._watched
        await self._watch_files()
        if self._watched is not before and await asyncio.to_thread(self._stack.moved):
            self.request_from_outside("file")

    async def _follow_files(self, watcher: Watcher) -> None:
        try:
            async for _ in watcher.changes():
                self.request_from_outside("file")
        except Exception:
            log.exception("files are not watched any more; other triggers still work")
            self.watcher = None

    _pause = 1.0

    async def _stop(self) -> None:
        tasks, self._serving = tuple(self._tasks), None
        for task in tasks:
            task.cancel()
        for timer in (self._lease_timer, self._revert_timer):
            if timer is not None:
                timer.cancel()
        async with contextlib.AsyncExitStack() as last_steps:  # each of them, whatever becomes of those before it
            last_steps.push_async_callback(self._reloader.close, timeout=self._closing)
            last_steps.push_async_callback(self._reloader.wait_for_listeners, timeout=_LISTENERS_TIMEOUT)
            last_steps.push_async_callback(self._entered.aclose)
            last_steps.push_async_callback(self._disconnect)
            if self.hands_over:
                last_steps.callback(self.queue.release)
            else:
                last_steps.callback(self._reloader.end_changes)
                # First, so that a listener which awaits a reload learns that there will be none.
                last_steps.callback(self.queue.detach)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _disconnect(self) -> None:
        """Close the connections of the sources. No remote can hold that up."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSING_SOURCES):
                await self._connections.aclose()
