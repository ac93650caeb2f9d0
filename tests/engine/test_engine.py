"""The engine: single-flight, from any loop or thread, and gone without a trace when it stops."""

import asyncio
import gc
import logging
import os
import threading
from typing import Annotated

import pytest
from pydantic import BaseModel

from hotconf import ConfigError, HotConf, Layer, NotLoaded, Options, Public
from hotconf.errors import Draining, NotRunning
from hotconf.sources import Memory
from hotconf.values.report import jsonable
from tests.heart import QUIET, App, Gate, Panic, Record, cancel, eventually, memory_conf, until

# I4: single-flight


def gated():
    gate = Gate()
    return HotConf(App, sources=[gate], options=QUIET), gate


async def test_I4_each_waiter_gets_the_outcome_of_a_reload_that_started_after_it_asked():
    conf, gate = gated()
    async with conf.running(signals=()):
        gate.shut()
        gate.values = {"port": 1}
        first = asyncio.create_task(conf.reload(trigger="first"))
        await gate.entered.wait()  # the first one has read port = 1
        gate.values = {"port": 2}
        later = [asyncio.create_task(conf.reload(trigger=f"later {number}")) for number in range(3)]
        await asyncio.sleep(0)
        gate.open()
        report = await first
        assert (report.outcome, report.triggers, conf.current.port) == ("applied", ("first",), 1)
        reports = await asyncio.gather(*later)
        assert len({id(report) for report in reports}) == 1
        assert (reports[0].outcome, reports[0].triggers) == ("applied", ("later 0", "later 1", "later 2"))
        assert conf.current.port == 2
    assert gate.reads == 3


async def test_I4_a_thousand_triggers_during_a_run_cause_exactly_one_more():
    conf, gate = gated()
    async with conf.running(signals=()):
        gate.shut()
        first = asyncio.create_task(conf.reload())
        await gate.entered.wait()
        for number in range(1000):
            conf.request_reload(f"trigger {number % 3}")
        gate.open()
        await first
        await until(lambda: len(conf.reports) == 3)
        await conf.reload(trigger="a last one")
    assert [report.triggers for report in conf.reports] == [
        ("start",),
        ("call",),
        ("trigger 0", "trigger 1", "trigger 2"),
        ("a last one",),
    ]


async def test_I4_triggers_that_come_at_once_are_one_reload():
    conf, _ = gated()
    async with conf.running(signals=()):
        reports = await asyncio.gather(*(conf.reload() for _ in range(100)))
        assert {report.id for report in reports} == {2}


class Witness:
    def __init__(self):
        self.seen = []

    def reload_began(self, triggers):
        self.seen.append(triggers)

    def reload_ended(self, report):
        self.seen.append(report)


async def test_I9_every_trigger_is_answered_by_one_report_and_everything_else_is_derived_from_it(caplog):
    caplog.set_level("INFO", "hotconf")
    conf, gate = gated()
    witness = Witness()
    async with conf.running(signals=()):
        conf.observe(witness)
        gate.shut()
        gate.values = {"port": "many"}
        first = asyncio.create_task(conf.reload(trigger="first"))
        await gate.entered.wait()
        conf.request_reload("SIGHUP")  # nobody waits for this one, and it is answered all the same
        waiters = [asyncio.create_task(conf.reload(trigger=trigger)) for trigger in ("HTTP", "file", "HTTP")]
        await asyncio.sleep(0)
        gate.open()
        reports = [await first, *await asyncio.gather(*waiters)]
        assert reports[1] is reports[2] is reports[3]
        assert [report.triggers for report in reports[:2]] == [("first",), ("SIGHUP", "HTTP", "file")]
        assert conf.reports[1:] == tuple(reports[:2])
        assert conf.status.last_reload is reports[1]
        assert witness.seen == [("first",), reports[0], ("SIGHUP", "HTTP", "file"), reports[1]]
    logged = [record.hotconf for record in caplog.records if hasattr(record, "hotconf")]
    assert logged == [jsonable(report) for report in conf.reports]


