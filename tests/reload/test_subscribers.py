"""Subscribers: prepare, then commit or rollback; and who hears of it afterwards."""

import asyncio
import logging
import sys
import threading
from typing import Annotated

import pytest
from pydantic import SecretStr

from hotconf import HotConf, Options, Refuse, Section, Sensitive, Settings
from hotconf.errors import ReentrantReload, SchemaError
from hotconf.sources import Memory
from tests.heart import QUIET, App, Panic, Record, cancel, memory_conf, raising, until

# Prepare and commit


async def test_prepare_comes_before_the_swap_and_commit_after_it():
    conf, memory = memory_conf()
    seen = []

    class Prepared:
        def commit(self):
            seen.append(("commit", conf.current.message))

        def rollback(self):
            seen.append("rollback")

    async with conf.running(signals=()):

        @conf.prepare("message")
        def agree(change):
            seen.append(("prepare", conf.current.message, change.old.message, change.new.message, change.paths))
            assert change.generation == conf.snapshot.generation + 1
            return Prepared()

        memory.set({"message": "new"})
        report = await conf.reload()
    assert report.outcome == "applied"
    assert seen == [("prepare", "hello", "hello", "new", ("message",)), ("commit", "new")]


async def test_only_those_whose_part_changed_are_asked():
    conf, memory = memory_conf()
    record = Record()
    async with conf.running(signals=()):
        conf.prepare("database.url")(record.subscriber("url"))
        conf.prepare("database")(record.subscriber("database"))
        conf.prepare("message", "port")(record.subscriber("either"))
        conf.prepare(record.subscriber("all"))
        memory.set({"database": {"pool_size": 11}})
        await conf.reload()
        assert record == ["prepare database", "prepare all", "commit database", "commit all"]
        record.events.clear()
        memory.set({"database": {"pool_size": 11}, "port": 1})
        await conf.reload()
        assert record == ["prepare either", "prepare all", "commit either", "commit all"]


async def test_an_async_prepare_is_awaited_and_may_return_nothing():
    conf, memory = memory_conf()
    asked = []

    @conf.prepare
    async def reachable(change):
        await asyncio.sleep(0)
        asked.append(change.generation)

    async with conf.running(signals=()):
        memory.set({"port": 1})
        assert (await conf.reload()).outcome == "applied"
    assert asked == [1, 2]


async def test_at_start_every_prepare_sees_everything_and_what_was_loaded():
    conf, memory = memory_conf()
    conf.load()
    seen = []
    conf.prepare("database")(lambda change: seen.append((change.old, change.paths, change.generation)))
    async with conf.running(signals=()):
        assert conf.snapshot.generation == 1
        assert seen == [(conf.current, ("message", "port", "database"), 1)]
    memory.set({"port": 3})
    async with conf.running(signals=()):
        assert seen[-1][2] == conf.snapshot.generation == 2


async def test_a_first_start_has_no_old():
    conf, _ = memory_conf()
    seen = []
    conf.prepare(lambda change: seen.append((change.old, change.generation)))
    async with conf.running(signals=()):
        assert seen == [(None, 1)]


@pytest.mark.parametrize("register", ["prepare", "on_change"])
@pytest.mark.parametrize("path", ["databse", "database.pool", "message.x", "a..b"])
def test_a_path_that_the_class_does_not_have_is_refused_at_registration(register, path):
    conf, _ = memory_conf()
    with pytest.raises(SchemaError):
        getattr(conf, register)(path)


def test_a_path_that_is_nearly_right_is_corrected():
    conf, _ = memory_conf()
    with pytest.raises(SchemaError, match="did you mean 'database'"):
        conf.on_change("databse")


@pytest.mark.parametrize("register", ["prepare", "on_change"])
def test_a_decorator_returns_its_function(register):
    conf, _ = memory_conf()

    def function(change): ...

    assert getattr(conf, register)(function) is function
    assert getattr(conf, register)("database")(function) is function
    assert getattr(conf, register)()(function) is function


