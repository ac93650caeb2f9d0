"""One suite for every store: memory, SQLite, and the servers that the machine has."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import secrets

import pytest

from hotconf.fleet.store import Conflict, Entry, StoreError
from hotconf.fleet.stores import open_store
from hotconf.fleet.stores.sqlite import SqliteStore
from tests.fleet.engines import store_of
from tests.support import PATIENCE

KINDS = ["memory", "sqlite", "etcd", "nats"]


@pytest.fixture(params=KINDS)
def store(request, tmp_path, servers):
    return store_of(request.param, tmp_path, servers)


@pytest.fixture
def name():
    """The name of a fleet that no other test has used on the same server."""
    return f"shop-{secrets.token_hex(4)}"


@pytest.fixture
async def session(store, name):
    async with store.connect(name) as session:
        yield session


async def following(stream):
    """Have a stream read in the background, and return a function that waits for its next item."""
    return lambda: asyncio.wait_for(anext(stream), PATIENCE)


async def until(take, condition):
    """Take items until one of them, or all of them together, meets a condition."""
    seen = {}
    while True:
        item = await take()
        seen.update(item)
        if condition(seen):
            return seen


async def test_a_value_is_swapped_by_its_version(session):
    assert await session.get("plan") is None
    version = await session.swap("plan", b"one", 0)
    assert await session.get("plan") == Entry(b"one", version)
    later = await session.swap("plan", b"two", version)
    assert later > version
    assert (await session.get("plan")).value == b"two"


async def test_I21_a_swap_that_comes_late_changes_nothing(session):
    version = await session.swap("plan", b"one", 0)
    await session.swap("plan", b"two", version)
    for stale in (0, version):
        with pytest.raises(Conflict, match="plan has changed"):
            await session.swap("plan", b"three", stale)
    with pytest.raises(Conflict):
        await session.swap("nothing", b"x", 7)
    assert (await session.get("plan")).value == b"two"


async def test_I21_of_many_swaps_at_once_one_wins(store, name):
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(store.connect(name)) for _ in range(8)]
        for attempt in range(5):
            present = await sessions[0].get("plan")
            swaps = [
                other.swap("plan", b"%d" % n, present.version if present else 0) for n, other in enumerate(sessions)
            ]
            results = await asyncio.gather(*swaps, return_exceptions=True)
            won = [n for n, result in enumerate(results) if isinstance(result, int)]
            assert len(won) == 1, (attempt, results)
            assert (await sessions[0].get("plan")).value == b"%d" % won[0]


async def test_a_document_is_put_once(session):
    data = bytes(range(256)) * 100
    await session.put_once("doc/abc", data)
    await session.put_once("doc/abc", b"other")
    assert (await session.get("doc/abc")).value == data


async def test_names_are_listed_by_prefix(session):
    for key in ("release/2", "release/10", "releases", "doc/a_x", "doc/abx"):
        await session.put_once(key, b"x")
    assert list(await session.names("release/")) == ["release/10", "release/2"]
    assert list(await session.names("doc/a_")) == ["doc/a_x"]
    assert list(await session.names("nothing/")) == []


async def test_fleets_know_nothing_of_each_other(store, session, name):
    await session.swap("plan", b"one", 0)
    await session.report("web-1", b"x")
    async with store.connect(f"other-{name}") as other:
        assert await other.get("plan") is None
        assert list(await other.names("")) == []
        assert await anext(other.reports()) == {}


async def test_a_follower_gets_the_present_value_and_every_later_state(store, session, name):
    take = await following(session.follow("plan"))
    assert await take() is None
    async with store.connect(name) as writer:
        version = await writer.swap("plan", b"one", 0)
        assert (await take()).value == b"one"
        for value in (b"two", b"three", b"four"):
            version = await writer.swap("plan", value, version)
        while (entry := await take()).value != b"four":
            assert entry.value in (b"two", b"three")
        assert entry == Entry(b"four", version)


async def test_a_follower_sees_what_its_own_session_writes(session):
    take = await following(session.follow("plan"))
    assert await take() is None
    await session.swap("plan", b"one", 0)
    assert (await take()).value == b"one"


async def test_reports_are_listed_and_then_told(store, session, name):
    await session.report("web-1", b"a")
    async with store.connect(name) as judge:
        take = await following(judge.reports())
        assert await take() == {"web-1": b"a"}
        await session.report("web-2", b"b")
        await session.report("web-1", b"c")
        await until(take, lambda seen: seen == {"web-1": b"c", "web-2": b"b"})
        await session.withdraw("web-1")
        await until(take, lambda seen: seen == {"web-1": None})


async def test_a_report_that_is_not_repeated_is_gone(store, session, name):
    async with store.connect(name) as judge:
        take = await following(judge.reports())
        assert await take() == {}
        await session.report("web-1", b"a", lease=1.0)
        assert await take() == {"web-1": b"a"}
        assert await take() == {"web-1": None}
        await session.report("web-1", b"a", lease=1.0)
        assert await take() == {"web-1": b"a"}


async def test_a_report_that_is_repeated_stays(store, session, name):
    async with store.connect(name) as judge:
        take = await following(judge.reports())
        await take()
        for _ in range(8):
            await session.report("web-1", b"a", lease=1.5)
            await asyncio.sleep(0.25)
        assert await take() == {"web-1": b"a"}
        assert await take() == {"web-1": None}, "and goes once it is repeated no more"


async def test_the_first_listing_of_an_empty_fleet_is_empty(session):
    assert await asyncio.wait_for(anext(session.reports()), PATIENCE) == {}


@pytest.mark.parametrize("url", ["", "shop", "ftp://x", "sqlite:", "etc:passwd"])
def test_what_is_no_store_is_refused(url):
    with pytest.raises(StoreError, match="a store is"):
        open_store(url)


def test_a_url_names_the_store(tmp_path):
    assert open_store(f"sqlite:{tmp_path}/a.db").path == tmp_path / "a.db"
    assert open_store("memory:x") is open_store("memory:x")
    assert open_store("memory:x") is not open_store("memory:y")


async def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "fleet.db"
    path.write_text("this is no database, and longer than its header is: " * 30)
    with pytest.raises(StoreError, match=r"fleet\.db"):
        async with SqliteStore(path).connect("shop"):
            pass
    with pytest.raises(StoreError, match="unable to open"):
        async with SqliteStore(tmp_path / "nowhere" / "fleet.db").connect("shop"):
            pass


async def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hotconf.fleet.stores.sqlite._mounts", lambda: [(tmp_path, "nfs4")])
    with pytest.raises(StoreError, match="nfs4, and SQLite serves one machine"):
        async with SqliteStore(tmp_path / "fleet.db").connect("shop"):
            pass


def _count(path, name, rounds):
    async def count():
        async with SqliteStore(path).connect("shop") as session:
            for _ in range(rounds):
                while True:
                    entry = await session.get("counter")
                    value, version = (int(entry.value), entry.version) if entry else (0, 0)
                    try:
                        await session.swap("counter", b"%d" % (value + 1), version)
                        break
                    except Conflict:
                        pass
                await session.report(name, b"x")

    asyncio.run(count())


async def test_I21_processes_lose_no_swap(tmp_path):
    path = tmp_path / "fleet.db"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(path, f"web-{n}", 20)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.to_thread(worker.join, PATIENCE)
        assert worker.exitcode == 0
    async with SqliteStore(path).connect("shop") as session:
        assert (await session.get("counter")).value == b"60"
        assert set(await anext(session.reports())) == {"web-0", "web-1", "web-2"}
