"""Clients that leave, do not read, or send forever: what they can hold, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct

import pytest
import uvloop
from aiohttp import web

from hotconf.web.server import connection as module, server as server_module
from hotconf.web.server.limits import Limits
from hotconf.web.server.sockets import undelivered
from tests.web.clients import GET, Gates, client_of, draining, serving, until
from tests.web.server.test_limits import CHUNKED, SOON, UPLOAD, Changing, refused

PATIENCE = 8
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LOOPS = pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@pytest.fixture(autouse=True)
def silence(caplog):
    """Nothing that a client does wrong is logged as an error."""
    yield
    during = caplog.get_records("call")
    assert [record.getMessage() for record in during if record.levelno >= logging.ERROR] == []


def connect(server, *, receive_buffer=None):
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", server.port))
    return sock


# A client that asks and leaves


@pytest.mark.parametrize("leave", ["close", "shutdown"])
@pytest.mark.parametrize("late", [False, True], ids=["at once", "after the answer"])
async def test_a_websocket_client_that_leaves_without_a_word_is_let_go(gates, leave, late):
    async with serving(gates.app(), limits=Limits(connections=1)) as server:
        with connect(server) as sock:
            sock.sendall(UPGRADE)
            await (gates.entered.wait() if late else until(server._connections))
            sock.shutdown(socket.SHUT_WR) if leave == "shutdown" else sock.close()
            async with asyncio.timeout(PATIENCE):
                await until(lambda: server._limiter.taken.total() == 0)
        async with client_of(server) as client:
            assert (await client.get()).status == 200


@LOOPS
def test_a_client_that_left_a_slow_handler_keeps_no_descriptor(gates, monkeypatch, loop_factory):
    monkeypatch.setattr(module, "_HALF_CLOSED_TIME", SOON)

    async def scenario():
        gates = Gates()
        async with serving(gates.app()) as server:
            with connect(server) as sock:
                sock.sendall(GET % b"/slow")
            await gates.entered.wait()
            (connection,) = server._connections()
            async with asyncio.timeout(PATIENCE):
                await until(lambda: not connection.connected)
            gates.release.set()
            await until(lambda: gates.seen == ["finished"])

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


async def test_a_reset_of_a_client_that_is_not_read_any_more_is_noticed(gates, monkeypatch):
    monkeypatch.setattr(module, "_HALF_CLOSED_TIME", 3600)
    async with serving(gates.app()) as server:
        with connect(server) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(GET % b"/slow")
            sock.shutdown(socket.SHUT_WR)
            (connection,) = await open_connections(server)
            await until(lambda: connection.half_closed)
        async with asyncio.timeout(PATIENCE):
            await until(lambda: not connection.connected)
        gates.release.set()


async def open_connections(server):
    await until(server._connections)
    return server._connections()


async def test_a_response_that_has_begun_is_sent_to_its_end(gates, monkeypatch):
    monkeypatch.setattr(module, "_HALF_CLOSED_TIME", 2 * SOON)
    size = 8_000_000

    async def long(request):
        await gates.release.wait()
        return web.Response(body=b"x" * size)

    app = gates.app()
    app.router.add_get("/long", long)
    async with serving(app) as server:
        with connect(server, receive_buffer=4096) as sock:
            sock.settimeout(PATIENCE)
            sock.sendall(GET % b"/long")
            sock.shutdown(socket.SHUT_WR)
            gates.release.set()
            await asyncio.sleep(3 * module._HALF_CLOSED_INTERVAL)
            answer = await asyncio.to_thread(read_all, sock)
    assert answer.endswith(b"x" * size)


# A client that does not read


def not_reading(server, path=b"/big"):
    sock = connect(server, receive_buffer=4096)
    sock.sendall(GET % path)
    return sock


@LOOPS
@pytest.mark.parametrize("tls_", [False, True], ids=["plain", "TLS"])
def test_a_client_that_does_not_read_is_let_go(loop_factory, tls_, tls):
    async def scenario():
        gates = Gates()
        options = {"ssl_context": tls} if tls_ else {}
        async with serving(gates.app(), limits=Limits(send_timeout=3 * SOON), **options) as server:
            plain = connect(server, receive_buffer=4096)
            with await asyncio.to_thread(handshake, plain) if tls_ else plain as sock:
                sock.sendall(GET % b"/big")
                await gates.entered.wait()
                async with asyncio.timeout(PATIENCE):
                    await until(lambda: not server._connections())
            assert refused(server) == {"send_timeout": 1}

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


def handshake(sock):
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


async def test_a_client_that_leaves_the_end_of_an_answer_is_let_go(gates):
    async with serving(gates.app(), limits=Limits(send_timeout=3 * SOON)) as server:
        with not_reading(server, b"/medium"):
            await gates.entered.wait()
            async with asyncio.timeout(PATIENCE):
                await until(lambda: refused(server) == {"send_timeout": 1} and not server._connections())


async def test_a_client_that_reads_slowly_gets_everything(gates):
    """As long as anything arrives, however long the whole takes."""
    async with serving(gates.app(), limits=Limits(send_timeout=5 * SOON)) as server:
        with not_reading(server, b"/medium") as sock:
            sock.settimeout(PATIENCE)
            await gates.entered.wait()
            answer = b""
            while not answer.endswith(b"x" * 50_000):
                answer += await asyncio.to_thread(sock.recv, 8_000)
                await asyncio.sleep(SOON)
        assert refused(server) == {}


async def test_a_client_that_leaves_an_answer_in_the_kernel_is_let_go(gates):
    async def fits(_request):
        return web.Response(body=b"x" * 100_000)

    app = gates.app()
    app.router.add_get("/fits", fits)
    async with serving(app, limits=Limits(send_timeout=SOON)) as server:
        with contextlib.closing(connect(server, receive_buffer=4096)) as sock:
            sock.sendall(GET % b"/fits")
            async with asyncio.timeout(PATIENCE):
                await until(lambda: server.refused["send_timeout"] == 1 and not server._connections())


async def test_no_send_timeout_waits(gates):
    limits = Changing(send_timeout=None)
    async with serving(gates.app(), limits=limits) as server:
        with not_reading(server):
            await gates.entered.wait()
            await asyncio.sleep(3 * SOON)
            assert server._connections()
            limits.change(send_timeout=SOON)
            server._abort_stalled()
            async with asyncio.timeout(PATIENCE):
                await until(lambda: not server._connections())


# A drain


@LOOPS
def test_a_client_that_does_not_read_does_not_hold_a_drain(monkeypatch, loop_factory):
    monkeypatch.setattr(server_module, "_DRAINING_STALL_TIME", SOON)

    async def scenario():
        gates = Gates()
        async with serving(gates.app()) as server:
            with not_reading(server), not_reading(server, b"/medium"):
                await until(lambda: len(server._connections()) == 2)
                await until(lambda: all(undelivered(each.transport) for each in server._connections()))
                async with asyncio.timeout(PATIENCE):
                    assert await draining(server) == ()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


@LOOPS
def test_an_answer_over_tls_is_sent_to_its_end_in_a_drain(loop_factory, tls):
    """asyncio's transport for TLS says that nothing waits, while megabytes do."""

    async def scenario():
        gates = Gates()
        async with serving(gates.app(), ssl_context=tls, close_timeout=1.0) as server:
            with await asyncio.to_thread(handshake, connect(server, receive_buffer=4096)) as sock:
                sock.sendall(GET % b"/big")
                await gates.entered.wait()
                drained = draining(server)
                await asyncio.sleep(1.5)  # longer than `close_timeout`
                assert len(await asyncio.to_thread(read_all, sock)) > 64_000_000
            assert await drained == ()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