@pytest.mark.parametrize("register", ["on_change", "prepare"])
def test_a_function_that_yields_is_refused_at_registration(register):
    conf, _ = memory_conf()

    def yields(_change):
        yield

    async def yields_later(_change):
        yield

    for function in (yields, yields_later):
        with pytest.raises(TypeError, match="yields, so nothing in it would ever run"):
            getattr(conf, register)(function)
        with pytest.raises(TypeError, match="is it a resource"):
            getattr(conf, register)("port")(function)


# I3: exactly one of commit and rollback


async def hang(_change):
    await asyncio.Event().wait()


async def cancelled_by_something_else(_change):
    other = asyncio.create_task(asyncio.sleep(60))
    other.cancel()
    await other


async def timed_out_by_itself(_change):
    raise TimeoutError("the pool took too long")


FAILING_PREPARES = {
    "refuses": (raising(Refuse("the database is away")), "refuses: the database is away"),
    "raises": (raising(ValueError("boom")), "raised ValueError: boom"),
    "hangs": (hang, "was not ready within 0.05 s"),
    "is cancelled from outside": (cancelled_by_something_else, "raised CancelledError"),
    "times out by itself": (timed_out_by_itself, "raised TimeoutError: the pool took too long"),
    "exits": (raising(SystemExit(3)), "raised SystemExit: 3"),
    "panics": (raising(Panic("at lib.rs")), "raised Panic: at lib.rs"),
}


@pytest.mark.parametrize("case", FAILING_PREPARES)
async def test_I3_a_prepare_that_fails_rolls_back_those_before_it_in_reverse(case):
    failing, reason = FAILING_PREPARES[case]
    memory = Memory()
    conf = HotConf(App, sources=[memory], options=Options(watch=False, prepare_timeout=0.05))
    record = Record()
    async with conf.running(signals=()):
        conf.prepare(record.subscriber("first"))
        conf.prepare(record.subscriber("second"))
        conf.prepare(failing)
        conf.prepare(record.subscriber("never"))
        before = conf.snapshot
        memory.set({"port": 1})
        report = await conf.reload()
        assert record == ["prepare first", "prepare second", "rollback second", "rollback first"]
        assert (report.outcome, report.stage, report.generation) == ("rejected", "prepare", 1)
        assert reason in str(report)
        assert conf.snapshot is before
        conf.unsubscribe(failing)
        record.events.clear()
        assert (await conf.reload()).outcome == "applied"
        assert [event for event in record.events if "rollback" in event] == []
        assert len(record.events) == 6


async def test_I3_the_report_names_who_refused():
    conf, memory = memory_conf()
    async with conf.running(signals=()):

        @conf.prepare
        def reachable(change):
            raise Refuse("no route")

        memory.set({"port": 1})
        assert "reachable refuses: no route" in str(await conf.reload())


@pytest.mark.parametrize("stop", ["exit", "begin_drain"])
async def test_I3_an_engine_that_is_stopped_in_mid_prepare_rolls_back(stop):
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
        if stop == "begin_drain":
            conf.begin_drain()
            await asyncio.gather(waiter, return_exceptions=True)
            assert record == ["prepare first", "rollback first"]
    assert record == ["prepare first", "rollback first"]
    assert type((await asyncio.gather(waiter, return_exceptions=True))[0]).__name__ in ("NotRunning", "Draining")
    assert conf.current.port == 8080


async def test_I3_a_prepare_that_swallows_its_cancellation_is_rolled_back_too():
    conf, memory = memory_conf()
    record, entered = Record(), asyncio.Event()
    async with conf.running(signals=()):

        @conf.prepare
        async def stubborn(_change):
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return record.prepared("stubborn")

        memory.set({"port": 1})
        conf.request_reload()
        await entered.wait()
    assert record == ["prepare stubborn", "rollback stubborn"]
    assert conf.current.port == 8080


