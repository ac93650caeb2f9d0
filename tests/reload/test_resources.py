"""Resources: built before the swap, sealed into their snapshot, closed once when nobody needs them any more."""

import asyncio
import gc
import logging
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio
import pytest

from hotconf import HotConf, Options, Refuse
from hotconf.errors import ConfigError, NotBuilt, ReentrantReload, SchemaError
from hotconf.sources import Memory
from tests.heart import QUIET, App, Record


class Pool:
    def __init__(self, size):
        self.size = size
        self.open = True


def pooled(*, options=QUIET, **values):
    """A configuration with a pool built from its database section, and what happened to the pools."""
    memory = Memory(values)
    conf = HotConf(App, sources=[memory], options=options)
    events = []

    @conf.resource("database")
    @asynccontextmanager
    async def pool(candidate):
        made = Pool(candidate.settings.database.pool_size)
        events.append(f"open {made.size}")
        yield made
        made.open = False
        events.append(f"close {made.size}")

    return conf, memory, pool, events


async def closings(events, count):
    """Wait until so many have been closed."""
    async with asyncio.timeout(5):
        while sum(event.startswith("close") for event in events) < count:
            await asyncio.sleep(0)


def size(n):
    return {"database": {"pool_size": n}}


async def test_a_resource_is_built_at_start_and_closed_at_the_end():
    conf, _, pool, events = pooled()
    async with conf.running(signals=()):
        assert conf.snapshot[pool].size == 10
        assert conf.snapshot.resources == {pool: conf.snapshot[pool]}
        assert events == ["open 10"]
    assert events == ["open 10", "close 10"]


async def test_it_is_rebuilt_only_when_its_part_changes():
    conf, memory, pool, events = pooled()
    async with conf.running(signals=()):
        first = conf.snapshot[pool]
        memory.set({"message": "other"})
        await conf.reload()
        assert conf.snapshot.generation == 2
        assert conf.snapshot[pool] is first
        memory.set(size(20))
        await conf.reload()
        assert conf.snapshot[pool].size == conf.current.database.pool_size == 20
        await closings(events, 1)
        assert events == ["open 10", "open 20", "close 10"]


async def test_a_resource_without_paths_follows_every_change():
    conf, memory, *_ = pooled()
    built = []

    @conf.resource()
    @contextmanager
    def whole(candidate):
        built.append(candidate.settings.message)
        yield built[-1]

    async with conf.running(signals=()):
        memory.set({"message": "other"})
        await conf.reload()
        assert conf.snapshot[whole] == "other"
    assert built == ["hello", "other"]


async def test_I10_an_old_resource_stays_open_until_the_last_lease_of_its_snapshot_ends():
    conf, memory, pool, events = pooled()
    async with conf.running(signals=()):
        with conf.pin() as outer:
            with conf.pin() as inner:
                memory.set(size(20))
                await conf.reload()
                assert inner[pool].open
                assert (inner.settings.database.pool_size, inner[pool].size) == (10, 10)
            assert outer[pool].open
            await asyncio.sleep(0.01)  # whoever closed it too soon would have by now
            assert outer[pool].open
        await closings(events, 1)
        assert not outer[pool].open


async def test_I10_a_lease_on_an_older_generation_with_the_same_pool_holds_it_too():
    conf, memory, pool, events = pooled()
    async with conf.running(signals=()):
        with conf.pin() as old:
            memory.set({"message": "other"})
            await conf.reload()  # generation 2 shares the pool with generation 1
            memory.set({"message": "other", **size(20)})
            await conf.reload()
            await asyncio.sleep(0.01)
            assert old[pool].open
        await closings(events, 1)


async def test_a_lease_released_in_another_thread_closes_it_in_the_loop():
    conf, memory, pool, events = pooled()
    async with conf.running(signals=()):
        lease = conf.pin()
        await asyncio.to_thread(lease.__enter__)
        memory.set(size(20))
        await conf.reload()
        await asyncio.to_thread(lease.__exit__, None, None, None)
        await closings(events, 1)
        assert conf.snapshot[pool].open


async def test_I10_retire_after_bounds_how_long_a_lease_can_hold(caplog):
    conf, memory, pool, events = pooled(options=Options(watch=False, retire_after=0.01))
    async with conf.running(signals=()):
        with conf.pin() as snap:
            memory.set(size(20))
            await conf.reload()
            await closings(events, 1)
            assert not snap[pool].open
        assert "resource pooled.<locals>.pool closes although a lease of its snapshot is still held" in caplog.text
    assert events == ["open 10", "open 20", "close 10", "close 20"]


