"""Difficult clients of the feed: they disconnect, read slowly or not at all, or use HTTP/1.0."""

import asyncio
import contextlib
import gc
import json
import re
import socket
import ssl
import weakref

import pytest
import uvloop
from aiohttp import web

from hotconf import HotConf, Options, Section
from hotconf.api.endpoints import Endpoint
from hotconf.api.exchange import Response
from hotconf.api.feed import _BACKLOG, CHECK_INTERVAL, Feed
from hotconf.sources import Memory
from hotconf.web.app import route
from tests.web.clients import GET, client_of, draining, serving, until
from tests.web.sites import site_of

LARGE = 20_000
PATIENCE = CHECK_INTERVAL + 5


class App(Section):
    message: str = "hello"
    other: int = 1


class Site:
    """A feed alone, without the endpoints around it."""

    def __init__(self, conf, memory, feed, server):
        self.conf, self.memory, self.feed, self.server = conf, memory, feed, server

    async def change(self, message):
        self.memory.set({"message": message})
        assert (await self.conf.reload()).outcome == "applied"

    @contextlib.asynccontextmanager
    async def reader(self, request=GET % b"/events", **options):
        """A client that has read the head of its stream."""
        async with client_of(self.server, **options) as client:
            client.send(request)
            await client.head()
            await until(lambda: self.feed.watchers["stream"])
            yield client

    @contextlib.asynccontextmanager
    async def slow_reader(self):
        """A client with small socket buffers that has not read."""
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", self.server.port))
            await loop.sock_sendall(sock, GET % b"/events")
            await until(lambda: self.feed.watchers["stream"])
            (connection,) = self.server._connections()
            transport = connection.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            yield sock, transport


@contextlib.asynccontextmanager
async def site(max_watchers=100, **options):
    memory = Memory({"message": "hello"})
    conf = HotConf(App, sources=[memory], options=Options(watch=False))
    async with conf.running(signals=()):
        feed = Feed(conf, heartbeat=60, max_watchers=max_watchers)

        async def park(request):
            await feed.park(request, (), conf.snapshot.generation, seconds=60)
            return Response(conf.current.message.encode())

        app = web.Application()
        served = [Endpoint("GET", "/events", feed.stream, allow_head=False), Endpoint("GET", "/park", park)]
        app.add_routes([route(endpoint) for endpoint in served])
        async with serving(app, **options) as server:
            yield Site(conf, memory, feed, server)


def events(text):
    """The data of every event of a body."""
    return [json.loads(data) for data in re.findall(r"^event: config\ndata: (.*)$", text, re.MULTILINE)]


# Clients that leave


async def test_a_client_that_disconnects_is_no_longer_a_watcher():
    async with site() as here, contextlib.AsyncExitStack() as clients:
        for number in range(10):
            client = await clients.enter_async_context(client_of(here.server))
            client.send(GET % (b"/events" if number < 3 else b"/park"))
        await until(lambda: here.feed.watchers == {"poll": 7, "stream": 3})
        await clients.aclose()
        async with asyncio.timeout(PATIENCE):
            await until(lambda: here.feed.watchers == {"poll": 0, "stream": 0})
            await until(lambda: not here.server._running())
            await until(here.feed._tending.done)


async def test_a_client_that_resets_the_connection_makes_room_for_the_next():
    async with site(max_watchers=1) as here:
        async with client_of(here.server) as first, client_of(here.server) as second:
            first.send(GET % b"/park")
            await until(lambda: here.feed.watchers["poll"])
            assert (await second.get("/events")).status == 503
            first.writer.transport.abort()
            async with asyncio.timeout(PATIENCE):
                await until(lambda: not here.feed.watchers["poll"])
            second.send(GET % b"/park")
            await until(lambda: here.feed.watchers["poll"])


