"""The fake source: it fails, hangs and hints as it is told, in whatever loop it is read."""

import asyncio

import pytest

from hotconf import HotConf, Options
from hotconf.abc import Hinting, Source
from hotconf.testing import FakeSource
from tests.heart import QUIET, App, eventually, until


@pytest.fixture
def source():
    return FakeSource({"message": "one"})


def conf_of(source):
    return HotConf(App, sources=[source], options=QUIET)


async def test_it_is_a_source_that_hints(source):
    assert isinstance(source, Source)
    assert isinstance(source, Hinting)
    assert (await source.read()).values == {"message": "one"}


async def test_it_fails_as_often_as_requested(source):
    source.fail(OSError(5, "unused"), times=2)
    async with asyncio.timeout(5):
        for _ in range(2):
            with pytest.raises(OSError):
                await source.read()
        assert (await source.read()).values == {"message": "one"}
    assert source.reads == 3


async def test_a_failure_rejects_a_reload_and_the_next_one_recovers(source):
    async with conf_of(source).running(signals=()) as conf:
        source.set({"message": "two"})
        source.fail(ConnectionResetError())
        report = await conf.reload()
        assert (report.outcome, report.stage) == ("rejected", "read")
        assert conf.current.message == "one"
        assert (await conf.reload()).outcome == "applied"
        assert conf.current.message == "two"


async def test_an_optional_one_that_fails_keeps_its_last_layer():
    source = FakeSource({"message": "one"}, name="flags", required=False)
    async with conf_of(source).running(signals=()) as conf:
        source.fail(TimeoutError())
        assert (await conf.reload()).outcome == "unchanged"
        assert conf.status.degraded == ("source flags is stale",)


async def test_a_read_hangs_until_it_is_released_and_returns_what_is_set_then(source):
    async with conf_of(source).running(signals=()) as conf:
        source.hang()
        reads = source.reads
        reload = asyncio.create_task(conf.reload())
        await until(lambda: source.reads > reads)
        assert not reload.done()
        source.set({"message": "two"})
        source.release()
        assert (await reload).outcome == "applied"
        assert (await conf.reload()).outcome == "unchanged"


async def test_a_hanging_read_can_be_cancelled_and_the_others_go_on(source):
    source.hang()
    source.hang()  # once more makes no difference
    cancelled, patient = (asyncio.create_task(source.read()) for _ in range(2))
    await until(lambda: source.reads == 2)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    source.release()
    assert (await patient).values == {"message": "one"}
    assert cancelled.cancelled()


async def test_releasing_what_does_not_hang_does_nothing(source):
    source.release()
    assert (await source.read()).values == {"message": "one"}


async def test_a_hint_reloads_by_the_name_of_the_source(source):
    async with conf_of(source).running(signals=()) as conf:
        source.set({"message": "two"})
        source.hint()
        await until(lambda: conf.current.message == "two")
        assert conf.status.last_reload.triggers == ("fake",)


def test_a_hint_crosses_threads(source):
    conf = HotConf(App, sources=[source], options=Options(watch=False))
    with conf.running(signals=()):
        source.set({"message": "two"})
        source.hint()
        eventually(lambda: conf.current.message == "two")


async def test_hints_that_come_together_are_one_and_none_is_lost_without_a_listener(source):
    source.hint()  # before `changes` was called
    changes = source.changes()
    source.hint()
    source.hint()
    await anext(changes)
    late = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    assert not late.done()
    source.hint()
    await asyncio.wait_for(late, 5)
    await changes.aclose()
