"""Pinning: one request sees one snapshot, from its first instruction to its last."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from hotconf import HotConf, Settings
from hotconf.sources.memory import Memory
from hotconf.web import config_routes, pin_snapshot, request_snapshot


class App(Settings):
    message: str = "one"


class Handlers:
    def __init__(self):
        self.entered, self.release = asyncio.Event(), asyncio.Event()

    async def slow(self, request):
        before = request_snapshot(request).settings.message
        self.entered.set()
        await self.release.wait()
        return web.Response(text=f"{before} {request_snapshot(request).settings.message}")

    async def stream(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(request_snapshot(request).settings.message.encode())
        return response

    async def fail(self, request):
        raise ValueError("broken handler")

    async def refuse(self, request):
        raise web.HTTPForbidden

    async def own(self, request):
        return web.Response(headers={"Hotconf-Generation": "7"})


@pytest.fixture
async def live():
    source = Memory({})
    conf = HotConf(App, sources=[source])
    handlers = Handlers()
    app = web.Application(middlewares=[pin_snapshot(conf)])
    for name in ("slow", "stream", "fail", "refuse", "own"):
        app.router.add_get(f"/{name}", getattr(handlers, name))
    app.add_routes(config_routes(conf))
    async with conf.running(signals=()), TestClient(TestServer(app)) as client:
        yield conf, source, handlers, client


async def test_a_reload_in_between_changes_nothing_for_the_request(live):
    conf, source, handlers, client = live
    asking = asyncio.create_task(client.get("/slow"))
    await handlers.entered.wait()
    source.set({"message": "two"})
    assert (await conf.reload()).outcome == "applied"
    assert conf.leased == {1: 1}
    handlers.release.set()
    reply = await asking
    assert await reply.text() == "one one"
    assert reply.headers["Hotconf-Generation"] == "1"
    assert conf.leased == {}
    handlers.entered.clear()
    assert await (await client.get("/slow")).text() == "two two"


@pytest.mark.parametrize(("path", "status"), [("/fail", 500), ("/refuse", 403), ("/stream", 200)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_lease_ends_with_the_request_however_it_ends(live, path, status):
    conf, _, _, client = live
    reply = await client.get(path)
    await reply.read()
    assert reply.status == status
    assert conf.leased == {}


async def test_the_lease_ends_when_the_request_is_cancelled(live):
    conf, _, handlers, client = live
    server_tasks = asyncio.all_tasks()
    asking = asyncio.create_task(client.get("/slow"))
    await handlers.entered.wait()
    (serving,) = [task for task in asyncio.all_tasks() - server_tasks - {asking} if "start" in repr(task.get_coro())]
    serving.cancel()
    await asyncio.wait([serving, asking], timeout=10)
    asking.exception()
    assert conf.leased == {}


async def test_a_generation_that_the_response_names_is_kept(live):
    _, _, _, client = live
    assert (await client.get("/own")).headers["Hotconf-Generation"] == "7"
    assert (await client.get("/config")).headers["Hotconf-Generation"] == "1"


def test_without_the_middleware_there_is_no_snapshot():
    with pytest.raises(KeyError):
        request_snapshot(make_mocked_request("GET", "/"))