async def test_a_half_closed_client_is_answered_with_the_present_state():
    """It may have left: its parked request would wait in vain, and its stream would never end."""
    async with site() as here, client_of(here.server) as parked, client_of(here.server) as early:
        parked.send(GET % b"/park")
        await until(lambda: here.feed.watchers["poll"])
        parked.writer.write_eof()
        early.send(GET % b"/events")
        early.writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            assert (await parked.reply()).body == b"hello"
            assert await parked.ended()
            # Where the stream has begun before the end of the request is noticed, its own end is not in order.
            sent = (await early.reader.read()).decode()
            assert [event["value"]["message"] for event in events(sent)] == ["hello"]
        await until(lambda: here.feed.watchers == {"poll": 0, "stream": 0})


async def test_a_stream_of_a_half_closed_client_ends_at_once():
    async with site() as here, here.reader() as client:
        client.writer.write_eof()
        await until(lambda: not here.server._connections())


async def test_a_tls_client_that_leaves_does_not_keep_changes_from_the_others(tls, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with site(ssl_context=tls) as here, here.reader(ssl=trusting) as stays:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(here.reader(ssl=trusting))
            await until(lambda: here.feed.watchers["stream"] == 9)
        transports = [stream.channel.transport for group in here.feed._groups.values() for stream in group.streams]
        await until(lambda: sum(transport.is_closing() for transport in transports) == 8)
        await here.change("two")
        while "two" not in (await stays.chunk()).decode():
            pass


# Clients that do not read


async def test_a_slow_reader_gets_the_newest_state_with_the_gap():
    async with site() as here, here.slow_reader() as (sock, transport):
        loop = asyncio.get_running_loop()
        for number in range(100):
            await here.change(f"{number} " + "x" * LARGE)
            assert transport.get_write_buffer_size() <= _BACKLOG + 2 * LARGE
        raw = b""
        while transport.get_write_buffer_size() > _BACKLOG - LARGE:
            raw += await loop.sock_recv(sock, 4096)
        await here.change("there is room again")
        async with asyncio.timeout(PATIENCE + 10):
            while b'"gap": true' not in raw:
                raw += await loop.sock_recv(sock, 4096)
            await here.change("after")
            while b"after" not in raw:
                raw += await loop.sock_recv(sock, 4096)
        *before, newest, after = events(raw.decode())
        assert [event["generation"] for event in before] == list(range(1, len(before) + 1)), "complete up to the gap"
        assert len(before) < 50
        assert (newest["value"]["message"], newest["gap"]) == ("there is room again", True)
        assert (after["value"]["message"], "gap" in after) == ("after", False)


async def test_clients_that_come_after_a_restart_share_one_encoding(monkeypatch):
    built, event = [], Feed._event
    monkeypatch.setattr(Feed, "_event", lambda *given, **named: built.append(named) or event(*given, **named))
    async with site() as here, contextlib.AsyncExitStack() as stack:
        for message in ("hello", "two"):
            for _ in range(3):
                client = await stack.enter_async_context(here.reader())
                assert events((await client.chunk()).decode())[0]["value"]["message"] == message
            await here.change("two" if message == "hello" else "three")
    greetings = [named for named in built if named["since"] is None]
    assert len(greetings) == 2


async def test_a_greeting_shows_an_override_which_is_of_the_same_generation():
    async with site() as here, contextlib.AsyncExitStack() as stack:

        async def greeting():
            client = await stack.enter_async_context(here.reader())
            return events((await client.chunk()).decode())[0]["value"]["message"]

        assert await greeting() == "hello"
        with here.conf.override(message="overridden"):
            assert await greeting() == "overridden"
        assert await greeting() == "hello"


async def test_clients_that_lag_share_one_encoding(monkeypatch):
    built, event = [], Feed._event
    monkeypatch.setattr(Feed, "_event", lambda *given, **named: built.append(named) or event(*given, **named))
    monkeypatch.setattr("hotconf.api.feed._BATCH", 2)
    async with site() as here, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(here.reader()) for _ in range(5)]
        await until(lambda: here.feed.watchers["stream"] == 5)
        for stream in here.feed._groups[()].streams:
            stream.lags = True
        await here.change("missed")
        async with asyncio.timeout(PATIENCE):
            for client in clients:
                while b'"gap": true' not in (text := await client.chunk()):
                    pass
                assert b"missed" in text
    assert len([named for named in built if named.get("gap")]) == 1


