"""The host of an engine: it starts, moves and stops the engine as entries come and go, and reloads without one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import enum
import functools
import logging
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import hotconf.reload.last_good as last_good
from hotconf.engine.engine import CLOSING, Engine
from hotconf.engine.queue import ReloadQueue
from hotconf.engine.thread import EngineThread
from hotconf.errors import Draining, NotRunning, OperationRefused
from hotconf.reload.holder import keep_for_ever
from hotconf.reload.request import refuse_reentry

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotconf.reload.last_good import LastGood
    from hotconf.reload.reloader import Reloader
    from hotconf.reload.report import State
    from hotconf.reload.request import ReloadRequest
    from hotconf.schema.settings import Options
    from hotconf.sources.stack import Stack
    from hotconf.values.report import Report

log = logging.getLogger("hotconf")

AfterFork: TypeAlias = Literal["resume", "keep"]


class Stage(enum.Enum):
    """Where the engine of a configuration stands. In the last two it is changing, and one thread or task does that."""

    OFF = enum.auto()
    LIVE = enum.auto()
    STARTING = "is starting in"
    LEAVING = "is leaving"


class EngineHost:
    """The engine of one configuration while it is live, and the way to reload without one while it is not.

    The configuration is live from the first entry to the last exit, from whatever thread or loop. The first entry
    decides where the engine runs: in its event loop, or in a thread. Where that loop is left first, the engine goes on
    in a thread: a hand-over, during which requests wait in the queue.

    One entry or exit at a time starts, moves or stops the engine. Whatever comes meanwhile waits for `_changed`, and
    looks again. An entry counts from its call on, so that no exit stops what it waits for. The lock `_loading` is held
    for each step from one stage to the next, and for a load without an engine.

    `orphaned` is true in a forked child that keeps the settings of its parent and has no engine.
    """

    def __init__(
        self, owner: object, reloader: Reloader[Any], stack: Stack, last_good: LastGood | None, options: Options
    ) -> None:
        self._owner = owner
        self._reloader = reloader
        self._stack = stack
        self._last_good = last_good
        self._options = options
        self._loading = threading.Lock()
        self._stage = Stage.OFF
        self._changed: Future[None] = Future()
        self._entered: list[asyncio.AbstractEventLoop | None] = []
        self._queue = ReloadQueue()
        self._thread: EngineThread | None = None
        self._closing = CLOSING
        self._resume_waits = False
        self._inherited = 0
        self.after_fork: AfterFork = "keep"
        self.engine: Engine | None = None
        self.state: State = "new"
        self.started = time.monotonic()
        self.orphaned = False

    async def enter(self, closing: float, after_fork: AfterFork) -> None:
        """Make the configuration live, in the current event loop where it is not yet. Raises what the start raises."""
        loop = asyncio.get_running_loop()
        self._count(loop)
        try:
            while self._stage is not Stage.LIVE:
                engine, changed = self._start_or_wait(closing, after_fork)
                if engine is not None:
                    try:
                        await engine.__aenter__()
                    except BaseException as error:
                        self._turn_off(error)
                        raise
                    self._go_live()
                # Shielded, since cancelling one wait must not end the others.
                await asyncio.shield(asyncio.wrap_future(changed))
        except BaseException:
            await self.leave(waits=False)
            raise

    def enter_blocking(self, closing: float, after_fork: AfterFork) -> None:
        """Make the configuration live, in a thread where it is not yet. Raises what the start raises."""
        self._count(None)
        try:
            while (stage := self._stage) is not Stage.LIVE:
                if self.is_on_its_loop:
                    message = f"this configuration {stage.value} this event loop: enter it with `async with`"
                    raise RuntimeError(message)  # noqa: TRY301 - the entry is taken back below
                engine, changed = self._start_or_wait(closing, after_fork)
                if engine is not None:
                    try:
                        self._thread = EngineThread(engine)
                        self._thread.start()
                    except BaseException as error:
                        self._turn_off(error)
                        raise
                    self._go_live()
                changed.result()
        except BaseException:
            self.leave_blocking(waits=False)
            raise

    def _count(self, loop: asyncio.AbstractEventLoop | None) -> None:
        with self._loading:  # a load under way ends first
            self._resume_waits, self._inherited = False, 0
            self._entered.append(loop)

    def _start_or_wait(self, closing: float, after_fork: AfterFork) -> tuple[Engine | None, Future[None]]:
        """Return the engine where the caller has to start it, and what the entries wait for."""
        with self._loading:
            if self._stage is not Stage.OFF:
                return None, self._changed
            self._stage, self._changed, self._queue = Stage.STARTING, Future(), ReloadQueue()
            self._thread, self._closing, self.after_fork = None, closing, after_fork
            self.state, self.started, self.orphaned = "starting", time.monotonic(), False
            self.engine = self._new_engine()
            return self.engine, self._changed

    def _new_engine(self, *, resumes: bool = False) -> Engine:
        return Engine(
            self._reloader,
            self._stack,
            queue=self._queue,
            last_good=self._last_good,
            options=self._options,
            closing=self._closing,
            resumes=resumes,
        )

    def _go_live(self) -> bool:
        """End a change: let the entries go on. Return whether there are any; without one the engine has to stop."""
        with self._loading:
            if self._entered:
                if self.state == "starting":  # a drain may have begun before
                    self.state = "ready"
                self._stage = Stage.LIVE
                self._changed.set_result(None)
            return bool(self._entered)

    def _turn_off(self, error: BaseException | None = None, *, orphaned: bool = False) -> None:
        """End a change without an engine. A failed start is raised in all entries; else one of them starts again."""
        with self._loading:
            if orphaned:
                self.orphaned, self._inherited = True, 0
                self._entered.clear()
            self._queue.detach()
            self.engine, self._thread, self._stage = None, None, Stage.OFF
            self.state = "stopped"
            if isinstance(error, Exception):
                self._changed.set_exception(error)
                self._changed.exception()  # there may be no other entry that waits for it
            else:
                self._changed.set_result(None)

    async def leave(self, *, waits: bool = True) -> None:
        """Count an exit. The last one stops the engine; one that leaves the engine's loop moves it into a thread.

        Without `waits` it returns at once where another entry or exit changes the engine by now.
        """
        loop = asyncio.get_running_loop()
        with self._loading:
            self._entered.remove(loop)
            engine, changed, thread = self.engine, self._changed, self._thread
            is_last = not self._entered
            leaves_its_loop = thread is None and self.is_on_its_loop and loop not in self._entered
            if engine is None or not (is_last or leaves_its_loop):
                return
            is_first = self._stage is Stage.LIVE
            if is_first:
                self._stage, self._changed = Stage.LEAVING, Future()
                changed = self._changed
        if is_first:
            try:
                if thread is None:
                    engine.hands_over = not is_last
                    await engine.__aexit__(None, None, None)
            finally:
                if thread is None and is_last:
                    self._turn_off()
                else:  # in a thread of its own, which goes on where this task is cancelled or its loop ends
                    context, work = contextvars.copy_context(), self._stop_thread if thread else self._hand_over
                    threading.Thread(target=context.run, args=(work,), name="hotconf-leave", daemon=True).start()
        elif not waits:
            return
        # Whatever changes the engine looks at the entries afterwards, so that this wait may be cancelled.
        await asyncio.wait([asyncio.wrap_future(changed)])

    def leave_blocking(self, *, waits: bool = True) -> None:
        """Count an exit. The last one stops the engine."""
        with self._loading:
            self._entered.remove(None)
            changed = self._changed
            if self.engine is None or self._entered:
                return
            is_first = self._stage is Stage.LIVE
            if is_first:
                self._stage, self._changed = Stage.LEAVING, Future()
        if is_first:
            self._stop_thread()
        elif waits and not self.is_on_its_loop:  # which has to go on for the engine to move
            wait([changed])

    def _stop_thread(self) -> None:
        try:
            if self._thread is not None:
                self._thread.stop()
        finally:
            self._turn_off()

    def _hand_over(self) -> None:
        """Go on in a thread, or not at all where the last entry has left meanwhile."""
        with self._loading:
            thread = self._next_thread() if self._entered else None
        if thread is not None:
            self._go_on_in(thread)
        else:
            self._reloader.end_changes()
            self._turn_off()

    def _next_thread(self) -> EngineThread:
        """Return a thread with an engine that goes on with what is running."""
        if self._queue.refusal is NotRunning:  # reloads have ended by themselves
            self._queue = ReloadQueue()
        if self.state == "draining":
            self._queue.close(Draining)
        self.engine = self._new_engine(resumes=True)
        self._thread = EngineThread(self.engine)
        return self._thread

    def _go_on_in(self, thread: EngineThread, *, in_child: bool = False) -> None:
        try:
            thread.start()
        except Exception:
            log.exception("the configuration is not live any more: the engine could not go on in another thread")
            self._turn_off(orphaned=in_child)
        else:
            if not self._go_live():
                self._stop_thread()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function on the engine's loop, where the configuration is live."""
        engine = self.engine
        if engine is not None and engine.loop is not None and self._stage is Stage.LIVE:
            with contextlib.suppress(RuntimeError):  # the loop has closed
                engine.loop.call_soon_threadsafe(function)

    def freeze(self) -> None:
        """Refuse every request from now on: the process drains."""
        self.state = "draining"
        if self.engine is not None:  # whose queue goes on to the next engine in a hand-over
            self.engine.freeze()

    def leave_parent(self, stack: Stack) -> bool:
        """Go on in a forked child, without the parent's threads and loop. Return whether the configuration was live."""
        self._loading = threading.Lock()  # a thread that loads is in the parent
        inherited, self._entered = len(self._entered), list[asyncio.AbstractEventLoop | None]()
        self._stack, self._inherited = stack, 0
        if self.engine is None:
            return False
        keep_for_ever(self.engine, self._thread)
        if self.engine.loop is not None:
            keep_for_ever(*asyncio.all_tasks(self.engine.loop))
        self.engine, self._thread, self._stage, self.state = None, None, Stage.OFF, "stopped"
        if self.after_fork == "resume":
            self._resume_waits, self._inherited = True, inherited
        else:
            self.orphaned = True
        return True

    def leave_inherited(self) -> None:
        """Count an exit, in a forked child, of an entry that its parent made."""
        if self._inherited:
            self._inherited -= 1
            if not self._resume_waits:
                self.leave_blocking()
            elif not self._inherited:
                self._resume_waits = False

    def resume(self) -> None:
        """Make the configuration live in a forked child, where that still waits. Returns before it is live."""
        if not self._resume_waits:
            return
        with self._loading:
            waits, self._resume_waits = self._resume_waits, False
            if not waits:
                return  # type: ignore[unreachable]  # another thread was first
            self._stage, self._changed, self._queue = Stage.STARTING, Future(), ReloadQueue()
            self.state, self.started = "starting", time.monotonic()
            self._entered += [None] * self._inherited
            go_on = functools.partial(self._go_on_in, self._next_thread(), in_child=True)
        threading.Thread(target=go_on, name="hotconf-resume", daemon=True).start()

    def on_hangup(self) -> None:
        """Reload for a SIGHUP. One that comes before the first settings are in force is acted on afterwards."""
        if self.engine is not None:
            self.engine.request_from_outside("SIGHUP")

    @property
    def queue(self) -> ReloadQueue:
        """The queue of the engine. Raises Draining or NotRunning where there is none."""
        self.resume()
        if self.engine is None:
            raise Draining if self.state == "draining" else NotRunning
        return self._queue

    def ask(self, request: ReloadRequest) -> Future[Report]:
        """Ask for a reload, with the engine or, where there is none, without one. Raises ReentrantReload."""
        refuse_reentry(self._owner)
        self.resume()
        # An orphan asks the engine that it lacks: without one, a reload would pass by those who prepare.
        return self.load(request) if self.engine is None and not self.orphaned else self.queue.ask(request)

    async def run(self, request: ReloadRequest) -> Report:
        """Run one reload, and return when it is over. Cancelling the wait does not cancel the reload."""
        # Cancelling the wait cancels this future alone, and one without a waiter is passed over.
        return await asyncio.wrap_future(self.ask(request))

    def run_blocking(self, request: ReloadRequest) -> Report:
        """Run one reload, and return when it is over.

        On the engine's own loop, nothing in it may have to be awaited.
        """
        engine = self.engine  # once: another thread may be leaving
        if engine is not None and self.is_on_its_loop:
            refuse_reentry(self._owner)
            return engine.run_inline(request)
        loop = engine.loop if engine is not None and self._stage is Stage.LIVE else None
        if loop is not None and not loop.is_running():
            raise OperationRefused(
                "the event loop in which the configuration is live stands still: use `async with` in it"
            )
        return self.ask(request).result()

    @property
    def is_on_its_loop(self) -> bool:
        """Whether the caller runs in the loop of the engine, so that it must not block."""
        try:
            return self.engine is not None and self.engine.loop is asyncio.get_running_loop()
        except RuntimeError:
            return False

    def undo_first_load(self) -> bool:
        """Forget what overrides loaded, where nothing is valid without them, the last has ended and no engine runs.

        Return whether it was.
        """
        reloader = self._reloader
        running = reloader.running
        alone = running is not None and running.from_sources is None and not reloader.is_overridden
        if self.engine is None and alone:
            reloader.forget()
        return self.engine is None and alone

    def load(self, request: ReloadRequest) -> Future[Report]:
        """Reload without an engine, in a thread and a loop of its own: also where the caller's loop runs."""
        self.resume()
        if self.state == "draining":
            raise Draining
        report: Future[Report] = Future()
        work = functools.partial(self._load, request)
        # A daemon: a source that hangs must not keep the process from ending.
        # In the caller's context: what a source reads may depend on a context variable.
        target, args = contextvars.copy_context().run, (_resolve, report, work)
        threading.Thread(target=target, args=args, name="hotconf-load", daemon=True).start()
        return report

    def _load(self, request: ReloadRequest) -> Report:
        with self._loading:
            if self.engine is None:
                return asyncio.run(self._load_once(dataclasses.replace(request, phase="load")))
        return self.queue.ask(request).result()

    async def _load_once(self, request: ReloadRequest) -> Report:
        report = await last_good.start(self._reloader, self._stack, self._last_good, request)
        await last_good.save(self._reloader, self._last_good)
        return report


def _resolve(report: Future[Report], work: Callable[[], Report]) -> None:
    if report.set_running_or_notify_cancel():
        try:
            report.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the report is awaited
            report.set_exception(error)
