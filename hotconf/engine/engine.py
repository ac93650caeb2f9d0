"""The engine: what runs while a configuration is live. Triggers go in at one end, reports come out at the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from hotconf.abc import Hinting, Settling
from hotconf.engine.queue import Inbox, Request
from hotconf.errors import ConfigError, Draining, HotconfError, NotRunning, OperationRefused
from hotconf.reload.request import Errand, Revert
from hotconf.reload.subscribers import being_cancelled
from hotconf.schema.redact import traceback_without_message
from hotconf.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from hotconf.reload.boot import Boot
    from hotconf.reload.reloader import Reloader
    from hotconf.schema.settings import Options
    from hotconf.sources.stack import SourceState, Stack
    from hotconf.values.report import Report

log = logging.getLogger("hotconf")

CLOSING = 3.0
"""Seconds that all resources together have to close when the engine stops, unless it is told otherwise."""

_FAREWELL = 1.0
"""Seconds that async on_change subscribers have to finish when the engine stops."""


class Engine:
    """Runs reloads for one configuration in one event loop. An async context manager, used once.

    Entering watches first and reads second, so that no change falls between; it raises ConfigError, with nothing left
    behind, when the first reload is rejected.
    """

    def __init__(
        self, reloader: Reloader[Any], stack: Stack, *, boot: Boot, options: Options, closing: float = CLOSING
    ) -> None:
        self._reloader = reloader
        self._stack = stack
        self._boot = boot
        self._options = options
        self._closing = closing
        self._tasks: set[asyncio.Task[None]] = set()
        self._entered = contextlib.AsyncExitStack()
        self._waited_for: set[SourceState] = set()
        self.inbox = Inbox()
        self.watcher: Watcher | None = None
        self._watched: set[Path] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._serving: asyncio.Task[None] | None = None
        self._reverting: asyncio.TimerHandle | None = None
        self._leak_check: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        try:
            await self._watch()
            _require(await self._boot.run(Errand(("start",), phase="start")))
            await self._watch_found()
            await self._boot.remember()
        except BaseException:
            await self._stop()
            raise
        self._serving = self._spawn(self._serve(), "hotconf-reloads")
        self._watch_for_confirmation()
        self._reloader.tell()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def freeze(self) -> None:
        """Refuse every trigger from now on. A reload under way is cancelled: it changes nothing any more.

        Safe from any thread.
        """
        self.inbox.close(Draining)
        if self.loop is not None and self._serving is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                self.loop.call_soon_threadsafe(self._serving.cancel)

    @property
    def has_failed(self) -> bool:
        """Whether nobody runs reloads any more, although nobody stopped that: a subscriber may cancel what runs it."""
        return self._serving is not None and self._serving.done() and self.inbox.refusal is NotRunning

    def hint(self, trigger: str) -> None:
        """Ask for a reload where nobody can be told that it is refused. Safe from any thread."""
        try:
            self.inbox.put(trigger)
        except HotconfError as refusal:
            log.info("reload (%s) refused: %s", trigger, refusal)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s ended with an error", task.get_name(), exc_info=task.exception())

    async def _serve(self) -> None:
        try:
            while not being_cancelled():  # what was being written then has been applied first
                await self._answer(await self.inbox.take())
        finally:
            self.inbox.close(NotRunning)  # nobody may wait for what nobody serves any more

    async def _answer(self, request: Request) -> None:
        try:
            report = await self._reloader.reload(request.errand)
        except OperationRefused as refusal:
            request.fail(refusal)
            return
        except BaseException:
            request.fail(self.inbox.refusal or NotRunning)
            raise
        try:
            await self._boot.remember()
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            message = "the last known good is not written; the next reload tries again\n%s"
            log.error(message, traceback_without_message(error))  # noqa: TRY400 - not its text
        finally:  # whatever becomes of the copy, this reload has taken place
            request.answer(report)
        self._reloader.tell()
        self._wait_for_writers()
        await self._watch_found()
        self._watch_for_confirmation()
        if report.outcome == "applied":
            self._watch_for_leaks()

    def _watch_for_leaks(self) -> None:
        """Look later who still holds a snapshot that was replaced."""
        limit = self._options.lease_warning
        if limit is not None and self._leak_check is None:
            self._leak_check = asyncio.get_running_loop().call_later(limit, self._name_leaks, limit)

    def _name_leaks(self, limit: float) -> None:
        self._leak_check = None
        for generation, lease in self._reloader.overdue(limit):
            if not lease.reported:
                log.warning("generation %d is still leased by %s, for more than %g s", generation, lease.owner, limit)
            lease.reported = True
        if self._reloader.overdue(0):
            self._watch_for_leaks()

    def _watch_for_confirmation(self) -> None:
        """Have a patch taken back when its time is over, unless somebody confirms it."""
        deadline = self._reloader.editor.deadline
        if self._reverting is not None:
            self._reverting.cancel()
            self._reverting = None
        if deadline is not None:
            delay = deadline - time.monotonic()
            # It may be refused as well: then it is tried again, and not at once.
            delay = delay if delay > 0 else self._pause
            self._reverting = asyncio.get_running_loop().call_later(delay, self._revert)

    def _revert(self) -> None:
        with contextlib.suppress(HotconfError):  # a drain has begun: the patch is gone with the process
            self.inbox.ask(Errand(("unconfirmed",), operation=Revert()))

    def _wait_for_writers(self) -> None:
        """Ask again as soon as the writers of busy sources are done: closing a file is no event that is told."""
        for state in self._stack.states:
            if state.busy and isinstance(state.source, Settling) and state not in self._waited_for:
                self._waited_for.add(state)
                self._spawn(self._wait_for_writer(state, state.source), f"hotconf-busy-{state.source.name}")

    async def _wait_for_writer(self, state: SourceState, source: Settling) -> None:
        try:
            await source.until_quiet()
        finally:
            self._waited_for.discard(state)
        self.hint("file")

    async def _watch(self) -> None:
        for state in self._stack.states:
            if isinstance(state.source, Hinting):
                self._spawn(self._follow_source(state.source), f"hotconf-hints-{state.source.name}")
        await self._watch_files()

    async def _watch_files(self) -> None:
        paths = set(self._stack.paths())
        if not self._options.watch or paths <= self._watched:
            return
        before, self._watched = self.watcher, paths
        watcher = Watcher(
            self._stack.paths,
            debounce=self._debounce(),
            max_wait=self._options.max_wait,
            poll=self._options.poll,
        )
        self.watcher = await self._entered.enter_async_context(watcher)
        self._spawn(self._follow_files(watcher), "hotconf-watch")
        if before is not None:
            await before.__aexit__(None, None, None)

    async def _watch_found(self) -> None:
        """Watch files that only a read told of, and read again where one has changed before it was watched."""
        before = self.watcher
        await self._watch_files()
        if self.watcher is not before and await asyncio.to_thread(self._stack.moved):
            self.hint("file")

    def _debounce(self) -> float:
        if self._options.debounce is not None:
            return self._options.debounce
        paths = list(self._stack.paths())
        # A folder's files are several, although they are not known before the first read.
        return 0.01 if len(paths) == 1 and not paths[0].is_dir() else 0.1

    async def _follow_files(self, watcher: Watcher) -> None:
        try:
            async for _ in watcher.changes():
                self.hint("file")
        except Exception:
            log.exception("files are not watched any more; other triggers still work")
            self.watcher = None

    async def _follow_source(self, source: Any) -> None:
        while True:
            try:
                async for _ in source.changes():
                    self.hint(source.name)
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:
                if being_cancelled():
                    raise
                message = "source %s stopped telling of changes; trying again in %s s\n%s"
                log.error(message, source.name, self._pause, traceback_without_message(error))  # noqa: TRY400 - not its text
            await asyncio.sleep(self._pause)

    _pause = 1.0

    async def _stop(self) -> None:
        tasks, self._serving = tuple(self._tasks), None
        for task in tasks:
            task.cancel()
        for timer in (self._leak_check, self._reverting):
            if timer is not None:
                timer.cancel()
        async with contextlib.AsyncExitStack() as last_steps:  # each of them, whatever becomes of those before it
            last_steps.push_async_callback(self._reloader.close, timeout=self._closing)
            last_steps.push_async_callback(self._reloader.settle, timeout=_FAREWELL)
            last_steps.push_async_callback(self._entered.aclose)
            # First, so that a listener which awaits a reload learns that there will be none.
            last_steps.callback(self.inbox.detach)
            await asyncio.gather(*tasks, return_exceptions=True)


def _require(report: Report) -> None:
    if report.outcome == "rejected":
        raise ConfigError(report)


class EngineThread:
    """An engine in a thread and a loop of its own, for programs without an event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._started: Future[None] = Future()
        self._finish: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, name="hotconf-engine", daemon=True)

    def start(self) -> None:
        """Start, and return when the first configuration is in force. Raises what the engine raises."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop, and wait until the thread has ended."""
        with contextlib.suppress(InvalidStateError):  # asked before, or the loop has ended by itself
            self._finish.set_result(None)
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                log.exception("the engine's thread ended with an error")

    async def _run(self) -> None:
        finished = asyncio.wrap_future(self._finish)
        living = asyncio.create_task(self._live())
        await asyncio.wait({living, finished}, return_when=asyncio.FIRST_COMPLETED)
        for future in (living, finished):
            future.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await living

    async def _live(self) -> None:
        async with self._engine:
            self._started.set_result(None)
            await asyncio.get_running_loop().create_future()