async def test_I3_a_prepare_that_answers_its_cancellation_with_an_error_stops_all_the_same():
    conf, memory = memory_conf()
    record, entered = Record(), asyncio.Event()
    async with conf.running(signals=()):
        conf.prepare(record.subscriber("first"))

        @conf.prepare
        async def awkward(_change):
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError("cleaning up failed") from None

        memory.set({"port": 1})
        conf.request_reload()
        await entered.wait()
    assert record == ["prepare first", "rollback first"]


async def test_I3_rollback_may_be_async_and_each_has_its_turn_whatever_the_others_do():
    memory = Memory()
    conf = HotConf(App, sources=[memory], options=Options(watch=False, prepare_timeout=0.05))
    record = Record()

    async def later():
        await asyncio.sleep(0)
        record.events.append("rolled back")

    async with conf.running(signals=()):
        conf.prepare(record.subscriber("async", rollback=later))
        conf.prepare(record.subscriber("raises", rollback=raising(ValueError("undo"))))
        conf.prepare(record.subscriber("hangs", rollback=lambda: asyncio.Event().wait()))
        conf.prepare(raising(Refuse("no")))
        memory.set({"port": 1})
        await conf.reload()
    assert record.events[3:] == ["rollback hangs", "rollback raises", "rollback async", "rolled back"]


async def test_I3_stopping_in_mid_rollback_does_not_skip_the_others():
    conf, memory = memory_conf()
    record, entered = Record(), asyncio.Event()

    async def slow():
        entered.set()
        await asyncio.Event().wait()

    async with conf.running(signals=()):
        conf.prepare(record.subscriber("first"))
        conf.prepare(record.subscriber("slow", rollback=slow))
        conf.prepare(raising(Refuse("no")))
        memory.set({"port": 1})
        conf.request_reload()
        await entered.wait()
    assert record.events[2:] == ["rollback slow", "rollback first"]


async def test_I3_a_commit_that_raises_is_reported_and_the_swap_stands(caplog):
    conf, memory = memory_conf()
    record = Record()
    async with conf.running(signals=()):
        conf.prepare(record.subscriber("first", commit=raising(ValueError("too late"))))
        conf.prepare(record.subscriber("second", commit=raising(SystemExit(1))))
        conf.prepare(record.subscriber("third", commit=raising(Panic())))
        conf.prepare(record.subscriber("fourth"))
        memory.set({"port": 1})
        report = await conf.reload()
        assert conf.current.port == 1
    assert record.events[4:] == ["commit first", "commit second", "commit third", "commit fourth"]
    assert report.outcome == "applied"
    assert [error.split(" raised ")[1] for error in report.commit_errors] == [
        "ValueError: too late",
        "SystemExit: 1",
        "Panic: ",
    ]
    assert "commit of" in str(report)
    assert any(entry.levelno == logging.WARNING and "reload 2" in entry.getMessage() for entry in caplog.records)


async def test_an_async_commit_is_reported_not_forgotten(caplog):
    conf, memory = memory_conf()

    class Prepared:
        async def commit(self): ...
        def rollback(self): ...

    async with conf.running(signals=()):
        conf.prepare(lambda change: Prepared())
        memory.set({"port": 1})
        (error,) = (await conf.reload()).commit_errors
    assert "is async and was not run" in error


async def test_I2_nothing_awaits_between_swap_and_last_commit(monkeypatch):
    conf, memory = memory_conf()
    events = []
    publish = conf._publish

    def publish_and_watch(snapshot):
        events.append("swap")
        asyncio.get_running_loop().call_soon(events.append, "the loop turned")
        return publish(snapshot)

    monkeypatch.setattr(HotConf, "_publish", lambda self, snapshot: publish_and_watch(snapshot))
    record = Record()
    record.events = events
    async with conf.running(signals=()):
        for name in ("first", "second", "third"):
            conf.prepare(record.subscriber(name))
        await asyncio.sleep(0)
        events.clear()
        memory.set({"port": 1})
        await conf.reload()
    assert events[3:] == ["swap", "commit first", "commit second", "commit third", "the loop turned"]


