"""Under aiohttp's own run_app, which takes SIGINT and SIGTERM itself."""

import contextlib
import signal
import socket
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from hotconf import HotConf, Options, Section
from hotconf.web import Safety, config_app, config_routes
from tests.support import in_flight, request, wait_until

APP = """
import socket
from aiohttp import web

conf = unwatched()
before = signal.getsignal(signal.SIGHUP)


async def live(app):
    async with conf.running():
        yield


async def root(request):
    return web.Response(text=conf.current.message)


async def held(request):
    say("held")
    await asyncio.sleep(0.5)
    return web.Response(text=conf.current.message)


app = web.Application()
app.cleanup_ctx.append(live)
app.router.add_get("/", root)
app.router.add_get("/held", held)
if sys.argv[1] == "uvloop":
    import uvloop as loops
else:
    loops = asyncio
server = socket.create_server(("127.0.0.1", 0))
print(f"running on http://127.0.0.1:{server.getsockname()[1]}", file=sys.stderr)
web.run_app(app, sock=server, loop=loops.new_event_loop(), print=None)
say("restored", hangup_is(before))
"""


@pytest.mark.parametrize(("loop", "stop"), [("asyncio", signal.SIGTERM), ("uvloop", signal.SIGINT)])
def test_hangup_reloads_and_the_runner_keeps_its_signals(launch, loop, stop):
    server = launch("app.py", loop, scripts={"app.py": APP}).listening()
    server.shows("one")
    server.write("two")
    server.hang_up()
    server.shows("two")
    with in_flight(server.port, "/held") as reply:
        server.stdout.find("^held$")
        server.send(stop)
        assert reply().text == "two"
    assert server.end() == 0
    assert "restored True" in server.stdout.text


ADMIN = """
import socket
from aiohttp import web
from hotconf.web import Safety, config_app, config_routes

conf = unwatched()


async def live(app):
    async with conf.running():
        yield


if sys.argv[1] == "mounted":
    app = web.Application()
    app.add_subapp("/admin", config_app(conf))
else:
    app = web.Application(middlewares=[Safety().middleware()])
    app.add_routes(config_routes(conf, app=app))
app.cleanup_ctx.append(live)
server = socket.create_server(("127.0.0.1", 0))
print(f"running on http://127.0.0.1:{server.getsockname()[1]}", file=sys.stderr)
web.run_app(app, sock=server, print=None)
"""


@pytest.mark.parametrize("way", ["mounted", "routes"])
def test_open_streams_and_polls_end_at_once_in_a_shutdown(launch, way):
    """aiohttp waits for each of them for twice its `shutdown_timeout`, which is a minute."""
    server = launch("app.py", way, scripts={"app.py": ADMIN}).listening()
    prefix = "/admin" if way == "mounted" else ""
    asked = b"Host: localhost\r\nIf-None-Match: *\r\n\r\n"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(20)]
        streams, polls = clients[:10], clients[10:]
        for client in streams:
            client.sendall(f"GET {prefix}/events HTTP/1.1\r\n".encode() + asked)
        for client in polls:
            client.sendall(f"GET {prefix}/config?wait=300 HTTP/1.1\r\n".encode() + asked)
        waiting = {"poll": 10, "stream": 10}
        wait_until(lambda: request(server.port, f"{prefix}/status").json["watchers"] == waiting)
        began = time.monotonic()
        server.send(signal.SIGTERM)
        assert server.end() == 0
        assert time.monotonic() - began < 5
        for client in streams:
            assert b"event: shutdown\ndata: {}\n\n\r\n0\r\n\r\n" in client.makefile("rb").read()
        for client in polls:
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 304 ")


async def test_an_application_that_starts_again_has_streams_again():
    conf = HotConf(Section, options=Options(watch=False))
    app = config_app(conf)
    async with conf.running(signals=()):
        for _ in range(2):
            server = TestServer(app)
            async with TestClient(server) as client, client.get("/events") as stream:
                assert await stream.content.readline() != b""
                assert not stream.content.is_eof()


async def test_routes_need_no_application():
    conf = HotConf(Section, options=Options(watch=False))
    app = web.Application(middlewares=[Safety().middleware()])
    app.add_routes(config_routes(conf))
    async with conf.running(signals=()), TestClient(TestServer(app)) as client, client.get("/events") as stream:
        assert await stream.content.readline() != b""
