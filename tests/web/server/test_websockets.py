"""The end of WebSockets in a drain: the application closes them in `on_shutdown`, or the server does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import textwrap
import time

import aiohttp
import pytest
import uvloop
from aiohttp import WSCloseCode, WSMsgType, web

from hotconf.web import iter_messages, shutdown_event
from tests.support import Process
from tests.web.clients import client_of, draining, serving, until


class Handlers:
    """WebSocket handlers as applications of other servers have them: none of them knows of a drain."""

    def __init__(self):
        self.seen = []
        self.opened = asyncio.Event()

    def app(self, **options):
        app = web.Application(**options)
        for path in ("echo", "push", "deaf", "work"):
            app.router.add_get(f"/{path}", getattr(self, path))
        app.router.add_get("/", self.hello)
        return app

    async def hello(self, request):
        return web.Response(text="hello")

    async def open(self, request, **options):
        ws = web.WebSocketResponse(**options)
        await ws.prepare(request)
        self.opened.set()
        return ws

    async def echo(self, request):
        ws = await self.open(request)
        async for message in ws:
            await ws.send_str(message.data)
        self.seen.append(f"ended {ws.close_code}")
        return ws

    async def push(self, request):
        ws = await self.open(request)
        try:
            while True:
                await ws.send_str("tick")
                await asyncio.sleep(0.01)
        finally:
            self.seen.append("ended")

    async def deaf(self, request):
        ws = await self.open(request)
        await asyncio.Event().wait()
        return ws

    async def work(self, request):
        ws = await self.open(request)
        async for message in ws:
            await asyncio.sleep(0.3)
            await ws.send_str(f"done {message.data}")
        return ws


@contextlib.asynccontextmanager
async def connected(server, path, **options):
    async with aiohttp.ClientSession() as session, session.ws_connect(server.url + path, **options) as ws:
        yield ws


async def end_of(ws):
    """The close code that a client receives, and the messages before it."""
    messages = [message.data async for message in ws]
    return ws.close_code, messages


LOOPS = pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@LOOPS
def test_a_plain_handler_is_closed_as_going_away_and_the_reply_is_waited_for(loop_factory):
    async def scenario():
        handlers = Handlers()
        async with serving(handlers.app()) as server, connected(server, "/echo") as ws:
            await ws.send_str("hello")
            assert await ws.receive_str() == "hello"
            drained = draining(server)
            assert await end_of(ws) == (WSCloseCode.GOING_AWAY, [])
            assert await drained == ()
            assert handlers.seen == ["ended 1000"], "the code of the client's reply"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


async def test_a_handler_that_only_sends_is_closed_as_going_away():
    handlers = Handlers()
    async with serving(handlers.app(), close_timeout=0.2) as server, connected(server, "/push") as ws:
        assert await ws.receive_str() == "tick"
        drained = draining(server)
        code, messages = await end_of(ws)
        assert (code, set(messages)) == (WSCloseCode.GOING_AWAY, {"tick"})
        assert await drained == ()
        assert handlers.seen == ["ended"]


async def test_the_end_of_a_handler_that_only_sends_is_no_error_in_the_log(caplog):
    handlers = Handlers()
    async with serving(handlers.app(), close_timeout=0.1) as server, connected(server, "/push") as ws:
        drained = draining(server)
        await end_of(ws)
        await drained
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_of_a_handler_that_waits_for_something_else_is_told_before_the_deadline():
    async with serving(Handlers().app(), close_timeout=0.1) as server, connected(server, "/deaf") as ws:
        drained = draining(server, within=3)
        assert await end_of(ws) == (WSCloseCode.GOING_AWAY, [])
        assert not drained.done()
        (cut,) = await drained
        assert cut.startswith("GET /deaf (")


async def test_the_answer_to_a_message_is_sent_before_the_close():
    handlers = Handlers()
    async with serving(handlers.app(), idle_linger=0) as server, connected(server, "/work") as ws:
        await ws.send_str("it")
        await handlers.opened.wait()
        drained = draining(server)
        assert await end_of(ws) == (WSCloseCode.GOING_AWAY, ["done it"])
        assert await drained == ()


async def test_a_socket_that_is_opened_during_the_drain_is_closed():
    async with (
        serving(Handlers().app(), idle_linger=5, close_timeout=0.1) as server,
        aiohttp.ClientSession() as session,
    ):
        await session.get(server.url)  # keeps a connection open, which is still answered
        drained = draining(server)
        await until(lambda: not server.addresses)
        async with session.ws_connect(f"{server.url}/echo") as ws:
            assert await end_of(ws) == (WSCloseCode.GOING_AWAY, [])
        assert await drained == ()


async def test_a_middleware_may_replace_the_request():
    @web.middleware
    async def behind_a_proxy(request, handler):
        return await handler(request.clone(scheme="https"))

    async with serving(Handlers().app(middlewares=[behind_a_proxy])) as server, connected(server, "/echo") as ws:
        drained = draining(server)
        assert await end_of(ws) == (WSCloseCode.GOING_AWAY, [])
        assert await drained == ()


async def test_a_receive_with_a_timeout_times_out_as_before():
    async def impatient(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        with pytest.raises(TimeoutError):
            await ws.receive(timeout=0.01)
        await ws.send_str("timed out")
        return ws

    app = web.Application()
    app.router.add_get("/impatient", impatient)
    async with serving(app) as server, connected(server, "/impatient") as ws:
        assert await end_of(ws) == (WSCloseCode.OK, ["timed out"])


@pytest.mark.parametrize("way", ["shutdown_event", "iter_messages"])
async def test_a_handler_that_takes_part_in_the_drain_ends_its_socket_itself(way):
    """It may need longer than `close_timeout`, and may choose the code."""

    async def handler(request):
        ws = web.WebSocketResponse()
        if way == "shutdown_event":
            stop = shutdown_event(request)
            await ws.prepare(request)
            await stop.wait()
            await asyncio.sleep(0.5)
            await ws.send_str("result")
            await ws.close(code=WSCloseCode.SERVICE_RESTART)
        else:
            await ws.prepare(request)
            async for _ in iter_messages(ws, request):
                await asyncio.sleep(0.5)
                await ws.send_str("result")
        return ws

    app = web.Application()
    app.router.add_get("/", handler)
    code = WSCloseCode.SERVICE_RESTART if way == "shutdown_event" else WSCloseCode.GOING_AWAY
    async with serving(app, close_timeout=0.1, idle_linger=0) as server, connected(server, "/") as ws:
        await ws.send_str("ask")
        await asyncio.sleep(0.1)
        drained = draining(server)
        assert await end_of(ws) == (code, ["result"])
        assert await drained == ()


# on_shutdown


def with_hook(app, hook):
    app.on_shutdown.append(hook)
    return app


async def test_on_shutdown_runs_once_when_the_drain_begins():
    seen = []

    async def note(_):
        seen.append("on_shutdown")

    handlers = Handlers()
    async with serving(with_hook(handlers.app(), note), idle_linger=0.1) as server, client_of(server) as client:
        await client.get()
        server.begin_drain()
        await asyncio.sleep(0.05)
        assert seen == [], "in the shutdown delay clients are still served"
        await draining(server)
        assert seen == ["on_shutdown"]
        await server.stop()
        assert seen == ["on_shutdown"]


async def test_on_shutdown_runs_in_a_stop_without_a_drain_and_in_each_life_of_a_server():
    seen = []

    async def note(_):
        seen.append("on_shutdown")

    async with serving(with_hook(Handlers().app(), note)) as server:
        await server.stop()
        await server.start()
        await draining(server)
        await server.stop()
    assert len(seen) == 2


async def test_an_application_closes_its_sockets_in_on_shutdown():
    """The way of aiohttp's own documentation. Its code and its text are those that the clients get."""
    sockets = set()

    async def subscribe(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        sockets.add(ws)
        async for _ in ws:
            pass
        return ws

    async def close_all(_):
        for ws in sockets:
            await ws.close(code=WSCloseCode.SERVICE_RESTART, message=b"back soon")

    app = with_hook(web.Application(), close_all)
    app.router.add_get("/", subscribe)
    async with serving(app) as server, connected(server, "/") as ws, connected(server, "/") as other:
        await until(lambda: len(sockets) == 2)
        drained = draining(server)
        for each in (ws, other):
            message = await each.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1012, "back soon")
        assert await drained == ()


