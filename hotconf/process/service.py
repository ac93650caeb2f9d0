"""Service: a whole process. Configuration, signals, servers, jobs and tasks start together and end in order."""

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

from hotconf.errors import ConfigError, HotconfError
from hotconf.process.drain import CLOSING, CUT, Budget, DrainFlag, bounded, drained, step, until
from hotconf.process.jobs import Job, Work
from hotconf.process.systemd import Notifier
from hotconf.reload.subscribers import being_cancelled
from hotconf.signals import SignalRouter
from hotconf.values.times import check_seconds

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

_NOTHING_LEFT = (
    "the shutdown delay, %g s, is a part of the grace period, %g s, and leaves none of it for work in flight"
)


class Service:
    """Runs a configuration, servers, jobs and tasks as one process, and drains them at SIGINT or SIGTERM.

    `grace_period`, in seconds from the first signal, is what work in flight has; `shutdown_delay`, a part of it, is
    how long servers go on accepting while balancers notice; `closing_period`, at least 3 s, comes after it: a second
    for what was cut to end, then all but the last one for servers and resources to close. Together they bound the
    whole. Exit codes: 0 drained; 1 could not start, or something died unasked; 2 the configuration was refused; 124
    the deadline cut something; 128+N a second signal.

    It is put together first and runs once.
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
    ) -> None:
        self.conf = conf
        self._notifier = notifier or Notifier.from_environ()
        self.grace_period = check_seconds("grace_period", grace_period)
        self.shutdown_delay = check_seconds("shutdown_delay", shutdown_delay)
        self.closing_period = check_seconds("closing_period", closing_period, least=CLOSING)
        self.state: ServiceState = "new"
        self._router = router
        self._servers: list[Server] = []
        self._work: list[Work] = []
        self._on_startup: list[Callable[[], Any]] = []
        self._on_ready: list[Callable[[], object]] = []
        self._on_shutdown: list[Callable[[], Any]] = []
        self._undo = contextlib.AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stop_came_early = False
        self._reload_waits = False
        self._drain_began: float | None = None
        self._wanted = asyncio.Event()
        self._cause: BaseException | None = None

    @property
    def draining(self) -> DrainFlag:
        """Whether the drain has begun: true or false, with a `wait()` for tasks."""
        return DrainFlag(self._wanted)

    def add(self, server: Server) -> None:
        """Add a server. Servers start in this order and stop in reverse."""
        self._require_new()
        self._servers.append(server)

    def every(
        self, interval: float, function: Callable[[], Any], *, name: str | None = None, jitter: float = 0.0
    ) -> None:
        """Run a function every `interval` seconds while the service runs.

        Each run is put off by up to `jitter` seconds at random, so that many processes do not act in step. The snapshot
        in force when a run begins stays open until it ends.
        """
        self._require_new()
        if not 0 < interval < math.inf:
            raise ValueError("a job needs a finite interval above zero seconds")
        job = Job(function, interval, name or _named(function), self._hold, check_seconds("jitter", jitter))
        self._work.append(Work(job.run, f"job {job.name}", job))

    def task(self, function: Callable[[], Coroutine[Any, Any, Any]], *, name: str | None = None) -> None:
        """Run a coroutine function as long as the service. It should end when `draining` is set.

        At the deadline it is cancelled. If it raises before the drain, also by `sys.exit()`, or is cancelled by anyone
        else, the service drains and exits with 1; if it returns, the service goes on without it.
        """
        self._require_new()
        self._work.append(Work(function, name or _named(function)))

    def on_startup(self, function: Callable[[], Any]) -> None:
        """Call a function, sync or async, after the first load and before any server. If it raises, nothing starts."""
        self._require_new()
        self._on_startup.append(function)

    def on_shutdown(self, function: Callable[[], Any]) -> None:
        """Call a function, sync or async, after the servers have stopped; the last one added first.

        It shares the closing period with all the others. Also called when the start fails later.
        """
        self._require_new()
        self._on_shutdown.append(function)

    def on_ready(self, function: Callable[[], object]) -> None:
        """Call a function once, when everything has started and signals are routed. If it raises, the service ends."""
        self._require_new()
        self._on_ready.append(function)

    def stop(self) -> None:
        """Drain as SIGTERM does. Safe from any thread, also before the service runs: then it ends as soon as it does.

        Only the first stop or signal counts; a later one moves no deadline.
        """
        self._stop_came_early = True  # before the loop is looked at: `serve` does the two the other way round
        if self._loop is not None:
            self._want_drain()

    def run(self) -> int:
        """Run until a signal, drain, and return the exit code: `raise SystemExit(service.run())`.

        Must be called in the main thread, outside of any event loop. Faults are printed to stderr, without traceback.
        A router that was installed already is left installed. SIGHUP stays ignored once ours is restored. Where
        threads are left that the interpreter's exit waits for, the deadline stays armed for them.
        """
        router = self._router = self._router or SignalRouter()
        is_ours = _install(router)
        try:
            return asyncio.run(self.serve())
        finally:
            self._let_go(router, restore=is_ours)

    async def serve(self) -> int:
        """Do what `run` does inside an event loop that is running already; signals only if a router was given.

        Cancelling it ends everything at once, without a drain.
        """
        self._require_new()
        self.state = "starting"
        self._loop = asyncio.get_running_loop()
        try:
            return await self._live()
        except BaseException:
            await self._give_up()
            raise
        finally:
            self._notifier.close()

    def _require_new(self) -> None:
        if self.state != "new":
            raise RuntimeError("a service is put together before it runs, and runs once")

    async def _live(self) -> int:
        failure = await self._come_up()
        if failure is not None:
            self._arm(time.monotonic() + self.closing_period + CUT, failure or EXIT_DEADLINE)
            await self._give_up()
            return failure
        await self._until_wanted()
        return await self._drain()

    # Starting

    async def _come_up(self) -> int | None:
        """Start everything. Return None, or the exit code where that failed or was stopped."""
        if 0 < self.shutdown_delay >= self.grace_period:
            log.warning(_NOTHING_LEFT, self.shutdown_delay, self.grace_period)
        self._starting = asyncio.create_task(self._start(), name="hotconf-start")
        if self._router is not None:
            self._router.route(on_reload=self._want_reload, on_drain=self._want_drain)
        if self._stop_came_early:
            self._want_drain()
        try:
            await self._starting
        except (Exception, asyncio.CancelledError) as error:
            if being_cancelled():
                raise
            return self._not_started(error)
        if not self._wanted.is_set():
            self._become_ready()
        return None

    def _not_started(self, error: BaseException) -> int:
        """Say why, and return the exit code."""
        if isinstance(error, asyncio.CancelledError) and self._wanted.is_set():
            log.info("stopped while starting")
            return EXIT_DRAINED
        log.debug("start failed", exc_info=error)
        if isinstance(error, ConfigError):
            _complain(str(error))
            return EXIT_CONFIGURATION
        _complain(f"could not start: {_reason(error)}")
        return EXIT_FAILED

    async def _start(self) -> None:
        if self.conf is not None:
            running = self.conf.running(signals=())
            running.closing_period = self.closing_period
            await self._undo.enter_async_context(running)
        for function in self._on_shutdown:
            self._undo.push_async_callback(_awaited, function)
        for function in self._on_startup:
            await _awaited(function)
        for server in self._servers:
            self._undo.push_async_callback(server.stop)
            await server.start()

    def _become_ready(self) -> None:
        self.state = "ready"
        for work in self._work:
            work.start()
        self._notify_ready()
        if self._reload_waits:
            self._reload()
        for function in self._on_ready:
            try:
                function()
            except Exception as error:  # noqa: BLE001 - a user's function: named and logged below
                self._fail(f"on_ready {_named(function)}", error)

    def _notify_ready(self) -> None:
        self._notifier.ready("" if self.conf is None else f"generation {self.conf.snapshot.generation}")
        if self.conf is not None:
            self.conf.observe(self._notifier)
        if self._notifier.watchdog:
            alive = asyncio.create_task(self._notifier.keep_alive(), name="hotconf-watchdog")
            self._undo.callback(alive.cancel)

    async def _give_up(self) -> None:
        """End everything at once."""
        self.state = "stopped"
        self._wanted.set()
        tasks = [work.task for work in self._work if work.task is not None]
        tasks += [self._starting] if self._starting is not None else []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT)
        await bounded(self._undo.aclose(), asyncio.get_running_loop().time() + self.closing_period, "undoing the start")

    # Running

    def _want_reload(self) -> None:
        self._call_in_loop(self._reload)

    def _reload(self) -> None:
        if self.state != "ready":
            self._reload_waits = self.state in ("new", "starting")
        elif self.conf is not None:
            try:
                self.conf.request_reload("SIGHUP")
            except HotconfError as refusal:
                log.info("SIGHUP refused: %s", refusal)

    def _want_drain(self, signum: int | None = None) -> None:
        """Arm the deadline and begin the drain, once. Called in the router's thread: the loop may be blocked."""
        if self._drain_began is None:
            self._drain_began = time.monotonic()
            self._arm(self._drain_began + self.grace_period + self.closing_period, EXIT_DEADLINE)
            self._call_in_loop(self._begin_drain, signum)

    def _begin_drain(self, signum: int | None) -> None:
        self._wanted.set()
        why = signal.Signals(signum).name if signum else "a stop was asked for" if self._cause is None else "a failure"
        log.info("draining: %s; grace period %s s", why, self.grace_period)
        self._notifier.stopping(why)
        if self.state == "ready":
            self._announce()
        elif self._starting is not None:
            self._starting.cancel()

    def _arm(self, deadline: float, code: int) -> None:
        if self._router is not None:
            self._router.arm(deadline, code)

    def _call_in_loop(self, function: Callable[..., object], *args: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has closed: there is nothing left to reload or to drain
                self._loop.call_soon_threadsafe(function, *args)

    async def _until_wanted(self) -> None:
        """Return when the drain is wanted, or when a task has died unasked."""
        waiting = asyncio.create_task(self._wanted.wait())
        try:
            tasks = {work.task for work in self._work if work.task is not None}
            while not waiting.done():
                done, tasks = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                tasks -= {waiting}
                for task in done - {waiting}:
                    self._ended(task)
        finally:
            waiting.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError("somebody cancelled it") if task.cancelled() else task.exception()
        if error is None:
            return
        if self._wanted.is_set():
            log.error("task %s failed while draining", task.get_name(), exc_info=error)
        else:
            self._fail(f"task {task.get_name()}", error)

    def _fail(self, what: str, error: BaseException) -> None:
        self._cause = self._cause or error
        log.error("%s died unasked; the service ends", what, exc_info=error)
        self._want_drain()

    # Draining

    async def _drain(self) -> int:
        loop = asyncio.get_running_loop()
        late = time.monotonic() - (self._drain_began or time.monotonic())
        budget = Budget(loop.time() - late, self.shutdown_delay, self.grace_period, self.closing_period)
        if self.state != "draining":  # the signal came between the end of the start and ready
            self._announce()
        if budget.delay:
            with step("shutdown delay"):
                await asyncio.sleep(max(0.0, budget.serves_until - loop.time()))
        cut = await self._finish(budget)
        for name in cut:
            log.warning("drain: cut %s", name)
        with step("closing"):
            limit = budget.closed_by(loop.time())
            closed = await bounded(self._undo.aclose(), limit, "closing servers and configuration")
        self.state = "stopped"
        if self._cause is not None:
            return EXIT_FAILED
        return EXIT_DEADLINE if cut or not closed else EXIT_DRAINED

    def _announce(self) -> None:
        self.state = "draining"
        if self.conf is not None:
            self.conf.begin_drain()
        for server in self._servers:
            try:
                server.begin_drain()
            except Exception:
                log.exception("drain: %s could not begin it", server.name)
        for work in self._work:
            if work.job is not None:
                work.job.stop()

    async def _finish(self, budget: Budget) -> list[str]:
        """Wait for everything in flight. Return the names of what was cut at the deadline."""
        drains = [drained(server, budget) for server in self._servers]
        results = await asyncio.gather(*drains, self._finish_work(budget))
        # Leases last: most belong to a request or a job, which has returned its own by now, finished or cut.
        results.append(await self._finish_leases(budget))
        return [name for names in results for name in names]

    async def _finish_work(self, budget: Budget) -> Iterable[str]:
        tasks = [work.task for work in self._work if work.task is not None and not work.task.done()]
        if not tasks:
            return ()
        left = max(0.0, budget.deadline - asyncio.get_running_loop().time())
        with step("jobs and tasks"):
            ended, late = await asyncio.wait(tasks, timeout=left)
        for task in ended:
            if not task.cancelled():
                self._ended(task)
        cut = [str(work) for work in self._work if work.under_way]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CUT)
        return cut

    async def _finish_leases(self, budget: Budget) -> Iterable[str]:
        conf = self.conf
        if conf is None:
            return ()
        with step("leases"):
            await until(lambda: not conf.leased, budget.deadline)
        return [f"{count} lease(s) of generation {generation}" for generation, count in conf.leased.items()]

    def _hold(self) -> AbstractContextManager[Any]:
        return self.conf.pin() if self.conf is not None else contextlib.nullcontext()

    # Leaving

    def _let_go(self, router: SignalRouter, *, restore: bool) -> None:
        """Give the signals back and disarm; not before the interpreter has joined the threads that are left."""
        if _threads_left():
            if self._drain_began is None:
                router.arm(time.monotonic() + self.closing_period, EXIT_FAILED)
            if restore:
                atexit.register(router.restore, ignore_hup=True)
        elif restore:
            router.restore(ignore_hup=True)
        else:
            router.disarm()


def _install(router: SignalRouter) -> bool:
    """Install a router. Return False where somebody has done so: the command, with its first statement."""
    try:
        router.install()
    except RuntimeError:
        return False
    return True


def _threads_left() -> bool:
    """Whether there are threads that the interpreter's exit waits for."""
    left = [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    for thread in left:
        log.info("thread %s is still running; at the deadline the process ends without it", thread.name)
    return bool(left)


async def _awaited(function: Callable[[], Any]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result


def _named(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _complain(text: str) -> None:
    """Print the one message of a start that failed. Nobody may read it: the exit code must not depend on that."""
    with contextlib.suppress(OSError):
        print(f"hotconf: {text}", file=sys.stderr)  # noqa: T201


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    return text if isinstance(error, HotconfError) else ": ".join(filter(None, (type(error).__name__, text)))
