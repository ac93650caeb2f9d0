"""Service: what starts together ends in order. Inside this process through `serve`, with signals in processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import logging
import math
import signal
import socket
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp.web
import pytest

from hotconf import HotConf, Options, Service, Settings, web
from hotconf.errors import Draining, SignalsUnavailable
from hotconf.signals import SignalRouter
from hotconf.sources.memory import Memory
from tests.support import Process, refuses_connections


class App(Settings):
    message: str = "hello"


class FakeServer:
    """Keeps the Server protocol, and a journal of what was asked of it."""

    def __init__(self, journal=None, name="fake", *, start=None, drain=None, stop=None):
        self.name = name
        self.journal = [] if journal is None else journal
        self._hooks = {"start": start, "drain": drain, "stop": stop}

    async def _do(self, what, *args):
        self.journal.append(f"{self.name} {what}")
        hook = self._hooks[what]
        return await hook(*args) if hook else None

    async def start(self):
        await self._do("start")

    def begin_drain(self):
        self.journal.append(f"{self.name} begin_drain")

    async def drain(self, *, deadline):
        return await self._do("drain", deadline) or ()

    async def stop(self):
        await self._do("stop")


class Journal(list):
    """A journal that can be waited for."""

    def __init__(self):
        super().__init__()
        self._news = asyncio.Event()

    def append(self, entry):
        super().append(entry)
        self._news.set()

    async def await_entry(self, entry):
        async with asyncio.timeout(10):
            while entry not in self:
                self._news.clear()
                await self._news.wait()


async def awaits_what_was_cancelled(*_args):
    """What clean-up often does: its task is not cancelled, only what it awaits."""
    consumer = asyncio.create_task(forever())
    consumer.cancel()
    await consumer


def raises(error):
    async def hook(*_args):
        raise error

    return hook


async def forever(*_args):
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def serving(service):
    """Serve until ready; what is yielded is the task whose result is the exit code."""
    ready = asyncio.Event()
    service.on_ready(ready.set)
    task = asyncio.create_task(service.serve())
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({task, waiting}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        yield task
    finally:
        waiting.cancel()
        service.stop()
        if not task.done():
            await asyncio.wait([task], timeout=10)


async def code_of(service):
    """The exit code of a service that is stopped as soon as it is ready."""
    async with serving(service) as task:
        service.stop()
        return await asyncio.wait_for(task, 10)


@pytest.fixture(autouse=True)
def _log_everything(caplog):
    caplog.set_level(logging.INFO, "hotconf")


@pytest.fixture(autouse=True)
def _signals_are_the_test_runs(monkeypatch):
    """In this process `serve` handles none: its deadline would end the run where a machine is slow."""

    def unavailable(_router):
        raise SignalsUnavailable

    monkeypatch.setattr(SignalRouter, "install", unavailable)


# The order of things


async def test_it_starts_in_order_and_ends_in_reverse():
    journal = Journal()
    service = Service()
    for name in ("one", "two"):
        service.add(FakeServer(journal, name))
    service.on_ready(lambda: journal.append("ready"))
    assert await code_of(service) == 0
    assert journal[:3] == ["one start", "two start", "ready"]
    assert journal[3:5] == ["one begin_drain", "two begin_drain"]
    assert sorted(journal[5:7]) == ["one drain", "two drain"]
    assert journal[7:] == ["two stop", "one stop"]


async def test_its_state_tells_how_far_it_is():
    seen = []
    service = Service()

    def look():
        seen.append(service.state)

    async def hook(*_args):
        look()

    service.add(FakeServer(start=hook, drain=hook))
    service.on_ready(look)
    look()
    await code_of(service)
    look()
    assert seen == ["new", "starting", "ready", "draining", "stopped"]


async def test_draining_is_a_flag_that_tasks_can_wait_for():
    seen = []

    async def consume():
        seen.append(bool(service.draining))
        await service.draining.wait()
        seen.append(bool(service.draining))

    service = Service()
    service.task(consume)
    assert await code_of(service) == 0
    assert seen == [False, True]


async def test_the_configuration_is_live_inside_and_frozen_from_the_first_moment_of_the_drain():
    conf = HotConf(App, sources=[Memory({"message": "live"})])
    seen = []

    async def consume():
        seen.append(conf.current.message)
        await service.draining.wait()
        with pytest.raises(Draining):
            await conf.reload()
        seen.append(conf.status.state)

    service = Service(conf)
    service.task(consume)
    assert await code_of(service) == 0
    assert seen == ["live", "draining"]
    assert conf.status.state == "stopped"


# A start that fails


async def test_a_start_that_fails_undoes_what_started_in_reverse(capsys):
    journal = Journal()
    service = Service(HotConf(App))
    service.add(FakeServer(journal, "one"))
    service.add(FakeServer(journal, "two", start=raises(OSError(98, "cannot listen on mars:80"))))
    service.add(FakeServer(journal, "three"))
    service.on_ready(lambda: journal.append("ready"))
    assert await service.serve() == 1
    assert journal == ["one start", "two start", "two stop", "one stop"]
    assert capsys.readouterr().err == "hotconf: could not start: cannot listen on mars:80\n"
    assert (service.state, service.conf.status.state) == ("stopped", "stopped")


async def test_a_configuration_that_is_refused_is_2_with_one_fault_a_line(tmp_path, capsys):
    class Strict(Settings):
        port: int
        name: str

    (tmp_path / "app.toml").write_text('port = "many"\nname = 5\n')
    journal = Journal()
    service = Service(HotConf(Strict, files=[tmp_path / "app.toml"], options=Options(watch=False)))
    service.add(FakeServer(journal))
    assert await service.serve() == 2
    head, *faults = capsys.readouterr().err.splitlines()
    assert head == "hotconf: configuration refused: 2 faults"
    assert [fault.strip().split(": ")[:2] for fault in faults] == [
        [f"{tmp_path}/app.toml:1:1", "port"],
        [f"{tmp_path}/app.toml:2:1", "name"],
    ]
    assert not journal


@pytest.mark.parametrize(
    ("conf", "server", "code", "message"),
    [
        (HotConf(App, sources=[Memory({"message": 5})]), FakeServer(), 2, "configuration refused: 1 fault"),
        (None, FakeServer(start=raises(OSError(98, "no such place"))), 1, "could not start: no such place"),
    ],
    ids=["refused", "failed"],
)
async def test_a_start_that_fails_can_be_logged_and_not_printed(caplog, capsys, conf, server, code, message):
    service = Service(conf, log_failures=True)
    service.add(server)
    assert await service.serve() == code
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith(message)
    assert capsys.readouterr().err == ""


async def test_the_exit_code_of_a_refusal_stands_where_stderr_cannot_be_written(monkeypatch):
    class Full(io.StringIO):
        def write(self, _text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert await asyncio.wait_for(Service(HotConf(App, sources=[Memory({"message": 5})])).serve(), 10) == 2


async def test_of_two_real_servers_the_first_is_closed_when_the_second_cannot_listen(capsys):
    first = web.Server(aiohttp.web.Application(), port=0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        second = web.Server(aiohttp.web.Application(), port=other.getsockname()[1])
        service = Service()
        service.add(first)
        service.add(second)
        assert await service.serve() == 1
    assert capsys.readouterr().err.endswith(f"cannot listen on 127.0.0.1:{second.port}: Address already in use\n")
    assert refuses_connections(first.port)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_undo_that_raises_does_not_keep_the_others_from_theirs(capsys):
    journal = Journal()
    service = Service()
    service.add(FakeServer(journal, "one"))
    service.add(FakeServer(journal, "two", start=raises(OSError(1, "no")), stop=raises(ValueError("worse"))))
    assert await service.serve() == 1
    assert journal[-2:] == ["two stop", "one stop"]


async def test_an_unforeseen_error_is_named_by_its_class(capsys):
    service = Service()
    service.add(FakeServer(start=raises(KeyError("host"))))
    assert await service.serve() == 1
    assert capsys.readouterr().err == "hotconf: could not start: KeyError: 'host'\n"


async def test_a_start_that_awaits_what_was_cancelled_failed_like_any_other(capsys):
    journal = Journal()
    service = Service()
    service.on_startup(awaits_what_was_cancelled)
    service.on_shutdown(lambda: journal.append("shutdown"))
    assert await asyncio.wait_for(service.serve(), 10) == 1
    assert journal == ["shutdown"]
    assert capsys.readouterr().err == "hotconf: could not start: CancelledError\n"


async def test_a_stop_while_starting_cancels_undoes_and_is_0():
    journal = Journal()
    service = Service()
    service.add(FakeServer(journal, "one"))
    service.add(FakeServer(journal, "two", start=forever))
    service.on_ready(lambda: journal.append("ready"))
    task = asyncio.create_task(service.serve())
    await journal.await_entry("two start")
    service.stop()
    assert await asyncio.wait_for(task, 10) == 0
    assert journal == ["one start", "two start", "two stop", "one stop"]


async def test_a_stop_before_it_runs_ends_it_as_soon_as_it_does():
    service = Service()
    service.add(FakeServer(start=forever))
    service.stop()
    assert await asyncio.wait_for(service.serve(), 10) == 0


async def test_an_on_ready_that_raises_ends_the_service(caplog):
    journal = Journal()
    service = Service()
    service.add(FakeServer(journal))
    service.on_ready(lambda: 1 / 0)
    assert await asyncio.wait_for(service.serve(), 10) == 1
    assert journal[-1] == "fake stop"
    assert "on_ready" in caplog.text


async def test_cancelling_it_leaves_nothing_behind():
    journal = Journal()
    tasks = []
    service = Service()
    service.add(FakeServer(journal))

    async def consume():
        tasks.append(asyncio.current_task())
        await forever()

    service.task(consume)
    async with serving(service) as task:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert journal[-1] == "fake stop"
    assert all(task.done() for task in tasks)
    assert service.state == "stopped"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelling_it_while_it_starts_leaves_nothing_behind():
    journal = Journal()
    service = Service()
    service.add(FakeServer(journal, start=forever))
    task = asyncio.create_task(service.serve())
    await journal.await_entry("fake start")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert journal[-1] == "fake stop"
    assert asyncio.all_tasks() == {asyncio.current_task()}


# Tasks and jobs


async def boom():
    raise ValueError("the queue is on fire")


async def cancelled():
    inner = asyncio.ensure_future(forever())
    inner.cancel()
    await inner


@pytest.mark.parametrize("function", [boom, cancelled])
async def test_a_task_that_exits_unexpectedly_drains_the_rest_and_is_1(function, caplog):
    journal = Journal()
    service = Service()
    service.add(FakeServer(journal))
    service.task(function, name="consumer")
    assert await asyncio.wait_for(service.serve(), 10) == 1
    assert "task consumer exited unexpectedly; shutting down" in caplog.text
    assert "draining: a failure" in caplog.text
    assert journal == ["fake start", "fake begin_drain", "fake drain", "fake stop"]


async def exits():
    sys.exit(7)


@pytest.mark.parametrize("add", [lambda service: service.task(exits), lambda service: service.every(0.01, exits)])
async def test_sys_exit_in_a_task_or_job_cuts_nothing_off(add):
    journal = Journal()
    service = Service()
    service.add(FakeServer(journal))
    add(service)
    assert await asyncio.wait_for(service.serve(), 10) == 1
    assert journal == ["fake start", "fake begin_drain", "fake drain", "fake stop"]


async def test_a_task_that_returns_ends_nothing():
    returned = asyncio.Event()

    async def once():
        returned.set()

    service = Service()
    service.task(once)
    async with serving(service) as task:
        await returned.wait()
        await asyncio.sleep(0.05)
        assert not task.done()
        service.stop()
        assert await task == 0


async def test_a_task_that_fails_because_of_the_drain_is_logged_and_no_reason_for_1(caplog):
    async def consume():
        await service.draining.wait()
        await asyncio.sleep(0.05)
        raise ValueError("could not close")

    service = Service()
    service.task(consume, name="consumer")
    assert await code_of(service) == 0
    assert "task consumer failed while draining" in caplog.text


async def test_a_running_job_finishes_in_the_drain_and_none_starts():
    inside, release = asyncio.Event(), asyncio.Event()
    runs = []

    async def tick():
        runs.append("began")
        inside.set()
        await release.wait()
        runs.append("ended")

    service = Service()
    service.every(0.01, tick)
    async with serving(service) as task:
        await inside.wait()
        service.stop()
        await asyncio.sleep(0.05)
        assert not task.done()
        release.set()
        assert await task == 0
    assert runs == ["began", "ended"]


async def test_no_job_starts_during_the_shutdown_delay_while_servers_go_on():
    journal = Journal()
    service = Service(shutdown_delay=0.3)
    service.add(FakeServer(journal))
    service.every(0.02, lambda: journal.append("tick"))
    async with serving(service) as task:
        service.stop()
        await journal.await_entry("fake begin_drain")
        ticks = journal.count("tick")
        await asyncio.sleep(0.1)
        assert "fake drain" not in journal
        assert await task == 0
    assert journal.count("tick") <= ticks + 1  # one was under way


async def test_jobs_pin_the_configuration_while_they_run():
    conf = HotConf(App)
    leases = []
    done = asyncio.Event()

    async def tick():
        leases.append(conf.leased)
        done.set()

    service = Service(conf)
    service.every(0.01, tick)
    async with serving(service):
        await asyncio.wait_for(done.wait(), 10)
    assert leases[0] == {1: 1}
    assert conf.leased == {}


@pytest.mark.parametrize("interval", [0, -1, math.nan, math.inf])
def test_an_interval_must_make_sense(interval):
    with pytest.raises(ValueError, match="interval"):
        Service().every(interval, print)


@pytest.mark.parametrize("name", ["grace_period", "shutdown_delay", "closing_period"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_a_period_must_make_sense(name, value):
    with pytest.raises(ValueError, match=name):
        Service(**{name: value})


@pytest.mark.parametrize(("delay", "grace", "said"), [(1, 1, True), (0.5, 1, False), (0, 0, False)])
async def test_a_shutdown_delay_that_leaves_no_time_for_work_in_flight_is_said(caplog, delay, grace, said):
    service = Service(shutdown_delay=delay, grace_period=grace)
    service.on_startup(service.stop)
    assert await service.serve() == 0
    assert ("leaves no time for work in flight" in caplog.text) is said


def test_closing_needs_a_second_each_for_what_was_cut_for_resources_and_for_the_exit():
    with pytest.raises(ValueError, match="closing_period must be a finite number of seconds, not below 3"):
        Service(closing_period=2.9)


async def test_closing_may_take_as_long_as_it_was_given():
    async def stop():
        await asyncio.sleep(2.2)  # by default a second less than 3

    service = Service(closing_period=5, grace_period=0)
    service.add(FakeServer(stop=stop))
    assert await code_of(service) == 0


def with_pool(close):
    conf = HotConf(App, sources=[Memory({})])

    @conf.resource()
    @contextlib.asynccontextmanager
    async def pool(_candidate):
        yield
        await close()

    return conf


async def test_resources_may_take_as_long_to_close_as_the_service_was_given(monkeypatch):
    monkeypatch.setattr("hotconf.engine.running.CLOSING", 0.05)
    journal = Journal()

    async def close():
        await asyncio.sleep(0.3)
        journal.append("closed")

    assert await code_of(Service(with_pool(close), closing_period=5)) == 0
    assert journal == ["closed"]


async def test_a_resource_that_is_cut_makes_124_however_much_grace_is_left(monkeypatch, caplog):
    monkeypatch.setattr("hotconf.process.service.CLOSING", 0.1)
    assert await code_of(Service(with_pool(forever), closing_period=0.1, grace_period=60)) == 124
    assert "pool did not close in time" in caplog.text


async def test_what_comes_too_late_to_run_is_refused_and_not_forgotten():
    service = Service()
    async with serving(service):
        for late in (
            lambda: service.add(FakeServer()),
            lambda: service.every(1, print),
            lambda: service.task(forever),
            lambda: service.on_ready(print),
        ):
            with pytest.raises(RuntimeError, match="before it runs"):
                late()


async def test_it_runs_once():
    service = Service()
    await code_of(service)
    with pytest.raises(RuntimeError, match="once"):
        await service.serve()


# The deadline


async def test_what_the_deadline_cuts_is_named_and_makes_124(caplog):
    service = Service(grace_period=0.2)
    service.task(forever, name="consumer")
    service.every(0.01, forever, name="sweep")
    service.add(FakeServer(drain=lambda deadline: _cut_at(deadline, "GET /slow (0.2 s)")))
    async with serving(service) as task:
        await asyncio.sleep(0.05)
        service.stop()
        assert await task == 124
    cut = [record.message for record in caplog.records if record.message.startswith("drain: cut")]
    assert [line.rsplit(" (", 1)[0] for line in cut] == [
        "drain: cut GET /slow",
        "drain: cut consumer",
        "drain: cut job sweep",
    ]


async def _cut_at(deadline, name):
    await asyncio.sleep(deadline - asyncio.get_running_loop().time())
    return (name,)


async def test_no_grace_at_all_cuts_only_what_is_under_way():
    service = Service(grace_period=0)
    service.every(60, print)
    assert await code_of(service) == 0


async def test_a_task_that_swallows_its_cancellation_holds_nothing_up(caplog):
    over = asyncio.Event()

    async def stubborn():
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()

    service = Service(grace_period=0.05)
    service.task(stubborn)
    async with serving(service) as task:
        service.stop()
        assert await asyncio.wait_for(task, 10) == 124
        over.set()


async def test_a_lease_that_is_not_returned_is_waited_for_named_and_cut(caplog):
    conf = HotConf(App)
    service = Service(conf, grace_period=0.2)
    async with serving(service) as task:
        with conf.pin():
            service.stop()
            assert await task == 124
    assert "cut 1 lease(s) of generation 1" in caplog.text


async def test_a_lease_that_is_given_back_in_time_is_waited_for():
    conf = HotConf(App)
    service = Service(conf)
    async with serving(service) as task:
        with conf.pin():
            service.stop()
            await asyncio.sleep(0.1)
            assert not task.done()
        assert await task == 0


async def test_the_lease_of_a_request_that_was_cut_is_not_named_a_second_time(caplog):
    conf = HotConf(App)
    lease = conf.pin()

    async def drain(deadline):
        await _cut_at(deadline, "")
        lease.__exit__(None, None, None)
        return ("GET /slow (0.1 s)",)

    service = Service(conf, grace_period=0.1)
    service.add(FakeServer(drain=drain))
    async with serving(service) as task:
        lease.__enter__()
        service.stop()
        assert await task == 124
    assert "cut GET /slow" in caplog.text
    assert "cut 1 lease" not in caplog.text


async def test_a_server_whose_drain_breaks_does_not_keep_the_others_from_theirs(caplog):
    journal = Journal()
    service = Service()
    service.add(FakeServer(journal, "one", drain=raises(ValueError("lost count"))))
    service.add(FakeServer(journal, "two"))
    assert await code_of(service) == 124
    assert journal[-2:] == ["two stop", "one stop"]
    assert "two drain" in journal


async def test_a_drain_that_awaits_what_was_cancelled_does_not_keep_the_others_from_theirs(caplog):
    journal = Journal()

    async def drain(_deadline):
        await asyncio.sleep(0.1)
        journal.append("two drained")

    service = Service()
    service.add(FakeServer(journal, "one", drain=awaits_what_was_cancelled))
    service.add(FakeServer(journal, "two", drain=drain))
    assert await code_of(service) == 124
    assert journal[-3:] == ["two drained", "two stop", "one stop"]


@pytest.mark.parametrize("hook", ["stop", "on_shutdown"])
async def test_a_clean_up_that_awaits_what_was_cancelled_fails_no_exit(caplog, hook):
    journal = Journal()
    service = Service()
    service.on_shutdown(lambda: journal.append("shutdown"))
    service.add(FakeServer(journal, stop=awaits_what_was_cancelled if hook == "stop" else None))
    if hook == "on_shutdown":
        service.on_shutdown(awaits_what_was_cancelled)
    assert await code_of(service) == 0
    assert journal[-2:] == ["fake stop", "shutdown"]
    assert "closing servers and configuration raised" in caplog.text


async def test_a_server_that_cannot_begin_its_drain_does_not_keep_the_others_from_theirs(caplog):
    class Broken(FakeServer):
        def begin_drain(self):
            raise ValueError("deaf")

    journal = Journal()
    service = Service()
    service.add(Broken(journal, "one"))
    service.add(FakeServer(journal, "two"))
    service.every(60, print)
    assert await asyncio.wait_for(code_of(service), 10) == 0
    assert "two begin_drain" in journal
    assert "begin_drain of one raised" in caplog.text


async def test_a_stop_that_hangs_is_bounded_and_makes_124():
    journal = Journal()
    service = Service(grace_period=0.05)
    service.add(FakeServer(journal, "one"))
    service.add(FakeServer(journal, "two", stop=forever))
    assert await code_of(service) == 124
    assert journal[-1] == "one stop"


# Threads


async def test_stop_may_be_called_from_any_thread():
    service = Service()
    async with serving(service) as task:
        await asyncio.to_thread(service.stop)
        assert await asyncio.wait_for(task, 10) == 0


def test_run_belongs_to_the_main_thread_and_says_so():
    with ThreadPoolExecutor(1) as pool, pytest.raises(SignalsUnavailable, match="main thread"):
        pool.submit(Service().run).result()


def test_serve_in_a_thread_logs_once_that_it_handles_no_signals(caplog):
    before = [signal.getsignal(signum) for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]
    service = Service()
    service.on_ready(service.stop)
    codes = []
    thread = threading.Thread(target=lambda: codes.append(asyncio.run(service.serve())))
    thread.start()
    thread.join(10)
    assert codes == [0]
    assert [signal.getsignal(signum) for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)] == before
    assert caplog.text.count("signals are not handled") == 1


# With signals, in processes. No configuration: the import is light, and so is the test.

PRELUDE = """
import asyncio, atexit, logging, os, signal, sys, threading, time
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from hotconf.process.service import Service