async def test_idle_connections_are_answered_and_sockets_closed_while_on_shutdown_runs():
    release = asyncio.Event()

    async def slow(_):
        await release.wait()

    app = with_hook(Handlers().app(), slow)
    async with (
        serving(app, idle_linger=10, close_timeout=0.1) as server,
        client_of(server) as idle,
        connected(server, "/echo") as ws,
    ):
        await idle.get()
        drained = draining(server)
        assert await end_of(ws) == (WSCloseCode.GOING_AWAY, [])
        assert (await idle.get()).closes
        await asyncio.sleep(0.2)
        assert not drained.done()
        release.set()
        assert await drained == ()


async def test_on_shutdown_that_does_not_return_is_cancelled_at_the_deadline_and_named():
    seen = []

    async def endless(_):
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async with serving(with_hook(Handlers().app(), endless)) as server:
        assert await draining(server, within=0.3) == ("on_shutdown of the application",)
        assert seen == ["cancelled"]
        await server.stop()
        assert seen == ["cancelled"]


@pytest.mark.parametrize("error", [ValueError("no such socket"), asyncio.CancelledError()])
async def test_on_shutdown_that_raises_is_logged_and_cuts_nothing(caplog, error):
    async def broken(_):
        raise error

    async with serving(with_hook(Handlers().app(), broken)) as server, connected(server, "/echo") as ws:
        drained = draining(server)
        assert await end_of(ws) == (WSCloseCode.GOING_AWAY, [])
        assert await drained == ()
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == [
        f"{server.name}: on_shutdown of the application raised"
    ]


