"""The pin and the lifespan of ASGI, and where the HTTP API can be mounted."""

import asyncio
import contextlib
import json
import logging
import signal
import threading

import pytest
from litestar import Litestar, Request, asgi, get
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient

from hotconf import HotConf, Options, Section
from hotconf.integrations.asgi import PinSnapshot, Safety, config_app, lifespan, request_snapshot
from hotconf.signals import StopSignals, stop_signals
from hotconf.sources import Memory
from hotconf.web import Safety as AiohttpSafety


class App(Section):
    message: str = "one"
    labels: dict[str, str] = {"a/b": "slash", "é": "letter"}


@pytest.fixture
def memory():
    return Memory({"message": "one"})


@pytest.fixture
def conf(memory):
    return HotConf(App, sources=[memory], options=Options(watch=False))


def client_of(app, **options):
    return TestClient(app, base_url="http://localhost", **options)


# The pin


class Reload:
    """A middleware that changes the configuration before and after the handler."""

    def __init__(self, app, conf, memory, seen):
        self.app, self.conf, self.memory, self.seen = app, conf, memory, seen

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.seen.append(request_snapshot(scope).settings.message)
            self.memory.set({"message": "two"})
            await self.conf.reload()
        await self.app(scope, receive, send)
        if scope["type"] == "http":
            self.seen.append(request_snapshot(scope).settings.message)


def test_a_request_and_its_middlewares_have_one_snapshot(conf, memory):
    seen = []

    async def root(request):
        assert conf.current.message == "two"
        return PlainTextResponse(request_snapshot(request.scope).settings.message)

    middleware = [Middleware(PinSnapshot, conf=conf), Middleware(Reload, conf=conf, memory=memory, seen=seen)]
    app = Starlette(routes=[Route("/", root)], middleware=middleware, lifespan=lifespan(conf))
    with client_of(app) as client:
        answer = client.get("/")
        assert (answer.text, answer.headers["Hotconf-Generation"], seen) == ("one", "1", ["one", "one"])
        assert conf.leased == {}
        assert client.get("/").headers["Hotconf-Generation"] == "2"
    assert conf.status.state == "stopped"


def test_a_generation_that_a_response_names_itself_is_kept(conf):
    async def root(request):
        return PlainTextResponse("", headers={"HOTCONF-generation": "7"})

    with client_of(PinSnapshot(Starlette(routes=[Route("/", root)], lifespan=lifespan(conf)), conf)) as client:
        assert client.get("/").headers.get_list("Hotconf-Generation") == ["7"]


def test_a_websocket_keeps_its_snapshot_until_it_ends(conf, memory):
    async def talk(websocket):
        await websocket.accept()
        async for _ in websocket.iter_text():
            await websocket.send_text(request_snapshot(websocket.scope).settings.message)

    app = Starlette(routes=[WebSocketRoute("/", talk)], lifespan=lifespan(conf))
    with client_of(PinSnapshot(app, conf)) as client:
        with client.websocket_connect("/") as websocket:
            for _ in range(2):
                websocket.send_text("")
                assert websocket.receive_text() == "one"
                memory.set({"message": "two"})
                conf.reload_blocking(20)
            assert conf.leased == {1: 1}
        assert conf.leased == {}


def test_without_the_pin_there_is_no_snapshot():
    with pytest.raises(KeyError):
        request_snapshot({"type": "http"})


# The lifespan


async def test_the_lifespan_leaves_the_signals_of_a_live_configuration_alone(conf, caplog):
    before = signal.getsignal(signal.SIGHUP)
    async with conf.running(signals=()), lifespan(conf)(None):
        assert signal.getsignal(signal.SIGHUP) == before
    async with lifespan(conf)(None):
        assert signal.getsignal(signal.SIGHUP) != before
    assert signal.getsignal(signal.SIGHUP) == before
    caplog.set_level(logging.WARNING)
    await asyncio.to_thread(lambda: asyncio.run(enter(lifespan(conf)(None))))
    assert not caplog.records  # a test client runs the lifespan in a thread, where no signal is meant


async def enter(manager):
    async with manager:
        pass


# Where it is mounted