def say(*words):
    print(*words, flush=True)

async def forever(*_):
    await asyncio.Event().wait()

def block(word="blocked"):
    say(word)
    time.sleep(60)
"""


@pytest.fixture
def spawn():
    with contextlib.ExitStack() as stack:

        def start(script, **options):
            process = Process([sys.executable, "-c", PRELUDE + textwrap.dedent(script)], **options)
            stack.callback(process.kill)
            return process

        yield start


QUIET = """
service = Service(grace_period=5)
service.on_ready(lambda: say("ready"))
raise SystemExit(service.run())
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_is_0(spawn, signum):
    process = spawn(QUIET)
    process.stdout.find("ready")
    process.send(signum)
    assert process.end() == 0
    assert f"draining: {signum.name}" in process.stderr.text


@pytest.mark.parametrize(("first", "second"), [("TERM", "INT"), ("INT", "INT"), ("TERM", "TERM")])
def test_the_second_signal_ends_it_at_once(spawn, first, second):
    process = spawn("""
        service = Service()
        service.task(forever)
        service.on_ready(lambda: say("ready"))
        raise SystemExit(service.run())
    """)
    process.stdout.find("ready")
    process.send(signal.Signals[f"SIG{first}"])
    process.stderr.find("draining")
    time.sleep(0.15)  # within a tenth of a second it would count as the same one
    process.send(signal.Signals[f"SIG{second}"])
    began = time.monotonic()
    assert process.end() == 128 + signal.Signals[f"SIG{second}"]
    assert time.monotonic() - began < 5  # the grace period is 25 s
    assert "Traceback" not in process.stderr.text


