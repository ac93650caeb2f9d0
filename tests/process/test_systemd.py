"""The notification protocol, against a socket of our own."""

import asyncio
import contextlib
import os
import resource
import socket
import time

import pytest

from hotconf.process.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def supervisor(request, tmp_path):
    """A socket that listens as systemd does, and its address as the environment has it."""
    abstract = f"@hotconf-test-{os.getpid()}-{time.monotonic_ns()}"
    address = str(tmp_path / "notify") if request.param == "path" else abstract
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    link.bind("\0" + address[1:] if address.startswith("@") else address)
    link.settimeout(5)
    yield link, address
    link.close()


def received(link):
    return link.recv(4096).decode().splitlines()


@pytest.fixture
def notifier(supervisor):
    with contextlib.closing(Notifier(supervisor[1])) as notifier:
        yield notifier


def test_each_message_is_one_datagram(supervisor, notifier):
    link, _ = supervisor

    notifier.ready("generation 1")
    notifier.stopping("SIGTERM")

    assert received(link) == ["READY=1", "STATUS=generation 1"]
    assert received(link) == ["STOPPING=1", "STATUS=SIGTERM"]


def test_reloading_carries_the_time_in_the_same_datagram(supervisor, notifier):
    link, _ = supervisor
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    notifier.reloading()

    word, stamp = received(link)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert word == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= after


def test_a_reload_that_is_cut_off_by_the_drain_is_over_before_the_drain(supervisor, notifier):
    link, _ = supervisor

    notifier.reloading()
    notifier.stopping("SIGTERM")
    notifier.ready("reload 2 (signal): applied")
    notifier.reloading()
    notifier.ready("the last")

    assert received(link)[0] == "RELOADING=1"
    assert received(link) == ["READY=1", "STATUS=SIGTERM came in the middle of a reload"]
    assert received(link) == ["STOPPING=1", "STATUS=SIGTERM"]
    assert received(link) == ["STATUS=reload 2 (signal): applied"]
    assert received(link) == ["STATUS=the last"]


def test_a_status_is_one_line(supervisor, notifier):
    link, _ = supervisor
    notifier.ready("refused:\n  app.toml:1:1: no\nREADY=0")
    assert received(link) == ["READY=1", "STATUS=refused: app.toml:1:1: no READY=0"]


async def test_a_running_loop_sends_heartbeats_to_the_watchdog(supervisor, notifier):
    link, _ = supervisor
    notifier.watchdog = 0.02
    alive = asyncio.create_task(notifier.keep_alive())
    heard = [await asyncio.to_thread(received, link) for _ in range(3)]
    alive.cancel()
    assert heard == [["WATCHDOG=1"]] * 3


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000"}, 2.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "2000000"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_it_names(environ, watchdog):
    assert Notifier.from_environ(environ).watchdog == watchdog


def test_a_supervisor_that_does_not_listen_is_no_failure(tmp_path):
    with contextlib.closing(Notifier(str(tmp_path / "missing"))) as notifier:
        notifier.ready("fine")
    Notifier(None).reloading()


def test_a_full_socket_does_not_block(notifier):
    for _ in range(2000):
        notifier.ready("again")


def test_without_free_descriptors_it_still_sends(supervisor, notifier):
    link, _ = supervisor
    notifier.ready("generation 1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        notifier.reloading()
        notifier.ready("rejected")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert [received(link)[0] for _ in range(3)] == ["READY=1", "RELOADING=1", "READY=1"]


def test_closed_it_holds_no_descriptor_and_opens_another_when_needed(supervisor, notifier):
    link, _ = supervisor
    before = os.listdir("/proc/self/fd")
    for _ in range(2):
        notifier.stopping("SIGTERM")
        assert received(link)[0] == "STOPPING=1"
        notifier.close()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("microseconds", ["0", "-1", "many", "1e3", "9" * 400, "٣" * 30, ""])
def test_a_watchdog_that_is_no_time_is_none(microseconds):
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": "/no/socket", "WATCHDOG_USEC": microseconds})
    assert notifier.watchdog is None


async def test_the_shortest_watchdog_takes_no_processor(supervisor):
    link, address = supervisor
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    alive = asyncio.create_task(notifier.keep_alive())
    await asyncio.sleep(0.3)
    alive.cancel()
    link.setblocking(False)
    signs = 0
    with contextlib.suppress(BlockingIOError):
        while link.recv(100) == b"WATCHDOG=1":
            signs += 1
    assert 1 < signs < 10
    notifier.close()