async def test_what_depends_on_a_resource_is_rebuilt_with_it_and_closed_before_it():
    conf, memory, pool, events = pooled()

    @conf.resource("message")
    @asynccontextmanager
    async def cache(candidate):
        events.append(f"open cache on {candidate[pool].size}")
        yield ("cache", candidate[pool])
        events.append("close cache")

    async with conf.running(signals=()):
        memory.set(size(20))
        await conf.reload()
        assert conf.snapshot[cache] == ("cache", conf.snapshot[pool])
        await closings(events, 2)
        assert events == ["open 10", "open cache on 10", "open 20", "open cache on 20", "close cache", "close 10"]
        before = conf.snapshot[pool]
        memory.set({"message": "other", **size(20)})
        await conf.reload()
        assert conf.snapshot[pool] is before
    assert events[-2:] == ["close cache", "close 20"]


async def test_one_that_is_registered_later_cannot_be_asked_for():
    memory = Memory()
    conf = HotConf(App, sources=[memory], options=QUIET)
    later = None

    @conf.resource()
    @contextmanager
    def early(candidate):
        yield candidate[later]

    @conf.resource()
    @contextmanager
    def late(_candidate):
        yield 1

    later = late
    with pytest.raises(ConfigError, match=r"early raised NotBuilt: resource .*late is not built here"):
        async with conf.running(signals=()):
            pass


@pytest.mark.parametrize("failure", ["refuse", "raise", "exit", "timeout", "cancel"])
async def test_I3_whatever_fails_closes_what_was_built_in_reverse(failure):
    conf, memory, pool, events = pooled(options=Options(watch=False, prepare_timeout=0.05))
    record = Record()
    conf.prepare("database")(record.subscriber("middle"))
    armed = False

    @conf.resource("database")
    @asynccontextmanager
    async def last(candidate):
        if armed:
            await fail()
        yield candidate

    async def fail():
        match failure:
            case "refuse":
                raise Refuse("not today")
            case "raise":
                raise ZeroDivisionError
            case "exit":
                raise SystemExit(3)
            case "timeout":
                await asyncio.Event().wait()
            case "cancel":
                raise asyncio.CancelledError

    async with conf.running(signals=()):
        running, armed = conf.snapshot, True
        record.events.clear()
        memory.set(size(20))
        report = await conf.reload()
        assert (report.outcome, report.stage) == ("rejected", "prepare")
        assert "last" in report.faults[0].message
        assert conf.snapshot is running
        assert running[pool].open
        assert record == ["prepare middle", "rollback middle"]
        assert events == ["open 10", "open 20", "close 20"]
    assert events[-1] == "close 10"


async def test_a_refusal_by_a_later_subscriber_closes_the_new_one_and_keeps_the_old():
    conf, memory, pool, events = pooled()

    @conf.prepare("database")
    def never(change):
        if change.old is not None and change.new.database.pool_size == 20:
            raise Refuse("too many")

    async with conf.running(signals=()):
        memory.set(size(20))
        assert (await conf.reload()).outcome == "rejected"
        assert events == ["open 10", "open 20", "close 20"]
        assert conf.snapshot[pool].size == 10


async def test_a_refused_start_leaves_nothing_open():
    conf, _, _, events = pooled()

    @conf.prepare
    def never(_change):
        raise Refuse("no")

    with pytest.raises(ConfigError):
        async with conf.running(signals=()):
            pass
    assert events == ["open 10", "close 10"]


async def test_the_engine_stopping_in_mid_build_closes_what_was_built():
    conf, memory, _, events = pooled()
    entered = asyncio.Event()

    @conf.resource("database")
    @asynccontextmanager
    async def hangs(candidate):
        if candidate.settings.database.pool_size == 20:
            entered.set()
            await asyncio.Event().wait()
        yield

    async with conf.running(signals=()):
        memory.set(size(20))
        conf.request_reload()
        await entered.wait()
    assert events == ["open 10", "open 20", "close 20", "close 10"]


async def test_it_is_entered_and_left_in_the_same_task():
    memory = Memory()
    conf = HotConf(App, sources=[memory], options=QUIET)
    done = []

    @conf.resource("database")
    @asynccontextmanager
    async def scoped(_candidate):
        task = asyncio.current_task()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield group
            group.cancel_scope.cancel()
        done.append(asyncio.current_task() is task)

    async with conf.running(signals=()):
        memory.set(size(20))
        await conf.reload()
    assert done == [True, True]