def test_the_same_signal_twice_at_once_is_one(spawn):
    process = spawn(QUIET)
    process.stdout.find("ready")
    process.send(signal.SIGTERM, signal.SIGTERM)
    assert process.end() == 0


SERVED = """
from hotconf import HotConf, Settings

class App(Settings):
    message: str = "one"

async def main(service):
    before = [signal.getsignal(getattr(signal, name)) for name in ("SIGHUP", "SIGINT", "SIGTERM")]
    code = await service.serve()
    say(code, before == [signal.getsignal(getattr(signal, name)) for name in ("SIGHUP", "SIGINT", "SIGTERM")])
    raise SystemExit(code)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_serve_in_the_main_thread_reloads_and_drains_like_run(spawn, signum):
    process = spawn(
        SERVED
        + """
service = Service(HotConf(App))
service.on_ready(lambda: say("ready"))
asyncio.run(main(service))
"""
    )
    process.stdout.find("ready")
    process.send(signal.SIGHUP)
    process.stderr.find(r"\(SIGHUP\): unchanged")
    process.send(signum)
    assert process.end() == 0
    assert f"draining: {signum.name}" in process.stderr.text
    assert process.stdout.text.splitlines() == ["ready", "0 True"]


def test_the_second_signal_ends_serve_at_once_while_its_loop_is_blocked(spawn):
    process = spawn(
        SERVED
        + """
