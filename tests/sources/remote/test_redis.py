"""A document in Redis, with a real server. What befalls the server is in test_faults."""

import sys

import pytest
import redis.asyncio

from hotconf import HotConf, Options, Settings
from hotconf.errors import RevisionConflict, SourceUnreachable
from hotconf.sources import Redis
from hotconf.testing.faults import Link, RedisServer
from tests.engine.test_engine import until
from tests.sources.remote.servers import serving


class App(Settings):
    port: int = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(RedisServer, tmp_path_factory) as running:
        yield running


@pytest.fixture
async def client(server):
    async with redis.asyncio.Redis.from_url(server.url) as client:
        await client.flushall()
        yield client


def live(source):
    return HotConf(App, sources=[source], options=Options(watch=False))


async def test_a_document_has_places_and_is_followed(server, client):
    source = Redis(f"{server.url}/0", "shop/app.toml")
    await source.put(b"port = 1\n")
    conf = live(source)
    async with conf.running(signals=()):
        await until(lambda: conf.status.sources[0]["following"])
        revision = await Redis(f"{server.url}/0", "shop/app.toml").put(b"# changed\nport = 2\n")
        await until(lambda: conf.current.port == 2)
        assert str(conf.explain("port").origin) == "redis:shop/app.toml:2:1"
        assert conf.snapshot.revisions == {source.name: revision}
        assert len(conf.reports) == 2


async def test_a_writer_that_does_not_publish_is_seen_at_the_next_check(server, client, monkeypatch):
    monkeypatch.setattr("hotconf.engine.follow.CHECK", 0.1)
    await client.set("app.toml", b"port = 1")
    conf = live(Redis(f"{server.url}/0", "app.toml"))
    async with conf.running(signals=()):
        await client.set("app.toml", b"port = 2")
        await until(lambda: conf.current.port == 2)


async def test_the_number_of_the_database_counts(server, client):
    await Redis(f"{server.url}/3", "app.toml").put(b"port = 3")
    assert (await Redis(f"{server.url}/3", "app.toml").read()).values == {"port": 3}
    assert (await Redis(f"{server.url}/0", "app.toml", required=False).read()).values == {}


async def test_a_connection_of_which_one_end_is_left_is_noticed(server, client, monkeypatch):
    monkeypatch.setattr("hotconf.sources.redis._SILENCE", 0.2)
    monkeypatch.setattr("hotconf.sources.redis._ANSWER", 0.2)
    await client.set("app.toml", b"port = 1")
    with Link(server.port) as link:
        conf = live(Redis(f"redis://127.0.0.1:{link.port}/0", "app.toml"))
        async with conf.running(signals=()):
            await until(lambda: conf.status.sources[0]["following"])
            link.cut()
            await until(lambda: conf.status.sources[0]["state"] == "stale")
            link.mend()
            await until(lambda: conf.status.sources[0]["state"] == "fresh")


async def test_a_revision_cannot_be_expected(server, client):
    with pytest.raises(RevisionConflict):
        await Redis(f"{server.url}/0", "app.toml").put(b"", if_revision="1")


async def test_the_password_is_read_at_each_connection(tmp_path, tmp_path_factory):
    password = tmp_path / "password"
    password.write_text("right\n")
    with serving(RedisServer, tmp_path_factory, "--requirepass", "right") as server:
        source = Redis(f"{server.url}/0", "app.toml", password_file=password)
        await source.put(b"port = 1")
        password.write_text("wrong\n")
        with pytest.raises(SourceUnreachable, match="forbidden: ") as raised:
            await source.read()
        assert "wrong" not in str(raised.value).replace("wrong number", "")
        password.write_text("right\n")
        assert (await source.read()).values == {"port": 1}


@pytest.mark.parametrize("url", ["redis://user:hunter2@host:1", "http://host", "redis://"])
def test_a_url_is_one_of_redis_without_a_password(url):
    with pytest.raises(ValueError) as raised:
        Redis(url, "a.toml")
    assert "hunter2" not in str(raised.value)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ModuleNotFoundError, match=r"hotconf\[redis\]"):
        Redis("redis://host/0", "a.toml")
