"""The drain as clients, operators and supervisors see it: the demo, a real process, real signals and raw sockets.

Everything of one stop happens at once, so each stop is played once and looked at from many sides.
"""

import asyncio
import contextlib
import functools
import re
import signal
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from tests.support import PATIENCE, Demo, Process
from tests.web.clients import GET, Client, until

pytestmark = pytest.mark.timeout(150)  # the plays are one fixture: seconds of waiting, ten starts of a process

SIGNALS = (signal.SIGTERM, signal.SIGINT)
MARGIN = 1.5
"""Seconds that a busy machine may add to any deadline below."""

SLOW = 3.0
GRACE = 1.5

SEC_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    f"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {SEC_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
GOING_AWAY = b"\x88\x02" + (1001).to_bytes(2, "big")
CLOSE_REPLY = b"\x88\x82\x00\x00\x00\x00" + (1001).to_bytes(2, "big")  # masked, as a client's must be


@contextlib.asynccontextmanager
async def demo(folder, *options, **more):
    """A demo that serves, and ends with the block whatever happens."""
    process = await asyncio.to_thread(start, folder, *options, **more)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.kill)


def start(folder, *options, **more):
    with _starting:  # starting is all work: ten at once would each take ten times as long
        process = Demo(folder, *options, **more)
        _started.append(process)
        return process.ready()


_starting = threading.Semaphore(2)
_started = []


@pytest.fixture(scope="module", autouse=True)
def _leave_no_process():
    """Also where a play was cancelled while its process was being started, in a thread."""
    yield
    for process in _started:
        process.kill()


