"""A hand-over: the loop of the engine is left while other entries stay, and the engine goes on in a thread."""

import asyncio
import os
import signal
import threading
from contextlib import asynccontextmanager

import pytest

from hotconf import Refuse
from hotconf.engine.host import Stage
from hotconf.errors import ConfigError, Draining, NotRunning, OperationRefused
from tests.engine.test_running import Held, engine_threads
from tests.heart import memory_conf, until


@pytest.fixture
async def leaving():
    """A configuration whose engine is leaving this loop, what feeds it, and what holds the hand-over up."""
    conf, memory = memory_conf()
    held = Held(conf)
    running = conf.running(signals=())
    await running.__aenter__()
    await held.entered()
    exit_ = asyncio.create_task(running.__aexit__(None, None, None))
    await held.closing.wait()
    yield conf, memory, held
    held.go_on.set()
    await exit_
    await held.left()
    assert (conf.status.state, held.open, engine_threads()) == ("stopped", 0, [])


async def test_requests_wait_for_the_new_engine(leaving):
    conf, memory, held = leaving
    memory.set({"port": 1})
    reports = [
        asyncio.create_task(conf.reload(trigger="one")),
        asyncio.create_task(asyncio.to_thread(conf.reload_blocking, 20)),
    ]
    await until(lambda: [len(queued.waiters) for queued in conf._host.queue._queued] == [2])
    reports.append(asyncio.create_task(conf.rollback(1)))
    await until(lambda: len(conf._host.queue._queued) == 2)
    conf.request_reload("two")
    held.go_on.set()
    first, second, third = await asyncio.gather(*reports)
    assert (first.outcome, first.changed, {"one", "call"} <= {*first.triggers}) == ("applied", ("port",), True)
    assert second == first
    assert third.note == "rolled back to generation 1"
    await until(lambda: "two" in conf.reports[-1].triggers)


async def test_a_reload_under_way_runs_again_in_the_new_engine():
    conf, memory = memory_conf()
    held = Held(conf)
    held.go_on.set()
    began = asyncio.Event()
    prepared = []

    @conf.prepare("port")
    async def slow(change):
        prepared.append((change.new.port, threading.current_thread().name))
        if change.old is not None and len(engine_threads()) == 0:
            began.set()
            await asyncio.Event().wait()

    async with conf.running(signals=()):
        await held.entered()
        memory.set({"port": 1})
        report = asyncio.create_task(conf.reload(trigger="mine"))
        await began.wait()
    assert (await asyncio.wait_for(report, 20)).changed == ("port",)
    assert "mine" in report.result().triggers
    assert prepared[-1] == (1, "hotconf-engine")
    await held.left()


async def test_a_drain_that_begins_meanwhile_freezes_the_new_engine(leaving):
    conf, memory, held = leaving
    waiting = asyncio.create_task(conf.reload())
    await asyncio.sleep(0)
    conf.begin_drain()
    with pytest.raises(Draining):
        await waiting
    held.go_on.set()
    await until(lambda: held.open == 1 and engine_threads())
    memory.set({"port": 1})
    with pytest.raises(Draining):
        await conf.reload()
    with pytest.raises(Draining):
        conf.request_reload()
    assert (conf.status.state, conf.current.port) == ("draining", 8080)


async def test_the_last_exit_waits_for_a_new_engine_that_starts():
    conf, _ = memory_conf()
    held = Held(conf)
    held.go_on.set()
    begun, go_on, opened = threading.Event(), threading.Event(), []

    @conf.resource("message")
    @asynccontextmanager
    async def slow(_candidate):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            await asyncio.to_thread(go_on.wait, 20)
        opened.append("open")
        yield
        opened.append("closed")

    running = conf.running(signals=())
    await running.__aenter__()
    await held.entered()
    exit_ = asyncio.create_task(running.__aexit__(None, None, None))
    await asyncio.to_thread(begun.wait, 20)
    held.leave.set()
    await until(lambda: not conf._host._entered)
    assert held.thread.is_alive()
    go_on.set()
    await held.left()
    assert (conf.status.state, opened, engine_threads()) == ("stopped", ["open", "closed"] * 2, [])
    await exit_


async def test_requests_of_a_hand_over_without_entries_are_refused():
    conf, _ = memory_conf()
    held = Held(conf)
    async with conf.running(signals=()):
        await held.entered()
        leaving = asyncio.create_task(conf.running(signals=()).__aenter__())
        await leaving
    exit_ = asyncio.create_task(conf._host.leave())
    await held.closing.wait()
    waiting = asyncio.create_task(conf.reload())
    held.leave.set()
    await until(lambda: not conf._host._entered)
    held.go_on.set()
    with pytest.raises(NotRunning):
        await waiting
    await exit_
    await held.left()


async def test_what_would_block_the_loop_that_is_left_says_so(leaving):
    conf, _, _ = leaving
    with pytest.raises(RuntimeError) as refused, conf.running(signals=()):
        pass
    assert str(refused.value) == "this configuration is leaving this event loop: enter it with `async with`"
    with pytest.raises(OperationRefused) as refused, conf.override(port=1):
        pass
    assert str(refused.value) == ("the configuration is leaving this event loop for a thread: use `async with`")


async def test_an_override_that_is_left_by_with_meanwhile_ends_in_its_turn():
    conf, _ = memory_conf()
    held = Held(conf)
    running = conf.running(signals=())
    await running.__aenter__()
    await held.entered()
    override = conf.override(port=1)
    override.__enter__()
    exit_ = asyncio.create_task(running.__aexit__(None, None, None))
    await held.closing.wait()
    with pytest.raises(OperationRefused):
        override.__exit__(None, None, None)
    held.go_on.set()
    await exit_
    await until(lambda: conf.current.port == 8080)
    await held.left()


def test_ctrl_c_during_the_first_entry_leaves_nothing_behind():
    conf, _ = memory_conf()
    interrupts = []

    @conf.prepare
    async def interrupted(_change):
        if not interrupts:
            interrupts.append(1)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt):
        conf.start()
    assert (conf.status.state, conf._host._entered, engine_threads()) == ("stopped", [], [])
    assert signal.getsignal(signal.SIGHUP) == before
    with conf.running():
        assert conf.status.state == "ready"


async def test_an_override_whose_end_was_refused_goes_on_too():
    conf, memory = memory_conf()
    held = Held(conf)
    held.go_on.set()

    @conf.prepare("port")
    def picky(change):
        if change.old is not None and change.new.port == 13 and change.old.port != 13:
            raise Refuse("unlucky")

    async with conf.running(signals=()):
        await held.entered()
        override = conf.override(port=1)
        await override.__aenter__()
        memory.set({"port": 13})
        assert (await conf.reload()).outcome == "unchanged"
        with pytest.raises(ConfigError):
            await override.__aexit__(None, None, None)
    await until(lambda: conf._host._stage is Stage.LIVE)
    assert (conf.current.port, conf.status.state, engine_threads()) == (1, "ready", ["hotconf-engine"])
    memory.set({"port": 2})
    await conf.reload()
    assert conf.current.port == 2
    await held.left()