async def test_I11_a_refusal_quotes_no_secret_old_or_new():
    class Vault(Settings):
        password: SecretStr = SecretStr("first-secret")
        token: Annotated[str, Sensitive()] = "t0ken-one"

    memory = Memory({"password": "old-secret"})
    conf = HotConf(Vault, sources=[memory], options=QUIET)
    async with conf.running(signals=()):

        @conf.prepare
        def tells_all(change):
            old, new = change.old.password.get_secret_value(), change.new.password.get_secret_value()
            raise ValueError(f"{old} does not become {new}")

        memory.set({"password": "new-secret"})
        text = str(await conf.reload())
    assert "old-secret" not in text
    assert "new-secret" not in text


async def test_a_slow_sync_subscriber_is_named_in_a_warning(caplog, monkeypatch):
    monkeypatch.setattr("hotconf.reload.subscribers.SLOW", -1.0)
    conf, _ = memory_conf()

    def heavy(_change): ...

    conf.prepare(heavy)
    async with conf.running(signals=()):
        assert any("heavy held the loop up" in entry.getMessage() for entry in caplog.records)


# Reentrancy


async def test_I4_a_reload_awaited_inside_prepare_raises_instead_of_waiting_for_itself():
    conf, memory = memory_conf()
    errors = []
    async with conf.running(signals=()):

        @conf.prepare
        async def reenters(_change):
            for waiting in (conf.reload(), asyncio.create_task(conf.reload())):
                with pytest.raises(ReentrantReload) as caught:
                    await waiting
                errors.append(caught.value)
            with pytest.raises(ReentrantReload):
                conf.reload_blocking()
            with pytest.raises(ReentrantReload):
                conf.load()
            conf.request_reload("from prepare")

        memory.set({"port": 1})
        assert (await conf.reload()).outcome == "applied"
        await until(lambda: conf.reports[-1].triggers == ("from prepare",))
    assert len(errors) == 2


async def test_I4_nor_does_one_from_commit_or_a_validator_wait():
    from pydantic import field_validator

    holders = []

    class Reloading(Settings):
        port: int = 0

        @field_validator("port")
        @classmethod
        def check(cls, value):
            if value == 2:
                holders[0].reload_blocking()
            return value

    memory = Memory()
    conf = HotConf(Reloading, sources=[memory], options=QUIET)
    holders.append(conf)
    record = Record()
    async with conf.running(signals=()):
        conf.prepare(record.subscriber("commits", commit=conf.reload_blocking))
        memory.set({"port": 1})
        assert "ReentrantReload" in (await conf.reload()).commit_errors[0]
        memory.set({"port": 2})
        report = await conf.reload()
        assert report.outcome == "rejected"
        assert "was awaited from inside" in str(report)


async def test_a_task_that_prepare_left_behind_may_reload_later():
    conf, memory = memory_conf()
    tasks = []
    async with conf.running(signals=()):
        go = asyncio.Event()

        async def later():
            await go.wait()
            return await conf.reload()

        conf.prepare(lambda change: tasks.append(asyncio.create_task(later())))
        memory.set({"port": 1})
        await conf.reload()
        go.set()
        assert (await tasks[0]).outcome == "unchanged"


async def test_a_reload_may_be_awaited_from_on_change():
    conf, memory = memory_conf()
    outcomes = []
    async with conf.running(signals=()):

        @conf.on_change
        async def again(_change):
            outcomes.append((await conf.reload()).outcome)

        memory.set({"port": 1})
        await conf.reload()
        await until(lambda: outcomes)
    assert outcomes == ["unchanged"]


# on_change


