"""Service: a whole process. Configuration, signals, servers, jobs and tasks start together and end in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hotconf.drain import CLEANUP, Budget, DrainFlag, bounded, step, until
from hotconf.errors import ConfigError, HotconfError, SignalsUnavailable
from hotconf.jobs import Job
from hotconf.signals import SignalRouter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from contextlib import AbstractContextManager

    from hotconf.abc import Server
    from hotconf.conf import HotConf

log = logging.getLogger("hotconf")

ServiceState: TypeAlias = Literal["new", "starting", "ready", "draining", "stopped"]

EXIT_DRAINED = 0
EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_DEADLINE = 124


@dataclass(slots=True, eq=False)
class _Work:
    """A long-running task of the service: how to start it, and the task once it runs."""

    function: Callable[[], Coroutine[Any, Any, Any]]
    name: str
    task: asyncio.Task[Any] | None = None
    started: float = 0.0

    def start(self) -> None:
        self.started = time.monotonic()
        self.task = asyncio.create_task(self.function(), name=self.name)

    @property
    def running(self) -> bool:
        return self.task is not None and not self.task.done()

    def __str__(self) -> str:
        return f"{self.name} ({time.monotonic() - self.started:.1f} s)"


class Service:
    """Runs a configuration, servers, jobs and tasks as one process, and drains them at SIGINT or SIGTERM.

    `grace_period`, in seconds from the first signal, is what work in flight has; `shutdown_delay`, a part of it, is how
    long servers go on accepting while balancers notice. Exit codes: 0 drained; 1 could not start, or something died
    unasked; 2 the configuration was refused; 124 the deadline cut something; 128+N a second signal.
    """

    def __init__(
        self,
        conf: HotConf[Any] | None = None,
        *,
        grace_period: float = 25.0,
        shutdown_delay: float = 0.0,
        router: SignalRouter | None = None,
    ) -> None:
        self.conf = conf
        self.grace_period = grace_period
        self.shutdown_delay = shutdown_delay
        self.state: ServiceState = "new"
        self._router = router
        self._servers: list[Server] = []
        self._jobs: list[Job] = []
        self._work: list[_Work] = []
        self._on_ready: list[Callable[[], object]] = []
        self._drain_began: float | None = None
        self._wanted = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cause: BaseException | None = None
        self._reload_waits = False

    @property
    def draining(self) -> DrainFlag:
        """Whether the drain has begun: true or false, with a `wait()` for tasks."""
        return DrainFlag(self._wanted)

    def add(self, server: Server) -> None:
        """Add a server. Servers start in this order and stop in reverse."""
        self._servers.append(server)

    def every(self, interval: float, function: Callable[[], Any], *, name: str | None = None) -> None:
        """Run a function every `interval` seconds while the service runs. It sees one snapshot from start to end."""
        if interval <= 0:
            raise ValueError("a job needs an interval above zero seconds")
        self._jobs.append(Job(function, interval, name or _named(function), self._hold))

    def task(self, function: Callable[[], Coroutine[Any, Any, Any]], *, name: str | None = None) -> None:
        """Run a coroutine function as long as the service. It should end when `draining` is set.

        At the deadline it is cancelled. If it raises before, the service drains and exits with 1.
        """
        self._work.append(_Work(function, name or _named(function)))

    def on_ready(self, function: Callable[[], object]) -> None:
        """Call a function once, when everything has started and signals are routed."""
        self._on_ready.append(function)

    def stop(self) -> None:
        """Drain as SIGTERM does. Safe from any thread, but not before the service runs."""
        self._want_drain(None)

    def run(self) -> int:
        """Run until a signal, drain, and return the exit code: `raise SystemExit(service.run())`.

        Must be called in the main thread, outside of any event loop. Faults are printed to stderr, without traceback.
        """
        router = self._router = self._router or SignalRouter()
        with contextlib.suppress(RuntimeError):  # the command has installed it with its first statement
            router.install()
        before = set(threading.enumerate())
        code = EXIT_FAILED
        try:
            code = asyncio.run(self.serve())
        finally:
            if not _stragglers(before):
                router.restore(ignore_hup=True)
        return code

    async def serve(self) -> int:
        """Do what `run` does inside an event loop that is running already; signals only if a router was given."""
        self._loop = asyncio.get_running_loop()
        self.state = "starting"
        starting = asyncio.create_task(self._start(), name="hotconf-start")
        self._route(starting)
        undo = contextlib.AsyncExitStack()
        self._undo = undo
        try:
            await starting
        except asyncio.CancelledError:
            if not self._wanted.is_set():
                raise
            log.info("stopped while starting")
            return await self._give_up(EXIT_DRAINED)
        except ConfigError as error:
            print(f"hotconf: {error}", file=sys.stderr)  # noqa: T201 - the one message of a start that failed
            return await self._give_up(EXIT_CONFIGURATION)
        except Exception as error:
            log.debug("start failed", exc_info=True)
            print(f"hotconf: could not start: {_reason(error)}", file=sys.stderr)  # noqa: T201
            return await self._give_up(EXIT_FAILED)
        self._become_ready()
        await self._until_wanted()
        return await self._drain()

    # Starting

    _undo: contextlib.AsyncExitStack

    async def _start(self) -> None:
        if self.conf is not None:
            await self._undo.enter_async_context(self.conf.running(signals=()))
        for server in self._servers:
            self._undo.push_async_callback(server.stop)
            await server.start()

    def _route(self, starting: asyncio.Task[None]) -> None:
        if self._router is not None:
            self._router.route(on_reload=self._want_reload, on_drain=lambda signum: self._want_drain(starting, signum))

    def _become_ready(self) -> None:
        self.state = "ready"
        for job in self._jobs:
            work = _Work(job.run, f"job {job.name}")
            self._work.append(work)
        for work in self._work:
            work.start()
        if self._reload_waits:
            self._reload()
        for function in self._on_ready:
            function()

    async def _give_up(self, code: int) -> int:
        self.state = "stopped"
        await bounded(self._undo.aclose(), asyncio.get_running_loop().time() + CLEANUP, "undoing the start")
        return code

    # Running

    def _want_reload(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._reload)

    def _reload(self) -> None:
        if self.state != "ready":
            self._reload_waits = self.state == "starting"
        elif self.conf is not None:
            try:
                self.conf.request_reload("SIGHUP")
            except HotconfError as refusal:
                log.info("SIGHUP refused: %s", refusal)

    def _want_drain(self, starting: asyncio.Task[None] | None, signum: int | None = None) -> None:
        began = time.monotonic()
        if self._router is not None:
            self._router.arm(began + self.grace_period + CLEANUP, EXIT_DEADLINE)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_drain, began, signum, starting)

    def _begin_drain(self, began: float, signum: int | None, starting: asyncio.Task[None] | None) -> None:
        if self._drain_began is not None:
            return
        self._drain_began = began
        self._wanted.set()
        why = signal.Signals(signum).name if signum else "a stop was asked for" if self._cause is None else "a failure"
        log.info("draining: %s; grace period %s s", why, self.grace_period)
        if starting is not None and not starting.done():
            starting.cancel()

    async def _until_wanted(self) -> None:
        """Return when the drain is wanted, or when a task has died unasked."""
        waiting = asyncio.create_task(self._wanted.wait())
        tasks = {work.task for work in self._work if work.task is not None}
        while not waiting.done():
            done, tasks = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            tasks -= {waiting}
            for task in done - {waiting}:
                self._ended(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is None or self._wanted.is_set():
            return
        self._cause = task.exception()
        log.error("task %s died unasked; the service ends", task.get_name(), exc_info=self._cause)
        self._want_drain(None)

    # Draining

    async def _drain(self) -> int:
        loop = asyncio.get_running_loop()
        late = time.monotonic() - (self._drain_began or time.monotonic())
        budget = Budget(loop.time() - late, self.shutdown_delay, self.grace_period)
        self._announce()
        if budget.delay:
            with step("shutdown delay"):
                await asyncio.sleep(max(0.0, budget.serves_until - loop.time()))
        with step("requests, jobs and tasks"):
            cut = await self._finish(budget)
        for name in cut:
            log.warning("drain: cut %s", name)
        with step("closing"):
            await bounded(self._undo.aclose(), budget.end, "closing servers and configuration")
        self.state = "stopped"
        if self._cause is not None:
            return EXIT_FAILED
        return EXIT_DEADLINE if cut else EXIT_DRAINED

    def _announce(self) -> None:
        self.state = "draining"
        if self.conf is not None:
            self.conf.begin_drain()
        for server in self._servers:
            server.begin_drain()
        for job in self._jobs:
            job.stop()

    async def _finish(self, budget: Budget) -> list[str]:
        """Wait for everything in flight at once. Return the names of what was cut at the deadline."""
        drains = [server.drain(deadline=budget.deadline) for server in self._servers]
        results = await asyncio.gather(*drains, self._finish_work(budget), self._finish_leases(budget))
        return [name for names in results for name in names]

    async def _finish_work(self, budget: Budget) -> Iterable[str]:
        tasks = [work.task for work in self._work if work.running and work.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, budget.deadline - asyncio.get_running_loop().time()))
        cut = [str(work) for work in self._work if work.running]
        for task in tasks:
            task.cancel()
        if cut:
            await asyncio.wait(tasks, timeout=CLEANUP / 3)
        return cut

    async def _finish_leases(self, budget: Budget) -> Iterable[str]:
        conf = self.conf
        if conf is None or await until(lambda: not conf.leased, budget.deadline):
            return ()
        return [f"{count} lease(s) of generation {generation}" for generation, count in conf.leased.items()]

    def _hold(self) -> AbstractContextManager[Any]:
        return self.conf.pin() if self.conf is not None else contextlib.nullcontext()


def _named(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, SignalsUnavailable) else f"{type(error).__name__}: {error}"


def _stragglers(before: set[threading.Thread]) -> bool:
    """Whether threads are left that the interpreter would wait for at its exit: the deadline must stay armed then."""
    late = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in late:
        log.warning("thread %s is still running; the process ends at the deadline without it", thread.name)
    return bool(late)