async def test_what_is_asked_while_starting_is_answered_after_the_start():
    conf, gate = gated()
    gate.shut()
    running = conf.running(signals=())
    starting = asyncio.create_task(running.__aenter__())
    await gate.entered.wait()
    asked = asyncio.create_task(conf.reload(trigger="early"))
    await asyncio.sleep(0)
    gate.open()
    await starting
    assert (await asked).triggers == ("early",)
    await running.__aexit__(None, None, None)
    assert [report.triggers for report in conf.reports] == [("start",), ("early",)]


async def test_cancelling_a_waiter_abandons_the_wait_not_the_reload():
    conf, gate = gated()
    async with conf.running(signals=()):
        gate.shut()
        gate.values = {"port": 1}
        waiter, other = asyncio.create_task(conf.reload()), asyncio.create_task(conf.reload())
        await gate.entered.wait()
        await cancel(waiter)
        gate.open()
        assert (await other).outcome == "applied"
        assert conf.current.port == 1


async def test_an_abandoned_wait_leaves_no_complaint_behind(caplog):
    """Neither when the engine ends without an answer, nor when the waiter's loop is gone."""
    conf, gate = gated()
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    def ask_and_leave():
        async def ask():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await conf.reload()

        asyncio.run(ask())

    async with conf.running(signals=()):
        gate.shut()
        conf.request_reload()
        await gate.entered.wait()
        await asyncio.to_thread(ask_and_leave)
        waiter = asyncio.create_task(conf.reload())
        await asyncio.sleep(0)
        await cancel(waiter)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# From elsewhere


async def test_a_reload_from_another_loop_and_from_a_thread():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        memory.set({"port": 1})
        report = await asyncio.to_thread(lambda: asyncio.run(conf.reload(trigger="other loop")))
        assert (report.outcome, report.triggers) == ("applied", ("other loop",))
        memory.set({"port": 2})
        assert (await asyncio.to_thread(conf.reload_blocking)).outcome == "applied"
        memory.set({"port": 3})
        await asyncio.to_thread(conf.request_reload, "thread")
        await until(lambda: conf.current.port == 3)


async def test_reload_blocking_gives_up_after_its_timeout_and_the_reload_goes_on():
    conf, gate = gated()
    async with conf.running(signals=()):
        gate.shut()
        gate.values = {"port": 1}
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(conf.reload_blocking, 0.01)
        await gate.entered.wait()
        gate.open()
        await until(lambda: conf.current.port == 1)


async def test_reload_blocking_refuses_the_loop_that_it_would_block():
    conf, _ = memory_conf()
    async with conf.running(signals=()):
        with pytest.raises(RuntimeError, match="await reload"):
            conf.reload_blocking()


def test_a_sync_listener_in_the_engines_thread_cannot_block_it():
    conf, memory = memory_conf()
    errors, heard = [], threading.Event()

    @conf.on_change
    def reloads(_change):
        try:
            conf.reload_blocking()
        except RuntimeError as error:
            errors.append(error)
        heard.set()

    with conf.running(signals=()):
        memory.set({"port": 1})
        conf.reload_blocking()
        assert heard.wait(10)
    assert "await reload" in str(errors[0])


def test_after_the_end_a_reload_loads_and_a_request_is_refused():
    conf, memory = memory_conf()
    with conf.running(signals=()):
        pass
    memory.set({"port": 1})
    assert conf.reload_blocking().outcome == "applied"
    memory.set({"port": 2})
    assert asyncio.run(conf.reload()).outcome == "applied"
    with pytest.raises(NotRunning):
        conf.request_reload()
    assert conf.current.port == 2
    assert conf.status.state == "stopped"


async def test_whoever_waits_when_the_engine_stops_is_told():
    conf, gate = gated()
    async with conf.running(signals=()):
        gate.shut()
        in_flight = asyncio.create_task(conf.reload())
        await gate.entered.wait()
        queued = asyncio.create_task(conf.reload())
        await asyncio.sleep(0)
    for waiter in (in_flight, queued):
        with pytest.raises(NotRunning, match="stays in force"):
            await waiter


