"""Service: one process that starts a configuration, servers, jobs and tasks together, and ends them in order.

The methods stand in the order of a service's life: assembly, `run` and `serve`, the start, supervision, the drain.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import logging
import math
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hotconf.engine.engine import CLOSING
from hotconf.errors import ConfigError, HotconfError, SignalsUnavailable
from hotconf.process.jobs import Job, Work
from hotconf.process.systemd import Notifier
from hotconf.reload.subscribers import being_cancelled
from hotconf.signals import SignalRouter
from hotconf.values.report import jsonable
from hotconf.values.times import check_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from hotconf.abc import Server
    from hotconf.conf import HotConf

log = logging.getLogger("hotconf")

ServiceState: TypeAlias = Literal["new", "starting", "ready", "draining", "stopped"]

EXIT_DRAINED = 0
EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_DEADLINE = 124

CUT = 1.0
"""Seconds that cancelled work has to end. The last such second of the closing period is left to the interpreter."""

_LEASE_POLL = 0.02
"""Seconds between two looks at the leases that a drain waits for."""


class DrainFlag(asyncio.Event):
    """Set when the drain begins. It is true in a condition from then on: `while not service.draining`."""

    def __bool__(self) -> bool:
        return self.is_set()


class Service:
    """Runs a configuration, servers, jobs and tasks as one process, and drains them at SIGINT or SIGTERM.

    Assemble it first, then call `run` (or `serve`) once. Exit codes: 0 drained; 1 the start or a task failed; 2 the
    configuration was refused; 124 the deadline cut something off; 128+N a second signal ended the process.

    Args:
        conf: The configuration. It becomes live before anything else starts, and ends last.
        grace_period: Seconds from the first signal in which work in flight can finish.
        shutdown_delay: Seconds of the grace period in which servers go on accepting, until load balancers have
            noticed.
        closing_period: Seconds after the grace period, at least 3: one for cancelled work to end, the last one for the
            interpreter to exit, and between them servers and resources close.
        router: The signals of the process, where they are installed already. A router that is not installed is
            installed by `run` alone: with one for no signals, `SignalRouter(())`, `serve` handles none.
        notifier: The connection to systemd, by default as the environment describes it.
        log_failures: Log the reason of a failed start at ERROR, instead of printing it to stderr. The record of a
            refused configuration has the report as its attribute `hotconf`.

    Attributes:
        state: `new`, `starting`, `ready`, `draining` or `stopped`.
        draining: Set when the drain begins. Tasks wait for it, and can use it as a condition.

    Raises:
        ValueError: A period is negative or not finite, or `closing_period` is too short.
    """

    def __init__(
        self,
        conf: HotConf[Any] | None = None,
        *,
        grace_period: float = 25.0,
        shutdown_delay: float = 0.0,
        closing_period: float = CLOSING,
        router: SignalRouter | None = None,
        notifier: Notifier | None = None,
        log_failures: bool = False,
    ) -> None:
        self.conf = conf
        self.grace_period = check_seconds("grace_period", grace_period)
        self.shutdown_delay = check_seconds("shutdown_delay", shutdown_delay)
        self.closing_period = check_seconds("closing_period", closing_period, least=CLOSING)
        self.state: ServiceState = "new"
        self.draining = DrainFlag()
        self._router = router
        self._notifier = notifier or Notifier.from_environ()
        self._log_failures = log_failures
        self._servers: list[Server] = []
        self._work: list[Work] = []
        self._on_startup: list[Callable[[], Any]] = []
        self._on_ready: list[Callable[[], object]] = []
        self._on_shutdown: list[Callable[[], Any]] = []
        self._undo = contextlib.AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stop_requested = False
        self._reload_requested = False
        self._drain_began: float | None = None
        self._failure: BaseException | None = None

    def add(self, server: Server) -> None:
        """Add a server. Servers start in the order in which they were added, and stop in reverse.

        One with a method `attach` is given the configuration, if the service has one: `hotconf.web.Server` may need its
        snapshots.

        Raises:
            RuntimeError: The service runs already, or has run. The other methods of assembly raise it too.
        """
        self._require_new()
        attach = getattr(server, "attach", None)
        if attach is not None and self.conf is not None:
            attach(self.conf)
        self._servers.append(server)

    def every(
        self, interval: float, function: Callable[[], Any], *, name: str | None = None, jitter: float = 0.0
    ) -> None:
        """Run a function at an interval while the service runs. A run keeps the snapshot in force at its begin open.

        Args:
            interval: Seconds between the beginnings of two runs.
            function: Sync or async. A sync one runs in a thread of its own.
            name: The name in the log, by default that of the function.
            jitter: Seconds by which a run is delayed at most, at random, so that many processes do not act in step.

        Raises:
            ValueError: The interval or the jitter is not a usable number of seconds.
        """
        self._require_new()
        if not 0 < interval < math.inf:
            raise ValueError("a job needs a finite interval above zero seconds")
        pin = self.conf.pin if self.conf is not None else contextlib.nullcontext
        job = Job(function, interval, name or _name_of(function), pin, check_seconds("jitter", jitter))
        self._work.append(Work(job.run, f"job {job.name}", job))

    def task(self, function: Callable[[], Coroutine[Any, Any, Any]], *, name: str | None = None) -> None:
        """Run a coroutine function while the service runs. It should return when `draining` is set.

        At the deadline it is cancelled. If it raises before the drain, by `sys.exit()` too, or is cancelled by other
        code, the service drains and exits with 1. If it returns, the service goes on.
        """
        self._require_new()
        self._work.append(Work(function, name or _name_of(function)))

    def on_startup(self, function: Callable[[], Any]) -> None:
        """Call a function, sync or async, after the first load and before any server. If it raises, the start fails."""
        self._require_new()
        self._on_startup.append(function)

    def on_shutdown(self, function: Callable[[], Any]) -> None:
        """Call a function, sync or async, after the servers have stopped; the last one added first.

        All of them share the closing period. They are called after a failed start too.
        """
        self._require_new()
        self._on_shutdown.append(function)

    def on_ready(self, function: Callable[[], object]) -> None:
        """Call a function once, when everything has started and signals are routed. If it raises, the service ends."""
        self._require_new()
        self._on_ready.append(function)

    def stop(self) -> None:
        """Drain as SIGTERM does. Only the first stop or signal counts; a later one moves no deadline.

        Safe from any thread. Before the service runs it is remembered: the service then ends as soon as it runs.
        """
        self._stop_requested = True  # first: `serve` sets the loop, then reads this
        if self._loop is not None:
            self._request_drain()

    def run(self) -> int:
        """Run until a signal, drain, and return the exit code: `raise SystemExit(service.run())`.

        A start that fails prints its reason to stderr, without a traceback. A router that was installed before stays
        installed. Otherwise the handlers are restored at the end, but for SIGHUP, which stays ignored, so that it
        cannot kill a process that is about to exit. While the interpreter's exit waits for threads, the deadline stays
        armed.

        Raises:
            SignalsUnavailable: Called outside of the main thread.
        """
        router = self._router = self._router or SignalRouter()
        is_ours = not router.installed
        if is_ours:
            router.install()
        try:
            return asyncio.run(self.serve())
        finally:
            main = threading.main_thread()
            joined_at_exit = [thread for thread in threading.enumerate() if thread is not main and not thread.daemon]
            for thread in joined_at_exit:
                log.info("thread %s is still running; at the deadline the process ends without it", thread.name)
            if not joined_at_exit and is_ours:
                router.restore(ignore_hup=True)
            elif not joined_at_exit:
                router.disarm()
            else:  # until these threads are joined, a second signal and the deadline must still end the process
                if self._drain_began is None:
                    router.arm(time.monotonic() + self.closing_period, EXIT_FAILED)
                if is_ours:
                    atexit.register(router.restore, ignore_hup=True)

    async def serve(self) -> int:
        """Do what `run` does inside an event loop that runs already. Cancelling it ends everything without a drain.

        In the main thread it handles SIGHUP, SIGINT and SIGTERM like `run`, unless the service was given a router, and
        restores the former handlers at its end. In another thread it logs that signals are not handled.
        """
        self._require_new()
        self.state = "starting"
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            stack.callback(self._notifier.close)
            if self._router is None:
                try:
                    self._router = stack.enter_context(SignalRouter())
                except SignalsUnavailable:
                    log.warning("serve() does not run in the main thread: signals are not handled; stop() drains")
            try:
                code = await self._start()
                if code is not None:
                    return code
                await self.draining.wait()
                return await self._drain()
            except BaseException:
                await self._abort()
                raise

    def _require_new(self) -> None:
        if self.state != "new":
            raise RuntimeError("a service is assembled before it runs, and runs once")

    # The start

    async def _start(self) -> int | None:
        """Start everything. Return None, or the exit code if that failed or was stopped."""
        if 0 < self.shutdown_delay >= self.grace_period:
            log.warning(
                "the shutdown delay, %g s, is part of the grace period, %g s, and leaves no time for work in flight",
                self.shutdown_delay,
                self.grace_period,
            )
        self._starting = asyncio.create_task(self._start_parts(), name="hotconf-start")
        if self._router is not None:
            self._router.route(on_reload=lambda: self._call_in_loop(self._reload), on_drain=self._request_drain)
        if self._stop_requested:
            self._request_drain()
        try:
            await self._starting
        except (Exception, asyncio.CancelledError) as error:
            if being_cancelled():
                raise
            stopped = isinstance(error, asyncio.CancelledError) and self.draining
            code = EXIT_DRAINED if stopped else EXIT_CONFIGURATION if isinstance(error, ConfigError) else EXIT_FAILED
            self._arm(time.monotonic() + self.closing_period + CUT, code or EXIT_DEADLINE)
            if stopped:
                log.info("stopped while starting")
            else:
                self._report_failed_start(error)
            await self._abort()
            return code
        if not self.draining:
            self._become_ready()
        return None

    async def _start_parts(self) -> None:
        """Start the parts in order, each one pushing what undoes it. A drain that comes meanwhile cancels this task."""
        if self.conf is not None:
            running = self.conf.running(signals=())
            running.closing_period = self.closing_period
            await self._undo.enter_async_context(running)
        for function in self._on_shutdown:
            self._undo.push_async_callback(_call, function)
        for function in self._on_startup:
            await _call(function)
        for server in self._servers:
            self._undo.push_async_callback(server.stop)
            await server.start()

    def _report_failed_start(self, error: BaseException) -> None:
        log.debug("start failed", exc_info=error)
        report = error.report if isinstance(error, ConfigError) else None
        text = f"could not start: {_reason(error)}" if report is None else str(error)
        if self._log_failures:
            log.error("%s", text, extra={"hotconf": jsonable(report)})
            return
        for handler in log.handlers:
            handler.flush()  # what was logged before comes first
        with contextlib.suppress(OSError):  # the exit code must not depend on a stderr that can be written
            print(f"hotconf: {text}\n", end="", file=sys.stderr)  # noqa: T201

    def _become_ready(self) -> None:
        self.state = "ready"
        for work in self._work:
            work.start().add_done_callback(self._on_work_done)
        self._notifier.ready("" if self.conf is None else f"generation {self.conf.snapshot.generation}")
        if self.conf is not None:
            self.conf.observe(self._notifier)
        if self._notifier.watchdog:
            watchdog = asyncio.create_task(self._notifier.keep_alive(), name="hotconf-watchdog")
            self._undo.callback(watchdog.cancel)
        if self._reload_requested:
            self._reload()
        for function in self._on_ready:
            try:
                function()
            except Exception as error:  # noqa: BLE001 - user code; it is logged and becomes the exit code
                self._fail(f"on_ready {_name_of(function)} raised", error)

    async def _abort(self) -> None:
        """End everything at once, without a drain."""
        self.state = "stopped"
        self.draining.set()
        tasks = [task for task in (self._starting, *(work.task for work in self._work)) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT)
        deadline = asyncio.get_running_loop().time() + self.closing_period
        await bounded(self._undo.aclose(), deadline, "undoing the start")

    # Supervision

    def _reload(self) -> None:
        if self.state != "ready":
            self._reload_requested = self.state in ("new", "starting")
        elif self.conf is not None:
            try:
                self.conf.request_reload("SIGHUP")
            except HotconfError as refusal:
                log.info("SIGHUP refused: %s", refusal)

    def _on_work_done(self, task: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError("cancelled by other code") if task.cancelled() else task.exception()
        if error is None:
            return
        if not self.draining:
            self._fail(f"task {task.get_name()} exited unexpectedly", error)
        elif not task.cancelled():
            log.error("task %s failed while draining", task.get_name(), exc_info=error)

    def _fail(self, what: str, error: BaseException) -> None:
        self._failure = self._failure or error
        log.error("%s; shutting down", what, exc_info=error)
        self._request_drain()

    def _request_drain(self, signum: int | None = None) -> None:
        """Arm the deadline and begin the drain, once.

        The router calls this in its own thread: the deadline counts from the signal, even while the loop is blocked.
        """
        if self._drain_began is None:
            self._drain_began = time.monotonic()
            self._arm(self._drain_began + self.grace_period + self.closing_period, EXIT_DEADLINE)
            self._call_in_loop(self._begin_drain, signum)

    def _arm(self, deadline: float, code: int) -> None:
        if self._router is not None:
            self._router.arm(deadline, code)

    def _call_in_loop(self, function: Callable[..., object], *args: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: there is nothing left to reload or drain
                self._loop.call_soon_threadsafe(function, *args)

    # The drain

    def _begin_drain(self, signum: int | None) -> None:
        self.draining.set()
        why = signal.Signals(signum).name if signum else "stop() was called" if self._failure is None else "a failure"
        log.info("draining: %s; grace period %s s", why, self.grace_period)
        self._notifier.stopping(why)
        if self.state == "ready":
            self._announce_drain()
        elif self._starting is not None:
            self._starting.cancel()

    def _announce_drain(self) -> None:
        """Refuse reloads, have servers tell their clients to go, and start no further run of a job."""
        self.state = "draining"
        if self.conf is not None:
            self.conf.begin_drain()
        for server in self._servers:
            try:
                server.begin_drain()
            except Exception:
                log.exception("drain: begin_drain of %s raised", server.name)
        for work in self._work:
            if work.job is not None:
                work.job.stop()

    async def _drain(self) -> int:
        """Wait for work in flight until the deadline, cut what is left, close everything, and return the exit code."""
        now = asyncio.get_running_loop().time
        began = now() - (time.monotonic() - (self._drain_began or time.monotonic()))
        deadline = began + self.grace_period
        if self.state != "draining":  # the drain was requested after the start had completed, and before ready
            self._announce_drain()
        if self.shutdown_delay:
            with step("shutdown delay"):
                await asyncio.sleep(max(0.0, min(began + self.shutdown_delay, deadline) - now()))
        drains = [_drain_server(server, deadline) for server in self._servers]
        cut = [name for names in await asyncio.gather(*drains, self._finish_work(deadline)) for name in names]
        if self.conf is not None:
            # Leases last: most belong to a request or a job, which has returned its own by now, finished or cut.
            with step("leases"):
                while self.conf.leased and now() < deadline:  # noqa: ASYNC110 - a lease ends in any thread, with no event
                    await asyncio.sleep(_LEASE_POLL)
            cut += [f"{count} lease(s) of generation {number}" for number, count in self.conf.leased.items()]
        for name in cut:
            log.warning("drain: cut %s", name)
        with step("closing"):
            limit = min(now(), deadline - CUT) + self.closing_period
            closed = await bounded(self._undo.aclose(), limit, "closing servers and configuration")
        self.state = "stopped"
        if self._failure is not None:
            return EXIT_FAILED
        return EXIT_DRAINED if closed and not cut else EXIT_DEADLINE

    async def _finish_work(self, deadline: float) -> Iterable[str]:
        """Wait for jobs and tasks, and cancel those that go on at the deadline. Return the names of what that cut."""
        tasks = [work.task for work in self._work if work.task is not None and not work.task.done()]
        if not tasks:
            return ()
        with step("jobs and tasks"):
            _, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        cut = [str(work) for work in self._work if work.in_flight]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CUT)
        return cut


async def _drain_server(server: Server, deadline: float) -> Iterable[str]:
    """Drain a server and return what it cut. If it raises, or goes on after the deadline, it counts as cut itself."""
    limit = asyncio.timeout_at(deadline + 1.5 * CUT)
    try:
        with step(server.name):
            async with limit:
                return await server.drain(deadline=deadline)
    except (Exception, asyncio.CancelledError):
        if being_cancelled():
            raise
        log.exception("drain: %s %s", server.name, "did not finish in time" if limit.expired() else "raised")
        return (server.name,)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Log one step of the drain with the time it took."""
    started = time.monotonic()
    yield
    log.info("drain: %s took %.2f s", name, time.monotonic() - started)


async def bounded(work: Awaitable[object], deadline: float, what: str) -> bool:
    """Await a last step. At the deadline, or if the step raises, log that and go on: the exit must not depend on it.

    Return False if the deadline cut it off. A CancelledError counts as raised by the step, unless this task is the one
    that is being cancelled.
    """
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            await work
    except (Exception, asyncio.CancelledError):
        if being_cancelled():
            raise
        if limit.expired():
            log.error("drain: %s did not finish in time", what)  # noqa: TRY400 - the traceback would show this line alone
            return False
        log.exception("drain: %s raised", what)
    return True


async def _call(function: Callable[[], Any]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    return text if isinstance(error, HotconfError) else ": ".join(filter(None, (type(error).__name__, text)))
