"""The queue: one slot, coalescing, from any thread."""

import asyncio
import threading

import pytest

from hotconf.engine.queue import ReloadQueue
from hotconf.errors import Draining, NotRunning
from hotconf.reload.request import ReloadRequest, Rollback


async def test_what_is_asked_before_a_take_is_one_request():
    queue = ReloadQueue()
    queue.put("SIGHUP")
    waiter = queue.ask(ReloadRequest(("call",)))
    queue.put("SIGHUP")
    request = await queue.take()
    assert request.request.triggers == ("SIGHUP", "call")
    assert request.waiters == [waiter]
    assert not request.request.force


async def test_what_is_asked_after_a_take_is_the_next_request():
    queue = ReloadQueue()
    queue.put("first")
    first = await queue.take()
    queue.put("second")
    assert first.request.triggers == ("first",)
    assert (await queue.take()).request.triggers == ("second",)


async def test_one_who_forces_forces_the_whole_request():
    queue = ReloadQueue()
    queue.ask(ReloadRequest(("call",), force=True))
    queue.ask(ReloadRequest(("call",)))
    assert (await queue.take()).request.force


async def test_take_waits_until_a_thread_asks():
    queue = ReloadQueue()
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not taking.done()
    await asyncio.to_thread(queue.put, "thread")
    assert (await taking).request.triggers == ("thread",)


async def test_a_take_that_is_cancelled_loses_nothing():
    queue = ReloadQueue()
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.put("kept")
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert (await queue.take()).request.triggers == ("kept",)


async def test_ten_thousand_triggers_from_threads_are_one_request():
    queue = ReloadQueue()

    def ask():
        for _ in range(2500):
            queue.put("storm")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (await queue.take()).request.triggers == ("storm",)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await queue.take()


async def test_an_answer_passes_over_those_who_went_away():
    queue = ReloadQueue()
    gone, stays = queue.ask(ReloadRequest(("call",))), queue.ask(ReloadRequest(("call",)))
    gone.cancel()
    (await queue.take()).answer("report")
    assert gone.cancelled()
    assert stays.result(0) == "report"


async def test_I7_a_closed_inbox_refuses_by_name():
    queue = ReloadQueue()
    waiting = queue.ask(ReloadRequest(("call",)))
    queue.close(Draining)
    assert queue.refusal is Draining
    with pytest.raises(Draining, match="frozen"):
        queue.put("SIGHUP")
    with pytest.raises(Draining):
        queue.ask(ReloadRequest(("call",)))
    with pytest.raises(Draining):
        waiting.result(0)


async def test_the_first_refusal_stands():
    queue = ReloadQueue()
    queue.close(Draining)
    queue.detach()
    with pytest.raises(Draining):
        queue.put("SIGHUP")


async def test_each_refusal_is_an_error_of_its_own():
    """A shared one would gather the traceback of everybody who was ever refused."""
    queue = ReloadQueue()
    first, second = queue.ask(ReloadRequest(("call",))), queue.ask(ReloadRequest(("call",)))
    queue.close(Draining)
    errors = [first.exception(0), second.exception(0)]
    for _ in range(2):
        with pytest.raises(Draining) as caught:
            queue.put("SIGHUP")
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 4


def test_a_loop_that_was_closed_without_a_word_counts_as_stopped():
    queue = ReloadQueue()

    async def take():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await queue.take()

    asyncio.run(take())
    with pytest.raises(NotRunning):
        queue.put("late")
    with pytest.raises(NotRunning):
        queue.ask(ReloadRequest(("late",)))


async def test_a_signal_handler_may_ask_while_its_thread_stands_inside():
    queue = ReloadQueue()
    with queue._lock:
        queue.put("SIGUSR1")
    assert (await queue.take()).request.triggers == ("SIGUSR1",)


async def test_a_rollback_has_a_request_of_its_own_in_its_turn():
    queue = ReloadQueue()
    queue.put("before")
    queue.ask(ReloadRequest(("rollback",), operation=Rollback()))
    queue.ask(ReloadRequest(("dry",), dry_run=True))
    queue.put("after")
    queue.put("after too")
    taken = [(await queue.take()).request.triggers for _ in range(4)]
    assert taken == [("before",), ("rollback",), ("dry",), ("after", "after too")]


async def test_closing_fails_every_request():
    queue = ReloadQueue()
    waiters = [queue.ask(ReloadRequest((name,), operation=Rollback())) for name in ("one", "two")]
    queue.close(Draining)
    assert all(isinstance(waiter.exception(), Draining) for waiter in waiters)
