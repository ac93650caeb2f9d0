"""Running: the time in which a configuration is live, entered with `with` or `async with`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import logging
import os
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

import hotconf.reload.last_good as last_good
from hotconf.engine.engine import CLOSING, Engine
from hotconf.engine.thread import EngineThread
from hotconf.errors import Draining, NotRunning, OperationRefused
from hotconf.reload.holder import keep_for_ever
from hotconf.reload.request import refuse_reentry
from hotconf.signals import SignalRouter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from hotconf.engine.queue import ReloadQueue
    from hotconf.reload.last_good import LastGood
    from hotconf.reload.reloader import Reloader
    from hotconf.reload.report import State
    from hotconf.reload.request import ReloadRequest
    from hotconf.schema.settings import Options
    from hotconf.sources.stack import Stack
    from hotconf.values.report import Report

log = logging.getLogger("hotconf")

C = TypeVar("C")

AfterFork: TypeAlias = Literal["resume", "keep"]


class EngineHost:
    """The engine of one configuration while it is live, and the way to reload without one while it is not.

    The configuration is live from the first entry to the last exit, from whatever thread or loop. The first entry
    decides where the engine runs: in its event loop, or in a thread. Where that loop is left first, the engine goes on
    in a thread.

    One entry or exit at a time starts, moves or stops the engine. Until it is done, `_ready` is pending, and the
    entries that come wait in `_waiting`. The result of `_ready` is true where the engine is live and they are counted,
    in `_entered`; where it is not, one of them starts the engine. The lock `_loading` is held for each step from one
    of these states to the next, and for a load without an engine.

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
        self._entered: list[asyncio.AbstractEventLoop | None] = []
        self._waiting: list[asyncio.AbstractEventLoop | None] = []
        self._ready: Future[bool | None] = Future()
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
        self._resume_waits, self._inherited = False, 0
        loop = asyncio.get_running_loop()
        live: bool | None = False
        while not live:
            engine, ready = self._count_entry(loop, closing, after_fork)
            if engine is not None:
                try:
                    await engine.__aenter__()
                except BaseException as error:
                    self._did_not_start(error)
                    raise
                self._is_live()
            try:  # shielded, since cancelling one wait must not end the others
                live = await asyncio.shield(asyncio.wrap_future(ready))
            except BaseException:
                if self._is_counted(loop, ready):
                    await self.leave()
                raise

    def enter_blocking(self, closing: float, after_fork: AfterFork) -> None:
        """Make the configuration live, in a thread where it is not yet. Raises what the start raises."""
        self._resume_waits, self._inherited = False, 0
        live: bool | None = False
        while not live:
            if self.is_on_its_loop and not self._ready.done():
                raise RuntimeError("this configuration is starting in this event loop: enter it with `async with`")
            engine, ready = self._count_entry(None, closing, after_fork)
            if engine is not None:
                try:
                    self._thread = EngineThread(engine)
                    self._thread.start()
                except BaseException as error:
                    self._did_not_start(error)
                    raise
                self._is_live()
            try:
                live = ready.result()
            except BaseException:
                if self._is_counted(None, ready):
                    self.leave_blocking()
                raise

    def _count_entry(
        self, loop: asyncio.AbstractEventLoop | None, closing: float, after_fork: AfterFork
    ) -> tuple[Engine | None, Future[bool | None]]:
        """Count an entry, or let it wait. Return the engine where this entry has to start it, and what it waits for."""
        with self._loading:  # a load under way ends first
            if self.engine is not None and self._ready.done():
                self._entered.append(loop)
                return None, self._ready
            self._waiting.append(loop)
            if self.engine is not None:
                return None, self._ready
            self._ready, self._thread, self._closing, self.after_fork = Future(), None, closing, after_fork
            self.state, self.started, self.orphaned = "starting", time.monotonic(), False
            self.engine = engine = self._new_engine()
            return engine, self._ready

    def _is_counted(self, loop: asyncio.AbstractEventLoop | None, ready: Future[bool | None]) -> bool:
        """End the wait of an entry. Return whether it was counted before, so that it has to leave."""
        with self._loading:
            if not ready.done():
                self._waiting.remove(loop)
                return False
            return ready.exception() is None and bool(ready.result())

    def _new_engine(self, *, resumes: bool = False) -> Engine:
        return Engine(
            self._reloader,
            self._stack,
            last_good=self._last_good,
            options=self._options,
            closing=self._closing,
            resumes=resumes,
        )

    def _is_live(self) -> None:
        """Count the entries that wait, and let them go on. Where no entry is left, stop the engine."""
        with self._loading:
            self._entered += self._waiting
            self._waiting = []
            if self._entered:
                if self.state == "starting":  # a drain may have begun before
                    self.state = "ready"
                self._ready.set_result(True)
                return
        self._stop_thread()

    def _did_not_start(self, error: BaseException) -> None:
        """Raise an error in all entries that wait. Where the start was interrupted, one of them starts again."""
        with self._loading:
            self._end()
            if isinstance(error, Exception):
                self._ready.set_exception(error)
                self._ready.exception()  # there may be no other entry that waits for it
            else:
                self._ready.set_result(False)

    async def leave(self) -> None:
        """Count an exit. The last one stops the engine; one that leaves the engine's loop moves it into a thread."""
        loop = asyncio.get_running_loop()
        with self._loading:
            self._entered.remove(loop)
            engine, ready = self.engine, self._ready
            is_last = not self._entered
            leaves_its_loop = self._thread is None and self.is_on_its_loop and loop not in self._entered
            if engine is None or not (is_last or leaves_its_loop):
                return
            moves = ready.done()
            if moves:
                self._ready = ready = Future()
        finish = self._stop_thread if self._thread is not None else self._go_on_in_thread
        try:
            if moves and self._thread is None:
                engine.hands_over = not is_last
                await engine.__aexit__(None, None, None)
        finally:
            if moves and self._thread is None and is_last:
                self._has_stopped()
            elif moves:  # in a thread of its own, which goes on where this task is cancelled or its loop ends
                target, args = contextvars.copy_context().run, (finish,)
                threading.Thread(target=target, args=args, name="hotconf-leave", daemon=True).start()
        # What moves the engine looks at the entries afterwards, so that this wait may be cancelled.
        await asyncio.wait([asyncio.wrap_future(ready)])

    def leave_blocking(self) -> None:
        """Count an exit. The last one stops the engine."""
        with self._loading:
            self._entered.remove(None)
            ready = self._ready
            if self.engine is None or self._entered:
                return
            moves = ready.done()
            if moves:
                self._ready = Future()
        if moves:
            self._stop_thread()
        elif not self.is_on_its_loop:  # which has to go on for the engine to move
            wait([ready])

    def _stop_thread(self) -> None:
        try:
            if self._thread is not None:
                self._thread.stop()
        finally:
            self._has_stopped()

    def _has_stopped(self) -> None:
        """Let the entries that came meanwhile start the engine again."""
        with self._loading:
            self._end()
            self._ready.set_result(False)

    def _end(self) -> None:
        self.engine, self._thread, self._waiting, self.state = None, None, [], "stopped"

    def _go_on_in_thread(self) -> None:
        """End a hand-over: go on in a thread, or not at all where the last entry has left meanwhile."""
        with self._loading:
            ready = self._ready
            thread = None
            if self._entered or self._waiting:
                self.engine = self._new_engine(resumes=True)
                self._thread = thread = EngineThread(self.engine)
        if thread is None:
            self._reloader.end_changes()
            self._has_stopped()
            return
        self._resume(thread)
        if self._thread is thread:
            self._is_live()
        else:
            ready.set_result(False)

    def _resume(self, thread: EngineThread) -> None:
        """Start an engine that goes on with what is running. Where that fails, the log says why."""
        try:
            thread.start()
        except Exception:
            log.exception("the configuration is not live any more: the engine could not go on in another thread")
            self._end()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function on the engine's loop, where the configuration is live."""
        engine = self.engine
        if engine is not None and engine.loop is not None and self._ready.done():
            with contextlib.suppress(RuntimeError):  # the loop has closed
                engine.loop.call_soon_threadsafe(function)

    def freeze(self) -> None:
        """Refuse every request from now on: the process drains."""
        self.state = "draining"
        if self.engine is not None:
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
        self._end()
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
            self.state, self.started, self._ready = "starting", time.monotonic(), Future()
            self.engine = self._new_engine(resumes=True)
            self._thread = EngineThread(self.engine)
            self._entered += [None] * self._inherited
        threading.Thread(target=self._start_in_child, args=(self._thread,), name="hotconf-resume", daemon=True).start()

    def _start_in_child(self, thread: EngineThread) -> None:
        self._resume(thread)
        if self.engine is not None:
            self._is_live()
        else:
            self.state, self.orphaned, self._inherited = "stopped", True, 0
            self._entered.clear()
            self._ready.set_result(None)

    def on_hangup(self) -> None:
        """Reload for a SIGHUP. One that comes before the first settings are in force is acted on afterwards."""
        if self.engine is not None:
            self.engine.request_from_outside("SIGHUP")

    @property
    def queue(self) -> ReloadQueue:
        """The queue of the engine. Raises Draining or NotRunning where there is none."""
        self.resume()
        engine = self.engine  # once: another thread may be leaving
        if engine is None:
            raise Draining if self.state == "draining" else NotRunning
        return engine.queue

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
        if self.engine is not None and self.is_on_its_loop:
            refuse_reentry(self._owner)
            return self.engine.run_inline(request)
        if self.engine is not None and self.engine.loop is not None and not self.engine.loop.is_running():
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
        """Forget what an override loaded, where nothing was valid without it and no engine runs.

        Return whether it was.
        """
        running = self._reloader.running
        alone = self.engine is None and running is not None and running.from_sources is None
        if alone:
            self._reloader.forget()
        return alone

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


