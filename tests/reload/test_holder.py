"""The holder: one pointer, read by everybody, replaced as a whole."""

import asyncio
import copy
import os
import sys
import threading
from contextlib import contextmanager
from typing import Generic, TypeVar

import pytest
from pydantic import BaseModel

from hotconf import HotConf, HotconfError, NotLoaded, Options, Section
from hotconf.reload.holder import Holder
from hotconf.reload.request import ReloadRequest
from hotconf.reload.snapshot import Snapshot
from tests.heart import App, memory_conf, until


class Pair(Section):
    left: int = 0
    right: int = 0


class Twins(Section):
    pair: Pair = Pair()
    generation: int = 0


def snapshot(generation, settings=None):
    settings = Twins(generation=generation) if settings is None else settings
    return Snapshot(settings, generation, None, {}, str, dict)


@contextmanager
def hasty_switching():
    """Threads change places as often as the interpreter lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


# Before the first load


@pytest.mark.parametrize(
    "read",
    [
        lambda conf: conf.current,
        lambda conf: conf.snapshot,
        lambda conf: conf.pin().__enter__(),
        lambda conf: conf.explain("message"),
    ],
)
def test_reading_before_the_first_load_says_so(read):
    conf, _ = memory_conf()
    assert not conf.loaded
    with pytest.raises(NotLoaded, match=r"load\(\)"):
        read(conf)
    assert conf.leased == {}


def test_the_status_and_the_repr_of_what_is_not_loaded_can_be_shown():
    conf, _ = memory_conf()
    assert conf.status.generation == 0
    assert conf.status.digest is None
    assert repr(conf) == "<HotConf App new generation=0>"


def test_it_is_a_holder_of_its_class_before_and_after():
    conf, _ = memory_conf()
    assert isinstance(conf, HotConf)
    conf.load()
    assert type(conf) is HotConf
    assert conf.current.message == "hello"
    assert conf.snapshot.settings is conf.current


def test_one_that_is_loaded_does_not_load_another():
    first, _ = memory_conf()
    second, _ = memory_conf()
    first.load()
    with pytest.raises(NotLoaded):
        _ = second.current


def test_current_is_a_slot_once_loaded():
    assert type(vars(Holder)["current"]).__name__ == "member_descriptor"
    assert "current" not in vars(HotConf)


# Writing


class Named(HotConf):
    """A user's own facade, with state of its own."""

    label = "mine"

    def rename(self, label):
        self.label = label


M = TypeVar("M", bound=BaseModel)


class Typed(HotConf[M], Generic[M]):
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)


@pytest.mark.parametrize("kind", [HotConf, HotConf[App], Named, Typed[App]])
@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("name", ["current", "snapshot", "loaded"])
def test_writes_are_refused(kind, loaded, name):
    conf = kind(App)
    if loaded:
        conf.load()
    before = conf.current if loaded else None
    with pytest.raises(AttributeError, match=name):
        setattr(conf, name, App())
    with pytest.raises(AttributeError, match=name):
        delattr(conf, name)
    assert conf.loaded is loaded
    if loaded:
        assert conf.current is before


def test_a_subclass_may_have_attributes_of_its_own():
    conf = Named(App)
    conf.rename("other")
    conf.load()
    assert type(conf) is Named
    assert conf.label == "other"
    del conf.label
    assert conf.label == "mine"


# Publishing


def test_loaded_means_that_reading_never_raises():
    """A thread that waits for `loaded` reads at once: between the stores of the first swap, too."""
    failures = []

    def read(holder):
        while not holder.loaded:
            pass
        try:
            assert holder.current.generation == holder.snapshot.generation == 1
        except (HotconfError, AssertionError) as error:
            failures.append(error)

    with hasty_switching():
        for _ in range(200):
            holder = Holder()
            reader = threading.Thread(target=read, args=(holder,))
            reader.start()
            holder._publish(snapshot(1))
            reader.join()
    assert failures == []


