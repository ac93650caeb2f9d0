"""What befalls servers, the same for every remote source: afterwards each follower has what its server has.

I14: after any loss of a watch. I15: a revision that went backwards causes a full read. I16: an outage changes nothing.
"""

import asyncio
import contextlib
import resource
import socket
import subprocess

import nats
import pytest
import redis.asyncio

from hotconf import HotConf, Options, Settings
from hotconf.sources import Etcd, Nats, Redis
from hotconf.sources.etcd_gateway import Gateway
from hotconf.testing import FakeSource
from hotconf.testing.faults import EtcdServer, Link, NatsServer, RedisServer
from tests.engine.test_engine import until
from tests.sources.remote.servers import serving

pytestmark = pytest.mark.soak


class App(Settings):
    port: int = 0
    message: str = "none"


KEY = "shop/app.toml"


class EtcdStore:
    """How the tests write into etcd, and follow it."""

    server_class = EtcdServer

    def __init__(self, server):
        self.server = server

    def source(self, *, port=None, **options):
        return Etcd(f"127.0.0.1:{port or self.server.port}", KEY, **options)

    async def put(self, number):
        async with Gateway(self.server.url) as gateway:
            await gateway.put(KEY, f"port = {number}\n".encode())

    async def delete(self):
        async with Gateway(self.server.url) as gateway:
            await gateway.delete(KEY)


class NatsStore:
    """The same for NATS."""

    server_class = NatsServer

    def __init__(self, server):
        self.server = server

    def source(self, *, port=None, **options):
        return Nats(f"127.0.0.1:{port or self.server.port}", "conf", KEY, **options)

    async def put(self, number):
        await self.source().put(f"port = {number}\n".encode())

    async def delete(self):
        client = await nats.connect(self.server.url)
        bucket = await client.jetstream().key_value("conf")
        await bucket.delete(KEY)
        await client.close()


class RedisStore:
    """The same for Redis."""

    server_class = RedisServer

    def __init__(self, server):
        self.server = server

    def source(self, *, port=None, **options):
        return Redis(f"redis://127.0.0.1:{port or self.server.port}/0", KEY, **options)

    async def put(self, number):
        await self.source().put(f"port = {number}\n".encode())

    async def delete(self):
        async with redis.asyncio.Redis.from_url(self.server.url) as client:
            await client.delete(KEY)
            await client.publish(f"hotconf:{KEY}", b"")


STORES = {"etcd": EtcdStore, "nats": NatsStore, "redis": RedisStore}


@pytest.fixture(params=STORES, scope="module")
def running(request, tmp_path_factory):
    store = STORES[request.param]
    with serving(store.server_class, tmp_path_factory) as server:
        yield store(server)


@pytest.fixture
async def store(running):
    await running.put(1)
    return running


@contextlib.asynccontextmanager
async def followed(source, count=1):
    """A live configuration with a remote source and a local one, when the remote one is followed."""
    local = FakeSource({"message": "local"}, name="local")
    conf = HotConf(App, sources=[source, local], options=Options(watch=False))
    async with conf.running(signals=()):
        await until(lambda: conf.status.sources[0]["following"])
        yield conf, local


def state(conf):
    return conf.status.sources[0]["state"]


async def edit_locally(conf, local, text):
    """An edit of another source, which no outage may hold up."""
    local.set({"message": text})
    local.hint()
    await until(lambda: conf.current.message == text, timeout=5)


async def test_I14_killed_and_restarted(store):
    async with followed(store.source()) as (conf, local):
        store.server.kill()
        await until(lambda: state(conf) == "stale")
        assert conf.current.port == 1
        await edit_locally(conf, local, "while it was down")
        assert conf.status.sources[0]["age"] > 0
        assert conf.status.sources[0]["failures"] > 0
        await asyncio.to_thread(store.server.start)
        await until(lambda: state(conf) == "fresh")
        await store.put(2)
        await until(lambda: conf.current.port == 2)


async def test_I14_changed_while_nothing_was_connected(store):
    with Link(store.server.port) as link:
        async with followed(store.source(port=link.port)) as (conf, _):
            link.cut()
            link.drop()
            await store.put(2)
            await store.put(3)
            link.mend()
            await until(lambda: conf.current.port == 3)


async def test_I15_wiped(store):
    async with followed(store.source()) as (conf, _):
        for number in range(2, 12):
            await store.put(number)
        await until(lambda: conf.current.port == 11)
        await asyncio.to_thread(store.server.wipe)
        await store.put(1)
        await until(lambda: conf.current.port == 1)
        await store.put(2)
        await until(lambda: conf.current.port == 2)


async def test_I16_deleted_and_made_again(store):
    async with followed(store.source()) as (conf, _):
        await store.delete()
        await until(lambda: conf.reports[-1].outcome == "rejected")
        assert conf.current.port == 1
        await store.put(2)
        await until(lambda: conf.current.port == 2)


async def test_a_hundred_writes_in_a_loop_end_with_the_last(store):
    async with followed(store.source()) as (conf, _):
        for number in range(2, 102):
            await store.put(number)
        await until(lambda: conf.current.port == 101)
        assert all(report.outcome != "rejected" for report in conf.reports)