async def blocking():
    block("go")
service = Service()
service.task(blocking)
asyncio.run(main(service))
"""
    )
    process.stdout.find("go")
    process.send(signal.SIGTERM)
    time.sleep(0.15)  # within a tenth of a second the next one would count as the same
    process.send(signal.SIGTERM)
    assert process.end() == 128 + signal.SIGTERM


def test_serve_with_a_router_of_its_own_leaves_signals_alone(spawn):
    process = spawn(
        SERVED
        + """
from hotconf.signals import SignalRouter
service = Service(router=SignalRouter(()))
service.on_ready(lambda: say("ready"))
asyncio.run(main(service))
"""
    )
    process.stdout.find("ready")
    process.send(signal.SIGTERM)
    assert process.end() == -signal.SIGTERM


# Processes that take seconds, side by side, since they only wait. They say "go" when it is time for the signal.
OVERDUE = {
    "a loop that is blocked": """
        async def blocking():
            block("go")
        service = Service(grace_period=0.2)
        service.task(blocking)
    """,
    "a stop that is asked for again and again": """
        async def blocking():
            threading.Thread(target=stop_again, daemon=True).start()
            block("go")
        def stop_again():
            time.sleep(1)
            while True:
                time.sleep(0.1)
                service.stop()
        service = Service(grace_period=0.2)
        service.task(blocking)
    """,
    "a thread from before": """
        threading.Thread(target=block, name="stubborn").start()
        service = Service(grace_period=0.2)
        service.on_ready(lambda: say("go"))
    """,
    "a thread from within": """
        async def start_one():
            threading.Thread(target=block, name="stubborn").start()
        service = Service(grace_period=0.2)
        service.task(start_one)
        service.on_ready(lambda: say("go"))
    """,
    "a sync job": """
        service = Service(grace_period=0.2)
        service.every(0.01, lambda: block("go"), name="stubborn")
    """,
}
# A command installs the router before anything heavy and leaves it in until the threads have been joined.
AS_COMMAND = """
from hotconf.signals import SignalRouter
router = SignalRouter()
router.install()
atexit.register(router.restore, ignore_hup=True)
service._router = router
"""
RUN = """
raise SystemExit(service.run())
"""
UNDO_HANGS = """
class Server:
    name = "stuck"
    async def start(self):
        say("go")
        raise OSError(98, "no such place")
    async def stop(self):
        block()