def test_between_the_two_stores_of_a_swap_a_reader_waits_for_the_second(monkeypatch):
    holder = Holder()
    holder._publish(snapshot(1))
    seen, readers = [], []

    class Slot:
        """Stands for the slot, and lets a reader in just before it is filled."""

        def __set__(self, instance, settings):
            assert instance._snapshot.generation == 2
            reader = threading.Thread(target=lambda: seen.append(instance.snapshot.generation))
            reader.start()
            readers.append(reader)
            reader.join(0.2)
            assert seen == []  # neither the old one nor, ahead of `current`, the new one
            slot.__set__(instance, settings)

    slot = vars(Holder)["current"]
    monkeypatch.setattr("hotconf.reload.holder._CURRENT", Slot())
    holder._publish(snapshot(2))
    readers[0].join(10)
    assert seen == [2]


def test_publish_returns_what_it_replaced():
    holder, first = Holder(), snapshot(1)
    assert holder._publish(first) is None
    assert holder._publish(snapshot(2)) is first


# Leases


def test_a_pin_holds_its_snapshot_through_a_swap():
    conf, memory = memory_conf()
    conf.load()
    with conf.pin() as held:
        memory.set({"message": "new"})
        conf.load()
        assert held.settings.message == "hello"
        assert conf.current.message == "new"
        with conf.pin() as inner:
            assert inner.settings.message == "new"
            assert conf.leased == {1: 1, 2: 1}
        assert conf.leased == {1: 1}
    assert conf.leased == {}


def test_pins_of_one_snapshot_count_up_and_down():
    conf, _ = memory_conf()
    conf.load()
    with conf.pin() as outer, conf.pin() as inner:
        assert outer is inner
        assert conf.leased == {1: 2}
    assert conf.leased == {}


def test_a_lease_that_ends_twice_takes_nothing_from_another():
    conf, _ = memory_conf()
    conf.load()
    lease = conf.pin()
    with conf.pin():
        lease.__enter__()
        lease.__exit__(None, None, None)
        lease.__exit__(None, None, None)
        assert conf.leased == {1: 1}


def test_a_lease_is_for_one_holder_at_a_time():
    conf, _ = memory_conf()
    conf.load()
    lease = conf.pin()
    with lease, pytest.raises(RuntimeError, match="held already"):
        lease.__enter__()
    assert conf.leased == {}
    with lease as again:
        assert again is conf.snapshot


def test_a_pin_ends_with_its_block_also_when_that_raises():
    conf, _ = memory_conf()
    conf.load()
    with pytest.raises(ZeroDivisionError), conf.pin():
        _ = 1 / 0
    assert conf.leased == {}


def test_the_end_of_a_lease_is_told_where_its_snapshot_is_replaced():
    holder, told = Holder(), []
    holder._on_release(lambda: told.append(holder.leased))
    holder._publish(snapshot(1))
    with holder.pin():
        with holder.pin():
            pass
        assert told == []
        holder._publish(snapshot(2))
    assert told == [{}]


def test_a_pin_that_meets_a_swap_holds_the_snapshot_in_force():
    class Leases(dict):
        def __setitem__(self, lease, held):
            super().__setitem__(lease, held)
            if held.generation == 1:
                holder._publish(snapshot(2))

    holder, told = Holder(), []
    object.__setattr__(holder, "_leases", Leases())
    holder._on_release(lambda: told.append(holder.leased))
    holder._publish(snapshot(1))
    with holder.pin() as held:
        assert held is holder.snapshot
        assert holder.leased == {2: 1}
    assert told == [{}]  # the swap may have waited for the lease of the first snapshot


def test_a_reader_may_interrupt_a_reader_in_the_same_thread():
    """As a signal handler or a finalizer does."""
    holder = Holder()
    holder._publish(snapshot(1))
    with holder._swap, holder.pin() as held:
        assert held.generation == 1


def test_pins_from_many_threads_leave_no_lease():
    conf, memory = memory_conf()
    conf.load()

    def work():
        for _ in range(2000):
            with conf.pin() as held:
                assert held.settings is not None

    threads = [threading.Thread(target=work) for _ in range(8)]
    with hasty_switching():
        for thread in threads:
            thread.start()
        for number in range(20):
            memory.set({"port": number})
            conf.load()
        for thread in threads:
            thread.join()
    assert conf.leased == {}


# The storm

RELOADS = 2000
TASKS = 200
THREADS = 8