async def test_there_and_back_again_while_away_makes_no_generation(store):
    with Link(store.server.port) as link:
        async with followed(store.source(port=link.port)) as (conf, _):
            generation = conf.snapshot.generation
            link.cut()
            link.drop()
            await store.put(2)
            await store.put(1)
            await until(lambda: state(conf) == "stale")
            link.mend()
            await until(lambda: state(conf) == "fresh")
            assert conf.snapshot.generation == generation


async def test_I13_cut_off_local_edits_and_a_stop_do_not_wait(store):
    with Link(store.server.port) as link:
        async with followed(store.source(port=link.port)) as (conf, local):
            link.cut()
            reload = asyncio.create_task(conf.reload())
            await until(lambda: state(conf) == "stale")
            assert (await reload).outcome == "unchanged"
            await edit_locally(conf, local, "cut off")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 3


async def test_a_server_that_is_away_at_the_start_is_named(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and does not listen
        source = store.source(port=taken.getsockname()[1])
        report = await HotConf(App, sources=[source]).reload()
    assert (report.outcome, report.stage) == ("rejected", "read")
    assert str(report.faults[0]).startswith(f"{source.name}: cannot be read: ")


async def test_frozen_for_half_a_minute_and_thawed(store):
    async with followed(store.source()) as (conf, local):
        store.server.freeze()
        try:
            for number in range(10):
                await edit_locally(conf, local, f"frozen {number}")
                await asyncio.sleep(3)
            assert state(conf) == "stale"
            assert conf.status.sources[0]["age"] > 20
        finally:
            store.server.thaw()
        await store.put(2)
        await until(lambda: conf.current.port == 2 and state(conf) == "fresh", timeout=40)


async def test_frozen_for_a_moment(store):
    async with followed(store.source()) as (conf, local):
        store.server.freeze()
        try:
            await edit_locally(conf, local, "frozen")
            assert state(conf) == "stale"
        finally:
            store.server.thaw()
        await store.put(2)
        await until(lambda: conf.current.port == 2 and state(conf) == "fresh")


async def test_I16_permissions_that_are_revoked_and_given_back(tmp_path, tmp_path_factory):
    secret = tmp_path / "password"
    secret.write_text("first")
    with serving(EtcdServer, tmp_path_factory) as server:

        def root(*words):
            environment = {"ETCDCTL_API": "3"}
            user = ("--user", "root:root") if "enable" not in words and root.enabled else ()
            command = ["etcdctl", "--endpoints", server.url, *user, *words]
            subprocess.run(command, check=True, capture_output=True, env=environment)
            root.enabled = root.enabled or "enable" in words

        root.enabled = False
        root("put", KEY, "port = 1")
        grant = ("role", "grant-permission", "reads", "read", KEY)
        for words in (
            ("user", "add", "root:root"), ("user", "grant-role", "root", "root"), ("user", "add", "web:first"),
            ("role", "add", "reads"), grant, ("user", "grant-role", "web", "reads"), ("auth", "enable"),
        ):  # fmt: skip
            root(*words)
        source = Etcd(server.url, KEY, username="web", password_file=secret)
        async with followed(source) as (conf, local):
            root("role", "revoke-permission", "reads", KEY)
            root("put", KEY, "port = 2")
            await until(lambda: state(conf) == "stale")
            assert "forbidden: " in conf.status.sources[0]["error"]
            assert conf.current.port == 1
            await edit_locally(conf, local, "revoked")
            root(*grant)
            await until(lambda: conf.current.port == 2)
            root("user", "delete", "web")
            root("user", "add", "web:second")
            root("user", "grant-role", "web", "reads")
            root("put", KEY, "port = 3")
            await until(lambda: state(conf) == "stale")
            secret.write_text("second")
            await until(lambda: conf.current.port == 3)


@pytest.mark.parametrize("kind", ["etcd", "nats"])
async def test_I17_a_thousand_followers_converge_after_a_restart(kind, tmp_path_factory):
    followers = 1000
    with serving(STORES[kind].server_class, tmp_path_factory) as server:
        store = STORES[kind](server)
        await store.put(1)
        async with contextlib.AsyncExitStack() as stack:
            confs = [HotConf(App, sources=[store.source()], options=Options(watch=False)) for _ in range(followers)]
            for start in range(0, followers, 50):
                entered = (stack.enter_async_context(conf.running(signals=())) for conf in confs[start : start + 50])
                for entering in entered:
                    await entering
            await until(lambda: all(conf.status.sources[0]["following"] for conf in confs), timeout=60)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(1)
            await asyncio.to_thread(server.start)
            began = asyncio.get_running_loop().time()
            await store.put(2)
            await until(lambda: all(conf.current.port == 2 for conf in confs), timeout=90)
            took = asyncio.get_running_loop().time() - began
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / followers
            print(f"{kind}: {took:.1f} s, {grown:.0f} KiB more for each")  # noqa: T201
            assert grown < 200
