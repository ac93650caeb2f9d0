"""web.Server: what it binds and serves, and a drain that loses no accepted request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import resource
import socket
import ssl
import stat
import struct
import threading

import aiohttp
import pytest
import uvloop
from aiohttp import web

import hotconf.web
from hotconf.web.server import acceptor, server as server_module, sockets
from hotconf.web.server.drain import iter_messages, shutdown_event
from hotconf.web.server.server import Server
from tests.web.clients import GET, Client, Gates, client_of, draining, serving, until


async def accepts_connections(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


# Start and stop


async def test_port_zero_reports_the_bound_port_and_serves(gates):
    async with serving(gates.app()) as server, aiohttp.ClientSession() as session:
        assert server.port != 0
        assert server.addresses == (f"127.0.0.1:{server.port}",)
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.name == f"http 127.0.0.1:{server.port}"
        async with session.get(server.url) as response:
            assert (response.status, await response.text()) == (200, "hello")


def test_name_and_url_are_known_before_the_start():
    server = Server(web.Application(), port=8080)
    assert (server.name, server.url, server.addresses) == ("http 127.0.0.1:8080", "http://127.0.0.1:8080", ())


async def test_port_may_be_a_function_that_is_called_at_each_start(gates):
    asked = iter([0, 70_000])
    server = Server(gates.app(), port=lambda: next(asked))
    await server.start()
    assert server.port not in (0, 70_000)
    await server.stop()
    with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:70000: a port is a number from 0 to 65535"):
        await server.start()


async def test_port_in_use_names_the_address_and_starts_nothing(gates):
    hooks = []
    app = gates.app()
    app.on_startup.append(lambda _: hooks.append("started"))
    async with serving(gates.app()) as first:
        second = Server(app, port=first.port)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{first.port}: Address already in use") as caught:
            await second.start()
        assert caught.value.errno == errno.EADDRINUSE
        assert hooks == []
        await second.stop()


async def test_bad_address_keeps_the_error_class():
    with pytest.raises(PermissionError if os.geteuid() else OSError, match="cannot listen on"):
        await Server(web.Application(), host="192.0.2.1", port=80).start()


async def test_failed_start_up_hook_frees_the_port_and_undoes_what_started(gates):
    steps = []

    async def resource_of_the_app(app):
        steps.append("entered")
        yield
        steps.append("left")

    async def broken(app):
        raise RuntimeError("no database")

    app = gates.app()
    app.cleanup_ctx.append(resource_of_the_app)
    app.on_startup.append(broken)
    server = Server(app, port=0)
    with pytest.raises(RuntimeError, match="no database"):
        await server.start()
    assert steps == ["entered", "left"]
    assert server.addresses == ()
    assert not await accepts_connections(server.port)
    await server.stop()


async def test_cancelled_start_leaves_nothing_behind(gates):
    async def endless(app):
        gates.entered.set()
        await asyncio.Event().wait()

    app = gates.app()
    app.on_startup.append(endless)
    server = Server(app, port=0)
    starting = asyncio.create_task(server.start())
    await gates.entered.wait()
    assert not await accepts_connections(server.port), "nothing is accepted before the application is up"
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert server.addresses == ()


async def test_stop_runs_hooks_once_and_the_server_can_start_again(gates):
    stopped = []
    app = gates.app()

    async def note(_):
        stopped.append(1)

    app.on_cleanup.append(note)
    server = Server(app, port=0)
    for round_ in (1, 2):
        await server.start()
        async with client_of(server) as client:
            reply = await client.get()
            assert (reply.status, reply.closes) == (200, False)
        assert await draining(server) == ()
        await server.stop()
        await server.stop()
        assert len(stopped) == round_
        assert not await accepts_connections(server.port)


async def test_stop_without_a_drain_is_bounded(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/slow")
        await gates.entered.wait()
        async with asyncio.timeout(5):
            await server.stop()
        assert gates.seen == ["cancelled"]


async def test_stop_drops_what_a_client_does_not_read(gates):
    async with serving(gates.app()) as server, client_of(server, limit=1024) as client:
        client.send(GET % b"/big")
        await gates.entered.wait()
        (connection,) = server._connections()
        transport = connection.transport
        await until(transport.get_write_buffer_size)
        await server.stop()
        assert transport.get_write_buffer_size() == 0


async def test_drain_of_a_stopped_server_is_nothing(gates):
    assert await draining(Server(gates.app(), port=0)) == ()


async def test_frozen_app_is_served(gates):
    app = gates.app()
    app.freeze()
    async with serving(app) as server:
        server.begin_drain()
        for path in ("/", "/missing"):
            async with client_of(server) as client:
                assert (await client.get(path)).closes


async def test_two_servers_share_an_app_and_drain_apart(gates):
    app = gates.app()
    async with serving(app) as first, serving(app) as second, client_of(second) as client:
        assert await draining(first) == ()
        assert not (await client.get()).closes


async def test_localhost_binds_every_family_at_one_port(gates):
    async with serving(gates.app(), host="localhost") as server:
        assert {address.rpartition(":")[2] for address in server.addresses} == {str(server.port)}
        async with aiohttp.ClientSession() as session:
            for address in server.addresses:
                async with session.get(f"http://{address}/") as response:
                    assert response.status == 200


def test_address_family_that_the_machine_lacks_is_skipped():
    there, absent = (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("192.0.2.1", 0))
    (sock,) = sockets._bind_every([absent, there], reuse_port=False)
    sock.close()
    with pytest.raises(OSError, match="assign requested address"):
        sockets._bind_every([absent], reuse_port=False)


def test_port_zero_is_one_port_at_every_address():
    addresses = [(socket.AF_INET, (host, 0)) for host in ("127.0.0.1", "127.0.0.2")]
    bound = sockets._bind_every(addresses, reuse_port=False)
    assert len({sock.getsockname()[1] for sock in bound}) == 1
    for sock in bound:
        sock.close()


async def test_port_zero_tries_again_where_another_address_has_that_port_taken(gates, monkeypatch):
    bind_every = sockets._bind_every
    attempts = []

    def taken_once(*args, **options):
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return bind_every(*args, **options)

    monkeypatch.setattr(sockets, "_bind_every", taken_once)
    async with serving(gates.app()):
        assert len(attempts) == 2


async def test_reuse_port_lets_two_servers_share_one(gates):
    async with serving(gates.app(), reuse_port=True) as first:
        async with serving(gates.app(), reuse_port=True, port=first.port) as second:
            assert first.port == second.port


@pytest.mark.parametrize("wanted", [False, True])
async def test_access_log_is_off_by_default(gates, caplog, wanted):
    caplog.set_level(logging.INFO, "aiohttp.access")
    async with serving(gates.app(), access_log=wanted) as server, client_of(server) as client:
        await client.get()
    assert bool(caplog.records) is wanted


@pytest.mark.parametrize("wanted", [False, True])
async def test_client_that_leaves_cancels_its_handler_only_with_handler_cancellation(gates, wanted):
    async with serving(gates.app(), handler_cancellation=wanted) as server:
        async with client_of(server) as client:
            client.send(GET % b"/slow")
            await gates.entered.wait()
        await until(lambda: server._connections() == [] or not wanted)
        gates.release.set()
        assert await draining(server) == ()
    assert gates.seen == ["cancelled" if wanted else "finished"]


# Requests on one connection


async def test_every_request_reaches_the_application_however_often_it_is_sent(gates):
    """Nothing is answered before it was parsed and went through the middlewares."""

    @web.middleware
    async def authorise(request, handler):
        gates.seen.append(request.path)
        if len(gates.seen) > 4:
            raise web.HTTPUnauthorized
        return await handler(request)

    async with serving(gates.app(middlewares=[authorise])) as server, client_of(server) as client:
        statuses = [(await client.get()).status for _ in range(6)]
    assert statuses == [200, 200, 200, 200, 401, 401]


async def test_pipelined_requests_in_pieces_keep_their_own_answers(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/slow")
        await gates.entered.wait()
        client.send(GET % b"/" + b"GET /slow HT")
        gates.release.set()
        assert [(await client.reply()).body for _ in range(2)] == [b"slow", b"hello"]
        client.send((GET % b"/slow").removeprefix(b"GET /slow HT"))
        assert (await client.reply()).body == b"slow"
        assert (await client.get()).body == b"hello"


async def test_a_body_that_the_handler_does_not_read_is_no_request(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(GET % b"/slow"))
        assert (await client.reply()).body == b"hello"
        client.send(GET % b"/slow")
        assert (await client.get()).body == b"hello"


# A client that sends no more, and still reads


@pytest.mark.parametrize(("path", "answer"), [("/", b"hello"), ("/slow", b"slow"), ("/late-stream", b"late")])
async def test_client_that_ends_its_side_is_answered_and_closed(gates, path, answer):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/" + GET % path.encode())
        client.writer.write_eof()
        assert (await client.reply()).body == b"hello"
        gates.release.set()
        assert (await client.reply()).body == answer
        assert await client.ended()
        await until(lambda: not server._connections())


@pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop])
def test_client_that_ends_its_side_during_its_request_is_answered(gates, loop_factory):
    async def scenario():
        async with serving(gates.app()) as server, client_of(server) as client:
            client.send(GET % b"/slow")
            await gates.entered.wait()
            client.writer.write_eof()
            (connection,) = server._connections()
            await until(lambda: connection.half_closed)
            gates.release.set()
            assert (await client.reply()).body == b"slow"
            assert await client.ended()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


async def test_client_that_ends_its_side_between_two_requests_is_closed(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        await client.get()
        client.writer.write_eof()
        assert await client.ended()
        await until(lambda: not server._connections())


async def test_client_that_ends_its_side_behind_half_a_body_is_answered_400(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf")
        client.writer.write_eof()
        # If its end arrives after its head was taken up, the connection closes without an answer.
        assert (await client.reader.read())[:12] in {b"HTTP/1.1 400", b""}
        await until(lambda: not server._connections())


# The unix socket


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.sock"


async def ask_unix(path):
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        async with session.get("http://test/") as response:
            return response.status


async def test_unix_socket_is_private_and_removed_at_the_end(gates, path):
    async with serving(gates.app(), unix_socket=path) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert server.name == f"http unix:{path}"
        assert server.url == f"http://unix:{path}:"
        assert await ask_unix(path) == 200
        assert await draining(server) == ()
        assert not path.exists()


async def test_stale_unix_socket_is_replaced(gates, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(gates.app(), unix_socket=str(path)):
        assert await ask_unix(path) == 200


async def test_live_unix_socket_is_in_use(gates, path):
    async with serving(gates.app(), unix_socket=path):
        with pytest.raises(OSError, match=f"cannot listen on unix:{path}: Address already in use"):
            await Server(gates.app(), unix_socket=path).start()
        assert await ask_unix(path) == 200


async def test_other_file_at_the_path_is_kept(gates, path):
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=f"cannot listen on unix:{path}: the path exists and is no socket"):
        await Server(gates.app(), unix_socket=path).start()
    assert path.read_text() == "mine"


async def test_path_too_long_is_named(gates, tmp_path):
    with pytest.raises(OSError, match=r"cannot listen on unix:.*: AF_UNIX path too long"):
        await Server(gates.app(), unix_socket=tmp_path / ("x" * 200)).start()


async def test_successors_unix_socket_survives_our_stop(gates, path):
    async with serving(gates.app(), unix_socket=path) as old:
        path.unlink()
        async with serving(gates.app(), unix_socket=path):
            await old.stop()
            assert await ask_unix(path) == 200


# Accepting


async def test_running_out_of_descriptors_pauses_and_recovers(gates, caplog, monkeypatch):
    async with serving(gates.app()) as server:
        (listener,) = server._listeners
        attempts = []
        accept_one = listener._accept_one
        monkeypatch.setattr(listener, "_accept_one", lambda: attempts.append(1) or accept_one())
        with socket.socket() as client, no_more_descriptors():
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", server.port))
            await until(lambda: len(attempts) >= 3)
        assert len(attempts) < 10, "the loop does not spin"
        async with client_of(server) as client:
            assert (await client.get()).status == 200
    assert [r.levelname for r in caplog.records if "Too many open files" in r.getMessage()] == ["WARNING"]


@contextlib.contextmanager
def no_more_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_drain_while_out_of_descriptors_still_accepts_what_waits(gates):
    async with serving(gates.app(), idle_linger=5) as server:
        with socket.socket() as client, no_more_descriptors():
            client.connect(("127.0.0.1", server.port))
            client.sendall(GET % b"/")
            drained = draining(server)
            await until(lambda: server._listeners[0]._starved)
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            assert await drained == ()
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("linger", [0, 0.3])
async def test_backlog_is_answered_to_the_last(gates, linger):
    async with serving(gates.app(), idle_linger=linger) as server:
        with contextlib.ExitStack() as stack:
            # Blocking calls: the loop does not turn, so that the server has accepted none when the drain starts.
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(100)]
            for client in clients:
                client.sendall(GET % b"/")
            assert await draining(server) == ()
            answers = [client.recv(65536) for client in clients]
        assert all(answer.startswith(b"HTTP/1.1 200") and b"Connection: close" in answer for answer in answers)


async def test_newcomers_are_dropped_but_those_in_the_queue_are_not(gates):
    async with serving(gates.app()) as server:
        server._listeners[0]._pause()
        with socket.create_connection(("127.0.0.1", server.port)), socket.socket() as late:
            acceptor._drop_newcomers(server._listeners[0]._sock)
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.connect(("127.0.0.1", server.port))
            assert server._listeners[0]._accept_one()
            assert not server._listeners[0]._accept_one()


async def test_connection_made_while_the_backlog_is_emptied_is_answered(gates, monkeypatch):
    drop_newcomers = acceptor._drop_newcomers
    async with serving(gates.app()) as server:
        with socket.socket() as late:

            def drop_newcomers_after_one_more(sock):
                late.connect(("127.0.0.1", server.port))
                late.sendall(GET % b"/")
                drop_newcomers(sock)

            monkeypatch.setattr(acceptor, "_drop_newcomers", drop_newcomers_after_one_more)
            assert await draining(server) == ()
            assert late.recv(65536).startswith(b"HTTP/1.1 200")


# Drain


async def test_begin_drain_sends_connection_close_and_still_accepts(gates):
    async with serving(gates.app()) as server, client_of(server) as old:
        assert not (await old.get()).closes
        server.begin_drain()
        assert (await old.get()).closes
        assert await old.ended()
        async with client_of(server) as new:
            assert (await new.get("/missing")).closes
            assert await new.ended()


@pytest.mark.parametrize("path", ["/slow", "/late-stream", "/early-stream", "/refusal"])
async def test_request_in_flight_finishes_and_its_connection_closes(gates, path):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % path.encode())
        await gates.entered.wait()
        drained = draining(server)
        await until(lambda: not server.addresses)
        assert not await accepts_connections(server.port)
        assert not drained.done()
        gates.release.set()
        reply = await client.reply()
        assert (reply.status, reply.body) == {
            "/slow": (200, b"slow"),
            "/late-stream": (200, b"late"),
            "/early-stream": (200, b"early,late"),
            "/refusal": (409, b"no"),
        }[path]
        assert reply.closes or path == "/early-stream", "its headers were sent before the drain"
        assert await client.ended()
        assert await drained == ()


async def test_idle_connection_is_answered_while_it_lingers(gates):
    async with serving(gates.app(), idle_linger=10) as server, client_of(server) as client:
        await client.get()
        drained = draining(server)
        await until(lambda: not server.addresses)
        reply = await client.get()
        assert (reply.status, reply.closes) == (200, True)
        assert await client.ended()
        assert await drained == ()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHos", GET % b"/"], ids=["silent", "half a head", "kept alive"]
)
async def test_connection_without_a_request_is_closed_in_order(gates, sent):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(sent)
        if sent.endswith(b"\r\n\r\n"):
            await client.reply()
        await until(server._connections)
        async with asyncio.timeout(3):
            assert await draining(server) == ()
        assert await client.ended()


async def test_linger_is_kept(gates):
    loop = asyncio.get_running_loop()
    async with serving(gates.app(), idle_linger=0.4) as server, client_of(server) as client:
        await client.get()
        began = loop.time()
        await draining(server)
        assert loop.time() - began >= 0.4


async def test_unread_request_keeps_its_connection(gates, monkeypatch):
    async with serving(gates.app(), idle_linger=0) as server, client_of(server) as client:
        await client.get()
        (connection,) = server._connections()
        connection.transport.pause_reading()
        client.send(GET % b"/")
        await until(lambda: sockets.unread(connection.transport.get_extra_info("socket")))
        drained = draining(server)
        await asyncio.sleep(0.1)
        assert not drained.done()
        connection.transport.resume_reading()
        assert (await client.reply()).closes
        assert await drained == ()


async def test_pipelined_requests_already_read_are_all_answered(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/slow" + GET % b"/" + GET % b"/")
        await gates.entered.wait()
        drained = draining(server)
        await until(lambda: not server.addresses)
        gates.release.set()
        assert [(await client.reply()).closes for _ in range(3)] == [False, False, True]
        assert await client.ended()
        assert await drained == ()


async def test_upload_in_progress_finishes(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc")
        await gates.entered.wait()
        drained = draining(server)
        await asyncio.sleep(0.5)
        client.send(b"def")
        reply = await client.reply()
        assert (reply.status, reply.body, reply.closes) == (200, b"6", True)
        assert await drained == ()


async def test_work_of_a_client_that_left_is_waited_for(gates):
    async with serving(gates.app()) as server:
        async with client_of(server) as client:
            client.send(GET % b"/slow")
            await gates.entered.wait()
        drained = draining(server)
        await asyncio.sleep(0.5)
        assert not drained.done()
        gates.release.set()
        assert await drained == ()
        assert gates.seen == ["finished"]


async def test_event_stream_ends_with_a_last_event_and_a_clean_end(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/events")
        await client.head()
        assert await client.chunk() == b"event: config\n\n"
        drained = draining(server)
        assert await client.chunks() == b"event: shutdown\n\n"
        assert await client.ended()
        assert await drained == ()


async def test_long_lived_handlers_continue_during_the_shutdown_delay(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/events")
        await gates.entered.wait()
        server.begin_drain()
        assert not server.draining.is_set()


async def test_websocket_is_closed_as_going_away(gates):
    async with serving(gates.app()) as server, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{server.url}/ws") as ws:
            await ws.send_str("hello")
            assert await ws.receive_str() == "hello"
            drained = draining(server)
            assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
            assert ws.close_code == aiohttp.WSCloseCode.GOING_AWAY
        assert await drained == ()
        assert gates.seen == ["closed 1000"], "the client's reply was waited for"


async def test_websocket_may_begin_in_the_shutdown_delay(gates):
    async with serving(gates.app()) as server, aiohttp.ClientSession() as session:
        server.begin_drain()
        async with session.ws_connect(f"{server.url}/ws") as ws:
            await ws.send_str("hello")
            assert await ws.receive_str() == "hello"


async def test_websocket_client_may_leave_first(gates):
    async with serving(gates.app()) as server, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{server.url}/ws") as ws:
            await ws.send_str("hello")
            await ws.receive_str()
        await until(lambda: gates.seen)
        assert gates.seen == ["closed 1000"]


async def test_websocket_client_that_never_replies_does_not_hold_the_drain(gates):
    handshake = (
        b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with serving(gates.app(), close_timeout=0.2) as server, client_of(server) as client:
        client.send(handshake)
        assert (await client.head())[0] == 101
        async with asyncio.timeout(8):
            assert await draining(server, within=20) == ()
        assert await client.reader.read() == b"\x88\x02" + struct.pack("!H", 1001)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_websocket_client_that_reads_nothing_does_not_hold_the_drain(loop_factory):
    """Its handler is in the middle of a message that it can never finish."""

    async def flood(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for _ in iter_messages(ws, request):
                while True:
                    await ws.send_bytes(b"x" * 65536)
        return ws

    async def scenario():
        app = web.Application()
        app.router.add_get("/flood", flood)
        async with serving(app, close_timeout=0.2) as server, aiohttp.ClientSession() as session:
            ws = await session.ws_connect(f"{server.url}/flood")
            ws._conn.transport.pause_reading()
            await ws.send_str("go")
            (connection,) = server._connections()
            await until(lambda: connection.transport.get_write_buffer_size() > 65536)
            async with asyncio.timeout(8):
                assert await draining(server, within=20) == ()
            ws._conn.transport.abort()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


def test_the_old_public_names_are_aliases():
    assert (hotconf.web.draining_of, hotconf.web.messages) == (shutdown_event, iter_messages)


async def test_shutdown_event_under_another_server_is_never_set():
    from aiohttp.test_utils import make_mocked_request

    assert not shutdown_event(make_mocked_request("GET", "/")).is_set()


async def test_drain_reports_what_it_waits_for(gates, caplog, monkeypatch):
    monkeypatch.setattr(server_module, "_REPORT_INTERVAL", 0.05)
    caplog.set_level(logging.INFO, "hotconf")
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/slow")
        await gates.entered.wait()
        drained = draining(server)
        await until(lambda: "requests in flight: 1, connections open: 1" in caplog.text)
        gates.release.set()
        await drained


# The deadline


async def test_deadline_answers_503_and_names_the_request(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/slow?token=secret")
        await gates.entered.wait()
        cut = await draining(server, within=0.3)
        reply = await client.reply()
        assert (reply.status, reply.headers["retry-after"], reply.closes) == (503, "1", True)
        assert await client.ended()
        assert len(cut) == 1
        assert cut[0].startswith("GET /slow (0.")
        assert cut[0].endswith(" s)")
        assert gates.seen == ["cancelled"]


async def test_deadline_breaks_off_an_answer_that_has_begun(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/early-stream")
        await client.head()
        await gates.entered.wait()
        (cut,) = await draining(server, within=0.3)
        assert cut.startswith("GET /early-stream (")
        with pytest.raises(asyncio.IncompleteReadError):
            await client.chunks()


async def test_deadline_names_an_answer_that_its_client_does_not_read(gates, monkeypatch):
    monkeypatch.setattr(server_module, "_FLUSH_TIMEOUT", 0.2)
    async with serving(gates.app()) as server, client_of(server, limit=1024) as client:
        client.send(GET % b"/big")
        await gates.entered.wait()
        (cut,) = await draining(server, within=0.5)
        assert cut.startswith("GET /big (")
        await until(lambda: server._connections() == [])


@contextlib.asynccontextmanager
async def half_sent_answer(gates, server):
    """A connection on which no request runs, but the end of an answer waits to be sent."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(GET % b"/medium")
        await until(lambda: gates.entered.is_set() and not server._running())
        assert sockets.unsent(server._connections()[0].transport)
        yield sock