async def test_one_that_ends_by_itself_is_named_and_built_anew(caplog):
    conf, memory, *_ = pooled()
    crash = asyncio.Event()
    built = []

    @conf.resource("database")
    @asynccontextmanager
    async def fragile(_candidate):
        async with anyio.create_task_group() as group:
            if not built:
                group.start_soon(_raise_when, crash)
            built.append(group)
            yield len(built)
            group.cancel_scope.cancel()

    async with conf.running(signals=()):
        crash.set()
        async with asyncio.timeout(5):
            while not conf.status.degraded:
                await asyncio.sleep(0)
        assert "fragile has ended by itself" in conf.status.degraded[0]
        memory.set({"message": "unrelated"})
        await conf.reload()
        assert conf.snapshot[fragile] == 2
        assert not conf.status.degraded
    assert "fragile ended by itself" in caplog.text


async def _raise_when(event):
    await event.wait()
    raise ZeroDivisionError


async def test_closing_one_that_raises_is_logged_and_the_others_close(caplog):
    conf, *_, events = pooled()

    @conf.resource()
    @contextmanager
    def angry(_candidate):
        yield
        raise ZeroDivisionError

    async with conf.running(signals=()):
        pass
    assert events[-1] == "close 10"
    assert "angry raised" in caplog.text


async def test_a_reload_awaited_while_one_is_built_raises_instead_of_waiting_for_itself():
    conf, memory, *_ = pooled()
    raised = []

    @conf.resource("database")
    @asynccontextmanager
    async def curious(_candidate):
        try:
            await conf.reload()
        except ReentrantReload as error:
            raised.append(error)
        yield

    async with conf.running(signals=()):
        memory.set(size(20))
        assert (await conf.reload()).outcome == "applied"
    assert len(raised) == 2


async def test_load_alone_builds_nothing_and_running_afterwards_does():
    conf, _, pool, events = pooled()
    await asyncio.to_thread(conf.load)
    with pytest.raises(NotBuilt, match="resources exist while `running` is entered"):
        conf.snapshot[pool]
    async with conf.running(signals=()):
        assert conf.snapshot.generation == 1
        assert conf.snapshot[pool].size == 10
    with pytest.raises(NotBuilt):
        conf.snapshot[pool]
    async with conf.running(signals=()):
        assert conf.snapshot[pool].open
    assert events == ["open 10", "close 10"] * 2


def test_resources_live_in_the_engines_thread_too():
    conf, memory, pool, events = pooled()
    with conf.running(signals=()):
        memory.set(size(20))
        with conf.pin() as snap:
            assert conf.reload_blocking().outcome == "applied"
            assert snap[pool].open
        assert conf.snapshot[pool].size == 20
    assert events == ["open 10", "open 20", "close 10", "close 20"]


async def test_a_resource_that_is_taken_back_is_closed_by_the_next_change():
    conf, memory, pool, events = pooled()
    async with conf.running(signals=()):
        conf.unsubscribe(pool)
        memory.set(size(20))
        await conf.reload()
        with pytest.raises(NotBuilt):
            conf.snapshot[pool]
        await closings(events, 1)
    assert events == ["open 10", "close 10"]


async def test_a_dry_run_builds_and_closes():
    conf, memory, _, events = pooled()
    async with conf.running(signals=()):
        running = conf.snapshot
        memory.set(size(20))
        report = await conf.reload(dry_run=True)
        assert (report.outcome, report.dry_run, report.changed) == ("applied", True, ("database.pool_size",))
        assert events == ["open 10", "open 20", "close 20"]
        assert conf.snapshot is running
        assert report not in conf.reports
        assert (await conf.reload()).outcome == "applied"


async def test_a_dry_run_says_who_would_refuse():
    conf, memory, *_ = pooled()

    @conf.prepare("message")
    def never(change):
        if change.new.message == "bad":
            raise Refuse("never")

    async with conf.running(signals=()):
        memory.set({"message": "bad"})
        report = await conf.reload(dry_run=True)
        assert (report.outcome, report.stage, conf.status.consecutive_failures) == ("rejected", "prepare", 0)


async def test_one_that_does_not_close_in_time_is_cancelled_and_named(caplog):
    conf, *_, events = pooled()

    @conf.resource()
    @asynccontextmanager
    async def stubborn(_candidate):
        yield
        await asyncio.Event().wait()

    running = conf.running(signals=())
    running.closing_period = 0.05
    async with running:
        pass
    assert "stubborn did not close in time and is cancelled" in caplog.text
    assert events[-1] == "close 10"