async def test_on_change_comes_after_the_swap_and_never_for_the_first_generation():
    conf, memory = memory_conf()
    heard = []
    conf.on_change(lambda change: heard.append((change.generation, conf.current is change.new, change.paths)))
    conf.load()
    async with conf.running(signals=()):
        await conf.reload()
        assert heard == []
        memory.set({"port": 1, "database": {"url": "db://two"}})
        await conf.reload()
        assert heard == [(2, True, ("port", "database.url"))]


async def test_a_change_found_at_start_is_told_and_one_found_by_load_is_not():
    conf, memory = memory_conf()
    heard = []
    conf.on_change(lambda change: heard.append(change.generation))
    conf.load()
    memory.set({"port": 1})
    conf.load()
    async with conf.running(signals=()):
        await conf.reload()
        assert heard == []
    memory.set({"port": 2})
    async with conf.running(signals=()):
        assert heard == [3]


async def test_on_change_hears_of_its_paths_only():
    conf, memory = memory_conf()
    heard = []
    conf.on_change("database.url")(lambda change: heard.append("url"))
    conf.on_change("database")(lambda change: heard.append("database"))
    async with conf.running(signals=()):
        memory.set({"database": {"pool_size": 1}})
        await conf.reload()
        memory.set({"database": {"pool_size": 1}, "port": 1})
        await conf.reload()
    assert heard == ["database"]


async def test_paths_reach_mappings_with_keys_that_are_no_text():
    class Limits(Section):
        by_port: dict[int, int] = {}

    memory = Memory({"by_port": {80: 1, 443: 1}})
    conf = HotConf(Limits, sources=[memory], options=QUIET)
    heard = []
    conf.on_change("by_port.80")(lambda change: heard.append(change.paths))
    async with conf.running(signals=()):
        memory.set({"by_port": {80: 1, 443: 2}})
        await conf.reload()
        memory.set({"by_port": {80: 2, 443: 2}})
        await conf.reload()
    assert heard == [("by_port.80",)]


async def test_a_slow_listener_hears_the_latest_and_one_at_a_time():
    conf, memory = memory_conf()
    heard, go, at_work = [], asyncio.Event(), 0

    async def slow(change):
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        heard.append((change.old.port, change.new.port, change.paths, change.generation))
        await go.wait()
        at_work -= 1

    async with conf.running(signals=()):
        conf.on_change(slow)
        for port in range(1, 6):
            memory.set({"port": port})
            await conf.reload()
        assert heard == [(8080, 1, ("port",), 2)]
        go.set()
        await until(lambda: len(heard) == 2)
        memory.set({"port": 6})
        await conf.reload()
        await until(lambda: len(heard) == 3)
    assert heard[1:] == [(1, 5, ("port",), 6), (5, 6, ("port",), 7)]


async def test_a_slow_listener_that_missed_there_and_back_hears_nothing():
    conf, memory = memory_conf()
    heard, go = [], asyncio.Event()

    async def slow(change):
        heard.append(change.new.port)
        await go.wait()

    async with conf.running(signals=()):
        conf.on_change(slow)
        for port in (1, 2, 1):
            memory.set({"port": port})
            await conf.reload()
        go.set()
        memory.set({"port": 3})
        await conf.reload()
        await until(lambda: len(heard) == 2)
    assert heard == [1, 3]


async def test_a_slow_listener_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("hotconf.engine.engine._LISTENERS_TIMEOUT", 0.02)
    conf, memory = memory_conf()
    heard = []
    async with conf.running(signals=()):
        conf.on_change(hang)
        conf.on_change(lambda change: heard.append(change.generation))
        for port in (1, 2):
            memory.set({"port": port})
            assert (await conf.reload()).outcome == "applied"
        assert heard == [2, 3]


