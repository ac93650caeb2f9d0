"""Many configurations in one process: what they share, and what stays each one's own."""

import contextlib
import contextvars
import os
import subprocess
import sys
import threading

import pytest

from hotconf import HotConf, Section
from hotconf.errors import ConfigError
from hotconf.values.layer import Layer
from tests.heart import memory_conf
from tests.support import environment

PATIENCE = 20

COUNT = """
import asyncio, contextlib, os, sys, time
from hotconf import HotConf, Options, Settings

COUNT = 40


class App(Settings):
    number: int = 0


def held():
    '''Threads, and instances of inotify, once those that only end have ended.'''
    least = sys.maxsize
    for _ in range(50):
        instances = 0
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                instances += "inotify" in os.readlink(f"/proc/self/fd/{descriptor}")
        least = min(least, len(os.listdir("/proc/self/task")))
        time.sleep(0.002)
    return least, instances


def confs():
    for number in range(COUNT):
        os.mkdir(str(number))
        with open(f"{number}/app.toml", "w") as file:
            file.write(f"number = {number}")
        yield HotConf(App, files=[f"{number}/app.toml"], options=Options(poll=60.0))


def edit():
    for number in range(COUNT):
        with open(f"{number}/app.toml.next", "w") as file:
            file.write(f"number = {number + 1000}")
        os.replace(f"{number}/app.toml.next", f"{number}/app.toml")


def threads():
    with contextlib.ExitStack() as stack:
        every = [stack.enter_context(conf.running()) if number else conf for number, conf in enumerate(confs())]
        every[0].start()
        stack.callback(every[0].stop)
        many = held()  # the workers that read files at once are as many for one configuration of forty files
        edit()
        while [conf.current.number for conf in every] != list(range(1000, 1000 + COUNT)):
            time.sleep(0.01)
        stack.close()
        with every[0].running():
            return held(), many


async def loop():
    async with contextlib.AsyncExitStack() as stack:
        every = [await stack.enter_async_context(conf.running()) for conf in confs()]
        many = held()
        edit()
        while [conf.current.number for conf in every] != list(range(1000, 1000 + COUNT)):
            await asyncio.sleep(0.01)
        await stack.aclose()
        async with every[0].running():
            return held(), many


one, many = threads() if sys.argv[1] == "threads" else asyncio.run(loop())
print(*one, *many)
"""


@pytest.mark.parametrize("form", ["threads", "loop"])
def test_forty_configurations_cost_three_threads_and_two_instances_of_inotify_more_than_one(form, tmp_path):
    command = [sys.executable, "-c", COUNT, form]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True, timeout=50
    )
    threads, instances, of_forty, instances_of_forty = map(int, done.stdout.split())
    assert of_forty <= threads + 3
    assert (instances, instances_of_forty) == (1, 1)
    assert done.stderr == ""


def engine_threads():
    return sum(thread.name == "hotconf-engine" for thread in threading.enumerate())


def test_the_thread_ends_with_its_last_engine():
    confs = [memory_conf()[0] for _ in range(3)]
    for conf in confs:
        conf.start()
    assert engine_threads() == 1
    for conf in confs:
        conf.stop()
        assert conf.status.state == "stopped"
    assert engine_threads() == 0
    with confs[0].running(signals=()):
        assert engine_threads() == 1


def test_a_start_that_is_rejected_leaves_the_others_alone():
    conf, memory = memory_conf()
    other, other_memory = memory_conf()
    other_memory.set({"port": "no port"})
    with pytest.raises(ConfigError):
        other.start()
    assert engine_threads() == 0
    with conf.running(signals=()):
        with pytest.raises(ConfigError):
            other.start()
        memory.set({"port": 1})
        assert conf.reload_blocking(PATIENCE).outcome == "applied"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_would_end_an_event_loop_ends_no_other_engine(error):
    first, second = memory_conf(), memory_conf()

    def end():
        raise error

    with first[0].running(signals=()), second[0].running(signals=()):
        first[0]._host.engine.loop.call_soon_threadsafe(end)
        for conf, memory in (second, first):
            memory.set({"port": 1})
            assert conf.reload_blocking(PATIENCE).outcome == "applied"


def test_each_engine_reads_in_the_context_of_its_start():
    name = contextvars.ContextVar("name", default="nobody")
    seen = []

    class Probe:
        name = "probe"
        required = True

        async def read(self):
            seen.append(name.get())
            return Layer("probe", {})

    class App(Section):
        port: int = 0

    with contextlib.ExitStack() as stack:
        for value in ("one", "two"):
            token = name.set(value)
            conf = HotConf(App, sources=[Probe()])
            stack.enter_context(conf.running(signals=()))
            name.reset(token)
            assert conf.reload_blocking(PATIENCE).outcome == "unchanged"
    assert set(seen) == {"one", "two"}


def test_a_subscriber_may_start_use_and_stop_another_configuration():
    """It blocks the thread that they would share, so the other one gets a thread of its own."""
    outer, memory = memory_conf()
    inner, inner_memory = memory_conf()
    outcomes = []

    def nest(_change):
        with inner.running(signals=()):
            inner_memory.set({"port": 2})
            outcomes.append(inner.reload_blocking(PATIENCE).outcome)

    outer.on_change(nest)
    with outer.running(signals=()):
        memory.set({"port": 1})
        assert outer.reload_blocking(PATIENCE).outcome == "applied"
        for _ in range(2):  # after the next reload the listener has been called
            outer.reload_blocking(PATIENCE)
    assert outcomes == ["applied"]
    assert engine_threads() == 0


def test_a_subscriber_may_stop_a_configuration_that_shares_its_thread():
    outer, memory = memory_conf()
    inner, _ = memory_conf()
    outer.on_change(lambda _change: inner.stop())
    inner.start()
    with outer.running(signals=()):
        memory.set({"port": 1})
        assert outer.reload_blocking(PATIENCE).outcome == "applied"
        for _ in range(2):
            outer.reload_blocking(PATIENCE)
        assert inner.status.state == "stopped"
        with inner.running(signals=()):
            assert inner.reload_blocking(PATIENCE).outcome == "unchanged"
    assert engine_threads() == 0


def test_many_threads_that_start_and_stop_at_once():
    confs = [memory_conf() for _ in range(8)]
    faults = []

    def use(conf, memory):
        try:
            for number in range(10):
                with conf.running(signals=()):
                    memory.set({"port": 100 + number})
                    assert conf.reload_blocking(PATIENCE).outcome == "applied"
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=use, args=pair) for pair in confs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 2)
    assert faults == []
    assert engine_threads() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_a_thread_of_its_own_for_its_engines():
    code = """if True:
        import os, threading
        from hotconf import HotConf, Section
        from hotconf.sources import Memory

        class App(Section):
            port: int = 0

        memories = [Memory({"port": 1}), Memory({"port": 1})]
        confs = [HotConf(App, sources=[memory]) for memory in memories]
        for conf in confs:
            conf.start()
        child = os.fork()
        if not child:
            for conf, memory in zip(confs, memories):
                memory.set({"port": 2})
                conf.reload_blocking(20)  # or the one that its engine begins with
                assert conf.current.port == 2
            assert sum(thread.name == "hotconf-engine" for thread in threading.enumerate()) == 1
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        for conf in confs:
            assert conf.reload_blocking(20).outcome == "unchanged"
            conf.stop()
    """
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=50)
