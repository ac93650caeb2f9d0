"""The drain: the time that it may take, and steps that cannot delay the exit."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hotconf import Service
from hotconf.process.service import CLOSING, DrainFlag, _drain_server, bounded, step
from hotconf.testing import ManualClock


class Server:
    """A server whose drain is given, and whose stop takes a while."""

    name = "http nowhere"

    def __init__(self, drain=None, closing=0.0):
        self._drain = drain
        self._closing = closing

    async def start(self):
        pass

    def begin_drain(self):
        pass

    async def drain(self, *, deadline):
        return await self._drain(deadline) if self._drain else ()

    async def stop(self):
        await asyncio.sleep(self._closing)


def drain_by_the_clock(service, server):
    """The exit code of a service that is stopped as soon as it is ready, and the seconds that its drain takes."""
    clock = ManualClock()

    async def main():
        service.add(server)
        service.on_ready(service.stop)
        ended = []
        task = asyncio.create_task(service.serve())
        task.add_done_callback(lambda _: ended.append(clock.time()))
        await clock.advance(3600)
        return await task, pytest.approx(ended[0], abs=0.5)

    return clock.run(main())


@pytest.mark.parametrize(("delay", "served_for"), [(0, 0), (5, 5), (40, 25)])
def test_the_delay_counts_towards_the_grace_period(delay, served_for):
    seen = []

    async def drain(deadline):
        now = asyncio.get_running_loop().time()
        seen.append((now, deadline))
        return ()

    code, _ = drain_by_the_clock(Service(shutdown_delay=delay, grace_period=25), Server(drain))
    assert code == 0
    assert seen == [(pytest.approx(served_for, abs=0.5), pytest.approx(25, abs=0.5))]


async def until_the_deadline(deadline):
    await asyncio.sleep(deadline - asyncio.get_running_loop().time())
    return ()


@pytest.mark.parametrize(
    ("drain", "end"), [(None, 5), (until_the_deadline, 29)], ids=["after a short drain", "after the whole grace period"]
)
def test_closing_has_its_period_and_never_the_last_second(drain, end):
    service = Service(grace_period=25, closing_period=5)
    assert drain_by_the_clock(service, Server(drain, closing=1000)) == (124, end)


async def test_the_flag_is_false_then_true_and_can_be_waited_for():
    flag = DrainFlag()
    assert not flag
    assert not flag.is_set()
    flag.set()
    assert flag
    assert flag.is_set()
    await asyncio.wait_for(flag.wait(), 1)


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


async def test_a_server_says_what_it_cut():
    async def drain(deadline):
        return (f"GET / ({deadline - began:.1f} s)",)

    began = asyncio.get_running_loop().time()
    assert await _drain_server(Server(drain), began + 7) == ("GET / (7.0 s)",)


async def test_a_server_that_breaks_counts_as_cut(caplog):
    async def drain(deadline):
        raise OSError("the socket is gone")

    assert await _drain_server(Server(drain), soon(0)) == ("http nowhere",)
    assert "http nowhere raised" in caplog.text


async def test_a_server_that_never_ends_is_cut_within_the_budget(caplog):
    async def drain(deadline):
        await asyncio.sleep(3600)

    deadline = soon(0)
    assert await _drain_server(Server(drain), deadline) == ("http nowhere",)
    assert asyncio.get_running_loop().time() < deadline + CLOSING + 1
    assert "did not finish in time" in caplog.text