service = Service()
service.add(Server())
"""
ENDED_LONG_AGO = """
from hotconf.signals import SignalRouter
router = SignalRouter()
router.install()
service = Service(router=router, grace_period=0)
service.on_ready(service.stop)
code = service.run()
say("go")
time.sleep(4)
say("alive")
raise SystemExit(code)
"""


def see_through(script, *signums):
    """Run a script to its end: exit code, seconds since the signal, stdout, stderr."""
    process = Process([sys.executable, "-c", PRELUDE + textwrap.dedent(script)])
    try:
        process.stdout.find("go")
        began = time.monotonic()
        process.send(*signums)
        return process.end(30), time.monotonic() - began, process.stdout.text, process.stderr.text
    finally:
        process.kill()


@pytest.fixture(scope="module")
def slow_ends():
    """What became of each of them, by its script."""
    overdue = [textwrap.dedent(script) + outer + RUN for script in OVERDUE.values() for outer in ("", AS_COMMAND)]
    cases = [(script, signal.SIGTERM) for script in overdue] + [(UNDO_HANGS + RUN,), (ENDED_LONG_AGO,)]
    with ThreadPoolExecutor(len(cases)) as pool:
        results = pool.map(lambda case: see_through(*case), cases)
    return {case[0]: result for case, result in zip(cases, results, strict=True)}


@pytest.mark.parametrize("outer", ["", AS_COMMAND], ids=["alone", "under a command"])
@pytest.mark.parametrize("kind", OVERDUE)
def test_what_cannot_be_cancelled_does_not_outlive_the_deadline(slow_ends, kind, outer):
    code, seconds, _, stderr = slow_ends[textwrap.dedent(OVERDUE[kind]) + outer + RUN]
    assert code == 124
    assert 2.8 < seconds < 9  # 0.2 s of grace, 3 s to clean up
    assert "the deadline has passed" in stderr
    assert "in block" in stderr  # the stacks tell who it was
    assert "Traceback" not in stderr


def test_a_start_that_hangs_in_its_undo_does_not_hang_the_process(slow_ends):
    code, seconds, _, stderr = slow_ends[UNDO_HANGS + RUN]
    assert code == 1
    assert seconds < 12
    assert "could not start: no such place" in stderr


def test_a_deadline_that_was_met_does_not_kill_the_process_later(slow_ends):
    code, _, stdout, _ = slow_ends[ENDED_LONG_AGO]
    assert code == 0
    assert "alive" in stdout


# Sends SIGHUP from an exit handler, and again when modules are torn down: Python has let go of signal handlers by then.
HUPS_TO_THE_LAST = """
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), hup=signal.SIGHUP, write=os.write):
        kill(pid, hup)
        write(1, b"the very last\\n")