# I7: draining


async def test_I7_draining_refuses_every_trigger_by_name(caplog):
    caplog.set_level("INFO", "hotconf")
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        conf.begin_drain()
        memory.set({"port": 1})
        for ask in (conf.reload_blocking, conf.load):
            with pytest.raises(Draining, match="frozen"):
                await asyncio.to_thread(ask)
        with pytest.raises(Draining):
            await conf.reload()
        with pytest.raises(Draining):
            conf.request_reload()
        conf._host.engine.request_from_outside("SIGHUP")
        assert any("reload (SIGHUP) refused: the process is draining" in entry.getMessage() for entry in caplog.records)
        assert conf.current.port == 8080
        assert conf.status.state == "draining"
    assert conf.status.state == "stopped"


async def test_I7_a_reload_in_flight_is_cancelled_and_its_waiters_are_told():
    conf, gate = gated()
    async with conf.running(signals=()):
        gate.shut()
        gate.values = {"port": 1}
        in_flight = asyncio.create_task(conf.reload())
        await gate.entered.wait()
        queued = asyncio.create_task(conf.reload())
        await asyncio.sleep(0)
        conf.begin_drain()
        gate.open()
        for waiter in (in_flight, queued):
            with pytest.raises(Draining):
                await waiter
        assert conf.current.port == 8080


async def test_I7_draining_may_begin_in_another_thread_in_mid_prepare():
    conf, memory = memory_conf()
    record, entered = Record(), asyncio.Event()
    async with conf.running(signals=()):
        conf.prepare(record.subscriber("first"))

        @conf.prepare
        async def slow(_change):
            entered.set()
            await asyncio.Event().wait()

        memory.set({"port": 1})
        waiter = asyncio.create_task(conf.reload())
        await entered.wait()
        await asyncio.to_thread(conf.begin_drain)
        with pytest.raises(Draining):
            await waiter
        assert record == ["prepare first", "rollback first"]


def test_I7_draining_is_refused_without_an_engine_too():
    conf, _ = memory_conf()
    conf.begin_drain()
    with pytest.raises(Draining):
        conf.load()
    with pytest.raises(Draining):
        conf.request_reload()
    with pytest.raises(Draining):
        asyncio.run(conf.reload())


async def test_readers_go_on_while_draining():
    conf, _ = memory_conf()
    async with conf.running(signals=()):
        conf.begin_drain()
        with conf.pin() as held:
            assert held.settings is conf.current


# Starting and stopping


def threads():
    return {thread.name for thread in threading.enumerate()}


def descriptors():
    gc.collect()  # what an earlier test left open is not ours to count
    return len(os.listdir("/proc/self/fd"))


