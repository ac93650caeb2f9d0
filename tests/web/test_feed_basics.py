"""Waiting for changes over HTTP: parked requests and event streams, with one token for each part."""

import asyncio
import contextlib
import json
import re

import aiohttp
import pytest

import tests.web.sites as sites
from hotconf import HotConf, Options, Section
from hotconf.sources import Memory
from hotconf.values.report import jsonable


class Database(Section):
    url: str = "none"
    pool_size: int = 10


class App(Section):
    message: str = "hello"
    database: Database = Database()


class Site:
    """A configuration fed from memory, its server, and a client."""

    def __init__(self, conf, memory, server, session):
        self.conf, self.memory, self.server, self.session = conf, memory, server, session

    async def change(self, **values):
        self.memory.set(values)
        assert (await self.conf.reload()).outcome == "applied"

    def get(self, path, **options):
        return self.session.get(self.server.url + path, **options)

    async def tag(self, path="/config"):
        async with self.get(path) as answer:
            return answer.headers["ETag"]


@pytest.fixture
async def site():
    memory = Memory({"message": "one"})
    conf = HotConf(App, sources=[memory], options=Options(watch=False))
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(conf.running(signals=()))
        server = await stack.enter_async_context(sites.serve(conf))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Site(conf, memory, server, session)


async def events(answer):
    """Yield id, event and data of each event; comments and retry are skipped."""
    fields = {}
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield fields.get("id"), fields["event"], json.loads(fields["data"])
            fields = {}


async def test_a_token_changes_only_with_the_values_of_its_part(site):
    whole, part = await site.tag(), await site.tag("/config/database")
    await site.change(message="two")
    assert await site.tag() != whole
    assert await site.tag("/config/database") == part
    await site.change(message="two", database={"pool_size": 11})
    assert await site.tag("/config/database") != part


async def test_a_parked_request_wakes_for_its_part_alone_and_has_the_value(site):
    tag = await site.tag("/config/database")
    waiting = asyncio.ensure_future(
        site.get("/config/database?wait=30s", headers={"If-None-Match": tag}).__aenter__(),
    )
    await parked(site)
    await site.change(message="two")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await site.change(message="two", database={"pool_size": 11})
    answer = await asyncio.wait_for(waiting, 10)
    assert (answer.status, await answer.json()) == (200, {"url": "none", "pool_size": 11})
    assert answer.headers["ETag"] != tag
    answer.release()


async def parked(site):
    """Wait until a request is parked: then it no longer holds a lease, and its task waits."""
    async with asyncio.timeout(10):
        while not any(task.get_name() == "hotconf-feed" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)


async def test_nothing_new_is_304_at_the_end_of_the_wait(site):
    async with site.get("/config?wait=0.2", headers={"If-None-Match": await site.tag()}) as answer:
        assert answer.status == 304


@pytest.mark.parametrize("wait", ["soon", "-1", "", "1h", "NaN"])
async def test_an_invalid_wait_is_refused(site, wait):
    async with site.get(f"/config?wait={wait}") as answer:
        assert (answer.status, answer.content_type) == (400, "application/problem+json")


@pytest.mark.parametrize(("tag", "status"), [('"abcdef01.1"', 200), ('"not a token"', 400)])
async def test_a_foreign_token_is_answered_at_once_and_an_invalid_one_is_refused(site, tag, status):
    async with site.get("/config?wait=30", headers={"If-None-Match": tag}) as answer:
        assert answer.status == status


async def test_a_token_from_the_future_is_foreign(site):
    store = (await site.tag()).strip('"').partition(".")[0]
    async with site.get("/config?wait=30", headers={"If-None-Match": f'"{store}.999"'}) as answer:
        assert answer.status == 200