def read_all(sock):
    return b"".join(iter(lambda: sock.recv(1_000_000), b""))


@pytest.mark.parametrize("reads", [True, False], ids=["the handler waits for it", "the handler refused"])
async def test_a_body_that_does_not_come_does_not_hold_a_drain(gates, monkeypatch, reads):
    monkeypatch.setattr(module, "_DRAINING_BODY_TIME", 2 * SOON)

    async def refuse(request):
        raise web.HTTPUnauthorized

    app = gates.app()
    app.router.add_post("/refuse", refuse)
    async with serving(app) as server, client_of(server) as client:
        client.send((UPLOAD % 6).replace(b"/upload", b"/upload" if reads else b"/refuse") + b"abc")
        if reads:
            await gates.entered.wait()
        else:
            assert (await client.reply()).status == 401
        async with asyncio.timeout(PATIENCE):
            assert await draining(server) == ()
        if reads:
            assert (await client.reply()).status == 408
        assert await client.ended()


async def test_a_body_that_begins_in_the_drain_does_not_hold_it(gates, monkeypatch):
    monkeypatch.setattr(module, "_DRAINING_BODY_TIME", 2 * SOON)
    async with serving(gates.app(), idle_linger=10) as server, client_of(server) as client:
        await client.get()
        drained = draining(server)
        await until(lambda: not server.addresses)
        client.send(UPLOAD % 6 + b"abc")
        async with asyncio.timeout(PATIENCE):
            assert (await client.reply()).status == 408
        await drained


