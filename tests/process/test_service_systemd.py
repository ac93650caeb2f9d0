"""A service under systemd: exactly the protocol, in order, from start to stop; and the callbacks around it."""

import asyncio
import signal
import socket
import time

import pytest

from hotconf import HotConf, Refuse, Section, Service
from hotconf.process.systemd import Notifier
from hotconf.sources import Memory
from tests.support import Demo, environment


class App(Section):
    message: str = "hello"


@pytest.fixture
def supervisor(tmp_path):
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    link.bind(str(tmp_path / "notify"))
    link.settimeout(20)
    yield link, str(tmp_path / "notify")
    link.close()


def words(link):
    """The next datagram, without the time in it and what the status says beyond the verdict."""
    found = link.recv(4096).decode().splitlines()
    return [line.partition("=")[0] if line.startswith(("MONOTONIC", "STATUS")) else line for line in found], found


async def test_start_applied_unchanged_rejected_and_stop(supervisor):
    link, address = supervisor
    memory = Memory({"message": "one"})
    conf = HotConf(App, sources=[memory])
    service = Service(conf, notifier=Notifier(address), grace_period=5)
    running = asyncio.create_task(service.serve())

    async def heard():
        return await asyncio.to_thread(words, link)

    assert await heard() == (["READY=1", "STATUS"], ["READY=1", "STATUS=generation 1"])
    for values, verdict in [({"message": "two"}, "applied"), ({"message": "two"}, "unchanged"), ({"x": 1}, "rejected")]:
        memory.set(values)
        await conf.reload()
        assert (await heard())[0] == ["RELOADING=1", "MONOTONIC_USEC"]
        kinds, lines = await heard()
        assert kinds == ["READY=1", "STATUS"]
        assert verdict in lines[1]
    service.stop()
    assert (await heard())[0] == ["STOPPING=1", "STATUS"]
    assert await running == 0
    link.setblocking(False)
    with pytest.raises(BlockingIOError):
        link.recv(1)


class Conversation:
    """What a process says to its supervisor, the signs of life apart."""

    def __init__(self, link):
        self._link = link
        self.alive = 0

    def __next__(self):
        while (found := self._link.recv(4096).decode()) == "WATCHDOG=1":
            self.alive += 1
        return found.splitlines()

    def verdict_of_reload(self, *, not_before):
        """The status after a reload, whose time systemd compares with that of its own request."""
        began, stamp = next(self)
        assert began == "RELOADING=1"
        name, _, microseconds = stamp.partition("=")
        assert name == "MONOTONIC_USEC"
        assert not_before <= int(microseconds) <= _microseconds()
        ready, status = next(self)
        assert ready == "READY=1"
        return status


def _microseconds():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_real_process_says_exactly_this(supervisor, tmp_path, signum):
    """Start, applied, unchanged, rejected, stop; and a refused reload is answered as well, or systemctl would hang."""
    link, address = supervisor
    demo = Demo(tmp_path, env=environment(NOTIFY_SOCKET=address, WATCHDOG_USEC="400000"))
    heard = Conversation(link)
    try:
        demo.ready()
        assert next(heard) == ["READY=1", "STATUS=generation 1"]
        before = _microseconds()
        demo.say("two")
        assert "(file): applied, generation 2" in heard.verdict_of_reload(not_before=before)
        before = _microseconds()
        demo.send(signal.SIGHUP)
        assert "(SIGHUP): unchanged, generation 2" in heard.verdict_of_reload(not_before=before)
        before = _microseconds()
        demo.write("message = 5\n")
        status = heard.verdict_of_reload(not_before=before)
        assert "(file): rejected, generation 2 stays in force" in status
        assert f"{demo.config}:1:" in status
        demo.send(signum)
        assert next(heard) == ["STOPPING=1", f"STATUS={signum.name}"]
        assert demo.end() == 0
    finally:
        demo.kill()
    link.setblocking(False)
    with pytest.raises(BlockingIOError):
        next(heard)
    assert heard.alive


def test_a_real_process_that_is_refused_says_nothing(supervisor, tmp_path):
    link, address = supervisor
    demo = Demo(tmp_path, text="message = 5\n", env=environment(NOTIFY_SOCKET=address))
    try:
        assert demo.end() == 2
    finally:
        demo.kill()
    link.setblocking(False)
    with pytest.raises(BlockingIOError):
        link.recv(1)


async def test_callbacks_run_around_the_servers_and_the_last_added_leaves_first():
    events = []

    class Server:
        name = "server"

        async def start(self):
            events.append("server starts")

        def begin_drain(self):
            events.append("drain begins")

        async def drain(self, *, deadline):
            return ()

        async def stop(self):
            events.append("server stops")

    async def connect():
        events.append(f"startup sees {conf.current.message}")

    conf = HotConf(App, sources=[Memory({"message": "one"})])
    service = Service(conf, notifier=Notifier(None))
    service.add(Server())
    service.on_startup(connect)
    service.on_shutdown(lambda: events.append("first added"))
    service.on_shutdown(lambda: events.append("last added"))
    service.on_ready(service.stop)
    assert await service.serve() == 0
    assert events == [
        "startup sees one",
        "server starts",
        "drain begins",
        "server stops",
        "last added",
        "first added",
    ]


@pytest.mark.parametrize("error", [OSError("no database"), Refuse("no licence")])
async def test_a_startup_that_raises_is_one_message_and_undoes_what_was_done(error, capsys):
    undone = []

    def fail():
        raise error

    service = Service(HotConf(App), notifier=Notifier(None))
    service.on_startup(fail)
    service.on_shutdown(lambda: undone.append(True))
    assert await service.serve() == 1
    assert undone == [True]
    assert capsys.readouterr().err.splitlines()[0].startswith("hotconf: could not start: ")


async def test_jitter_puts_runs_off_but_never_before_their_turn(monkeypatch):
    from hotconf.process import jobs

    asked = []
    monkeypatch.setattr(jobs.random, "uniform", lambda low, high: asked.append((low, high)) or 0.0)
    ran = asyncio.Event()
    service = Service(notifier=Notifier(None))

    async def run():
        ran.set()

    service.every(0.01, run, jitter=0.5)
    running = asyncio.create_task(service.serve())
    await ran.wait()
    service.stop()
    assert await running == 0
    assert set(asked) == {(0, 0.5)}
