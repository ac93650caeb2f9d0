"""Entries are counted: a configuration is live from the first one to the last exit, from whatever thread or loop."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

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
    await conf.reload()  # or the one that the new engine begins with
    assert conf.current.port == 1
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


class Held:
    """A resource whose close waits until the test lets it go on, and another entry in a thread."""

    def __init__(self, conf):
        self.closing, self.go_on, self.open = asyncio.Event(), asyncio.Event(), 0
        self.inside, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.enter, args=(conf,), daemon=True)

        @conf.resource("database")
        @asynccontextmanager
        async def held(_candidate):
            self.open += 1
            yield self.open
            if threading.current_thread() is threading.main_thread():
                self.closing.set()
                try:
                    await self.go_on.wait()
                finally:
                    self.open -= 1
            else:
                self.open -= 1

    def enter(self, conf):
        with conf.running(signals=()):
            self.inside.set()
            self.leave.wait(20)

    async def entered(self):
        self.thread.start()
        await asyncio.to_thread(self.inside.wait, 20)

    async def left(self):
        self.leave.set()
        await asyncio.to_thread(self.thread.join, 20)
        assert not self.thread.is_alive()


def engine_threads():
    return [thread.name for thread in threading.enumerate() if thread.name == "hotconf-engine"]


async def test_a_cancelled_exit_still_hands_the_engine_over():
    conf, memory = memory_conf()
    held = Held(conf)
    running = conf.running(signals=())
    await running.__aenter__()
    await held.entered()
    exit_ = asyncio.create_task(running.__aexit__(None, None, None))
    await held.closing.wait()
    exit_.cancel()
    await asyncio.wait([exit_])
    await until(engine_threads)
    await conf.running(signals=()).__aenter__()  # waits for the end of the hand-over
    memory.set({"port": 1})
    await conf.reload()  # or the one that the new engine begins with
    assert conf.current.port == 1
    await conf._host.leave()
    await held.left()
    assert (conf.status.state, held.open, engine_threads()) == ("stopped", 0, [])


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_last_exit_during_a_hand_over_leaves_no_engine(cancelled):
    conf, _ = memory_conf()
    held = Held(conf)
    running = conf.running(signals=())
    await running.__aenter__()
    await held.entered()
    exit_ = asyncio.create_task(running.__aexit__(None, None, None))
    await held.closing.wait()
    held.leave.set()
    await until(lambda: not conf._host._entered)
    if cancelled:
        exit_.cancel()
    held.go_on.set()
    await asyncio.wait([exit_])
    await held.left()
    assert (conf.status.state, held.open, engine_threads()) == ("stopped", 0, [])
    async with conf.running(signals=()):
        assert conf.status.state == "ready"


async def test_an_entry_during_the_last_exit_starts_the_engine_again():
    conf, memory = memory_conf()
    held = Held(conf)
    running = conf.running(signals=())
    await running.__aenter__()
    exit_ = asyncio.create_task(running.__aexit__(None, None, None))
    await held.closing.wait()
    entry = asyncio.create_task(conf.running(signals=()).__aenter__())
    await until(lambda: conf._host._entered)
    held.go_on.set()
    await asyncio.gather(exit_, entry)
    memory.set({"port": 1})
    await conf.reload()  # or the one that the new engine begins with
    assert conf.current.port == 1
    await conf._host.leave()
    assert (conf.status.state, held.open) == ("stopped", 0)


def slow_to_start(conf):
    """Make the start wait, and return the events of its begin and of its end."""
    begun, go_on = threading.Event(), threading.Event()

    @conf.prepare
    async def slow(_change):
        begun.set()
        await asyncio.to_thread(go_on.wait, 20)

    return begun, go_on


async def test_a_cancelled_entry_that_waits_takes_back_its_own_entry():
    conf, _ = memory_conf()
    begun, go_on = slow_to_start(conf)
    others = [threading.Event(), threading.Event()]

    def other(entered):
        with conf.running(signals=()):
            entered.set()

    threads = [threading.Thread(target=other, args=(entered,), daemon=True) for entered in others]
    threads[0].start()
    await asyncio.to_thread(begun.wait, 20)
    waiting = asyncio.create_task(conf.running(signals=()).__aenter__())
    await until(lambda: len(conf._host._entered) == 2)
    threads[1].start()
    await until(lambda: len(conf._host._entered) == 3)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert conf._host._entered == [None, None]
    go_on.set()
    for thread in threads:
        await asyncio.to_thread(thread.join, 20)
    assert all(entered.is_set() for entered in others)
    assert conf.status.state == "stopped"


async def test_an_entry_that_is_cancelled_as_the_start_ends_leaves_again():
    conf, _ = memory_conf()
    running = conf.running(signals=())
    entry = asyncio.create_task(running.__aenter__())
    conf.on_change(lambda _change: entry.cancel(), initial=True)
    await asyncio.wait([entry])
    assert entry.cancelled()
    assert (conf.status.state, conf._host._entered) == ("stopped", [])


async def test_where_the_first_entry_is_cancelled_another_one_starts():
    conf, memory = memory_conf()
    begun, go_on = slow_to_start(conf)
    entered, leave = threading.Event(), threading.Event()

    def other():
        with conf.running(signals=()):
            entered.set()
            leave.wait(20)

    first = asyncio.create_task(conf.running(signals=()).__aenter__())
    await asyncio.to_thread(begun.wait, 20)
    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    second = asyncio.create_task(conf.running(signals=()).__aenter__())
    await until(lambda: len(conf._host._entered) == 3)
    first.cancel()
    go_on.set()
    await asyncio.wait([first])
    await second
    await asyncio.to_thread(entered.wait, 20)
    memory.set({"port": 1})
    await conf.reload()  # or the one that the new engine begins with
    assert conf.current.port == 1
    await conf._host.leave()
    leave.set()
    await asyncio.to_thread(thread.join, 20)
    assert (first.cancelled(), conf.status.state) == (True, "stopped")


async def test_a_reader_of_changes_goes_on_after_a_hand_over():
    conf, memory = memory_conf()
    held = Held(conf)
    held.go_on.set()
    seen = []

    async def read():
        async for change in conf.changes():
            seen.append(change.new.port)  # noqa: PERF401 - each one as it comes

    async with conf.running(signals=()):
        await held.entered()
        reader = asyncio.create_task(read())
        await until(lambda: conf._subscribers.streams)
    memory.set({"port": 1})
    await conf.reload()  # or the one that the new engine begins with
    await until(lambda: seen == [1])
    await held.left()
    await asyncio.wait_for(reader, 20)


async def test_an_entry_after_a_failed_start_tries_again_while_others_still_hear_of_it():
    conf, memory = memory_conf(port="many")
    tried = []

    async def enter():
        try:
            await conf.running(signals=()).__aenter__()
        except ConfigError:
            memory.set({})
            tried.append(await conf.running(signals=()).__aenter__())

    first, second = asyncio.create_task(enter()), asyncio.create_task(enter())
    await asyncio.gather(first, second)
    assert tried == [conf, conf]
    await conf._host.leave()
    assert conf.status.state == "ready"
    await conf._host.leave()
    assert conf.status.state == "stopped"


async def test_a_last_exit_that_is_cancelled_while_all_workers_are_busy_stops_the_engine():
    conf, _ = memory_conf()
    go_on = threading.Event()
    conf.start()
    entry = conf.running(signals=())
    await entry.__aenter__()
    conf.stop()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, go_on.wait, 20)
    exit_ = asyncio.create_task(entry.__aexit__(None, None, None))
    await until(lambda: not conf._host._entered)
    exit_.cancel()
    await asyncio.wait([exit_])
    await until(lambda: conf.status.state == "stopped")
    go_on.set()
    await busy