async def test_a_drain_that_is_cancelled_leaves_no_on_shutdown_running():
    ended = asyncio.Event()

    async def endless(_):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(with_hook(Handlers().app(), endless)) as server:
        drained = draining(server)
        await until(server.draining.is_set)
        await asyncio.sleep(0)
        drained.cancel()
        await server.stop()
        await ended.wait()


# As a process

PROGRAM = """
from aiohttp import web
from hotconf import Service
from hotconf.web import Server

sockets = set()

async def subscribe(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    sockets.add(ws)
    async for message in ws:
        await ws.send_str(message.data)
    return ws

async def close_all(app):
    for ws in set(sockets):
        await ws.close(code=1001)

app = web.Application()
app.router.add_get("/", subscribe)
if HOOK:
    app.on_shutdown.append(close_all)
service = Service()
server = Server(app, port=0)
service.add(server)
service.on_ready(lambda: print("serving", server.port, flush=True))
raise SystemExit(service.run())
"""


@pytest.mark.parametrize("hook", [False, True], ids=["plain handler", "closed in on_shutdown"])
async def test_sigterm_ends_a_process_with_open_sockets_at_once_with_0(hook):
    process = Process([sys.executable, "-c", f"HOOK = {hook}\n" + textwrap.dedent(PROGRAM)])
    try:
        port = int((await asyncio.to_thread(process.stdout.find, r"serving (\d+)"))[1])
        async with aiohttp.ClientSession() as session:
            sockets = [await session.ws_connect(f"http://127.0.0.1:{port}/") for _ in range(20)]
            for ws in sockets:
                await ws.send_str("hello")
                await ws.receive_str()
            started = time.monotonic()
            process.send(signal.SIGTERM)
            assert await asyncio.gather(*map(end_of, sockets)) == [(1001, [])] * len(sockets)
            assert await asyncio.to_thread(process.end) == 0
            assert time.monotonic() - started < 5, "the grace period is 25 s"
    finally:
        process.kill()