async def closed_in_order(conf, *, hangs, needs=()):
    """Three resources, some of which never end by themselves; each takes its time. Returns what ended, in order."""
    ended, keys = [], {}

    def register(name):
        @asynccontextmanager
        async def part(candidate):
            if name in needs:
                assert candidate[keys[needs[name]]] == needs[name]
            yield name
            try:
                await (asyncio.Event().wait() if name in hangs else asyncio.sleep(0.02))
                ended.append(name)
            except asyncio.CancelledError:
                ended.append(f"{name} cut")
                raise

        keys[name] = conf.resource()(part)

    for name in ("first", "second", "third"):
        register(name)
    async with conf.running(signals=()):
        pass
    return ended


async def test_one_that_hangs_leaves_the_others_the_time_to_close(caplog, monkeypatch):
    monkeypatch.setattr("hotconf.engine.running.CLOSING", 1.0)
    ended = await closed_in_order(HotConf(App, options=QUIET), hangs={"third"})
    assert ended == ["second", "first", "third cut"]
    assert caplog.text.count("did not close in time") == 1


async def test_what_one_that_hangs_was_built_from_closes_after_it(caplog, monkeypatch):
    monkeypatch.setattr("hotconf.engine.running.CLOSING", 1.0)
    ended = await closed_in_order(HotConf(App, options=QUIET), hangs={"third"}, needs={"third": "second"})
    assert ended == ["third cut", "second", "first"]
    assert caplog.text.count("did not close in time") == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_bare_generator_is_refused_at_registration(kind):
    conf = HotConf(App)

    def plain(_candidate):
        yield

    async def awaiting(_candidate):
        yield

    with pytest.raises(SchemaError, match=r"put @(async)?contextmanager below @resource"):
        conf.resource()(plain if kind == "sync" else awaiting)


def test_an_unknown_path_is_refused_at_registration():
    with pytest.raises(SchemaError, match="did you mean 'database'"):
        HotConf(App).resource("databse")


async def test_what_is_no_context_manager_is_refused_by_name():
    conf = HotConf(App, options=QUIET)

    @conf.resource()
    def plain(_candidate):
        return 1

    with pytest.raises(ConfigError, match="plain returned no context manager"):
        async with conf.running(signals=()):
            pass


async def test_a_slow_synchronous_one_is_named(caplog):
    conf = HotConf(App, options=QUIET)

    @conf.resource()
    @contextmanager
    def slow(_candidate):
        import time

        time.sleep(0.15)
        yield

    with caplog.at_level(logging.WARNING, "hotconf"):
        async with conf.running(signals=()):
            pass
    assert "slow held the loop up" in caplog.text


async def test_one_that_is_taken_back_under_those_who_use_it_is_refused_and_stays_open():
    conf, memory, pool, events = pooled()

    @conf.resource("message")
    @contextmanager
    def cache(candidate):
        yield candidate[pool]

    async with conf.running(signals=()):
        conf.unsubscribe(pool)
        memory.set({"port": 1})
        report = await conf.reload()
        assert "cache raised NotBuilt" in report.faults[0].message
        assert conf.snapshot[cache].open
        conf.unsubscribe(cache)
        assert (await conf.reload()).outcome == "applied"
        await closings(events, 1)


def layered(events, go_on):
    """A pool, and a cache built from it that takes its time to close."""
    conf, memory, pool, _ = pooled(options=Options(watch=False, retire_after=None))

    @conf.resource("message")
    @asynccontextmanager
    async def cache(candidate):
        below, name = candidate[pool], candidate.settings.message
        yield name
        await go_on.wait()
        events.append((name, below.open))

    return conf, memory


async def test_what_was_retired_closes_before_what_it_was_built_from_at_the_end_too():
    events, go_on = [], asyncio.Event()
    go_on.set()
    conf, memory = layered(events, go_on)
    async with conf.running(signals=()):
        lease = conf.pin()
        lease.__enter__()
        memory.set({"message": "two"})
        await conf.reload()
    assert events == [("hello", True), ("two", True)]


@pytest.mark.parametrize("end", ["release", "stop"])
async def test_what_takes_its_time_to_close_keeps_what_it_was_built_from(end):
    events, go_on = [], asyncio.Event()
    conf, memory = layered(events, go_on)
    async with conf.running(signals=()):
        with conf.pin():
            memory.set({"message": "two"})
            await conf.reload()
            if end == "release":
                memory.set({"message": "two", **size(20)})
                await conf.reload()
        await asyncio.sleep(0.01)  # whoever closed the pool too soon would have by now
        asyncio.get_running_loop().call_later(0.01, go_on.set)
    assert dict(events) == {"hello": True, "two": True}


