"""The drain's parts: the budget, and steps that cannot hold up the exit."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given, strategies as st

from hotconf.process.drain import CLOSING, Budget, DrainFlag, bounded, drained, step, until

seconds = st.floats(0, 1e6)


@given(began=seconds, delay=seconds, grace=seconds)
def test_one_budget_bounds_the_whole(began, delay, grace):
    budget = Budget(began, delay, grace)
    assert began <= budget.serves_until <= budget.deadline <= budget.end
    assert budget.end == pytest.approx(began + grace + CLOSING)


def test_the_delay_counts_towards_the_grace_period():
    assert Budget(100, delay=5, grace=25).serves_until == 105
    assert Budget(100, delay=5, grace=25).deadline == 125


def test_closing_has_its_period_and_never_the_last_second():
    budget = Budget(began=100.0, delay=0.0, grace=25.0, closing=5.0)
    assert budget.closed_by(101.0) == 106.0
    assert budget.closed_by(126.0) == 129.0


async def test_the_flag_is_false_then_true_and_can_be_waited_for():
    event = asyncio.Event()
    flag = DrainFlag(event)
    assert not flag
    assert not flag.is_set()
    event.set()
    assert flag
    assert flag.is_set()
    await asyncio.wait_for(flag.wait(), 1)


async def test_until_returns_as_soon_as_the_condition_holds():
    now = asyncio.get_running_loop().time
    answers = iter([False, False, True])
    assert await until(lambda: next(answers), now() + 60, interval=0.001)


async def test_until_says_false_at_the_deadline():
    now = asyncio.get_running_loop().time
    assert not await until(lambda: False, now() + 0.05)


async def test_until_looks_once_even_when_the_deadline_has_passed():
    assert await until(lambda: True, 0)


def soon(delay=0.05):
    return asyncio.get_running_loop().time() + delay


async def test_bounded_awaits_the_work():
    done = []

    async def work():
        done.append(1)

    assert await bounded(work(), soon(5), "closing")
    assert done


async def test_bounded_cuts_what_takes_too_long_and_says_so(caplog):
    assert not await bounded(asyncio.sleep(60), soon(), "closing")
    assert "closing did not finish in time" in caplog.text


@pytest.mark.parametrize("error", [ValueError, TimeoutError, OSError])
async def test_bounded_goes_on_after_an_error_and_logs_it(error, caplog):
    async def work():
        raise error("no")

    assert await bounded(work(), soon(5), "closing")
    assert "closing raised" in caplog.text
    assert caplog.records[0].exc_info


async def test_bounded_lets_a_cancellation_through():
    task = asyncio.create_task(bounded(asyncio.sleep(60), soon(60), "closing"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_step_tells_how_long_it_took(caplog):
    caplog.set_level(logging.INFO)
    with step("closing"):
        pass
    assert "drain: closing took 0.0" in caplog.text


class Server:
    name = "http nowhere"

    def __init__(self, drain):
        self._drain = drain

    async def drain(self, *, deadline):
        return await self._drain(deadline)


def budget():
    return Budget(asyncio.get_running_loop().time(), 0, 0)


async def test_a_server_says_what_it_cut():
    async def drain(deadline):
        return (f"GET / ({deadline - began:.1f} s)",)

    began = asyncio.get_running_loop().time()
    assert await drained(Server(drain), Budget(began, 0, 7)) == ("GET / (7.0 s)",)


async def test_a_server_that_breaks_counts_as_cut(caplog):
    async def drain(deadline):
        raise OSError("the socket is gone")

    assert await drained(Server(drain), budget()) == ("http nowhere",)
    assert "http nowhere raised" in caplog.text


async def test_a_server_that_never_ends_is_cut_within_the_budget(caplog):
    async def drain(deadline):
        await asyncio.sleep(3600)

    limits = budget()
    assert await drained(Server(drain), limits) == ("http nowhere",)
    assert asyncio.get_running_loop().time() < limits.end + 1
    assert "did not finish in time" in caplog.text