last = Last()

@atexit.register
def leave():
    for _ in range(20):
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.005)
"""


def test_I7_sighup_is_harmless_from_run_to_the_last_instruction(spawn):
    process = spawn(
        HUPS_TO_THE_LAST
        + """
service = Service()
service.on_ready(service.stop)
code = service.run()
os.kill(os.getpid(), signal.SIGHUP)
raise SystemExit(code)
"""
    )
    assert process.end() == 0
    assert "the very last" in process.stdout.text


def test_I7_a_thread_that_returns_late_leaves_sighup_harmless_to_the_last_instruction(spawn):
    process = spawn(
        HUPS_TO_THE_LAST
        + """
over = threading.Event()
threading.Thread(target=over.wait).start()
service = Service(grace_period=5)
service.on_ready(service.stop)
code = service.run()
os.kill(os.getpid(), signal.SIGHUP)
over.set()
raise SystemExit(code)
"""
    )
    assert process.end() == 0
    assert "the very last" in process.stdout.text
    assert "Traceback" not in process.stderr.text


def test_signals_after_the_loop_has_closed_make_no_noise(spawn):
    """The service ended by itself; its router is still there, since the command took it before everything."""
    process = spawn("""
        from hotconf.signals import SignalRouter
        router = SignalRouter()
        router.install()
        service = Service(router=router)
        service.on_ready(service.stop)
        code = service.run()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        router.restore(ignore_hup=True)
        raise SystemExit(code)
    """)
    assert process.end() == 0
    assert "Traceback" not in process.stderr.text


def test_it_gives_back_the_handlers_that_it_found(spawn):
    process = spawn("""
        def mine(*_):
            pass
        signal.signal(signal.SIGTERM, mine)
        service = Service()
        service.on_ready(service.stop)
        service.run()
        say(signal.getsignal(signal.SIGTERM) is mine, signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)
    """)
    assert process.end() == 0
    assert process.stdout.text == "True True\n"


def test_a_signal_while_starting_undoes_and_is_0(spawn):
    process = spawn("""
        class Server:
            name = "slow"
            async def start(self):
                say("starting")
                await forever()
            async def stop(self):
                say("undone")
        service = Service()
        service.add(Server())
        raise SystemExit(service.run())
    """)
    process.stdout.find("starting")
    process.send(signal.SIGINT)
    assert process.end() == 0
    assert "undone" in process.stdout.text
    assert "Traceback" not in process.stderr.text


def test_a_hup_before_ready_is_acted_on_when_ready(spawn, tmp_path):
    (tmp_path / "app.toml").write_text('message = "one"\n')
    process = spawn(
        """
        from hotconf import HotConf, Options, Settings
        class App(Settings):
            message: str
        class Server:
            name = "slow"
            async def start(self):
                with open("app.toml", "w") as file:
                    file.write('message = "two"')
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0.2)
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0.2)
                say(conf.current.message)
            def begin_drain(self): pass
            async def drain(self, *, deadline): return ()
            async def stop(self): pass
        conf = HotConf(App, files=["app.toml"], options=Options(watch=False))
        service = Service(conf)
        service.add(Server())
        conf.on_change(lambda change: say(change.new.message))
        service.on_ready(lambda: say("ready"))
        raise SystemExit(service.run())
        """,
        cwd=tmp_path,
    )
    process.stdout.find("two")
    assert process.terminate() == 0
    assert process.stdout.text.split() == ["one", "ready", "two"]
    assert process.stderr.text.count("(SIGHUP): applied") == 1


def test_sigterm_in_mid_reload_cancels_it_and_keeps_what_was_running(spawn):
    process = spawn("""
        from hotconf import HotConf, Settings
        from hotconf.values.layer import Layer
        class App(Settings):
            message: str = "one"
        class Slow:
            name, required, reads = "slow", True, 0
            async def read(self):
                self.reads += 1
                if self.reads > 1:
                    say("reading")
                    await forever()
                return Layer(self.name, {}, {}, "")
        conf = HotConf(App, sources=[Slow()])
        service = Service(conf)
        service.on_ready(lambda: say("ready"))
        code = service.run()
        say(code, conf.current.message, conf.snapshot.generation)
        raise SystemExit(code)
    """)
    process.stdout.find("ready")
    process.send(signal.SIGHUP)
    process.stdout.find("reading")
    began = time.monotonic()
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert time.monotonic() - began < 5
    assert "0 one 1" in process.stdout.text
    assert "Traceback" not in process.stderr.text
