"""The tests that every source must pass, for those that live elsewhere, with real servers."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from redis.asyncio import Redis as RedisClient

import hotconf.formats as formats
from hotconf.sources import Etcd, Http, Nats, Redis
from hotconf.sources.etcd_gateway import Gateway
from hotconf.testing.conformance import SourceConformance
from hotconf.testing.faults import EtcdServer, Link, NatsServer, RedisServer
from tests.sources.remote.servers import serving

KEY = "app.toml"


@pytest.fixture(scope="module")
def etcd_server(tmp_path_factory):
    with serving(EtcdServer, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory):
    with serving(NatsServer, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    with serving(RedisServer, tmp_path_factory) as server:
        yield server


class Handler(BaseHTTPRequestHandler):
    data = None

    def do_GET(self):
        self.send_response(200 if Handler.data is not None else 404)
        self.end_headers()
        self.wfile.write(Handler.data or b"")

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def http_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def elsewhere(work):
    """Run in another thread: a test may run in a loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


class Behind(SourceConformance):
    """A source that reaches its server over a connection that can be cut. Writers have one of their own."""

    served_by = ""

    @pytest.fixture(autouse=True)
    def linked(self, request, monkeypatch):
        monkeypatch.setattr("hotconf.sources.http._SILENCE", 2.0)
        self.server = request.getfixturevalue(self.served_by)
        with Link(self.server.port) as self.link:
            yield

    def write(self, values):
        elsewhere(self.put(formats.dump("toml", dict(values)).encode()))

    def corrupt(self):
        elsewhere(self.put(b"port = "))

    def remove(self):
        elsewhere(self.delete())

    def cut(self):
        self.link.cut()
        self.link.drop()

    def mend(self):
        self.link.drop()
        self.link.mend()


class TestEtcd(Behind):
    served_by = "etcd_server"

    def make(self, *, required):
        return Etcd(f"127.0.0.1:{self.link.port}", KEY, required=required)

    async def put(self, data):
        async with Gateway(self.server.url) as gateway:
            await gateway.put(KEY, data)

    async def delete(self):
        async with Gateway(self.server.url) as gateway:
            await gateway.delete(KEY)


class TestNats(Behind):
    served_by = "nats_server"

    def make(self, *, required):
        return Nats(f"127.0.0.1:{self.link.port}", "conf", KEY, required=required)

    async def put(self, data):
        await Nats(self.server.url, "conf", KEY).put(data)

    async def delete(self):
        import nats

        client = await nats.connect(self.server.url)
        await (await client.jetstream().key_value("conf")).delete(KEY)
        await client.close()


class TestRedis(Behind):
    served_by = "redis_server"

    def make(self, *, required):
        return Redis(f"redis://127.0.0.1:{self.link.port}/0", KEY, required=required)

    async def put(self, data):
        await Redis(f"{self.server.url}/0", KEY).put(data)

    async def delete(self):
        async with RedisClient.from_url(self.server.url) as client:
            await client.delete(KEY)


class TestHttp(Behind):
    served_by = "http_server"

    def make(self, *, required):
        return Http(f"http://127.0.0.1:{self.link.port}/{KEY}", required=required, interval=0.05)

    async def put(self, data):
        Handler.data = data

    async def delete(self):
        Handler.data = None