class Running(Generic[C]):
    """What `HotConf.running` returns: enter it with `with` or `async with`, as often as it is left.

    `closing_period`, in seconds, is what all resources together have to close when the engine stops.
    """

    def __init__(self, conf: C, host: EngineHost, signals: Iterable[str] | None, after_fork: AfterFork | None) -> None:
        if after_fork not in (None, "resume", "keep"):
            raise ValueError(f"after_fork is 'resume' or 'keep', not {after_fork!r}")
        self._conf = conf
        self._host = host
        self._signals = None if signals is None else _names(signals)
        self._after_fork = after_fork
        self._pid = 0
        self.closing_period = CLOSING

    async def __aenter__(self) -> C:
        self._route()
        try:
            await self._host.enter(self.closing_period, self._after_fork or "keep")
        except BaseException:
            hangups.remove(self)
            raise
        return self._conf

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid not in (0, os.getpid()):  # it was entered in the process that this one was forked from
            self._host.leave_inherited()  # and not in a thread: the threads of this loop are in the parent
        elif self._pid:
            try:
                await self._host.leave()
            finally:
                hangups.remove(self)

    def __enter__(self) -> C:
        self._route()
        try:
            self._host.enter_blocking(self.closing_period, self._after_fork or "resume")
        except BaseException:
            hangups.remove(self)
            raise
        return self._conf

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid not in (0, os.getpid()):
            self._host.leave_inherited()
        elif self._pid:
            try:
                self._host.leave_blocking()
            finally:
                hangups.remove(self)

    def _route(self) -> None:
        self._pid = os.getpid()
        names = self._signals
        if names is None:
            if threading.current_thread() is not threading.main_thread():
                log.warning("not in the main thread, so SIGHUP is not routed: use request_reload(), or pass signals=()")
                return
            names = ["HUP"]
        if names:
            hangups.add(self, self._host.on_hangup)


