"""Running: the time in which a configuration is live, entered with `with` or `async with`."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import hotconf.reload.last_good as last_good
from hotconf.engine.engine import CLOSING, Engine, EngineThread
from hotconf.errors import Draining, NotRunning, OperationRefused
from hotconf.reload.request import refuse_reentry
from hotconf.signals import SignalRouter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
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


class EngineHost:
    """The engine of one configuration while it is live, and the way to reload without one while it is not.

    `orphaned` is true in a child that was forked while the configuration was live: its engine is in the parent.
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
        self.engine: Engine | None = None
        self.state: State = "new"
        self.started = time.monotonic()
        self.orphaned = False

    def begin(self, closing: float) -> Engine:
        """Return a new engine. Raises RuntimeError where the configuration is live already."""
        with self._loading:  # one reload at a time, also its first one
            if self.engine is not None:
                raise RuntimeError("this configuration is running already")
            self.engine = Engine(
                self._reloader, self._stack, last_good=self._last_good, options=self._options, closing=closing
            )
            self.state, self.started, self.orphaned = "starting", time.monotonic(), False
        return self.engine

    def is_ready(self) -> None:
        """Note that the first settings are in force. A drain may have begun before."""
        if self.state == "starting":
            self.state = "ready"

    def end(self) -> None:
        """Let go of the engine, which has stopped."""
        self.engine, self.state = None, "stopped"

    def freeze(self) -> None:
        """Refuse every request from now on: the process drains."""
        self.state = "draining"
        if self.engine is not None:
            self.engine.freeze()

    def leave_parent(self) -> bool:
        """Go on in a forked child, without what only the parent's threads and loop can run.

        Return whether it was live.
        """
        self._loading = threading.Lock()  # a thread that loads is in the parent
        was_live = self.engine is not None
        if was_live:
            self.engine, self.state, self.orphaned = None, "stopped", True
        return was_live

    @property
    def queue(self) -> ReloadQueue:
        """The queue of the engine. Raises Draining or NotRunning where there is none."""
        engine = self.engine  # once: another thread may be leaving
        if engine is None:
            raise Draining if self.state == "draining" else NotRunning
        return engine.queue

    def ask(self, request: ReloadRequest) -> Future[Report]:
        """Ask for a reload, with the engine or, where there is none, without one. Raises ReentrantReload."""
        refuse_reentry(self._owner)
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
    """What `HotConf.running` returns: enter it with `with` or `async with`, once.

    `closing_period`, in seconds, is what all resources together have to close on exit.
    """

    def __init__(self, conf: C, host: EngineHost, signals: Iterable[str] | None) -> None:
        self._conf = conf
        self._host = host
        self._signals = None if signals is None else _names(signals)
        self._engine: Engine | None = None
        self._thread: EngineThread | None = None
        self._router: SignalRouter | None = None
        self.closing_period = CLOSING

    async def __aenter__(self) -> C:
        self._engine = self._host.begin(self.closing_period)
        try:
            self._install()
            await self._engine.__aenter__()
        except BaseException:
            self._end()
            raise
        return self._ready(self._engine)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is None or self._is_of_parent:
            return
        try:
            await self._engine.__aexit__(kind, error, trace)
        finally:
            self._end()

    def __enter__(self) -> C:
        self._engine = self._host.begin(self.closing_period)
        self._thread = EngineThread(self._engine)
        try:
            self._install()
            self._thread.start()
        except BaseException:
            self._end()
            raise
        return self._ready(self._engine)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None or self._is_of_parent:
            return
        try:
            self._thread.stop()
        finally:
            self._end()

    @property
    def _is_of_parent(self) -> bool:
        """Whether this was entered before the fork that made this process: then it is not this one's to leave."""
        return self._host.engine is not self._engine

    def _install(self) -> None:
        self._router = _router(self._signals)
        if self._router is not None:
            self._router.install()

    def _ready(self, engine: Engine) -> C:
        if self._router is not None:
            self._router.route(on_reload=lambda: engine.request_from_outside("SIGHUP"))
        self._host.is_ready()
        return self._conf

    def _end(self) -> None:
        self._host.end()
        if self._router is not None:
            self._router.restore()


def _names(signals: Iterable[str]) -> list[str]:
    names = [name.removeprefix("SIG") for name in signals]
    if set(names) - {"HUP"}:
        raise ValueError("running() routes SIGHUP only: a Service owns SIGINT and SIGTERM")
    return names


def _router(names: Sequence[str] | None) -> SignalRouter | None:
    if names is None:
        if threading.current_thread() is not threading.main_thread():
            log.warning("not in the main thread, so SIGHUP is not routed: use request_reload(), or pass signals=()")
            return None
        names = ("HUP",)
    return SignalRouter(names) if names else None


def _resolve(report: Future[Report], work: Callable[[], Report]) -> None:
    if report.set_running_or_notify_cancel():
        try:
            report.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the report is awaited
            report.set_exception(error)
