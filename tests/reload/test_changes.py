"""`conf.changes()` and `on_change(initial=True)`: the settings in force, and each change of them."""

import asyncio

import pytest

from hotconf.errors import NotRunning, SchemaError
from tests.heart import memory_conf, until


async def read(conf, *paths, seen, ready=None):
    async for change in conf.changes(*paths):
        seen.append((change.generation, change.old.message, change.new.message, change.paths))
        if ready is not None:
            await ready.wait()
    seen.append("end")


async def reading(conf, *paths, **options):
    """Start a reader and return when it is registered."""
    before = len(conf._subscribers.streams)
    task = asyncio.create_task(read(conf, *paths, **options))
    await until(lambda: len(conf._subscribers.streams) > before)
    return task


async def change(conf, memory, **values):
    memory.set(values)
    assert (await conf.reload()).outcome == "applied"


async def test_a_reader_gets_each_change_of_its_part_and_ends_with_the_engine():
    conf, memory = memory_conf()
    seen = []
    async with conf.running(signals=()):
        task = await reading(conf, "message", seen=seen)
        await change(conf, memory, message="one")
        await until(lambda: len(seen) == 1)
        await change(conf, memory, message="one", port=1)
        await change(conf, memory, message="two", port=1)
        await until(lambda: len(seen) == 2)
    await asyncio.wait_for(task, 20)
    assert seen == [(2, "hello", "one", ("message",)), (4, "one", "two", ("message",)), "end"]
    assert (conf._subscribers.streams, conf._subscribers.listeners) == ((), ())


async def test_a_slow_reader_gets_the_latest_in_one_step_and_nothing_of_what_was_undone():
    conf, memory = memory_conf()
    seen, ready = [], asyncio.Event()
    async with conf.running(signals=()):
        task = await reading(conf, seen=seen, ready=ready)
        await change(conf, memory, message="one")
        await until(lambda: seen)
        await change(conf, memory, message="two")
        await change(conf, memory, message="three", port=1)
        ready.set()
        await until(lambda: len(seen) == 2)
        assert seen[1] == (4, "one", "three", ("message", "port"))
        ready.clear()
        await change(conf, memory, message="four", port=1)
        await until(lambda: len(seen) == 3)
        await change(conf, memory, message="five", port=1)
        await change(conf, memory, message="four", port=1)
        ready.set()
    await asyncio.wait_for(task, 20)
    assert seen[3:] == ["end"]


async def test_a_reader_in_another_loop_than_the_engines():
    conf, memory = memory_conf()
    seen = []
    with conf.running(signals=()):
        task = await reading(conf, seen=seen)
        await change(conf, memory, message="one")
        await until(lambda: seen)
    await asyncio.wait_for(task, 20)
    assert seen[-1] == "end"


async def test_a_reader_that_stops_is_forgotten():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        changes = conf.changes()
        first = asyncio.ensure_future(anext(changes))
        await until(lambda: conf._subscribers.streams)
        await change(conf, memory, message="one")
        assert (await first).new.message == "one"
        await changes.aclose()
        assert (conf._subscribers.streams, conf._subscribers.listeners) == ((), ())


async def test_without_an_engine_or_such_a_path_it_raises():
    conf, _ = memory_conf()
    with pytest.raises(NotRunning):
        await anext(conf.changes())
    with pytest.raises(SchemaError, match="mesage"):
        await anext(conf.changes("mesage"))


async def test_initial_listeners_get_the_settings_of_the_start_and_changes_afterwards():
    conf, memory = memory_conf(message="first")
    heard = []

    @conf.on_change("message", initial=True)
    def listen(change):
        heard.append((change.generation, change.old and change.old.message, change.new.message))

    @conf.on_change("message")
    def other(_change):
        heard.append("other")

    async with conf.running(signals=()):
        assert heard == [(1, None, "first")]
        await change(conf, memory, message="second")
        await until(lambda: len(heard) == 3)
        assert heard[1:] == [(2, "first", "second"), "other"]
    async with conf.running(signals=()):
        assert heard[3:] == [(2, None, "second")]


@pytest.mark.parametrize("threaded", [False, True])
async def test_one_that_is_registered_while_live_is_told_at_once_and_alone(threaded):
    conf, _ = memory_conf()
    early, late = [], []
    conf.on_change(lambda change: early.append(change.new.message), initial=True)
    running = conf.running(signals=())
    if threaded:
        running.__enter__()
    async with conf.running(signals=()):
        conf.on_change(initial=True)(lambda change: late.append(change.new.message))
        await until(lambda: late)
        assert (early, late) == (["hello"], ["hello"])
    if threaded:
        running.__exit__(None, None, None)