class Connections:
    """Raw connections to one port, closed together."""

    def __init__(self, port):
        self.port = port
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_error):
        await self._stack.aclose()

    async def open(self, data=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._stack.callback(writer.close)
        client = Client(reader, writer)
        client.send(data)
        return client

    async def ask(self, path, *headers):
        lines = "".join(f"{line}\r\n" for line in ("Host: localhost", *headers))
        return await self.open(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())

    async def idle(self):
        client = await self.open()
        assert not (await get(client)).closes
        return client


async def get(client, path="/"):
    client.send(GET.replace(b"test", b"localhost") % path.encode())
    return await client.reply()


async def leased(process, count):
    """Wait until so many requests are being answered. The one that asks is another."""
    while True:
        status = await asyncio.to_thread(process.status)
        if sum(status["leased"].values()) > count:
            return
        await asyncio.sleep(0.02)


@dataclass
class Stop:
    """What was seen of one stop. Times are seconds since the signal was sent."""

    code: int = -1
    ended: float = 0.0
    log: str = ""
    seen: dict = field(default_factory=dict)
    at: dict = field(default_factory=dict)

    def note(self, what, value=True):
        self.seen[what] = value
        self.at[what] = time.monotonic() - self.began

    def start(self, process, *signums):
        self.began = time.monotonic()
        process.send(*signums)

    async def end(self, process):
        self.code = await asyncio.to_thread(process.end)
        self.ended = time.monotonic() - self.began
        self.log = process.stderr.text


# One stop with everything in flight


async def play_crowded_stop(folder, signum, **options):
    """Stop a demo with a client of every kind, and let each of them tell what it met."""
    stop = Stop()
    async with demo(folder, **options) as process, Connections(process.port) as clients:
        tag = (await get(await clients.open(), "/config")).headers["etag"]
        idle, asking = await clients.idle(), await clients.idle()
        half = await clients.open(b"GET / HTTP/1.1\r\nHost: loc")
        stream = await clients.ask("/events")
        await open_stream(stream)
        sockets = [await open_websocket(clients) for _ in range(3)]
        polls = [await clients.ask("/config?wait=60", f"If-None-Match: {tag}") for _ in range(10)]
        slow = await clients.ask(f"/slow?seconds={SLOW}")
        await leased(process, 1)
        stop.start(process, signum)
        async with asyncio.TaskGroup() as group:
            group.create_task(see_refusal(stop, process.port))
            group.create_task(see_linger(stop, asking))
            group.create_task(see_end(stop, "idle", idle))
            group.create_task(see_end(stop, "half", half))
            group.create_task(see_stream(stop, stream))
            group.create_task(see_polls(stop, polls))
            for number, socket in enumerate(sockets):
                group.create_task(see_websocket(stop, f"websocket {number}", socket, replies=number < 2))
            group.create_task(see_slow(stop, slow))
        await stop.end(process)
    return stop


async def open_stream(client):
    """Read up to the configuration that a stream begins with."""
    await client.head()
    while b"event: config" not in await client.chunk():
        pass


async def open_websocket(clients):
    client = await clients.open(UPGRADE)
    assert (await client.head())[0] == 101
    return client


async def see_refusal(stop, port):
    while True:
        try:
            async with asyncio.timeout(0.05):  # a connection that the kernel drops asks again after a second
                _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            stop.note("refused")
            return
        except TimeoutError:
            continue
        writer.close()


async def see_linger(stop, client):
    # Not before the drain has begun: that is when newcomers are refused.
    while "refused" not in stop.at:
        await asyncio.sleep(0.005)
    reply = await get(client)
    stop.note("linger", (reply.status, reply.closes, await client.ended()))


async def see_end(stop, what, client):
    stop.note(what, await client.ended())


async def see_stream(stop, client):
    body = await client.chunks()  # to the terminating chunk, or it raises
    stop.note("stream", (body.decode(), await client.ended()))


async def see_polls(stop, clients):
    heads = [await client.head() for client in clients]
    stop.note("polls", [(status, headers["connection"]) for status, headers in heads])
    assert all([await client.ended() for client in clients])


async def see_websocket(stop, what, client, *, replies):
    frame = await client.reader.readexactly(len(GOING_AWAY))
    if replies:
        client.send(CLOSE_REPLY)
    stop.note(what, (frame, await client.ended()))


async def see_slow(stop, client):
    reply = await client.reply()
    stop.note("slow", (reply.status, reply.body, reply.closes))


# One stop with a request that takes too long, and one that is told twice


async def play_cut(folder, signum):
    stop = Stop()
    async with demo(folder, "--grace-period", GRACE) as process, Connections(process.port) as clients:
        slow = await clients.ask("/slow?seconds=60&token=hidden")
        await leased(process, 1)
        stop.start(process, signum)
        reply = await slow.reply()
        stop.note("slow", (reply.status, reply.headers.get("retry-after"), reply.closes, await slow.ended()))
        await stop.end(process)
    return stop


async def play_second(folder, signum):
    stop = Stop()
    async with demo(folder) as process, Connections(process.port) as clients:
        await clients.ask("/slow?seconds=60")
        await leased(process, 1)
        process.send(signum)
        await asyncio.to_thread(process.stderr.find, "draining")
        await asyncio.sleep(0.15)  # within a tenth of a second it would count as the same one
        stop.start(process, signum)
        await stop.end(process)
    return stop


async def play_repeat(folder, signum):
    """A terminal and a supervisor both tell: two signals at once are one, of whatever kind."""
    stop = Stop()
    async with demo(folder) as process, Connections(process.port) as clients:
        slow = await clients.ask("/slow?seconds=1")
        await leased(process, 1)
        stop.start(process, signum, signal.SIGINT, signal.SIGTERM)
        stop.note("slow", (await slow.reply()).status)
        await stop.end(process)
    return stop


ON_UVLOOP = (sys.executable, "-c", "import uvloop; uvloop.install(); from hotconf.__main__ import main; main()")

PLAYS = {
    "crowded": play_crowded_stop,
    "crowded on uvloop": functools.partial(play_crowded_stop, command=ON_UVLOOP),
    "cut": play_cut,
    "second": play_second,
    "repeat": play_repeat,
}


@pytest.fixture(scope="module")
def stops(tmp_path_factory):
    """Every play with each signal, all side by side: they mostly wait."""

    async def play_all():
        # A thread for each waiting client: else one would notice its end only when another has ended.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * len(PLAYS)))
        keys = [(name, signum) for name in PLAYS for signum in SIGNALS]
        plays = [PLAYS[name](tmp_path_factory.mktemp(name), signum) for name, signum in keys]
        seen = await asyncio.gather(*plays, return_exceptions=True)  # to its end: no other is cancelled for one
        return dict(zip(keys, seen, strict=True))

    return asyncio.run(play_all())


@pytest.fixture(params=SIGNALS, ids=lambda signum: signum.name)
def signum(request):
    return request.param


@pytest.fixture(params=["crowded", "crowded on uvloop"])
def crowded(request, stops, signum):
    return seen(stops, request.param, signum)


@pytest.fixture
def cut(stops, signum):
    return seen(stops, "cut", signum)


def seen(stops, name, signum):
    """What was seen of one play, or the reason why it broke off."""
    stop = stops[name, signum]
    if isinstance(stop, BaseException):
        raise stop
    return stop


def test_slow_request_in_flight_completes(crowded):
    assert crowded.seen["slow"] == (200, b"Before hot reload", True)
    assert crowded.at["slow"] > crowded.at["refused"]


def test_newcomers_are_refused_at_once(crowded):
    assert crowded.at["refused"] < 0.1 + MARGIN


def test_idle_connection_is_answered_while_it_lingers_and_told_that_it_ends(crowded):
    assert crowded.seen["linger"] == (200, True, True)


@pytest.mark.parametrize("client", ["idle", "half", "stream", "polls", "websocket 0", "websocket 1"])
def test_no_other_client_waits_for_the_slow_request(crowded, client):
    assert crowded.seen[client]
    assert crowded.at[client] < min(0.5 + MARGIN, crowded.at["slow"])


def test_stream_ends_with_an_event_and_a_clean_end(crowded):
    assert crowded.seen["stream"] == ("event: shutdown\ndata: {}\n\n", True)


def test_parked_polls_are_answered(crowded):
    assert crowded.seen["polls"] == [(304, "close")] * 10


@pytest.mark.parametrize("number", range(3))
def test_websocket_is_closed_as_going_away(crowded, number):
    assert crowded.seen[f"websocket {number}"] == (GOING_AWAY, True)


def test_no_client_delays_the_exit_beyond_the_slow_request(crowded):
    assert crowded.code == 0
    assert crowded.ended < crowded.at["slow"] + MARGIN
    assert "cut" not in crowded.log
    assert "Traceback" not in crowded.log


def test_log_has_every_step_with_its_time(crowded, signum):
    steps = re.findall(r"drain: (.+) took \d+\.\d\d s$", crowded.log, re.MULTILINE)
    place = re.search(r"http 127\.0\.0\.1:\d+", crowded.log)[0]
    assert f"draining: {signum.name}; grace period 25.0 s" in crowded.log
    assert steps == [
        f"{place}: backlog",
        f"{place}: idle linger",
        f"{place}: requests in flight",
        place,
        "leases",
        "closing",
    ]


def test_request_that_takes_too_long_is_cut_at_the_deadline_with_503(cut):
    assert cut.seen["slow"] == (503, "1", True, True)
    assert GRACE - 0.05 <= cut.at["slow"] < GRACE + 0.5 + MARGIN


def test_what_was_cut_is_named_and_the_exit_code_says_so(cut):
    assert cut.code == 124
    assert cut.ended < GRACE + 0.5 + MARGIN
    (named,) = re.findall(r"WARNING drain: cut (.*)", cut.log)
    assert re.fullmatch(r"GET /slow \(\d\.\d s\)", named)
    assert "hidden" not in cut.log


def test_second_signal_ends_at_once(stops, signum):
    stop = seen(stops, "second", signum)
    assert stop.code == 128 + signum
    assert stop.ended < 0.2 + MARGIN
    assert "Traceback" not in stop.log


def test_signals_at_the_same_time_are_one(stops, signum):
    stop = seen(stops, "repeat", signum)
    assert stop.seen["slow"] == 200
    assert stop.code == 0


# What cannot be cancelled

STUBBORN = """
import asyncio, logging, sys, time
from aiohttp import web
from hotconf.process.service import Service
from hotconf.web.server.server import Server

async def block_loop(request):
    print("go", flush=True)
    time.sleep(60)

async def block_thread(request):
    print("go", flush=True)
    await asyncio.to_thread(time.sleep, 60)

logging.basicConfig(level=logging.INFO)
app = web.Application()
app.router.add_get("/loop", block_loop)
app.router.add_get("/thread", block_thread)
server = Server(app, port=0)
service = Service(grace_period=0.5)
service.add(server)
service.on_ready(lambda: print(server.port, flush=True))
raise SystemExit(service.run())
"""


@contextlib.contextmanager
def running(script, **options):
    process = Process([sys.executable, "-c", textwrap.dedent(script)], **options)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="module")
