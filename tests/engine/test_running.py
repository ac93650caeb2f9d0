"""Entries are counted: a configuration is live from the first one to the last exit, from whatever thread or loop."""

import asyncio
import threading
from contextlib import contextmanager

import pytest

from hotconf.errors import ConfigError
from tests.heart import memory_conf, until


def counted(conf):
    """A resource, and what was opened and closed."""
    events = []

    @conf.resource("database")
    @contextmanager
    def pool(_candidate):
        events.append("open")
        yield threading.current_thread().name
        events.append("close")

    return pool, events


async def test_it_ends_with_the_last_exit_of_several_in_one_loop():
    conf, memory = memory_conf()
    pool, events = counted(conf)
    running = conf.running(signals=())
    async with running:
        async with running, conf.running(signals=()):
            assert conf.status.state == "ready"
        memory.set({"port": 1})
        assert (await conf.reload()).outcome == "applied"
        assert conf.snapshot[pool]
    assert (conf.status.state, events) == ("stopped", ["open", "close"])


def test_it_ends_with_the_last_exit_of_several_threads():
    conf, memory = memory_conf()
    inside, go_on = threading.Event(), threading.Event()

    def other():
        with conf.running(signals=()):
            inside.set()
            go_on.wait(20)

    thread = threading.Thread(target=other)
    with conf.running(signals=()):
        thread.start()
        inside.wait(20)
    memory.set({"port": 1})
    assert conf.reload_blocking(20).outcome == "applied"
    go_on.set()
    thread.join(20)
    assert conf.status.state == "stopped"


async def test_where_the_loop_is_left_first_it_goes_on_in_a_thread():
    conf, memory = memory_conf()
    pool, events = counted(conf)
    inside, go_on = threading.Event(), threading.Event()

    def other():
        with conf.running(signals=()):
            inside.set()
            go_on.wait(20)

    thread = threading.Thread(target=other)
    async with conf.running(signals=()):
        thread.start()
        await asyncio.to_thread(inside.wait, 20)
        assert conf.snapshot[pool] == "MainThread"
    await until(lambda: conf.status.state == "ready")
    assert conf.snapshot[pool] == "hotconf-engine"
    memory.set({"port": 1})
    assert (await conf.reload()).outcome == "applied"
    go_on.set()
    await asyncio.to_thread(thread.join, 20)
    assert (conf.status.state, events) == ("stopped", ["open", "close"] * 2)


async def test_an_entry_while_it_starts_waits_for_the_start():
    conf, _ = memory_conf()
    begun, go_on = asyncio.Event(), asyncio.Event()

    @conf.prepare
    async def slow(_change):
        begun.set()
        await go_on.wait()

    async def enter():
        async with conf.running(signals=()):
            return conf.current.message

    first, second = asyncio.create_task(enter()), asyncio.create_task(enter())
    await begun.wait()
    second.cancel()  # one that gives up takes nothing from the others
    third = asyncio.create_task(enter())
    with pytest.raises(RuntimeError, match="starting in this event loop"):
        conf.running(signals=()).__enter__()
    go_on.set()
    assert [await first, await third] == ["hello", "hello"]
    assert conf.status.state == "stopped"


async def test_a_start_that_is_rejected_is_rejected_for_all_and_may_be_tried_again():
    conf, memory = memory_conf(port="many")
    results = await asyncio.gather(*(conf.running(signals=()).__aenter__() for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ConfigError] * 3
    memory.set({})
    async with conf.running(signals=()):
        assert conf.status.state == "ready"


def test_start_and_stop_count_and_a_stop_too_many_is_harmless():
    conf, memory = memory_conf()
    conf.stop()
    conf.start()
    conf.start()
    conf.stop()
    memory.set({"port": 1})
    assert conf.reload_blocking(20).outcome == "applied"
    conf.stop()
    conf.stop()
    assert conf.status.state == "stopped"
    conf.start()
    assert conf.status.state == "ready"
    conf.stop()


def test_an_exit_without_an_entry_does_nothing():
    conf, _ = memory_conf()
    running = conf.running(signals=())
    running.__exit__(None, None, None)
    asyncio.run(running.__aexit__(None, None, None))
    with running:
        assert conf.status.state == "ready"


def test_what_a_fork_does_is_one_of_two_words():
    conf, _ = memory_conf()
    with pytest.raises(ValueError, match="'resume' or 'keep', not 'stay'"):
        conf.running(after_fork="stay")