async def call(app, path, *, method="GET", raw=None, root="", headers=(), body=b"", server=("127.0.0.1", 80)):
    """One request of ASGI. Return status, headers and body."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "root_path": root,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
        "server": server,
    }
    if raw is not None:
        scope["raw_path"] = raw
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], names, sent[1]["body"]


@pytest.mark.parametrize(
    ("path", "root", "raw"),
    [
        ("/config/labels/a/b", "", b"/config/labels/a%2Fb"),
        ("/x/config/labels/a/b", "/x", b"/x/config/labels/a%2Fb"),
        ("/x y/config/labels/a/b", "/x y", b"/x%20y/config/labels/a%2Fb"),
        ("/config/labels/a/b", "/x", b"/config/labels/a%2Fb"),  # of a proxy that takes its prefix off
        ("/x/config/labels/a/b", "/x/", b"/x/%63onfig/labels/a%2fb?query"),
    ],
)
async def test_a_path_is_read_as_it_was_sent_below_any_prefix(conf, path, root, raw):
    async with conf.running(signals=()):
        status, _, body = await call(config_app(conf), path, root=root, raw=raw)
        assert (status, json.loads(body)) == (200, "slash")


@pytest.mark.parametrize(("path", "root"), [("/config/labels/é", ""), ("/x/config/labels/é", "/x")])
async def test_a_server_may_lack_the_path_as_it_was_sent(conf, path, root):
    async with conf.running(signals=()):
        status, _, body = await call(config_app(conf), path, root=root)
        assert (status, json.loads(body)) == (200, "letter")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/x", "GET", 404),
        ("/reload/", "POST", 404),
        ("/xy/config", "GET", 404),
        ("/events", "HEAD", 405),
        ("/reload", "GET", 405),
        ("/readyz", "HEAD", 200),
        ("/dashboard/app.js", "GET", 200),
    ],
)
async def test_what_is_not_served_is_said(conf, path, method, status):
    async with conf.running(signals=()):
        answer = await call(config_app(conf), "/x" + path, method=method, root="/x")
    assert answer[0] == status
    if status == 405:
        assert answer[1]["allow"] in ("GET", "POST")


@pytest.mark.parametrize("mount", ["starlette", "litestar"])
def test_frameworks_mount_it(conf, mount):
    admin = config_app(conf)
    if mount == "starlette":
        app = Starlette(routes=[Mount("/admin", admin)], lifespan=lifespan(conf))
    else:
        app = Litestar([asgi("/admin", is_mount=True, copy_scope=True)(admin)], lifespan=[lifespan(conf)])
    with client_of(app) as client:
        assert client.get("/admin/config/message").json() == "one"
        assert client.get("/admin/config/labels/a%2Fb").json() == "slash"
        assert client.get("/admin/dashboard").status_code == 200
        assert client.get("/admin/openapi.json").json()["servers"] == [{"url": "/admin"}]
        assert client.post("/admin/reload").json()["outcome"] == "unchanged"


def test_litestar_pins_a_request(conf, memory):
    @get("/")
    async def root(request: Request) -> str:
        memory.set({"message": "two"})
        await conf.reload()
        return request_snapshot(request.scope).settings.message

    app = Litestar([root], lifespan=[lifespan(conf)], middleware=[DefineMiddleware(PinSnapshot, conf=conf)])
    with client_of(app) as client:
        answer = client.get("/")
        assert (answer.text, answer.headers["Hotconf-Generation"], conf.leased) == ("one", "1", {})


async def test_it_runs_alone_and_refuses_websockets(conf):
    sent, events = [], iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive():
        return {"type": next(events)}

    async def send(message):
        sent.append(message["type"])

    await config_app(conf)({"type": "lifespan"}, receive, send)
    await config_app(conf)({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


# Reach


@pytest.mark.parametrize(
    ("server", "status"),
    [
        (("127.0.0.1", 80), 200),
        (("::1", 80), 200),
        (("/run/app.sock", None), 200),
        (("192.0.2.1", 80), 403),
        (("testserver", 80), 403),
        (None, 403),
    ],
)
async def test_an_address_that_others_can_reach_needs_a_token(conf, server, status):
    async with conf.running(signals=()):
        assert (await call(config_app(conf), "/config", server=server))[0] == status
        for safety in (Safety(token="sesame"), AiohttpSafety(token="sesame")):
            app = config_app(conf, safety=safety)
            assert (await call(app, "/config", server=server))[0] == 401
            headers = [(b"authorization", b"Bearer sesame")]
            assert (await call(app, "/config", server=server, headers=headers))[0] == 200


@pytest.mark.parametrize("encoding", [b"br", b"zstd"])
async def test_an_encoding_that_is_not_undone_is_refused_by_name(conf, encoding):
    async with conf.running(signals=()):
        headers = [(b"content-encoding", encoding), (b"content-type", b"application/json")]
        answer = await call(config_app(conf), "/reload", method="POST", headers=headers, body=b"{}")
    assert (answer[0], answer[1]["accept-encoding"]) == (415, "gzip, deflate")


# The signals of the server


@pytest.fixture
def server_handler():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("server"))
    yield heard
    signal.signal(signal.SIGTERM, before)


def test_a_stop_is_heard_beside_the_server(server_handler):
    signals, heard = StopSignals(), server_handler
    handler = signal.getsignal(signal.SIGTERM)
    first, second = [lambda name=name: heard.append(name) for name in ("first", "second")]
    signals.listen(first)
    signals.listen(second)
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["first", "second", "server"]
    signals.ignore(first)
    signal.raise_signal(signal.SIGTERM)
    assert heard[3:] == ["second", "server"]
    signals.ignore(second)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_handler_that_was_put_over_it_stays(server_handler):
    signals, heard = StopSignals(), server_handler
    callback = lambda: heard.append("callback")
    signals.listen(callback)
    below = signal.getsignal(signal.SIGTERM)
    above = lambda *arguments: (heard.append("above"), below(*arguments))
    signal.signal(signal.SIGTERM, above)
    signals.ignore(callback)
    assert signal.getsignal(signal.SIGTERM) is above
    signals.listen(callback)
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["above", "callback", "server"]


def test_elsewhere_than_in_the_main_thread_nothing_is_listened_to(server_handler):
    handler = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: stop_signals.listen(print))
    thread.start()
    thread.join()
    with contextlib.closing(contextlib.ExitStack()):
        assert signal.getsignal(signal.SIGTERM) is handler
