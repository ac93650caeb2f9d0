"""Jobs: when they run, that they never overlap or pile up, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hotconf.process.jobs import Job, Work


@contextlib.asynccontextmanager
async def running(function, interval=0.01, *, hold=contextlib.nullcontext, name="tick"):
    job = Job(function, interval, name, hold)
    task = asyncio.create_task(job.run())
    try:
        yield job, task
    finally:
        job.stop()
        await asyncio.wait_for(task, 5)


async def stopped(job, task):
    job.stop()
    await asyncio.wait_for(task, 5)


class Runs:
    """A job that stops inside each run until it is released, and knows how many were inside at once."""

    def __init__(self):
        self.began = asyncio.Event()
        self.release = asyncio.Event()
        self.started = 0
        self.inside = 0
        self.most = 0

    async def __call__(self):
        self.started += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.began.set()
        await self.release.wait()
        self.inside -= 1


async def times(count, interval):
    """The first starts of a job, in seconds from its beginning."""
    starts, enough = [], asyncio.Event()
    origin = time.monotonic()

    async def tick():
        starts.append(time.monotonic() - origin)
        if len(starts) == count:
            enough.set()

    async with running(tick, interval):
        await asyncio.wait_for(enough.wait(), 10)
    return starts


async def test_the_first_run_comes_after_one_interval():
    first, *_ = await times(1, 0.1)
    assert first >= 0.1


async def test_runs_keep_to_the_grid_and_do_not_drift():
    starts = await times(10, 0.03)
    assert all(start >= (turn + 1) * 0.03 - 0.001 for turn, start in enumerate(starts))


async def test_a_sync_function_runs_in_a_thread_and_may_block():
    threads, released = [], threading.Event()

    def block():
        threads.append(threading.current_thread())
        released.wait(5)

    async with running(block) as (job, _):
        while not threads:
            await asyncio.sleep(0)  # the loop turns while the job blocks
        assert job.started is not None
        released.set()
    assert threads[0] is not threading.main_thread()


async def test_sync_functions_that_block_leave_the_loops_own_threads_to_others():
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    blocked, released = threading.Barrier(3), threading.Event()

    def block():
        blocked.wait(5)
        released.wait(5)

    async with running(block), running(block):
        await asyncio.wait_for(asyncio.to_thread(blocked.wait), 5)
        released.set()


async def test_a_sync_function_sees_the_context_of_its_job():
    variable, seen = contextvars.ContextVar("variable"), asyncio.Queue()
    variable.set("set before the job began")
    loop = asyncio.get_running_loop()
    async with running(lambda: loop.call_soon_threadsafe(seen.put_nowait, variable.get())):
        assert await asyncio.wait_for(seen.get(), 5) == "set before the job began"


class AsyncCallable:
    def __init__(self, seen):
        self.seen = seen

    async def __call__(self):
        self.seen.set()


@pytest.mark.parametrize("wrap", [AsyncCallable, lambda seen: functools.partial(AsyncCallable(seen).__call__)])
async def test_whatever_hides_that_it_is_async_is_awaited(wrap):
    seen = asyncio.Event()
    async with running(wrap(seen)):
        await asyncio.wait_for(seen.wait(), 5)


async def test_no_run_begins_while_one_is_in_flight():
    runs = Runs()
    async with running(runs, 0.001) as (job, task):
        await runs.began.wait()
        await asyncio.sleep(0.05)  # fifty turns go by
        assert runs.started == 1
        job.stop()
        runs.release.set()
        await task
    assert runs.most == 1


async def test_missed_turns_do_not_pile_up_after_a_long_run(monkeypatch):
    """Only the next turn of the grid counts: on a clock of our own, so that no machine is too slow for it."""
    now, waits, runs = [100.0], [], []
    monkeypatch.setattr("hotconf.process.jobs.time.monotonic", lambda: now[0])

    async def stopped_before(job, moment):
        waits.append(moment - 100.0)
        now[0] = max(now[0], moment)
        return len(waits) > 4

    async def long_once():
        runs.append(now[0])
        if len(runs) == 1:
            now[0] += 3.5

    monkeypatch.setattr(Job, "_stopped_before", stopped_before)
    await Job(long_once, 1.0, "slow", contextlib.nullcontext).run()
    assert waits == [1.0, 5.0, 6.0, 7.0, 8.0]
    assert len(runs) == 4


async def test_a_running_one_finishes_when_stopped_and_none_starts_after():
    runs = Runs()
    async with running(runs, 0.001) as (job, task):
        await runs.began.wait()
        job.stop()
        await asyncio.sleep(0.02)
        assert not task.done()
        runs.release.set()
        await asyncio.wait_for(task, 5)
    assert (runs.started, runs.inside, job.runs) == (1, 0, 1)


async def test_one_that_never_ran_ends_at_once():
    async with running(Runs(), 3600) as (job, task):
        await asyncio.sleep(0)
        await stopped(job, task)
    assert job.runs == 0


async def test_stopped_before_it_began_it_runs_nothing():
    runs = Runs()
    job = Job(runs, 0.001, "tick", contextlib.nullcontext)
    job.stop()
    await asyncio.wait_for(job.run(), 5)
    assert runs.started == 0


async def fail(kind):
    raise kind("broken pipe to the moon")


async def await_what_was_cancelled():
    inner = asyncio.ensure_future(asyncio.sleep(60))
    inner.cancel()
    await inner


@pytest.mark.parametrize(
    "function",
    [functools.partial(fail, ValueError), functools.partial(fail, ExceptionGroup), await_what_was_cancelled],
    ids=["error", "wrong use", "cancelled inside"],
)
async def test_what_a_run_raises_is_logged_and_ends_only_that_run(function, caplog):
    third = asyncio.Event()

    async def tick():
        if job.runs == 2:
            third.set()
        await function()

    async with running(tick) as (job, _):
        await asyncio.wait_for(third.wait(), 5)
    assert "job tick" in caplog.text
    assert any(record.exc_info for record in caplog.records)


async def test_a_run_that_is_cancelled_from_outside_ends_the_job():
    runs = Runs()
    job = Job(runs, 0.001, "tick", contextlib.nullcontext)
    task = asyncio.create_task(job.run())
    await runs.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert job.started is None


async def test_each_run_holds_its_snapshot_and_gives_it_back_even_when_it_raises():
    held, log = [], []

    @contextlib.contextmanager
    def hold():
        held.append("held")
        try:
            yield
        finally:
            log.append(held.pop())

    second = asyncio.Event()

    async def tick():
        assert held == ["held"]
        if log:
            second.set()
        raise ValueError

    async with running(tick, hold=hold):
        await asyncio.wait_for(second.wait(), 5)
    assert not held


async def test_it_says_how_many_runs_finished(caplog):
    caplog.set_level(logging.INFO)
    done = asyncio.Event()

    async def tick():
        done.set()

    async with running(tick, 0.001, name="sweep") as (job, task):
        await done.wait()
        await stopped(job, task)
    assert f"job sweep: no further run, {job.runs} finished" in caplog.text


# Work: what a service runs as a task


async def test_a_job_between_two_runs_has_nothing_to_lose():
    runs = Runs()
    job = Job(runs, 0.01, "tick", contextlib.nullcontext)
    work = Work(job.run, "job tick", job)
    assert not work.in_flight
    work.start()
    assert not work.in_flight
    await runs.began.wait()
    assert work.in_flight
    job.stop()
    runs.release.set()
    await work.task
    assert not work.in_flight


async def test_the_age_of_a_job_is_that_of_its_run_and_not_of_the_process():
    runs = Runs()
    job = Job(runs, 0.01, "tick", contextlib.nullcontext)
    work = Work(job.run, "job tick", job)
    work.start()
    await runs.began.wait()
    work.started -= 3600
    assert str(work).startswith("job tick (0.")
    job.stop()
    runs.release.set()
    await work.task


async def test_the_age_of_a_task_is_since_its_start():
    work = Work(lambda: asyncio.sleep(60), "consume")
    work.start()
    work.started -= 12.3
    assert str(work) == "consume (12.3 s)"
    assert work.in_flight
    work.task.cancel()
    await asyncio.wait([work.task])
    assert not work.in_flight