def stubborn():
    """How a process ended, and after how many seconds, whose handler ignores every deadline."""

    async def play(path):
        with running(STUBBORN) as process:
            port = int((await asyncio.to_thread(process.stdout.find, r"^\d+$"))[0])
            async with Connections(port) as clients:
                await clients.ask(path)
                await asyncio.to_thread(process.stdout.find, "go")
                began = time.monotonic()
                process.send(signal.SIGTERM)
                code = await asyncio.to_thread(process.end)
                return code, time.monotonic() - began, process.stderr.text

    async def play_both():
        return await asyncio.gather(play("/loop"), play("/thread"))

    return dict(zip(("loop", "thread"), asyncio.run(play_both()), strict=True))


@pytest.mark.parametrize("blocked", ["loop", "thread"])
def test_what_cannot_be_cancelled_does_not_outlive_the_deadline(stubborn, blocked):
    code, seconds, log = stubborn[blocked]
    assert code == 124
    assert seconds < 0.5 + 3 + 1 + MARGIN
    assert "the deadline has passed" in log


def test_handler_that_waits_for_a_thread_is_named_before_the_thread_holds_the_process_up(stubborn):
    assert re.search(r"drain: cut GET /thread \(\d\.\d s\)", stubborn["thread"][2])


# Under load


