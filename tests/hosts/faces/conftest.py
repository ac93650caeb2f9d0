"""One suite over both faces: the modules here are those of `tests/web`, with another host in place of `web.Server`."""

import asyncio
import contextlib
import socket
from types import SimpleNamespace

import pytest
import uvicorn
from aiohttp import web

from hotconf.integrations.asgi import UvicornServer, config_app
from hotconf.web import config_app as aiohttp_app
from tests.web import sites


def place(sock):
    port = sock.getsockname()[1]
    return SimpleNamespace(port=port, url=f"http://127.0.0.1:{port}")


def listening():
    return socket.create_server(("127.0.0.1", 0))


@contextlib.asynccontextmanager
async def service(conf, **options):
    server = UvicornServer(config_app(conf, **options), port=0)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def plain_uvicorn(conf, **options):
    with listening() as sock:
        server = uvicorn.Server(uvicorn.Config(config_app(conf, **options), log_config=None))
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.005)
        yield place(sock)
        server.should_exit = server.force_exit = True
        await task


@contextlib.asynccontextmanager
async def hypercorn(conf, **options):
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    with listening() as sock:
        config, stop = Config(), asyncio.Event()
        config.bind, config.graceful_timeout, config.errorlog = [f"fd://{sock.detach()}"], 0.1, None
        with socket.socket(fileno=socket.dup(int(config.bind[0][5:]))) as copy:
            here = place(copy)
        task = asyncio.create_task(serve(config_app(conf, **options), config, shutdown_trigger=stop.wait))
        yield here
        stop.set()
        await task


@contextlib.asynccontextmanager
async def granian(conf, **options):
    from granian.constants import Interfaces
    from granian.server.embed import Server

    with listening() as sock:
        here = place(sock)
    server = Server(config_app(conf, **options), port=here.port, interface=Interfaces.ASGI, log_enabled=False)
    task = asyncio.create_task(server.serve())
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            break
        await asyncio.sleep(0.01)
    writer.close()
    yield here
    server.stop()
    await task


@contextlib.asynccontextmanager
async def runner(conf, **options):
    """As `web.run_app` does it."""
    served = web.AppRunner(aiohttp_app(conf, **options), shutdown_timeout=0.1)
    await served.setup()
    with listening() as sock:
        await web.SockSite(served, sock).start()
        yield place(sock)
        await served.cleanup()


OTHERS = [pytest.param(face, marks=pytest.mark.soak) for face in (plain_uvicorn, hypercorn, granian, runner)]


# What a server does by itself, before the application is called or without asking it.
OF_THE_SERVER = {
    hypercorn: ("told_to_send_its_body", "told_a_refusal_before"),  # it sends 100 Continue ahead of the application
    **dict.fromkeys((plain_uvicorn, granian, runner), ()),
}


@pytest.fixture(autouse=True, params=[service, *OTHERS], ids=lambda face: face.__name__)
def face(request, monkeypatch):
    if request.param is not service and any(
        part in request.node.name for part in (*OF_THE_SERVER[request.param], "test_a_drain_answers")
    ):
        pytest.skip("this is up to the server")
    monkeypatch.setattr(sites, "serve", request.param)