async def test_answer_still_being_sent_is_waited_for(gates):
    async with serving(gates.app()) as server, half_sent_answer(gates, server) as sock:
        drained = draining(server)
        await asyncio.sleep(0.5)
        assert not drained.done()
        sock.settimeout(10)
        answer = await asyncio.to_thread(receive_all, sock)
        assert answer.endswith(b"x" * 50_000)
        assert await drained == ()


def receive_all(sock):
    return b"".join(iter(lambda: sock.recv(65536), b""))


async def test_deadline_names_the_client_of_an_answer_still_being_sent(gates, monkeypatch):
    monkeypatch.setattr(server_module, "_FLUSH_TIMEOUT", 0.2)
    async with serving(gates.app()) as server, half_sent_answer(gates, server):
        assert await draining(server, within=0.5) == ("response to 127.0.0.1",)


async def test_deadline_is_kept_against_a_handler_that_ignores_it(gates, monkeypatch):
    monkeypatch.setattr(server_module, "_FLUSH_TIMEOUT", 0.2)
    loop = asyncio.get_running_loop()
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(GET % b"/stubborn")
        await gates.entered.wait()
        began = loop.time()
        (cut,) = await draining(server, within=0.2)
        assert cut.startswith("GET /stubborn (")
        assert loop.time() - began < 5
        gates.release.set()