class Load:
    """Clients that ask, read the whole answer and ask again: some without a pause, some with one."""

    def __init__(self, port, clients=64):
        self.port = port
        self.answered = 0
        self.lost = []
        self.over = False
        self._clients = [self._client(pause=number % 2 * 0.02) for number in range(clients)]

    async def __aenter__(self):
        self._running = asyncio.gather(*self._clients)
        await self.further(500)
        return self

    async def __aexit__(self, *_error):
        self.over = True
        await self._running

    async def further(self, answers):
        """Wait for so many answers more."""
        goal = self.answered + answers
        await until(lambda: self.answered >= goal or self.lost)

    async def _client(self, pause):
        with contextlib.suppress(ConnectionRefusedError):
            while not self.over:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    await self._ask_until_closed(Client(reader, writer), pause)
                except Exception as error:
                    self.lost.append(error)
                finally:
                    writer.close()

    async def _ask_until_closed(self, client, pause):
        while not self.over:
            reply = await get(client)
            assert reply.status == 200
            self.answered += 1
            if reply.closes:
                return
            await asyncio.sleep(pause)


async def stop_under_load(folder, signum):
    async with demo(folder) as process:
        async with asyncio.timeout(2 * PATIENCE):
            async with Load(process.port) as load:
                process.send(signum)
                await load._running  # each ends when it is refused
            assert load.lost == []
            assert await asyncio.to_thread(process.end) == 0
        assert "Traceback" not in process.stderr.text


@pytest.mark.parametrize("round_", [pytest.param(n, marks=[pytest.mark.soak] if n > 2 else []) for n in range(20)])
async def test_stop_under_load_loses_no_request(tmp_path, round_):
    await stop_under_load(tmp_path, SIGNALS[round_ % 2])


async def test_fifty_hups_under_load_fail_no_request_and_cut_no_stream(tmp_path):
    async with demo(tmp_path) as process, Connections(process.port) as clients:
        stream, parked = await clients.ask("/events"), await clients.ask("/config/limits?wait=60", "If-None-Match: *")
        await open_stream(stream)
        async with Load(process.port) as load:
            for number in range(50):
                if number % 5 == 0:
                    process.say(f"edit {number}")
                process.send(signal.SIGHUP)
                await load.further(100)
            process.say("the last")
            generations = []
            async with asyncio.timeout(PATIENCE):
                while b"the last" not in (frame := await stream.chunk()):
                    generations += re.findall(rb'"generation": (\d+)', frame)
        assert load.lost == []
        assert all(int(before) < int(after) for before, after in pairwise(generations))
        assert "(SIGHUP): " in process.stderr.text
        process.send(signal.SIGTERM)
        assert (await parked.head())[0] == 304  # its part never changed, and it was not cut
        assert b"event: shutdown" in await stream.chunks()
        assert await asyncio.to_thread(process.end) == 0
        assert "Traceback" not in process.stderr.text


# Jobs

JOBS = """
import asyncio, logging, sys
from hotconf.process.service import Service

logging.basicConfig(level=logging.INFO, format="%(message)s")

async def long():
    print("go", flush=True)
    await asyncio.sleep(2)
    print("long ends", flush=True)

service = Service()
service.every(0.05, long)
service.every(1.0, lambda: print("due starts", flush=True), name="due")
raise SystemExit(service.run())
"""


def test_job_that_runs_finishes_and_one_that_is_due_does_not_start():
    with running(JOBS) as process:
        process.stdout.find("go")
        process.send(signal.SIGTERM)
        assert process.end() == 0
        assert process.stdout.text == "go\nlong ends\n"
    assert re.search(r"job long: waiting for a run of \d\.\d s so far", process.stderr.text)
    assert "job long: no further run, 1 finished" in process.stderr.text
    assert "job due: no further run, 0 finished" in process.stderr.text
