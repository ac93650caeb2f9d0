"""The manual clock: time stands still until it is moved, and everything due happens in order."""

import asyncio
import contextlib
import threading

import pytest

import hotconf.testing
from hotconf import HotConf, Options, Service
from hotconf.process.jobs import Job
from hotconf.testing import FakeSource, ManualClock
from tests.heart import QUIET, App


@pytest.fixture
def clock():
    return ManualClock()


def test_a_day_passes_at_once_and_only_in_advance(clock):
    async def main():
        sleeper = asyncio.create_task(asyncio.sleep(86_400, "slept"))
        await clock.advance(86_399)
        assert not sleeper.done()
        await clock.advance(1)
        return sleeper.result()

    assert clock.run(main()) == "slept"
    assert clock.time() == 86_400


def test_what_is_due_happens_in_order_each_at_its_own_moment(clock):
    seen = []

    async def note(name, *delays):
        for delay in delays:
            await asyncio.sleep(delay)
            seen.append((name, clock.time()))

    async def main():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(note("a", 1, 1, 1))
            tasks.create_task(note("b", 1.5, 0.5))
            await clock.advance(10)

    clock.run(main())
    assert seen == [("a", 1), ("b", 1.5), ("a", 2), ("b", 2), ("a", 3)]


def test_a_timer_that_was_cancelled_moves_nothing(clock):
    async def main():
        asyncio.get_running_loop().call_later(5, pytest.fail).cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(asyncio.get_running_loop().create_future(), clock.advance(1))
        await clock.advance(10)

    clock.run(main())
    assert clock.time() == 11


def test_settling_waits_for_threads_and_what_follows_from_them(clock):
    release = threading.Event()
    seen = []

    async def work():
        await asyncio.to_thread(release.wait, 10)
        await asyncio.sleep(0)
        seen.append("done")

    async def main():
        working = asyncio.create_task(work())
        threading.Timer(0.05, release.set).start()
        await clock.advance()
        assert seen == ["done"]
        await working

    clock.run(main())
    assert clock.time() == 0


def test_time_passes_only_in_its_own_loop(clock):
    async def main():
        await clock.advance(1)

    with pytest.raises(RuntimeError, match="inside run"):
        asyncio.run(main())
    clock.run(asyncio.sleep(0))
    with pytest.raises(RuntimeError, match="inside run"):
        asyncio.run(main())
    ManualClock().run(asyncio.sleep(0))


def test_a_clock_may_run_again_and_goes_on_from_where_it_was(clock):
    for _ in range(2):
        clock.run(clock.advance(1))
    assert clock.time() == 2


def test_a_job_keeps_to_its_grid(clock):
    starts = []

    async def tick():
        starts.append(clock.time())
        await asyncio.sleep(2.5 if len(starts) == 2 else 0)

    async def main():
        job = Job(tick, 1.0, "tick", contextlib.nullcontext)
        running = asyncio.create_task(job.run())
        await clock.advance(6)
        job.stop()
        await running

    clock.run(main())
    assert starts == [1, 2, 5, 6]


def test_a_service_with_a_job_an_hour_and_a_slow_end(clock):
    runs = []

    async def main():
        service = Service(HotConf(App, sources=[FakeSource()], options=QUIET), grace_period=25)
        service.every(3600, lambda: runs.append(clock.time()))
        service.task(lambda: asyncio.sleep(1e9), name="endless")
        serving = asyncio.create_task(service.serve())
        await clock.advance(7200)
        service.stop()
        await clock.advance(24)
        assert not serving.done()
        await clock.advance(1)
        return await serving

    assert clock.run(main()) == 124
    assert runs == [3600, 7200]


def test_a_prepare_that_takes_too_long_is_cut_at_its_limit(clock):
    async def main():
        source = FakeSource({"message": "one"})
        conf = HotConf(App, sources=[source], options=QUIET)
        async with conf.running(signals=()):

            @conf.prepare
            async def slow(_change):
                await asyncio.sleep(60)

            source.set({"message": "two"})
            reload = asyncio.create_task(conf.reload())
            await clock.advance(QUIET.prepare_timeout - 0.5)
            assert not reload.done()
            await clock.advance(0.5)
            return reload.result()

    assert "not ready within 10 s" in str(clock.run(main()).faults[0])


def test_a_resource_that_is_still_held_is_closed_after_its_time(clock):
    closed = []

    async def main():
        source = FakeSource()
        conf = HotConf(App, sources=[source], options=Options(watch=False, retire_after=600))

        @conf.resource("message")
        @contextlib.contextmanager
        def greeting(candidate):
            yield candidate.settings.message
            closed.append(candidate.settings.message)

        async with conf.running(signals=()):
            with conf.pin():
                source.set({"message": "two"})
                await conf.reload()
                await clock.advance(599)
                assert closed == []
                await clock.advance(1)
                assert closed == ["hello"]

    clock.run(main())


def test_an_unconfirmed_patch_is_taken_back_in_time(clock, tmp_path):
    async def main():
        options = Options(watch=False, overlay=tmp_path / "overlay.toml")
        async with HotConf(App, sources=[FakeSource()], options=options).running(signals=()) as conf:
            await conf.patch({"message": "risky"}, confirm=60)
            await clock.advance(59)
            assert conf.current.message == "risky"
            await clock.advance(1)
            assert conf.current.message == "hello"

    clock.run(main())


def test_the_kit_names_what_it_has():
    assert set(hotconf.testing.__all__) == {"FakeSource", "ManualClock"}