async def test_nothing_is_remembered_of_those_that_closed():
    conf, memory = layered([], go_on := asyncio.Event())
    go_on.set()
    async with conf.running(signals=()):
        for number in range(5):
            memory.set({"message": str(number)})
            await conf.reload()
        [pool, _] = conf._reloader.resources.current.values()
        async with asyncio.timeout(5):
            while len(pool.users) > 1:
                await asyncio.sleep(0)


def own_tasks():
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.fixture
def impatient():
    return Options(watch=False, prepare_timeout=0.05)


async def test_one_that_was_given_up_may_raise_what_it_likes_and_no_secret_of_it_is_logged(caplog, impatient):
    conf, memory, *_ = pooled(options=impatient, **size(1))

    @conf.resource("database")
    @asynccontextmanager
    async def slow(candidate):
        if candidate.settings.database.pool_size == 2:
            try:
                await asyncio.Event().wait()
            finally:
                raise RuntimeError(candidate.settings.database.url)
        yield

    async with conf.running(signals=()):
        memory.set({"database": {"pool_size": 2, "url": "hunter2"}})
        assert "slow was not ready within 0.05 s" in str((await conf.reload()).faults[0])
    gc.collect()  # a task whose error nobody has seen complains when it goes
    assert "hunter2" not in caplog.text
    assert "never retrieved" not in caplog.text
    assert "slow raised" in caplog.text


async def test_one_that_does_not_close_when_another_refuses_is_cancelled(impatient):
    conf, memory, *_ = pooled(options=impatient, **size(1))

    @conf.resource("database")
    @asynccontextmanager
    async def stubborn(candidate):
        yield
        if candidate.settings.database.pool_size == 2:
            await asyncio.Event().wait()

    @conf.prepare("database")
    def refuse(change):
        if change.new.database.pool_size == 2:
            raise Refuse("no")

    async with conf.running(signals=()):
        memory.set(size(2))
        assert (await conf.reload()).outcome == "rejected"
        assert sum("stubborn" in task.get_name() for task in own_tasks()) == 1, "the one in force"
    assert not own_tasks()


async def test_I10_one_that_does_not_close_when_replaced_keeps_no_other_open_at_the_end():
    conf, memory, _, events = pooled()
    leaving = asyncio.Event()

    @conf.resource("database")
    @asynccontextmanager
    async def stubborn(candidate):
        yield
        if candidate.settings.database.pool_size == 10:
            leaving.set()
            await asyncio.Event().wait()

    running = conf.running(signals=())
    running.closing_period = 0.1
    async with running:
        memory.set(size(20))
        await conf.reload()
        await leaving.wait()
        assert events == ["open 10", "open 20"], "the pool is closed after what came later"
    assert sorted(events) == ["close 10", "close 20", "open 10", "open 20"]
    assert not own_tasks()


async def test_a_cancellation_while_the_engine_stops_leaves_none_open():
    conf, memory, _, events = pooled()
    busy = asyncio.Event()

    @conf.on_change
    async def slow(_change):
        busy.set()
        await asyncio.Event().wait()

    async def run():
        async with conf.running(signals=()):
            memory.set({"message": "other"})
            await conf.reload()
            await busy.wait()
            asyncio.get_running_loop().call_later(0.05, running.cancel)

    running = asyncio.create_task(run())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert events == ["open 10", "close 10"]
    assert not own_tasks()


async def test_a_cancellation_while_they_close_cancels_all_that_are_open():
    conf, *_ = pooled()
    closing, ended = asyncio.Event(), []

    def slow(name):
        @conf.resource()
        @asynccontextmanager
        async def resource(_candidate):
            try:
                yield
                closing.set()
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        return resource

    slow("one")
    slow("two")

    async def run():
        async with conf.running(signals=()):
            pass

    running = asyncio.create_task(run())
    await closing.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["two", "one"]
    assert not own_tasks()


async def test_one_that_is_registered_later_cannot_be_asked_for_by_a_later_reload_either():
    conf, memory, *_ = pooled()
    answers = []

    @conf.resource("message")
    @contextmanager
    def first(candidate):
        with suppress(NotBuilt):
            answers.append(candidate[second])
        yield

    @conf.resource("message")
    @contextmanager
    def second(candidate):
        yield candidate.settings.message

    async with conf.running(signals=()):
        memory.set({"message": "other"})
        assert (await conf.reload()).outcome == "applied"
    assert answers == []
