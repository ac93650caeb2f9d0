"""A storm: requests in tasks and in threads, while the configuration and what is built from it change all the time.

Every request sees settings and a resource that belong together and an open resource, and nothing is left afterwards.
"""

import asyncio
import gc
import os
import threading
from contextlib import asynccontextmanager

from hotconf import HotConf, Options, Snapshot
from hotconf.sources import Memory
from tests.heart import App, until

TASKS = 200
THREADS = 8
REQUESTS = 10_000
RELOADS = 300


class Pool:
    """What is built from the settings. It has a descriptor of its own, as a connection has."""

    opened = 0
    closed = 0

    def __init__(self, size):
        self.size = size
        self.descriptor = os.open(os.devnull, os.O_RDONLY)
        type(self).opened += 1

    def close(self):
        os.close(self.descriptor)
        self.descriptor = None
        type(self).closed += 1


class Storm:
    """Ten thousand requests that last from none to eleven reloads each, and whatever was wrong in any."""

    def __init__(self, conf, pool):
        self.conf = conf
        self.pool = pool
        self.wrong = []
        self.generations = set()
        self.over = False
        self.swapped = asyncio.Event()
        self._numbers = iter(range(REQUESTS))  # one for all: to take the next one is atomic

    def look(self, snap, when):
        pool, size = snap[self.pool], snap.settings.database.pool_size
        self.generations.add(snap.generation)
        if (pool.size, snap.generation) != (size, size) or pool.descriptor is None:
            self.wrong.append((when, snap.generation, size, pool.size, pool.descriptor))

    def lasts(self, number, snap):
        return not self.over and self.conf.snapshot.generation < snap.generation + number % 12

    async def request_in_tasks(self):
        for number in self._numbers:
            with self.conf.pin() as snap:
                self.look(snap, "task, before")
                while self.lasts(number, snap):
                    await self.swapped.wait()
                with self.conf.pin() as newer:
                    self.look(newer, "task, nested")
                self.look(snap, "task, after")
            await asyncio.sleep(0)

    def request_in_threads(self):
        pause = threading.Event()
        for number in self._numbers:
            with self.conf.pin() as snap:
                self.look(snap, "thread, before")
                while self.lasts(number, snap):
                    pause.wait(0.002)
                self.look(snap, "thread, after")
            pause.wait(0.0001)

    async def reload_many(self, memory):
        try:
            for number in range(2, RELOADS + 2):
                memory.set({"database": {"pool_size": number}})
                report = await self.conf.reload()
                assert (report.outcome, report.generation) == ("applied", number)
                self._tell()
        finally:
            self.over = True
            self._tell()

    def _tell(self):
        self.swapped.set()
        self.swapped = asyncio.Event()


def pooled():
    memory = Memory({"database": {"pool_size": 1}})
    conf = HotConf(App, sources=[memory], options=Options(watch=False, retire_after=None, lease_warning=None))

    @conf.resource("database")
    @asynccontextmanager
    async def pool(candidate):
        made = Pool(candidate.settings.database.pool_size)
        yield made
        made.close()

    return conf, memory, pool


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def weather(conf, memory, pool):
    """Everything at once. Return the storm when it is over."""
    storm = Storm(conf, pool)
    threads = [threading.Thread(target=storm.request_in_threads) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(storm.request_in_tasks())
        group.create_task(storm.reload_many(memory))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    return storm


async def test_I10_a_storm_of_requests_and_reloads_mixes_nothing_and_leaves_nothing():
    Pool.opened = Pool.closed = 0
    await asyncio.to_thread(int)  # the loop's own threads and descriptors are there from now on
    tasks, threads, files = asyncio.all_tasks(), set(threading.enumerate()), descriptors()
    others = _snapshots_alive()  # of tests before this one, whose tracebacks may hold some
    conf, memory, pool = pooled()
    async with conf.running(signals=()):
        storm = await weather(conf, memory, pool)
        assert storm.wrong == []
        assert conf.leased == {}
        await until(lambda: Pool.closed == RELOADS)
        assert (conf.snapshot.generation, conf.snapshot[pool].size) == (RELOADS + 1, RELOADS + 1)
        assert conf.status.degraded == ()
    assert (Pool.opened, Pool.closed) == (RELOADS + 1, RELOADS + 1)
    assert asyncio.all_tasks() == tasks
    assert descriptors() == files
    left = [thread.name for thread in set(threading.enumerate()) - threads]
    assert all(name.startswith("asyncio_") for name in left), left
    assert _snapshots_alive() - others <= conf.options.history + 2
    assert len(storm.generations) > RELOADS / 3, "requests came all along"


def _snapshots_alive():
    gc.collect()
    return sum(type(thing) is Snapshot and isinstance(thing.settings, App) for thing in gc.get_objects())