async def test_I9_a_stream_with_reports_has_an_event_for_every_reload(site):
    async with site.get("/events?reports=1") as with_reports, site.get("/events") as plain:
        reported, silent = events(with_reports), events(plain)
        assert [(await anext(reported))[1], (await anext(silent))[1]] == ["config", "config"]
        site.memory.set({"message": ["no text"]})
        report = await site.conf.reload()
        assert report.outcome == "rejected"
        assert await anext(reported) == (None, "report", jsonable(report))
        await site.change(message="two")
        assert {(await anext(reported))[1] for _ in range(2)} == {"config", "report"}
        assert (await anext(silent))[2]["value"]["message"] == "two", "nothing came before"


async def test_a_drain_answers_parked_requests_and_ends_streams_cleanly(site):
    tag = await site.tag()
    waiting = asyncio.ensure_future(site.get("/config?wait=60", headers={"If-None-Match": tag}).__aenter__())
    async with site.get("/events") as stream:
        received = events(stream)
        assert (await anext(received))[1] == "config"
        await parked(site)
        loop = asyncio.get_running_loop()
        assert await site.server.drain(deadline=loop.time() + 10) == ()
        assert [event async for event in received] == [(None, "shutdown", {})]
    answer = await asyncio.wait_for(waiting, 10)
    assert answer.status == 304
    answer.release()


async def test_a_stream_begins_with_the_state_and_has_changes_of_its_part_only(site):
    async with site.get("/events?path=database") as stream:
        assert stream.content_type == "text/event-stream"
        received = events(stream)
        first, kind, data = await anext(received)
        assert (kind, data["value"]) == ("config", {"url": "none", "pool_size": 10})
        await site.change(message="two")
        await site.change(message="two", database={"pool_size": 11})
        second, _, data = await anext(received)
        assert (data["generation"], data["changed"]) == (3, ["database.pool_size"])
        assert data["value"]["pool_size"] == 11
    assert re.fullmatch(r"[0-9a-f]+\.1", first)
    assert re.fullmatch(r"[0-9a-f]+\.3", second)


async def test_a_stream_resumes_where_its_client_was(site):
    async with site.get("/events") as stream:
        token, _, _ = await anext(events(stream))
    await site.change(message="two")
    async with site.get("/events", headers={"Last-Event-ID": token}) as stream:
        token, _, data = await anext(events(stream))
        assert data["changed"] == ["message"]
    async with site.get("/events", headers={"Last-Event-ID": token}) as stream:
        received = events(stream)
        await asyncio.sleep(0.05)
        await site.change(message="three")
        assert (await anext(received))[2]["value"]["message"] == "three"
    async with site.get("/events", headers={"Last-Event-ID": "unknown"}) as stream:
        assert (await anext(events(stream)))[2]["changed"] == []


async def test_a_stream_of_an_unknown_part_is_404(site):
    async with site.get("/events?path=nothing") as answer:
        assert answer.status == 404


async def test_beyond_the_limit_of_watchers_clients_get_503():
    conf = HotConf(App, options=Options(watch=False))
    async with (
        conf.running(signals=()),
        sites.serve(conf, max_watchers=1) as server,
        aiohttp.ClientSession(server.url) as session,
        session.get("/events") as stream,
    ):
        await anext(events(stream))
        async with session.get("/events") as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")


async def test_a_client_that_leaves_is_noticed(site):
    stream = await site.get("/events").__aenter__()
    await anext(events(stream))
    stream.close()
    async with asyncio.timeout(15):
        while any(task.get_name() == "hotconf-feed" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.02)


async def test_no_secret_and_no_lease_in_a_stream(site):
    async with site.get("/events") as stream:
        await anext(events(stream))
        assert site.conf.leased == {}


async def test_an_engine_in_a_thread_of_its_own_wakes_the_servers_loop():
    memory = Memory({"message": "one"})
    conf = HotConf(App, sources=[memory], options=Options(watch=False))
    with conf.running(signals=()):
        async with sites.serve(conf) as server, aiohttp.ClientSession() as session:
            async with session.get(server.url + "/events") as stream:
                received = events(stream)
                await anext(received)
                memory.set({"message": "two"})
                await conf.reload()
                assert (await anext(received))[2]["value"]["message"] == "two"