@pytest.mark.parametrize("error", [ValueError("boom"), Panic("boom"), SystemExit(3), asyncio.CancelledError()])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_listener_that_raises_is_logged_and_hears_the_next(caplog, asynchronous, error):
    conf, memory = memory_conf()
    heard = []

    def bad(change):
        heard.append(change.generation)
        raise error

    async def bad_later(change):
        bad(change)

    async with conf.running(signals=()):
        conf.on_change(bad_later if asynchronous else bad)
        conf.on_change(lambda change: heard.append("other"))
        for port in (1, 2):
            memory.set({"port": port})
            assert (await conf.reload()).outcome == "applied"
            await until(lambda port=port: len(heard) == 2 * port)
    errors = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    is_cancelled_task = asynchronous and isinstance(error, asyncio.CancelledError)
    assert len(errors) == (0 if is_cancelled_task else 2)
    assert all("bad" in entry.getMessage() and "Traceback" in entry.getMessage() for entry in errors)


async def test_a_listener_may_unsubscribe_from_within_and_take_another_along():
    conf, memory = memory_conf()
    heard = []

    def once(change):
        heard.append("once")
        conf.unsubscribe(once)
        conf.unsubscribe(other)

    def other(change):
        heard.append("other")

    async with conf.running(signals=()):
        conf.on_change(once)
        conf.on_change(other)
        for port in (1, 2):
            memory.set({"port": port})
            await conf.reload()
    assert heard == ["once"]


async def test_what_a_slow_listener_missed_is_dropped_with_it():
    conf, memory = memory_conf()
    heard, go = [], asyncio.Event()

    async def slow(change):
        heard.append(change.new.port)
        await go.wait()

    async with conf.running(signals=()):
        conf.on_change(slow)
        for port in (1, 2):
            memory.set({"port": port})
            await conf.reload()
        conf.unsubscribe(slow)
        go.set()
    assert heard == [1]


async def test_a_prepare_may_be_taken_back_and_a_method_too():
    conf, memory = memory_conf()

    class Pool:
        def refuse(self, _change):
            raise Refuse("no")

    pool = Pool()
    async with conf.running(signals=()):
        conf.prepare(pool.refuse)
        memory.set({"port": 1})
        assert (await conf.reload()).outcome == "rejected"
        conf.unsubscribe(pool.refuse)
        assert (await conf.reload()).outcome == "applied"


async def test_leaving_waits_for_a_listener_at_work():
    conf, memory = memory_conf()
    done = []

    @conf.on_change
    async def short(_change):
        await asyncio.sleep(0.02)
        done.append(True)

    async with conf.running(signals=()):
        memory.set({"port": 1})
        await conf.reload()
    assert done == [True]


async def test_leaving_cancels_a_listener_that_never_ends_and_names_it(monkeypatch, caplog):
    monkeypatch.setattr("hotconf.engine.engine._LISTENERS_TIMEOUT", 0.02)
    conf, memory = memory_conf()
    heard = []

    @conf.on_change
    async def endless(change):
        heard.append(change.new.port)
        await asyncio.Event().wait()

    async with conf.running(signals=()):
        for port in (1, 2):
            memory.set({"port": port})
            await conf.reload()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    assert any("endless" in entry.getMessage() and "still at work" in entry.getMessage() for entry in caplog.records)
    # What it missed belongs to a run that is over.
    monkeypatch.setattr("hotconf.engine.engine._LISTENERS_TIMEOUT", 1.0)
    heard.clear()
    conf.unsubscribe(endless)
    conf.on_change(lambda change: heard.append(change.new.port))
    async with conf.running(signals=()):
        memory.set({"port": 3})
        await conf.reload()
    assert heard == [3]