class Storm:
    """Counts the reads, and keeps every mixture that one of them saw."""

    def __init__(self, conf):
        self.conf = conf
        self.reads = 0
        self.mixtures = []
        self.stop = threading.Event()

    def look(self):
        before = self.conf.snapshot
        settings = self.conf.current
        after = self.conf.snapshot
        with self.conf.pin() as pinned:
            generations = (before.generation, settings.generation, after.generation, pinned.generation)
            pair = pinned.settings.pair
            whole = settings.pair.left == settings.pair.right == settings.generation - 1 and pair.left == pair.right
            whole &= pinned.settings.generation == pinned.generation
        self.reads += 1
        if not whole or list(generations) != sorted(generations):
            self.mixtures.append((generations, settings))

    def read_in_a_thread(self):
        while not self.stop.wait(0.001):  # or eight of them would leave no time to reload
            for _ in range(20):
                self.look()

    async def read_in_a_task(self):
        while not self.stop.is_set():
            self.look()
            await asyncio.sleep(0.01)


def twins(number):
    """Settings of the generation that they will have."""
    return {"pair": {"left": number, "right": number}, "generation": number + 1}


async def test_I1_readers_never_see_a_mixture_in_a_storm():
    conf, memory = memory_conf(Twins, **twins(0))
    storm = Storm(conf)
    async with conf.running(signals=()):
        threads = [threading.Thread(target=storm.read_in_a_thread) for _ in range(THREADS)]
        tasks = [asyncio.create_task(storm.read_in_a_task()) for _ in range(TASKS)]
        for thread in threads:
            thread.start()
        try:
            # In a loop of their own: in this one each step of a reload would wait for two hundred tasks.
            with hasty_switching():
                await asyncio.to_thread(publish_many, conf, memory)
        finally:
            storm.stop.set()
            await asyncio.gather(*tasks)
            for thread in threads:
                thread.join()
    assert storm.mixtures == []
    assert storm.reads > THREADS + TASKS
    assert conf.snapshot.generation == RELOADS + 1


def publish_many(conf, memory):
    """Thousands of trips through the whole corridor, without an engine between them."""

    async def reload():
        for number in range(1, RELOADS + 1):
            memory.set(twins(number))
            assert (await conf._reloader.reload(ReloadRequest(("storm",)))).outcome == "applied"

    asyncio.run(reload())


def test_a_snapshot_stays_what_it_was():
    conf, memory = memory_conf(Twins, **twins(0))
    conf.load()
    held, document = conf.snapshot, copy.deepcopy(conf.snapshot.document)
    digest = held.digest
    memory.set(twins(1))
    conf.load()
    assert (held.document, held.digest, held.generation) == (document, digest, 1)
    with pytest.raises(AttributeError):
        held.generation = 2


async def test_a_lease_that_is_held_too_long_is_named(caplog):
    conf, memory = memory_conf(options=Options(watch=False, lease_warning=0.01))

    async def forgetful():
        conf.pin().__enter__()
        conf.pin("request /slow").__enter__()

    async with conf.running(signals=()):
        await forgetful()
        assert conf.status.degraded == (), "what is running may be leased for ever"
        memory.set({"message": "two"})
        await conf.reload()
        await until(lambda: "generation 1 is still leased by request /slow" in caplog.text)
        [first, second] = sorted(conf.status.degraded)
        assert "generation 1 is leased by request /slow for more than 0.01 s" in (first, second)
        assert "forgetful (test_holder.py:" in first + second
        assert caplog.text.count("still leased by request /slow") == 1


async def test_overdue_are_the_leases_of_replaced_snapshots_that_are_held_for_longer():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        with conf.pin("slow request"):
            assert conf.overdue(0) == []  # in force
            memory.set({"message": "two"})
            await conf.reload()
            [(generation, lease)] = conf.overdue(0)
            assert (generation, lease.owner) == (1, "slow request")
            assert conf.overdue(60) == []
        assert conf.overdue(0) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_forgets_the_leases_of_threads_that_are_not_there():
    conf, _ = memory_conf()
    conf.load()
    ready, done = threading.Event(), threading.Event()

    def hold():
        with conf.pin():
            ready.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait()
    with conf.pin():
        child = os.fork()
        if child == 0:
            os._exit(0 if conf.leased == {1: 1} else 1)
        _, status = os.waitpid(child, 0)
    done.set()
    holder.join()
    assert status == 0