async def test_fifty_runs_in_one_loop_leave_nothing_behind(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("port = 1\n")
    conf = HotConf(App, files=[file], options=Options(poll=0.05))
    await asyncio.gather(*(asyncio.to_thread(threading.Event().wait, 0.05) for _ in range(8)))  # fill the executor
    async with conf.running(signals=("HUP",)):
        pass
    before, open_before, tasks = threads(), descriptors(), asyncio.all_tasks()
    for _ in range(50):
        async with conf.running(signals=("HUP",)):
            assert (await conf.reload()).outcome == "unchanged"
    assert threads() <= before
    await until(lambda: descriptors() <= open_before)  # the thread of a signal router closes its own pipe
    assert asyncio.all_tasks() == tasks


def test_fifty_runs_in_threads_leave_nothing_behind(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("port = 1\n")
    conf = HotConf(App, files=[file])
    with conf.running(signals=("HUP",)):
        pass
    before, open_before = threads(), descriptors()
    for _ in range(50):
        with conf.running(signals=("HUP",)):
            assert conf.reload_blocking().outcome == "unchanged"
    assert threads() == before
    assert descriptors() == open_before


def test_fifty_loads_leave_nothing_behind():
    conf, memory = memory_conf()
    conf.load()
    eventually(lambda: "hotconf-load" not in threads())
    before, open_before = threads(), descriptors()
    for port in range(50):
        memory.set({"port": port})
        conf.load()
    eventually(lambda: threads() <= before)
    assert descriptors() == open_before


async def test_a_start_that_is_rejected_leaves_nothing_behind_and_may_be_tried_again(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("port = \n")
    conf = HotConf(App, files=[file])
    tasks = asyncio.all_tasks()
    for _ in range(3):
        with pytest.raises(ConfigError, match=r"app\.toml:1"):
            async with conf.running(signals=("HUP",)):
                pytest.fail("entered")
    assert asyncio.all_tasks() == tasks
    assert conf.status.state == "stopped"
    with pytest.raises(NotLoaded):
        _ = conf.current
    file.write_text("port = 1\n")
    async with conf.running(signals=("HUP",)):
        assert conf.current.port == 1


async def test_a_start_may_be_cancelled():
    conf, gate = gated()
    gate.shut()
    tasks = asyncio.all_tasks()
    starting = asyncio.create_task(conf.running(signals=()).__aenter__())
    await gate.entered.wait()
    await cancel(starting)
    assert asyncio.all_tasks() == tasks
    gate.open()
    async with conf.running(signals=()):
        assert conf.loaded


def test_a_start_in_a_thread_raises_in_the_callers():
    conf, memory = memory_conf(port="many")
    with pytest.raises(ConfigError, match="port"):
        with conf.running(signals=()):
            pytest.fail("entered")
    assert "hotconf-engine" not in threads()
    memory.set({})
    with conf.running(signals=()):
        assert conf.loaded


def test_running_twice_in_sequence_in_two_loops_and_a_thread():
    conf, memory = memory_conf()

    async def once(port):
        memory.set({"port": port})
        async with conf.running(signals=()) as same:
            assert same is conf
            assert conf.current.port == port
            memory.set({"port": port + 1})
            assert (await conf.reload()).outcome == "applied"

    asyncio.run(once(1))
    asyncio.run(once(3))
    with conf.running(signals=()):
        assert conf.current.port == 4
    asyncio.run(once(5))
    assert conf.snapshot.generation == 6


async def test_a_loop_inside_a_thread_inside_a_loop():
    """Each configuration runs where it was entered, and is reloaded from the other side."""
    outer, outer_memory = memory_conf()
    inner, inner_memory = memory_conf()

    async def nested():
        async with inner.running(signals=()):
            outer_memory.set({"port": 1})
            inner_memory.set({"port": 2})
            return [await outer.reload(), await inner.reload()]

    async with outer.running(signals=()):
        reports = await asyncio.to_thread(lambda: asyncio.run(nested()))
    assert [report.outcome for report in reports] == ["applied", "applied"]
    assert (outer.current.port, inner.current.port) == (1, 2)


# Hints


class Hinted(Memory):
    def __init__(self):
        super().__init__(name="hinted")
        self.hints = asyncio.Queue()
        self.rounds = 0

    async def changes(self):
        self.rounds += 1
        while True:
            hint = await self.hints.get()
            if isinstance(hint, BaseException):
                raise hint
            yield hint


async def test_a_hint_of_a_source_reloads_under_its_name():
    source = Hinted()
    conf = HotConf(App, sources=[source], options=QUIET)
    async with conf.running(signals=()):
        source.set({"port": 1})
        source.hints.put_nowait("now")
        await until(lambda: conf.current.port == 1)
        assert conf.reports[-1].triggers == ("hinted",)


@pytest.mark.parametrize("error", [ConnectionError("lost"), asyncio.CancelledError(), Panic()])
async def test_a_source_that_stops_hinting_is_asked_again(caplog, error):
    source = Hinted()
    conf = HotConf(App, sources=[source], options=QUIET)
    async with conf.running(signals=()):
        source.hints.put_nowait(error)
        source.set({"port": 1})
        source.hints.put_nowait("now")
        await until(lambda: conf.current.port == 1)
    assert source.rounds == 2
    said = "hinted is out of reach" if isinstance(error, ConnectionError) else "hinted stopped reporting"
    assert any(said in entry.getMessage() for entry in caplog.records)


async def test_an_edited_file_reloads_by_itself(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("port = 1\n")
    conf = HotConf(App, files=[file])
    async with conf.running(signals=()):
        assert conf.status.watching["kind"] == "events"
        for port in (2, 3):
            file.write_text(f"port = {port}\n")
            await until(lambda port=port: conf.current.port == port)
        assert "file" in conf.reports[-1].triggers


async def test_without_watching_an_edited_file_waits_for_a_trigger(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("port = 1\n")
    conf = HotConf(App, files=[file], options=QUIET)
    async with conf.running(signals=()):
        assert conf.status.watching["kind"] == "none"
        file.write_text("port = 2\n")
        await asyncio.sleep(0.1)
        assert conf.current.port == 1
        assert (await conf.reload()).outcome == "applied"


async def test_a_watch_that_breaks_is_told_and_other_triggers_still_work(tmp_path, monkeypatch, caplog):
    async def broken(_watcher):
        raise ValueError("boom")
        yield

    monkeypatch.setattr("hotconf.watch.Watcher.changes", broken)
    file = tmp_path / "app.toml"
    file.write_text("port = 1\n")
    conf = HotConf(App, files=[file])
    async with conf.running(signals=()):
        await until(lambda: conf.status.watching["kind"] == "none")
        file.write_text("port = 2\n")
        assert (await conf.reload()).outcome == "applied"
    assert any("not watched any more" in entry.getMessage() for entry in caplog.records)


async def test_an_engine_that_breaks_leaves_nobody_waiting(monkeypatch, caplog):
    conf, _ = memory_conf()

    async def broken(*_arguments, **_options):
        raise MemoryError

    async with conf.running(signals=()):
        monkeypatch.setattr(conf._reloader, "reload", broken)
        with pytest.raises(NotRunning):
            await conf.reload()
        with pytest.raises(NotRunning):
            await conf.reload()
        assert conf.status.degraded == ("reloads have ended by themselves",)
    assert conf.status.degraded == ()
    assert any("hotconf-reloads ended with an error" in entry.getMessage() for entry in caplog.records)


async def test_so_does_one_that_a_subscriber_cancels():
    conf, memory = memory_conf()

    @conf.prepare("port")
    def confused(change):
        if change.old is not None:
            asyncio.current_task().cancel()

    async with conf.running(signals=()):
        memory.set({"port": 1})
        with pytest.raises(NotRunning):
            await conf.reload()
        assert conf.current.port == 8080
        await until(lambda: conf.status.degraded == ("reloads have ended by themselves",))


async def test_what_a_source_returns_is_read_afresh_by_each_run():
    class Loopbound:
        """As a client would be that belongs to the loop it was made in."""

        name, required = "loopbound", True

        async def read(self):
            return Layer(self.name, {"port": id(asyncio.get_running_loop()) % 1000})

    conf = HotConf(App, sources=[Loopbound()], options=QUIET)
    async with conf.running(signals=()):
        assert conf.current.port == id(asyncio.get_running_loop()) % 1000


async def test_fields_that_are_masked_by_their_names_are_named_once_at_each_start_and_their_values_never(caplog):
    class Plain(BaseModel):
        api_key: str = "hunter2"
        shown_token: Annotated[str, Public()] = "shown"
        message: str = "hello"

    caplog.set_level(logging.INFO, "hotconf")
    conf = HotConf(Plain, options=QUIET)
    for _ in range(2):
        async with conf.running(signals=()):
            pass
    lines = [record.getMessage() for record in caplog.records if "masked because of their names" in record.getMessage()]
    assert lines == ["masked because of their names: api_key; Annotated[…, Public()] shows a value"] * 2
    assert "hunter2" not in caplog.text