async def test_a_listener_that_waits_for_a_reload_does_not_hold_up_the_end():
    conf, memory = memory_conf()
    errors, waiting = [], asyncio.Event()

    @conf.on_change
    async def reloads(_change):
        conf.prepare(hang)
        memory.set({"port": 2})
        waiting.set()
        try:
            await conf.reload()
        except Exception as error:
            errors.append(type(error).__name__)

    async with conf.running(signals=()):
        memory.set({"port": 1})
        await conf.reload()
        await waiting.wait()
    assert errors == ["NotRunning"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_eager_listeners_hear_every_change():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    conf, memory = memory_conf()
    heard, outcomes = [], []

    @conf.on_change
    async def at_once(change):
        heard.append(change.new.port)

    @conf.on_change
    async def reloads(change):
        outcomes.append((await conf.reload()).outcome)

    async with conf.running(signals=()):
        for port in (1, 2, 3):
            memory.set({"port": port})
            await conf.reload()
            await until(lambda port=port: len(heard) == len(outcomes) == port)
    assert heard == [1, 2, 3]
    assert outcomes == ["unchanged"] * 3


async def test_registering_from_many_threads_loses_nobody():
    conf, memory = memory_conf()
    heard = []

    def register():
        for _ in range(200):
            conf.on_change(lambda change: heard.append(1))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=register) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    async with conf.running(signals=()):
        memory.set({"port": 1})
        await conf.reload()
    assert len(heard) == 800


async def test_cancelling_a_waiter_in_mid_prepare_abandons_the_wait_only():
    conf, memory = memory_conf()
    entered, go = asyncio.Event(), asyncio.Event()

    @conf.prepare
    async def slow(change):
        if change.new.port == 1:
            entered.set()
            await go.wait()

    async with conf.running(signals=()):
        memory.set({"port": 1})
        waiter = asyncio.create_task(conf.reload())
        await entered.wait()
        await cancel(waiter)
        go.set()
        await until(lambda: conf.current.port == 1)


class Guarded(Settings):
    token: SecretStr


@pytest.mark.parametrize("place", ["on_change", "commit"])
async def test_I11_the_log_of_a_subscriber_that_raises_quotes_no_secret(place, caplog):
    conf, memory = memory_conf(Guarded, token="canary-old")

    class Committing:
        def commit(self):
            raise RuntimeError(f"cannot use {conf.current.token.get_secret_value()}")

        def rollback(self):
            pass

    async with conf.running(signals=()):
        if place == "commit":
            conf.prepare(lambda _change: Committing())
        else:

            @conf.on_change
            def leak(change):
                raise RuntimeError(f"{change.old.token.get_secret_value()} {change.new.token.get_secret_value()}")

        memory.set({"token": "canary-new"})
        await conf.reload()
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("where", ["prepare", "commit", "rollback", "on_change"])
async def test_a_generator_exit_of_a_subscriber_is_a_failure_like_any_other_and_ends_no_engine(where, is_async):
    conf, memory = memory_conf()

    def leave():
        if conf.loaded and conf.status.state == "ready":
            raise GeneratorExit

    class State:
        def commit(self):
            if where == "commit":
                leave()

        def rollback(self):
            if where == "rollback":
                leave()

    def take_part(change):
        if where == "prepare":
            leave()
        return State()

    async def take_part_later(change):
        return take_part(change)

    conf.prepare(take_part_later if is_async else take_part)

    @conf.prepare
    def refuse(change):
        if change.new.port == 13:
            raise Refuse("bad luck")

    @conf.on_change
    def listen(_change):
        if where == "on_change":
            leave()

    async with conf.running(signals=()):
        for port in (1, 13, 2):
            memory.set({"port": port})
            await conf.reload()
        assert (conf.status.state, conf.status.degraded == ()) == ("ready", where not in ("prepare", "commit"))


async def test_what_a_commit_raised_is_in_the_report_without_secrets():
    class Vault(Settings):
        password: SecretStr = SecretStr("hunter2")
        port: int = 1

    memory = Memory({})
    conf = HotConf(Vault, sources=[memory], options=QUIET)

    class State:
        def commit(self):
            raise ValueError(f"no pool for {conf.current.password.get_secret_value()}")

        def rollback(self): ...

    conf.prepare("port")(lambda change: State())
    async with conf.running(signals=()):
        memory.set({"port": 2})
        report = await conf.reload()
        assert report.commit_errors[0].endswith("raised ValueError: no pool for **********")
        assert conf.status.degraded == report.commit_errors
