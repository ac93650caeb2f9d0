"""`UvicornServer` in a `Service`: a drain that loses nothing, exit codes, and what it refuses."""

import asyncio
import signal
import sys

import aiohttp
import pytest
import uvloop

from hotconf import HotConf, Options, Section, Service
from hotconf.integrations.asgi import UvicornServer
from tests.support import in_flight
from tests.web.clients import client_of, draining, until
from tests.web.server.test_server import Clients


class Application:
    """Answers `hello`, or waits before it does. Accepts WebSockets, and tells what it got."""

    def __init__(self):
        self.entered, self.release, self.seen = asyncio.Event(), asyncio.Event(), []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            self.seen.append((await receive())["type"])
            await send({"type": "lifespan.startup.complete"})
            self.seen.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            self.entered.set()
            self.seen.append(await receive())
        else:
            if scope["path"] != "/":
                self.entered.set()
                await self.release.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
            await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
async def application():
    return Application()


@pytest.fixture
async def server(application):
    server = UvicornServer(application, port=0)
    await server.start()
    yield server
    await server.stop()


async def stop_under_load(*, keep_alive, rounds):
    for _ in range(rounds):
        server = UvicornServer(Application(), port=0)
        await server.start()
        clients = Clients(server.port, keep_alive=keep_alive, clients=64)
        clients.start()
        await until(lambda: clients.answered >= 200)  # noqa: B023 - at once
        assert await draining(server) == ()
        await server.stop()
        await asyncio.to_thread(clients.join)
        assert clients.lost == []


@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept alive", "a connection a request"])
@pytest.mark.parametrize(
    ("loop_factory", "rounds"),
    [
        (asyncio.new_event_loop, 3),
        pytest.param(uvloop.new_event_loop, 20, marks=pytest.mark.soak),
    ],
    ids=["asyncio", "uvloop, 20 stops"],
)
def test_stops_under_load_lose_no_request(loop_factory, rounds, keep_alive):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(stop_under_load(keep_alive=keep_alive, rounds=rounds))


async def test_a_drain_waits_for_requests_closes_idle_connections_and_ends_websockets(server, application):
    async with client_of(server) as slow, client_of(server) as idle, aiohttp.ClientSession() as session:
        assert not (await idle.get()).closes
        async with session.ws_connect(server.url + "/ws") as websocket:
            await application.entered.wait()
            application.entered.clear()
            slow.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            await application.entered.wait()
            drained = draining(server)
            assert (await websocket.receive()).data == 1012
            await websocket.close()
            assert await idle.ended()
            assert not drained.done()
            application.release.set()
            reply = await slow.reply()
            assert (reply.body, reply.closes) == (b"hello", True)
            assert await drained == ()
    await server.stop()
    first, websocket, last = application.seen
    assert (first, last) == ("lifespan.startup", "lifespan.shutdown")
    assert websocket["code"] == 1012


async def test_what_runs_at_the_deadline_is_cut_by_name(server, application):
    async with client_of(server) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        await application.entered.wait()
        (cut,) = await draining(server, within=0.2)
        assert cut.startswith("GET /slow (0.")


async def test_a_taken_port_and_a_lifespan_that_fails_leave_nothing_behind(server):
    taken = UvicornServer(Application(), port=server.port)
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.port}"):
        await taken.start()

    async def fails(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    failing = UvicornServer(fails, port=0)
    with pytest.raises(RuntimeError, match="lifespan of the application failed"):
        await failing.start()
    assert failing.addresses == ()


async def test_it_starts_again(application):
    server = UvicornServer(application, port=0)
    for _ in range(2):
        await server.start()
        async with client_of(server) as client:
            assert (await client.get()).body == b"hello"
        await server.stop()
    assert len(application.seen) == 4


async def test_a_socket_file(application, tmp_path):
    server = UvicornServer(application, unix_socket=tmp_path / "app.sock")
    await server.start()
    assert (server.name, server.url) == (f"uvicorn unix:{tmp_path}/app.sock", f"http://unix:{tmp_path}/app.sock:")
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "app.sock"))) as session:
        async with session.get("http://localhost/") as answer:
            assert await answer.text() == "hello"
    await draining(server)
    await server.stop()
    assert not (tmp_path / "app.sock").exists()


async def test_the_port_may_be_a_setting():
    class App(Section):
        port: int = 0

    conf = HotConf(App, options=Options(watch=False))
    service = Service(conf)
    service.add(server := UvicornServer(Application(), port=lambda: conf.current.port))
    service.on_ready(service.stop)
    assert await service.serve() == 0
    assert server.port > 0


@pytest.mark.parametrize("option", ["workers", "reload", "uds", "limit_max_requests"])
def test_an_option_that_the_service_stands_for_is_refused_by_name(option):
    with pytest.raises(ValueError, match=option):
        UvicornServer(Application(), **{option: 1})


def test_without_uvicorn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r"pip install 'hotconf\[uvicorn\]'"):
        UvicornServer(Application())


async def test_what_it_uses_of_uvicorn_is_still_there():
    """Names that uvicorn has without documenting them: a release that renames one fails here."""
    import uvicorn

    config = uvicorn.Config(Application(), log_config=None)
    config.load()
    server = uvicorn.Server(config)
    assert {"loaded_app", "lifespan_class", "http_protocol_class", "ws_protocol_class", "ssl", "is_ssl"} <= set(
        dir(config)
    )
    assert {"startup", "main_loop", "server_state"} <= set(dir(server))
    assert server.server_state.connections == set()
    assert {"startup", "shutdown", "state"} <= set(dir(config.lifespan_class(config)))
    assert callable(config.http_protocol_class.shutdown)


SERVICE = """
from hotconf import Service
from hotconf.integrations.asgi import UvicornServer, lifespan
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

conf = unwatched()


async def root(request):
    return PlainTextResponse(conf.current.message)


async def held(request):
    say("held")
    await asyncio.sleep(0.5)
    return PlainTextResponse(conf.current.message)


app = Starlette(routes=[Route("/", root), Route("/held", held)], lifespan=lifespan(conf))
service = Service(conf)
service.add(server := UvicornServer(app, port=0))
service.on_ready(lambda: print("running on", server.url, file=sys.stderr))
raise SystemExit(service.run())
"""


def test_I7_a_service_reloads_on_hangup_and_drains(launch):
    server = launch("service.py", scripts={"service.py": SERVICE}).listening()
    server.shows("one")
    server.write("two")
    server.hang_up()
    server.shows("two")
    server.stderr.find(r"reload 2 \(SIGHUP\)")
    with in_flight(server.port, "/held") as reply:
        server.stdout.find("^held$")
        server.send(signal.SIGTERM)
        assert reply().text == "two"
    assert server.end() == 0


def test_a_refused_configuration_is_exit_code_2(launch, tmp_path):
    (tmp_path / "app.toml").write_text("message = [")
    server = launch("service.py", scripts={"service.py": SERVICE})
    assert server.end() == 2
    assert "Traceback" not in server.stderr.text
