"""Each limit with real sockets: what happens beyond it, its count, and its change while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
import ssl
import struct

import aiohttp
import pytest
import uvloop
from aiohttp import web
from pydantic import ValidationError

from hotconf.demo.service import Demo, LimitsSettings, demo_conf, demo_server
from hotconf.process.service import Service
from hotconf.web.safety import Safety
from hotconf.web.server.limits import REASONS, BodyTimeout, Limits
from tests.support import ROOT
from tests.web.clients import GET, Client, Gates, client_of, draining, serving, until

UPLOAD = b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST %s HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHos"
SOON = 0.2  # a limit that a test waits for
PATIENCE = 8  # far beyond it


class Changing:
    """Limits that a test changes while the server runs."""

    def __init__(self, **limits):
        self.limits = Limits(**limits)

    def __call__(self):
        return self.limits

    def change(self, **limits):
        self.limits = dataclasses.replace(self.limits, **limits)


def refused(server):
    return {reason: count for reason, count in server.refused.items() if count}


@pytest.fixture(autouse=True)
def silence(caplog):
    """Nothing that a client does wrong is logged as an error."""
    yield
    during = caplog.get_records("call")
    assert [record.getMessage() for record in during if record.levelno >= logging.ERROR] == []


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port))


# Connections in all


async def test_connection_above_the_limit_is_answered_503_with_retry_after(gates):
    async with serving(gates.app(), limits=Limits(connections=1)) as server:
        async with client_of(server) as first, client_of(server) as second:
            assert (await first.get()).status == 200
            reply = await second.reply()
            assert (reply.status, reply.headers["retry-after"], reply.closes) == (503, "1", True)
            assert await second.ended()
            assert (await first.get()).status == 200
        await until(lambda: not server._connections())
        async with client_of(server) as third:
            assert (await third.get()).status == 200
        assert refused(server) == {"connections": 1}


async def test_client_that_is_sending_reads_the_503_and_no_reset(gates):
    async with serving(gates.app(), limits=Limits(connections=1)) as server, client_of(server) as first:
        await first.get()
        with connect(server) as second:
            second.sendall(UPLOAD % 100_000 + b"x" * 50_000)
            second.settimeout(PATIENCE)
            answer = await asyncio.to_thread(lambda: b"".join(iter(lambda: second.recv(65536), b"")))
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


async def test_refused_clients_that_do_not_read_block_no_other(gates):
    limits = Changing(connections=1)
    async with serving(gates.app(), limits=limits, backlog=400) as server, client_of(server) as first:
        await first.get()
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(connect(server)).sendall(GET % b"/")
            assert (await first.get()).status == 200
            await until(lambda: refused(server) == {"connections": 300})
            limits.change(connections=2)
            async with client_of(server) as second:
                assert (await second.get()).status == 200
            await until(lambda: not server._limiter._rejected)


async def test_stop_closes_those_still_being_refused(gates):
    async with serving(gates.app(), limits=Limits(connections=1)) as server, client_of(server) as first:
        await first.get()
        async with client_of(server) as second:
            await second.reply()
            assert server._limiter._rejected
            await server.stop()
            assert not server._limiter._rejected


async def test_change_of_the_limit_of_connections_holds_for_the_next_one(gates):
    limits = Changing()
    async with serving(gates.app(), limits=limits) as server, client_of(server) as first, client_of(server) as second:
        await asyncio.gather(first.get(), second.get())
        limits.change(connections=1)
        async with client_of(server) as third:
            assert (await third.reply()).status == 503
        assert (await second.get()).status == 200, "connections that are open stay open"
        limits.change(connections=3)
        async with client_of(server) as fourth:
            assert (await fourth.get()).status == 200


@pytest.mark.parametrize("reset", [False, True])
async def test_running_handler_of_a_client_that_left_keeps_its_slot(gates, reset):
    async with serving(gates.app(), limits=Limits(connections=1)) as server:
        async with client_of(server) as client:
            client.send(GET % b"/slow")
            await gates.entered.wait()
            (connection,) = server._connections()
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
        await until(lambda: not connection.connected if reset else connection.half_closed)
        async with client_of(server) as client:
            assert (await client.reply()).status == 503
        gates.release.set()
        await until(lambda: not server._running())
        async with client_of(server) as client:
            assert (await client.get()).status == 200


async def test_slot_is_released_once_however_a_connection_ends(gates, caplog):
    async with serving(gates.app(), limits=Limits(per_address=9)) as server:
        for data in (b"", HALF_A_HEAD, GET % b"/", b"nonsense\r\n\r\n", UPLOAD % 9 + b"half"):
            async with client_of(server) as client:
                client.send(data)
                await until(server._connections)
            await until(lambda: not server._connections())
        assert not server._limiter.taken
    caplog.clear()  # aiohttp logs the upload that its client broke off


# With TLS


async def test_handshakes_count_as_connections_and_are_closed_above_the_limit(gates, tls):
    async with serving(gates.app(), ssl_context=tls, limits=Limits(connections=1)) as server:
        async with client_of(server):
            await until(lambda: server._acceptor)
            async with client_of(server) as second:
                assert await second.ended(), "an answer would have to be encrypted"
        assert refused(server) == {"connections": 1}
        await until(lambda: not server._limiter.taken)


async def test_failed_handshake_releases_its_slot(gates, tls, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with serving(gates.app(), ssl_context=tls, limits=Limits(connections=1)) as server:
        async with client_of(server) as confused:
            confused.send(GET % b"/")
            with contextlib.suppress(ConnectionError):
                await confused.reader.read()
        await until(lambda: not server._limiter.taken)
        async with client_of(server, ssl=trusting) as client:
            assert (await client.get()).status == 200
        assert refused(server) == {}


async def test_slow_handshake_is_closed_and_counted(gates, tls):
    async with serving(gates.app(), ssl_context=tls, limits=Limits(handshake_timeout=SOON)) as server:
        async with client_of(server) as client, asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                await client.reader.read()
            await until(lambda: refused(server) == {"handshake_timeout": 1})
        await until(lambda: not server._limiter.taken)


async def test_slow_head_over_tls_is_answered(gates, tls, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with serving(gates.app(), ssl_context=tls, limits=Limits(header_timeout=SOON)) as server:
        async with client_of(server, ssl=trusting) as client, asyncio.timeout(PATIENCE):
            client.send(HALF_A_HEAD)
            assert (await client.reply()).status == 408
            assert await client.ended()


# Connections of one address


async def test_connection_above_the_limit_per_address_is_closed_without_an_answer(gates):
    limits = Changing(per_address=1)
    async with serving(gates.app(), limits=limits) as server, client_of(server) as first:
        await first.get()
        async with client_of(server) as second:
            assert await second.ended()
        assert (await first.get()).status == 200
        assert refused(server) == {"per_address": 1}
        limits.change(per_address=2)
        async with client_of(server) as third:
            assert (await third.get()).status == 200


async def test_limit_per_address_holds_in_a_burst(gates):
    async with serving(gates.app(), limits=Limits(per_address=2)) as server:
        with contextlib.ExitStack() as stack:
            # Without a turn of the loop in between: all of them are accepted in one batch.
            clients = [stack.enter_context(connect(server)) for _ in range(9)]
            await until(lambda: len(server._connections()) == 2)
            closed = 0
            for client in clients:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    closed += client.recv(1) == b""
            assert closed == 7
        assert refused(server) == {"per_address": 7}


async def test_each_address_has_its_own_count(gates):
    async with serving(gates.app(), limits=Limits(per_address=1)) as server, client_of(server) as first:
        await first.get()
        async with client_of(server, local_addr=("127.0.0.2", 0)) as second:
            assert (await second.get()).status == 200


async def test_clients_of_a_socket_file_count_towards_all_connections_only(gates, tmp_path):
    path = tmp_path / "app.sock"
    async with serving(gates.app(), unix_socket=path, limits=Limits(per_address=1, connections=2)):
        pairs = [await asyncio.open_unix_connection(path) for _ in range(3)]
        clients = [Client(*pair) for pair in pairs]
        assert [(await client.get()).status for client in clients[:2]] == [200, 200]
        assert (await clients[2].reply()).status == 503
        for _, writer in pairs:
            writer.close()
            await writer.wait_closed()


# The time of a head


async def half_head_is_answered(server, client):
    client.send(HALF_A_HEAD)
    async with asyncio.timeout(PATIENCE):
        reply = await client.reply()
        assert (reply.status, reply.closes) == (408, True)
        assert await client.ended()
    assert refused(server) == {"header_timeout": 1}


async def test_half_a_head_is_answered_408_in_time(gates):
    async with serving(gates.app(), limits=Limits(header_timeout=SOON)) as server, client_of(server) as client:
        await half_head_is_answered(server, client)


async def test_half_a_head_on_a_kept_connection_is_answered_408(gates):
    async with serving(gates.app(), limits=Limits(header_timeout=SOON)) as server, client_of(server) as client:
        await client.get()
        await asyncio.sleep(2 * SOON)
        assert (await client.get()).status == 200, "between requests nothing is due"
        await half_head_is_answered(server, client)


async def test_single_bytes_do_not_extend_the_header_timeout(gates):
    loop = asyncio.get_running_loop()
    async with serving(gates.app(), limits=Limits(header_timeout=2 * SOON)) as server, client_of(server) as client:
        began = loop.time()
        reading = asyncio.create_task(client.reply())
        for byte in HALF_A_HEAD * 20:
            client.send(bytes([byte]))
            await asyncio.wait([reading], timeout=SOON / 10)
            if reading.done():
                break
        assert (await reading).status == 408
        assert loop.time() - began < PATIENCE


async def test_silent_client_is_closed_without_an_answer(gates):
    async with serving(gates.app(), limits=Limits(header_timeout=SOON)) as server, client_of(server) as client:
        async with asyncio.timeout(PATIENCE):
            assert await client.ended()
        assert refused(server) == {"header_timeout": 1}


async def test_head_that_comes_in_time_in_pieces_is_served(gates):
    async with serving(gates.app(), limits=Limits(header_timeout=PATIENCE)) as server, client_of(server) as client:
        for piece in (b"GET / HT", b"TP/1.1\r\nHost: te", b"st\r\n\r", b"\n"):
            client.send(piece)
            await asyncio.sleep(0.02)
        assert (await client.reply()).status == 200


async def test_change_of_the_header_timeout_holds_for_the_next_head(gates):
    limits = Changing(header_timeout=None)
    async with serving(gates.app(), limits=limits) as server, client_of(server) as client:
        await client.get()
        limits.change(header_timeout=SOON)
        await half_head_is_answered(server, client)


async def test_half_a_head_behind_a_running_request_waits_for_its_answer(gates):
    limits = Limits(header_timeout=SOON, idle_timeout=SOON)
    async with serving(gates.app(), limits=limits) as server, client_of(server) as client:
        client.send(GET % b"/slow" + HALF_A_HEAD)
        await gates.entered.wait()
        await asyncio.sleep(2 * SOON)
        gates.release.set()
        assert (await client.reply()).body == b"slow"
        async with asyncio.timeout(PATIENCE):
            assert await client.ended()


# What takes long after a request was read has no limit


@pytest.fixture
def hasty():
    return Limits(header_timeout=SOON, body_timeout=SOON, idle_timeout=SOON)


@pytest.mark.parametrize("request_", [GET % b"/slow", UPLOAD % 3 + b"abc"], ids=["no body", "a body"])
async def test_long_answer_is_not_cut(gates, hasty, request_):
    app = gates.app()
    app.router.add_post("/slow", gates.slow)
    async with serving(app, limits=hasty) as server, client_of(server) as client:
        client.send(request_.replace(b"/upload", b"/slow"))
        await gates.entered.wait()
        await asyncio.sleep(3 * SOON)
        gates.release.set()
        assert (await client.reply()).status == 200
        assert refused(server) == {}


async def test_event_stream_is_not_cut(gates, hasty):
    async with serving(gates.app(), limits=hasty) as server, client_of(server) as client:
        client.send(GET % b"/events")
        await client.head()
        assert await client.chunk() == b"event: config\n\n"
        await asyncio.sleep(3 * SOON)
        drained = draining(server)
        assert await client.chunks() == b"event: shutdown\n\n"
        assert await drained == ()
        assert refused(server) == {}


async def test_websocket_is_not_cut(gates, hasty):
    async with serving(gates.app(), limits=hasty) as server, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{server.url}/ws") as ws:
            for _ in range(2):
                await asyncio.sleep(2 * SOON)
                await ws.send_str("hello")
                assert await ws.receive_str() == "hello"
        assert refused(server) == {}


# The time of a body


async def test_body_that_stops_coming_is_answered_408(gates):
    async with serving(gates.app(), limits=Limits(body_timeout=SOON)) as server, client_of(server) as client:
        client.send(UPLOAD % 6 + b"abc")
        async with asyncio.timeout(PATIENCE):
            reply = await client.reply()
            assert (reply.status, reply.closes) == (408, True)
            assert await client.ended()
        assert refused(server) == {"body_timeout": 1}


async def test_body_that_keeps_coming_has_no_time_limit(gates):
    async with serving(gates.app(), limits=Limits(body_timeout=5 * SOON)) as server, client_of(server) as client:
        client.send(UPLOAD % 8)
        for _ in range(8):
            await asyncio.sleep(SOON)
            client.send(b"x")
        assert (await client.reply()).body == b"8"
        assert (await client.get()).status == 200
        assert refused(server) == {}


async def test_slow_handler_does_not_count_as_a_slow_client(gates):
    size = 4_000_000

    async def lazy(request):
        gates.entered.set()
        await gates.release.wait()
        return web.Response(text=str(len(await request.read())))

    app = gates.app(client_max_size=2 * size)
    app.router.add_post("/lazy", lazy)
    async with serving(app, limits=Limits(body_timeout=SOON)) as server, client_of(server) as client:
        client.send((UPLOAD % size).replace(b"/upload", b"/lazy") + b"x" * size)
        await gates.entered.wait()
        (connection,) = server._connections()
        await until(lambda: not connection.transport.is_reading())
        await asyncio.sleep(3 * SOON)
        gates.release.set()
        assert (await client.reply()).body == str(size).encode()
        assert refused(server) == {}


async def test_body_timeout_restarts_when_the_handler_reads_on(gates):
    timeout, size = 5 * SOON, 900_000

    async def lazy(request):
        await gates.release.wait()
        return web.Response(text=str(len(await request.read())))

    app = gates.app()
    app.router.add_post("/lazy", lazy)
    async with serving(app, limits=Limits(body_timeout=timeout)) as server, client_of(server) as client:
        client.send((UPLOAD % size).replace(b"/upload", b"/lazy") + b"x" * (size - 1))
        await until(lambda: server._connections() and not server._connections()[0].transport.is_reading())
        await asyncio.sleep(0.8 * timeout)
        gates.release.set()
        await asyncio.sleep(0.5 * timeout)
        client.send(b"x")
        assert (await client.reply()).body == str(size).encode()
        assert refused(server) == {}


async def test_handler_may_catch_the_timeout_and_its_response_is_the_last(gates):
    async def forgiving(request):
        try:
            return web.Response(body=await request.read())
        except BodyTimeout:
            return web.Response(text="never mind")

    app = gates.app()
    app.router.add_post("/forgiving", forgiving)
    async with serving(app, limits=Limits(body_timeout=SOON)) as server, client_of(server) as client:
        client.send((UPLOAD % 6).replace(b"/upload", b"/forgiving"))
        reply = await client.reply()
        assert (reply.status, reply.body, reply.closes) == (200, b"never mind", True)
        assert await client.ended()


async def test_handler_that_does_not_read_the_body_is_not_disturbed(gates):
    app = gates.app()
    app.router.add_post("/slow", gates.slow)
    async with serving(app, limits=Limits(body_timeout=SOON)) as server, client_of(server) as client:
        client.send((UPLOAD % 6).replace(b"/upload", b"/slow"))
        await until(lambda: refused(server) == {"body_timeout": 1})
        gates.release.set()
        assert (await client.reply()).body == b"slow"
        async with asyncio.timeout(PATIENCE):
            assert await client.ended()


async def test_change_of_the_body_timeout_holds_for_the_next_request(gates):
    limits = Changing(body_timeout=None)
    async with serving(gates.app(), limits=limits) as server, client_of(server) as client:
        await client.get()
        limits.change(body_timeout=SOON)
        client.send(UPLOAD % 6)
        assert (await client.reply()).status == 408


# The time between requests


async def test_idle_connection_is_closed_and_not_counted(gates):
    limits = Changing()
    async with serving(gates.app(), limits=limits) as server, client_of(server) as client:
        await client.get()
        limits.change(idle_timeout=SOON)
        assert (await client.get()).status == 200
        async with asyncio.timeout(PATIENCE):
            assert await client.ended()
        assert refused(server) == {}


async def test_idle_time_begins_anew_with_every_request(gates):
    async with serving(gates.app(), limits=Limits(idle_timeout=5 * SOON)) as server, client_of(server) as client:
        for _ in range(8):
            await asyncio.sleep(SOON)
            assert not (await client.get()).closes


# The size of a head


def many_headers(count):
    return b"GET / HTTP/1.1\r\nHost: test\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 100) for n in range(count))


TOO_LARGE = {
    "one line": b"GET / HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * 5000 + b"\r\n\r\n",
    "one line without an end": b"GET / HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * 5000,
    "the first line": b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
    "many lines": many_headers(50) + b"\r\n",
    "many lines without an end": many_headers(50),
}


@pytest.mark.parametrize("head", TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("piece", [10_000, 700], ids=["whole", "in pieces"])
async def test_head_that_is_too_large_is_answered_431(gates, head, piece):
    async with serving(gates.app(), limits=Limits(header_size=4096)) as server, client_of(server) as client:
        for start in range(0, len(head), piece):
            client.send(head[start : start + piece])
            await asyncio.sleep(0.005)
        async with asyncio.timeout(PATIENCE):
            reply = await client.reply()
            assert (reply.status, reply.closes) == (431, True)
            assert await client.ended()
        assert refused(server) == {"header_size": 1}


@pytest.mark.parametrize("piece", [100_000, 700], ids=["whole", "in pieces"])
async def test_head_of_too_many_lines_is_answered_431(gates, piece):
    head = GET.removesuffix(b"\r\n") % b"/" + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n"
    async with serving(gates.app()) as server, client_of(server) as client:
        for start in range(0, len(head), piece):
            client.send(head[start : start + piece])
            await asyncio.sleep(0.005)
        async with asyncio.timeout(PATIENCE):
            assert (await client.reply()).status == 431
            assert await client.ended()
        assert refused(server) == {"header_size": 1}


async def test_endless_head_is_answered_431_and_not_buffered(gates):
    async with serving(gates.app(), limits=Limits(header_size=4096)) as server, client_of(server) as client:
        client.send(many_headers(50))
        assert (await client.reply()).status == 431
        (connection,) = server._connections()
        client.send(many_headers(50))
        async with asyncio.timeout(PATIENCE):
            assert await client.ended()
        await until(lambda: not connection.connected)
        assert refused(server) == {"header_size": 1}


async def test_change_of_the_header_size_holds_for_the_next_request(gates):
    limits = Changing()
    async with serving(gates.app(), limits=limits) as server, client_of(server) as client:
        client.send(many_headers(50) + b"\r\n")
        assert (await client.reply()).status == 200
        limits.change(header_size=4096)
        client.send(many_headers(50) + b"\r\n")
        assert (await client.reply()).status == 431


async def test_pipelined_head_that_is_too_large_is_refused_and_the_first_answered(gates):
    async with serving(gates.app(), limits=Limits(header_size=4096)) as server, client_of(server) as client:
        client.send(GET % b"/" + many_headers(50) + b"\r\n")
        assert [(await client.reply()).status for _ in range(2)] == [200, 431]
        assert await client.ended()
    async with serving(gates.app(), limits=Limits(header_size=4096)) as server, client_of(server) as client:
        client.send(GET % b"/slow")
        await gates.entered.wait()
        client.send(TOO_LARGE["one line"])
        gates.release.set()
        assert [(await client.reply()).status for _ in range(2)] == [200, 431]
        assert refused(server) == {"header_size": 1}


async def test_half_a_head_behind_a_request_counts_towards_its_size(gates):
    async with serving(gates.app(), limits=Limits(header_size=1024)) as server, client_of(server) as client:
        head = b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 1300 + b"\r\n\r\n"
        client.send(GET % b"/" + head[:700])
        assert (await client.reply()).status == 200
        client.send(head[700:])
        assert (await client.reply()).status == 431


@pytest.mark.parametrize(("size", "status"), [(1024, 200), (1025, 431)])
@pytest.mark.parametrize("cut", [1, 1020, 2000])
async def test_header_size_is_kept_to_the_byte(gates, size, status, cut):
    bare = b"GET / HTTP/1.1\r\nHost: test\r\nX: \r\n\r\n"
    head = bare.replace(b"X: ", b"X: " + b"x" * (size - len(bare)))
    async with serving(gates.app(), limits=Limits(header_size=1024)) as server, client_of(server) as client:
        for _ in range(2 if status == 200 else 1):
            client.send(head[:cut])
            await asyncio.sleep(0.01)
            client.send(head[cut:])
            assert (await client.reply()).status == status


async def test_large_body_does_not_count_as_head(gates):
    async with serving(gates.app(), limits=Limits(header_size=1024)) as server, client_of(server) as client:
        for _ in range(2):
            client.send(UPLOAD % 100_000 + b"x" * 100_000)
            assert (await client.reply()).body == b"100000"


# The size of a body


async def test_declared_body_that_is_too_large_is_answered_before_it_arrives(gates):
    async with serving(gates.app(), limits=Limits(body_size=1000)) as server, client_of(server) as client:
        client.send((UPLOAD % 1001).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        reply = await client.reply()
        assert (reply.status, reply.closes) == (413, True)
        assert not gates.entered.is_set()
        assert refused(server) == {"body_size": 1}


async def stream(request):
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
    return web.Response(text=str(size))


@pytest.mark.parametrize("path", [b"/upload", b"/stream"])
@pytest.mark.parametrize("pieces", [1, 40], ids=["at once", "bit by bit"])
async def test_undeclared_body_is_answered_413_where_it_passes_the_bound(gates, path, pieces):
    app = gates.app()
    app.router.add_post("/stream", stream)
    async with serving(app, limits=Limits(body_size=1000)) as server, client_of(server) as client:
        client.send(CHUNKED % path)
        for _ in range(pieces):
            size = 2000 // pieces
            client.send(b"%x\r\n%s\r\n" % (size, b"x" * size))
            await asyncio.sleep(0.002)
        reply = await client.reply()
        assert (reply.status, reply.closes) == (413, True)
        client.send(b"0\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            assert await client.ended()
        assert refused(server) == {"body_size": 1}


async def test_client_that_goes_on_sending_reads_the_413_and_no_reset(gates):
    async with serving(gates.app(), limits=Limits(body_size=1000)) as server, client_of(server) as client:
        client.send(UPLOAD % 3_000_000 + b"x" * 3_000_000)
        assert (await client.reply()).status == 413
        assert await client.ended()


@pytest.mark.parametrize(
    ("limit", "size", "status"),
    [(None, 2_000_000, 413), (None, 1000, 200), (3_000_000, 2_000_000, 200), (1000, 1000, 200), (0, 1, 413)],
)
async def test_body_size_replaces_the_limit_of_the_application(gates, limit, size, status):
    async with serving(gates.app(), limits=Limits(body_size=limit)) as server, client_of(server) as client:
        client.send(UPLOAD % size + b"x" * size)
        assert (await client.reply()).status == status


async def test_change_of_the_body_size_holds_for_the_next_request(gates):
    limits = Changing(body_size=1000)
    async with serving(gates.app(), limits=limits) as server, client_of(server) as client:
        client.send(UPLOAD % 1000 + b"x" * 1000)
        assert (await client.reply()).status == 200
        limits.change(body_size=999)
        client.send(UPLOAD % 1000 + b"x" * 1000)
        assert (await client.reply()).status == 413


# Together with the rest


async def test_every_limit_has_a_count_from_the_start(gates):
    async with serving(gates.app()) as server:
        assert dict(server.refused) == dict.fromkeys(REASONS, 0)
        assert set(REASONS) <= {field.name for field in dataclasses.fields(Limits)}
        with pytest.raises(TypeError):
            server.refused["connections"] = 0


async def test_drain_waits_neither_for_the_refused_nor_for_slow_heads(gates):
    async with serving(gates.app(), limits=Limits(header_size=1024, connections=2)) as server:
        async with client_of(server) as large, client_of(server) as slow, client_of(server) as surplus:
            large.send(many_headers(50))
            assert (await large.reply()).status == 431
            slow.send(HALF_A_HEAD)
            assert (await surplus.reply()).status == 503
            async with asyncio.timeout(PATIENCE):
                assert await draining(server, within=20) == ()
            assert await slow.ended()


@pytest.mark.parametrize("wanted", [0, 1])
async def test_connections_keep_the_options_that_the_application_chose(gates, wanted):
    async with serving(gates.app(handler_args={"tcp_keepalive": wanted})) as server, client_of(server) as client:
        await client.get()
        (connection,) = server._connections()
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == wanted


def test_uvloop_keeps_every_limit():
    async def scenario():
        limits = Changing(header_timeout=SOON, body_timeout=SOON, idle_timeout=SOON, connections=3, body_size=9)
        async with serving(Gates().app(), limits=limits) as server, asyncio.timeout(PATIENCE):
            async with client_of(server) as idle, client_of(server) as half, client_of(server) as upload:
                await idle.get()
                half.send(HALF_A_HEAD)
                upload.send(UPLOAD % 6)
                async with client_of(server) as surplus:
                    assert (await surplus.reply()).status == 503
                assert await idle.ended()
                assert [(await client.reply()).status for client in (half, upload)] == [408, 408]
            async with client_of(server) as client:
                client.send(UPLOAD % 10)
                assert (await client.reply()).status == 413
            expected = {"connections": 1, "header_timeout": 1, "body_timeout": 1, "body_size": 1}
            assert refused(server) == expected

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


# The section of the demo


@contextlib.asynccontextmanager
async def demo(path):
    conf = demo_conf(path)
    service = Service(conf)
    server = demo_server(service, conf, host="127.0.0.1", port=0, safety=Safety())
    async with conf.running():
        await server.start()
        yield conf, server
        await server.stop()


async def test_demo_applies_its_limits_from_the_next_connection_and_request_on(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text('message = "hello"\n')
    async with demo(path) as (conf, server), client_of(server) as client:
        host = b"127.0.0.1:%d" % server.port

        async def reload(limits):
            path.write_text(f'message = "hello"\n[limits]\n{limits}\n')
            assert (await conf.reload()).outcome in ("applied", "unchanged")

        client.send(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
        assert (await client.reply()).status == 200
        await reload("connections = 1")
        async with client_of(server) as second:
            assert (await second.reply()).status == 503
        await reload("body_size = 10")
        async with client_of(server) as second:
            second.send(b"POST /reload HTTP/1.1\r\nHost: %s\r\nContent-Length: 11\r\n\r\n" % host)
            assert (await second.reply()).status == 413
        await reload("header_size = 1024")
        client.send(many_headers(20) + b"\r\n")
        assert (await client.reply()).status == 431
        assert refused(server) == {"connections": 1, "body_size": 1, "header_size": 1}


def test_demo_has_every_limit_but_that_of_tls_and_the_same_defaults():
    names = {field.name for field in dataclasses.fields(Limits)}
    assert set(LimitsSettings.model_fields) == names - {"handshake_timeout"}
    settings = LimitsSettings()
    assert settings.limits is settings.limits
    assert settings.limits.header_timeout == settings.header_timeout
    assert Demo().limits == settings


@pytest.mark.parametrize("name", LimitsSettings.model_fields)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e12, "many", None])
def test_demo_refuses_an_invalid_limit(name, value):
    with pytest.raises(ValidationError):
        LimitsSettings(**{name: value})


def test_the_table_of_limits_has_every_one():
    table = (ROOT / "docs/operating.md").read_text(encoding="utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]
    assert [field.name for field in dataclasses.fields(Limits) if f"`Limits({field.name}=)`" not in table] == []
    assert [reason for reason in REASONS if f"| `{reason}`" not in table] == []
