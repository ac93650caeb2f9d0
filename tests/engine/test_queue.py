"""The inbox: one slot, coalescing, from any thread."""

import asyncio
import threading

import pytest

from hotconf.engine.queue import Inbox
from hotconf.errors import Draining, NotRunning
from hotconf.reload.request import Errand, Rollback


async def test_what_is_asked_before_a_take_is_one_request():
    inbox = Inbox()
    inbox.put("SIGHUP")
    waiter = inbox.ask(Errand(("call",)))
    inbox.put("SIGHUP")
    request = await inbox.take()
    assert request.errand.triggers == ("SIGHUP", "call")
    assert request.waiters == [waiter]
    assert not request.errand.force


async def test_what_is_asked_after_a_take_is_the_next_request():
    inbox = Inbox()
    inbox.put("first")
    first = await inbox.take()
    inbox.put("second")
    assert first.errand.triggers == ("first",)
    assert (await inbox.take()).errand.triggers == ("second",)


async def test_one_who_forces_forces_the_whole_request():
    inbox = Inbox()
    inbox.ask(Errand(("call",), force=True))
    inbox.ask(Errand(("call",)))
    assert (await inbox.take()).errand.force


async def test_take_waits_until_a_thread_asks():
    inbox = Inbox()
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    await asyncio.to_thread(inbox.put, "thread")
    assert (await taking).errand.triggers == ("thread",)


async def test_a_take_that_is_cancelled_loses_nothing():
    inbox = Inbox()
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    inbox.put("kept")
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert (await inbox.take()).errand.triggers == ("kept",)


async def test_ten_thousand_triggers_from_threads_are_one_request():
    inbox = Inbox()

    def ask():
        for _ in range(2500):
            inbox.put("storm")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (await inbox.take()).errand.triggers == ("storm",)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await inbox.take()


async def test_an_answer_passes_over_those_who_went_away():
    inbox = Inbox()
    gone, stays = inbox.ask(Errand(("call",))), inbox.ask(Errand(("call",)))
    gone.cancel()
    (await inbox.take()).answer("report")
    assert gone.cancelled()
    assert stays.result(0) == "report"


async def test_I7_a_closed_inbox_refuses_by_name():
    inbox = Inbox()
    waiting = inbox.ask(Errand(("call",)))
    inbox.close(Draining)
    assert inbox.refusal is Draining
    with pytest.raises(Draining, match="frozen"):
        inbox.put("SIGHUP")
    with pytest.raises(Draining):
        inbox.ask(Errand(("call",)))
    with pytest.raises(Draining):
        waiting.result(0)


async def test_the_first_refusal_stands():
    inbox = Inbox()
    inbox.close(Draining)
    inbox.detach()
    with pytest.raises(Draining):
        inbox.put("SIGHUP")


async def test_each_refusal_is_an_error_of_its_own():
    """A shared one would gather the traceback of everybody who was ever refused."""
    inbox = Inbox()
    first, second = inbox.ask(Errand(("call",))), inbox.ask(Errand(("call",)))
    inbox.close(Draining)
    errors = [first.exception(0), second.exception(0)]
    for _ in range(2):
        with pytest.raises(Draining) as caught:
            inbox.put("SIGHUP")
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 4


def test_a_loop_that_was_closed_without_a_word_counts_as_stopped():
    inbox = Inbox()

    async def take():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await inbox.take()

    asyncio.run(take())
    with pytest.raises(NotRunning):
        inbox.put("late")
    with pytest.raises(NotRunning):
        inbox.ask(Errand(("late",)))


async def test_a_signal_handler_may_ask_while_its_thread_stands_inside():
    inbox = Inbox()
    with inbox._lock:
        inbox.put("SIGUSR1")
    assert (await inbox.take()).errand.triggers == ("SIGUSR1",)


async def test_a_rollback_has_a_request_of_its_own_in_its_turn():
    inbox = Inbox()
    inbox.put("before")
    inbox.ask(Errand(("rollback",), operation=Rollback()))
    inbox.ask(Errand(("dry",), dry_run=True))
    inbox.put("after")
    inbox.put("after too")
    taken = [(await inbox.take()).errand.triggers for _ in range(4)]
    assert taken == [("before",), ("rollback",), ("dry",), ("after", "after too")]


async def test_closing_fails_every_request():
    inbox = Inbox()
    waiters = [inbox.ask(Errand((name,), operation=Rollback())) for name in ("one", "two")]
    inbox.close(Draining)
    assert all(isinstance(waiter.exception(), Draining) for waiter in waiters)