@pytest.mark.parametrize("changes", [3, 20], ids=["below the backlog", "beyond it"])
async def test_a_client_that_does_not_read_does_not_hold_the_drain(changes):
    async with site(close_timeout=0.2) as here, here.slow_reader() as (_, transport):
        for number in range(changes):
            await here.change(f"{number} " + "x" * LARGE)
        assert transport.get_write_buffer_size()
        async with asyncio.timeout(8):
            assert await draining(here.server, within=20) == ()


# HTTP/1.0, which has no chunks


async def test_a_stream_over_http_1_0_has_no_chunks():
    async with site() as here, here.reader(b"GET /events HTTP/1.0\r\nHost: test\r\n\r\n") as client:
        await here.change("two")
        drained = draining(here.server)
        text = (await client.reader.read()).decode()
        assert [event["value"]["message"] for event in events(text)] == ["hello", "two"]
        assert text.endswith("event: shutdown\ndata: {}\n\n")
        fields = {line.partition(":")[0] for line in text.splitlines() if line}
        assert fields == {"retry", "id", "event", "data"}
        assert await drained == ()


async def test_streams_with_and_without_chunks_get_the_same_change():
    old = b"GET /events HTTP/1.0\r\nHost: test\r\n\r\n"
    async with site() as here, here.reader() as chunked, here.reader(old) as plain:
        await until(lambda: here.feed.watchers["stream"] == 2)
        await here.change("two")
        assert '"message": "two"' in (await plain.reader.readuntil(b'"two"')).decode() + '"'
        while "two" not in (await chunked.chunk()).decode():
            pass


# Many of them


async def test_in_batches_every_client_gets_every_change_in_order(monkeypatch):
    monkeypatch.setattr("hotconf.api.feed._BATCH", 2)
    async with site() as here, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(here.reader()) for _ in range(5)]
        await until(lambda: here.feed.watchers["stream"] == 5)
        for number in range(4):
            await here.change(str(number))
        drained = draining(here.server)
        for client in clients:
            seen = [event["value"]["message"] for event in events((await client.chunks()).decode())]
            assert seen == ["hello", "0", "1", "2", "3"]
        assert await drained == ()


async def test_between_batches_the_loop_runs_other_tasks(monkeypatch):
    monkeypatch.setattr("hotconf.api.feed._BATCH", 2)
    async with site() as here, contextlib.AsyncExitStack() as stack:
        for _ in range(7):
            await stack.enter_async_context(here.reader())
        await until(lambda: here.feed.watchers["stream"] == 7)
        turns, done = 0, []
        here.feed._enqueue(done.append, range(7))
        while here.feed._outbox:
            turns += 1
            assert len(done) == 2 * turns
            await asyncio.sleep(0)
        assert (turns, done) == (3, list(range(7)))


async def test_a_waiting_client_keeps_nothing_of_an_old_configuration_alive():
    ask = "GET %s HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: %s\r\n\r\n"
    async with site_of(App, {}, history=1) as here, client_of(here.server) as stream, client_of(here.server) as poll:
        old = weakref.ref(here.conf.current)
        tag = await here.tag("/config/other")
        stream.send((ask % ("/events?path=other", tag)).encode())
        poll.send((ask % ("/config/other?wait=60", tag)).encode())
        while (await here.value("/status"))["watchers"] != {"poll": 1, "stream": 1}:
            await asyncio.sleep(0.005)
        await here.change(message="two")
        await here.value("/config")
        gc.collect()
        assert old() is None
        assert (await here.value("/status"))["watchers"] == {"poll": 1, "stream": 1}


# Another loop


def test_uvloop_streams_and_ends():
    async def scenario():
        async with site() as here, here.reader() as client:
            await here.change("two")
            drained = draining(here.server)
            text = (await client.chunks()).decode()
            assert [event["value"]["message"] for event in events(text)] == ["hello", "two"]
            assert text.endswith("event: shutdown\ndata: {}\n\n")
            assert await drained == ()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