async def test_a_body_that_comes_is_waited_for_in_a_drain(gates, monkeypatch):
    monkeypatch.setattr(module, "_DRAINING_BODY_TIME", 5 * SOON)
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(UPLOAD % 8)
        await gates.entered.wait()
        drained = draining(server)
        for _ in range(8):
            await asyncio.sleep(SOON)
            client.send(b"x")
        assert (await client.reply()).body == b"8"
        assert await drained == ()


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "close"])
async def test_a_client_that_leaves_behind_its_answer_and_in_its_body_does_not_hold_a_drain(gates, reset):
    async with serving(gates.app()) as server:
        async with client_of(server) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n")
            assert (await client.reply()).status == 200
            if reset:
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            await until(lambda: not server._connections())


async def test_a_client_that_stops_in_its_upload_costs_nothing_behind_its_503(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(UPLOAD % 1000 + b"x" * 10)
        await gates.entered.wait()
        time = asyncio.get_running_loop().time
        began = time()
        names = await server.drain(deadline=began + SOON)
        took = time() - began
        assert [name.partition(" (")[0] for name in names] == ["POST /upload"]
        assert (await client.reply()).status == 503
        assert took < SOON + 0.7, "and not a second"


# A body that never ends


@pytest.fixture
def short_period(monkeypatch):
    monkeypatch.setattr(module, "_RATE_PERIOD", 3 * SOON)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (UPLOAD % 100_000, b"x"),
        (CHUNKED % b"/upload", b"1\r\nx\r\n"),
        (CHUNKED % b"/upload" + b"5;", b"x"),
        (CHUNKED % b"/upload", b"0"),
        (CHUNKED % b"/upload" + b"0\r\nX: ", b"x"),
    ],
    ids=["body", "chunks", "chunk extension", "chunk size", "trailer"],
)
async def test_a_trickle_is_answered_408(gates, short_period, head, piece):
    limits = Limits(body_timeout=2 * SOON)
    async with serving(gates.app(), limits=limits) as server, client_of(server) as client:
        client.send(head)
        reading = asyncio.create_task(client.reply())
        async with asyncio.timeout(PATIENCE):
            while not reading.done():
                client.send(piece)
                await asyncio.wait([reading], timeout=SOON / 4)
        assert (reading.result().status, reading.result().closes) == (408, True)
        assert sum(refused(server).values()) == 1


async def test_a_body_that_keeps_its_rate_has_no_time_limit(gates, short_period):
    async with serving(gates.app(), limits=Limits(body_rate=1000)) as server, client_of(server) as client:
        client.send(UPLOAD % 8000)
        for _ in range(8):
            client.send(b"x" * 1000)
            await asyncio.sleep(SOON)
        assert (await client.reply()).body == b"8000"
        assert refused(server) == {}


async def test_without_a_rate_a_body_may_trickle(gates, short_period):
    async with serving(gates.app(), limits=Limits(body_rate=None)) as server, client_of(server) as client:
        client.send(UPLOAD % 8)
        for _ in range(8):
            client.send(b"x")
            await asyncio.sleep(SOON)
        assert (await client.reply()).body == b"8"


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_a_number_above_zero(rate):
    with pytest.raises(ValueError, match="body_rate"):
        Limits(body_rate=rate)