async def test_deadline_before_the_linger_closes_idle_connections_and_names_none(gates):
    async with serving(gates.app(), idle_linger=60) as server, client_of(server) as client:
        await client.get()
        assert await draining(server, within=0.2) == ()
        assert await client.ended()


async def test_no_request_can_write_a_line_into_a_log(gates):
    app = gates.app()
    app.router.add_get("/any/{tail}", gates.slow)
    async with serving(app) as server, client_of(server) as client:
        client.send(GET % b"/any/%0AERROR")
        await gates.entered.wait()
        (cut,) = await draining(server, within=0.1)
        assert cut.startswith("GET /any/%0AERROR (")


# TLS


async def test_tls_drains_kept_alive_connections_and_unfinished_handshakes(gates, tls, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with serving(gates.app(), ssl_context=tls) as server:
        assert server.url.startswith("https://")
        async with client_of(server, ssl=trusting) as client, client_of(server):
            assert (await client.get()).status == 200
            await until(lambda: server._acceptor)
            async with asyncio.timeout(8):
                assert await draining(server, within=20) == ()
            assert await client.ended()


async def test_tls_websocket_is_closed_as_going_away(gates, tls, certificate, caplog):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with serving(gates.app(), ssl_context=tls, close_timeout=0.1) as server, aiohttp.ClientSession() as session:
        async with client_of(server, ssl=trusting) as slow:
            slow.send(GET % b"/slow")
            await gates.entered.wait()
            async with session.ws_connect(f"{server.url}/ws", ssl=trusting) as ws:
                drained = draining(server)
                assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
            await asyncio.sleep(0.2)  # beyond the time in which the client must have read it
            gates.release.set()
            assert (await slow.reply()).status == 200
        assert await drained == ()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_tls_client_that_does_not_answer_the_close_does_not_hold_the_drain(gates, tls, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with serving(gates.app(), ssl_context=tls) as server:
        sock = await asyncio.to_thread(connect_tls, trusting, server.port)
        with sock:
            async with asyncio.timeout(8):
                assert await draining(server, within=20) == ()


def connect_tls(context, port):
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")


async def test_plain_text_on_a_tls_port_affects_no_other_client(gates, tls, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with serving(gates.app(), ssl_context=tls) as server:
        async with client_of(server) as confused:
            confused.send(GET % b"/")
            with contextlib.suppress(ConnectionError):
                await confused.reader.read()
        async with client_of(server, ssl=trusting) as client:
            assert (await client.get()).status == 200


# Many clients during a stop, on either loop


class Clients(threading.Thread):
    """Clients on a loop of their own: each sends a request and reads the response, again and again, until refused."""

    def __init__(self, port, *, keep_alive, clients=32):
        super().__init__()
        self.port = port
        self.keep_alive = keep_alive
        self.clients = clients
        self.answered = 0
        self.lost = []

    def run(self):
        asyncio.run(self.ask_all())

    async def ask_all(self):
        await asyncio.gather(*(self.client() for _ in range(self.clients)))

    async def client(self):
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    await self.ask_until_closed(Client(reader, writer))
                except Exception as error:
                    self.lost.append(error)
                finally:
                    writer.close()

    async def ask_until_closed(self, client):
        while True:
            reply = await client.get()
            assert (reply.status, reply.body) == (200, b"hello")
            self.answered += 1
            if reply.closes or not self.keep_alive:
                return


async def stop_under_load(*, keep_alive, rounds):
    for _ in range(rounds):
        async with serving(Gates().app()) as server:
            await stop_during(Clients(server.port, keep_alive=keep_alive), server)


async def stop_during(clients, server):
    clients.start()
    await until(lambda: clients.answered >= 200)
    assert await draining(server) == ()
    await asyncio.to_thread(clients.join)
    assert clients.lost == []


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept alive", "a connection a request"])
def test_stops_under_load_lose_no_request(loop_factory, keep_alive):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(stop_under_load(keep_alive=keep_alive, rounds=10 if keep_alive else 4))


def test_uvloop_keeps_every_step_of_a_drain():
    async def scenario():
        gates = Gates()
        async with serving(gates.app()) as server, client_of(server) as slow, client_of(server) as idle:
            await idle.get()
            slow.send(GET % b"/slow")
            await gates.entered.wait()
            drained = draining(server, within=1.0)
            assert await idle.ended()
            (cut,) = await drained
            assert cut.startswith("GET /slow (")
            assert (await slow.reply()).status == 503

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


# Malformed requests


ASKED = b"POST /upload HTTP/1.1\r\nHost: test\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer s3cr3t\x00\r\n\r\n", 400),
        (b"s3cr3t\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (ASKED + b"Content-Length: s3cr3t\r\n\r\n", 400),
        (ASKED + b"Content-Encoding: gzip\r\nContent-Length: 6\r\n\r\ns3cr3t", 400),
        (ASKED + b"Transfer-Encoding: chunked\r\n\r\ns3cr3t\r\n", 400),
        (b"GET /s3cr3t HTTP/2.0\r\nHost: test\r\n\r\n", 505),
        (b"GET /s3cr3t HTTP/0.9\r\n\r\n", 505),
        (b"GET /s3cr3t HTTP/1.2\r\nHost: test\r\n\r\n", 505),
        (b"GET /s3cr3t HTTP/3.0\r\nHost: test\r\n\r\n", 505),
        (ASKED + b"Expect: s3cr3t\r\nContent-Length: 0\r\n\r\n", 417),
        (ASKED + b"Expect: s3cr3t\xff\r\nContent-Length: 0\r\n\r\n", 417),
    ],
    ids=[
        "header",
        "garbage",
        "no-Host",
        "length",
        "encoding",
        "chunks",
        "2.0",
        "0.9",
        "1.2",
        "3.0",
        "Expect",
        "Expect-in-no-UTF-8",
    ],
)
async def test_malformed_request_is_answered_with_a_problem_and_quoted_nowhere(gates, caplog, sent, status):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(sent)
        assert (await client.reader.readexactly(7)) == b"HTTP/1."
        reply = await client.reply()
        assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (status, "application/problem+json")
        assert json.loads(reply.body)["detail"]
        assert await client.ended()
        assert "s3cr3t" not in reply.body.decode() + caplog.text
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_handler_that_raises_is_answered_with_a_problem_and_no_word_of_its_error(gates, caplog):
    async def raises(_request):
        raise LookupError("s3cr3t")

    app = gates.app()
    app.router.add_get("/raises", raises)
    async with serving(app) as server, client_of(server) as client:
        reply = await client.get("/raises")
        assert (reply.status, reply.headers["content-type"]) == (500, "application/problem+json; charset=utf-8")
        assert json.loads(reply.body)["status"] == 500
        assert "s3cr3t" not in reply.body.decode()
        assert await client.ended()
    assert "LookupError: s3cr3t" in caplog.text


@pytest.mark.parametrize("path", ["upload", "deaf"])
async def test_malformed_chunk_is_answered_at_once(gates, caplog, path):
    async def deaf(request):
        gates.entered.set()
        await gates.release.wait()
        return web.Response()

    app = gates.app()
    app.router.add_post("/deaf", deaf)
    async with serving(app) as server, client_of(server) as client:
        client.send(b"POST /%s HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode())
        await gates.entered.wait()
        client.send(b"3\r\nabc\r\ns3cr3t\r\n")
        client.send(GET % b"/")
        gates.release.set()
        async with asyncio.timeout(8):
            assert (await client.reply()).status == (400 if path == "upload" else 200)
            assert await client.ended()
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_malformed_chunk_behind_the_response_ends_the_connection_at_once(gates, caplog):
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert (await client.reply()).status == 200
        client.send(b"s3cr3t\r\n")
        async with asyncio.timeout(8):  # aiohttp would wait 10 s for the rest of the body
            assert await client.ended()
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_client_that_leaves_in_the_middle_of_its_body_is_not_logged_as_an_error(gates, caplog):
    async with serving(gates.app()) as server:
        async with client_of(server) as client:
            client.send(ASKED + b"Content-Length: 100\r\n\r\nhalf")
            await gates.entered.wait()
        await until(lambda: not server._connections())
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_error_of_a_handler_whose_client_left_is_logged(gates, caplog):
    async def broken(request):
        gates.entered.set()
        await until(lambda: request.transport is None)
        raise ConnectionResetError("the database went away")

    app = gates.app()
    app.router.add_post("/broken", broken)
    async with serving(app) as server:
        async with client_of(server) as client:
            client.send(b"POST /broken HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf")
            await gates.entered.wait()
        await until(lambda: not server._connections())
        assert "the database went away" in caplog.text


async def test_a_handler_that_returns_nothing_is_logged(gates, caplog):
    async def nothing(request):
        pass

    app = gates.app()
    app.router.add_get("/nothing", nothing)
    async with serving(app) as server, client_of(server) as client:
        assert (await client.get("/nothing")).status == 500
    assert "Missing return statement" in caplog.text