class Hangups:
    """One handler of SIGHUP for all configurations of the process that are live: each of them hears the signal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard_by: list[tuple[object, Callable[[], None]]] = []
        self._router: SignalRouter | None = None

    def add(self, owner: object, callback: Callable[[], None]) -> None:
        """Call a function for each SIGHUP from now on. Raises SignalsUnavailable outside the main thread."""
        with self._lock:
            if self._router is None:
                router = SignalRouter(("HUP",))
                router.install()
                self._router = router
                router.route(on_reload=self._on_reload)
            self._heard_by.append((owner, callback))

    def remove(self, owner: object) -> None:
        """Take `add` back, once. The last one restores the handler of before, which only the main thread can."""
        with self._lock:
            entry = next((entry for entry in reversed(self._heard_by) if entry[0] is owner), None)
            if entry is not None:
                self._heard_by.remove(entry)
            is_main = threading.current_thread() is threading.main_thread()
            if self._router is not None and not self._heard_by and is_main:
                self._router.restore()
                self._router = None

    def leave_parent(self) -> None:
        """Forget everything in a forked child, where the router has put the handlers back by itself."""
        self.__init__()  # type: ignore[misc]

    def _on_reload(self) -> None:
        for _, callback in tuple(self._heard_by):
            callback()


hangups = Hangups()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=hangups.leave_parent)


def _names(signals: Iterable[str]) -> list[str]:
    names = [name.removeprefix("SIG") for name in signals]
    if set(names) - {"HUP"}:
        raise ValueError("running() routes SIGHUP only: a Service owns SIGINT and SIGTERM")
    return names


def _resolve(report: Future[Report], work: Callable[[], Report]) -> None:
    if report.set_running_or_notify_cancel():
        try:
            report.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the report is awaited
            report.set_exception(error)
