"""A document in etcd, with a real server. What befalls the server is in test_faults."""

import asyncio

import pytest

from hotconf import HotConf, Options, Section, Settings
from hotconf.errors import RevisionConflict, SourceError
from hotconf.sources import Etcd
from hotconf.sources.etcd_gateway import Gateway
from hotconf.testing.faults import EtcdServer
from tests.engine.test_engine import until
from tests.sources.remote.servers import serving


class Database(Section):
    url: str = "none"
    pool_size: int = 1


class App(Settings):
    port: int = 1
    message: str = "none"
    tags: list[str] = []
    database: Database = Database()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    with serving(EtcdServer, tmp_path_factory) as server:
        yield server


@pytest.fixture
async def store(etcd):
    async with Gateway(etcd.url) as gateway:
        for key in (await gateway.range("", prefix=True)).keys:
            await gateway.delete(key.key)
        yield gateway


def live(source):
    return HotConf(App, sources=[source], options=Options(watch=False))


async def test_a_document_has_places_and_is_followed(etcd, store):
    first = await store.put("shop/app.toml", b"port = 1\n")
    source = Etcd(etcd.url, "shop/app.toml")
    conf = live(source)
    async with conf.running(signals=()):
        assert conf.snapshot.revisions == {"etcd:shop/app.toml": str(first)}
        second = await store.put("shop/app.toml", b"# changed\nport = 2\n")
        await until(lambda: conf.current.port == 2)
        assert str(conf.explain("port").origin) == "etcd:shop/app.toml:2:1"
        assert conf.snapshot.revisions == {source.name: str(second)}
        assert conf.reports[-1].triggers == (source.name,)
        assert len(conf.reports) == 2
        await until(lambda: conf.status.sources[0]["following"])


async def test_a_reload_reads_what_was_put_before_it(etcd, store):
    await store.put("app.yaml", b"port: 1")
    conf = live(Etcd(etcd.url, "app.yaml"))
    async with conf.running(signals=()):
        for port in range(2, 30):
            await store.put("app.yaml", f"port: {port}".encode())
            await conf.reload()
            assert conf.current.port == port


async def test_other_keys_cause_no_reload_and_neither_does_the_start(etcd, store):
    await store.put("app.toml", b"port = 1")
    conf = live(Etcd(etcd.url, "app.toml"))
    async with conf.running(signals=()):
        await until(lambda: conf.status.sources[0]["following"])
        await store.put("app.toml.old", b"port = 2")
        await store.put("app.toml", b"port = 3")
        await until(lambda: conf.current.port == 3)
        assert len(conf.reports) == 2


async def test_a_malformed_document_is_refused_with_its_place_and_its_revision(etcd, store):
    await store.put("app.toml", b"port = 1")
    conf = live(Etcd(etcd.url, "app.toml"))
    async with conf.running(signals=()):
        bad = await store.put("app.toml", b"port = ")
        await until(lambda: len(conf.reports) > 1)
        report = conf.reports[-1]
        assert str(report.faults[0]).startswith("etcd:app.toml:1:")
        assert report.revisions == {"etcd:app.toml": str(bad)}
        await store.put("app.toml", b"port = 5")
        await until(lambda: conf.current.port == 5)


async def test_I16_a_deleted_key_is_no_outage(etcd, store):
    await store.put("app.toml", b"port = 1")
    conf = live(Etcd(etcd.url, "app.toml"))
    async with conf.running(signals=()):
        await store.delete("app.toml")
        await until(lambda: len(conf.reports) > 1)
        assert str(conf.reports[-1].faults[0]) == "etcd:app.toml: does not exist"
        await store.put("app.toml", b"port = 2")
        await until(lambda: conf.current.port == 2)
    assert (await Etcd(etcd.url, "gone.toml", required=False).read()).values == {}


async def test_I18_a_tree_of_keys_is_read_at_one_revision(etcd, store):
    async def write(number):
        puts = {"shop/port": str(number), "shop/database/pool_size": str(number), "shop/tags": f'["{number}"]'}
        requests = [{"request_put": {"key": _text(key), "value": _text(value)}} for key, value in puts.items()]
        await store.call("kv/txn", {"success": requests}, again=False)

    from hotconf.sources.etcd_gateway import _text

    await write(1)
    conf = live(Etcd(etcd.url, prefix="shop/", quiet=0))
    seen = []
    conf.on_change(lambda change: seen.append((change.new.port, change.new.database.pool_size, change.new.tags)))
    async with conf.running(signals=()):
        assert str(conf.explain("database.pool_size").origin) == "etcd:shop/database/pool_size"
        for number in range(2, 20):
            await write(number)
        await until(lambda: conf.current.port == 19)
        await store.delete("shop/database/pool_size")
        await until(lambda: conf.current.database.pool_size == 1)
    assert all(port == size == int(tags[0]) for port, size, tags in seen[:-1])


async def test_I18_keys_that_are_written_one_by_one_are_read_when_it_is_quiet(etcd, store):
    await store.put("shop/port", b"1")
    await store.put("shop/message", b"1")
    conf = live(Etcd(etcd.url, prefix="shop"))
    seen = []
    conf.on_change(lambda change: seen.append((change.new.port, change.new.message)))
    async with conf.running(signals=()):
        await store.put("shop/port", b"2")
        await asyncio.sleep(0.02)
        await store.put("shop/message", b"2")
        await until(lambda: conf.current.message == "2")
    assert seen == [(2, "2")]


async def test_a_key_that_is_a_value_and_a_folder_is_refused(etcd, store):
    await store.put("shop/a", b"1")
    await store.put("shop/a/b", b"1")
    with pytest.raises(SourceError, match="is a value and has keys below it"):
        await Etcd(etcd.url, prefix="shop/").read()
    await store.put("shop/a/b", b"[")
    await store.delete("shop/a")
    with pytest.raises(SourceError, match=r"etcd:shop/a/b: a\.b: is neither text nor JSON"):
        await Etcd(etcd.url, prefix="shop/").read()


async def test_put_writes_only_over_the_expected_revision(etcd, store):
    source = Etcd(etcd.url, "put.toml")
    first = await source.put(b"port = 1", if_revision="0")
    for wrong in ("0", "17", "word"):
        with pytest.raises(RevisionConflict, match="read it again"):
            await source.put(b"port = 2", if_revision=wrong)
    second = await source.put(b"port = 2", if_revision=first)
    assert (await source.read()).revision == second
    assert int(await source.put(b"port = 3")) > int(second)


async def test_over_tls_a_server_whose_watches_block_is_polled(etcd, store, monkeypatch, caplog):
    monkeypatch.setattr(Gateway, "is_secure", True)
    monkeypatch.setattr("hotconf.sources.etcd._POLL", 0.02)

    async def version(_):
        return 3, 5, 1

    monkeypatch.setattr(Gateway, "version", version)
    await store.put("app.toml", b"port = 1")
    conf = live(Etcd(etcd.url, "app.toml"))
    async with conf.running(signals=()):
        await store.put("app.toml", b"port = 2")
        await until(lambda: conf.current.port == 2)
    assert caplog.text.count("is polled") == 1


@pytest.mark.parametrize("words", [{}, {"key": "a.toml", "prefix": "b/"}, {"key": "a"}])
def test_what_is_to_be_read_must_be_plain(words):
    with pytest.raises(ValueError):
        Etcd("http://127.0.0.1:1", **words)


def test_a_password_in_an_endpoint_is_refused():
    with pytest.raises(ValueError) as raised:
        Etcd("http://user:hunter2@host:1", "a.toml")
    assert "hunter2" not in str(raised.value)
