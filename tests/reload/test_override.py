"""Overrides: for tests, nested, validated, and gone afterwards."""

import asyncio
import json
from contextlib import contextmanager
from typing import Annotated

import pytest

from hotconf import HotConf, NotLoaded, Options, Refuse, RestartRequired, Section, Settings
from hotconf.errors import ConfigError, NotBuilt, OperationRefused
from hotconf.sources import Memory
from tests.heart import QUIET, cancel, memory_conf


@pytest.fixture
def conf():
    conf, conf_memory = memory_conf(message="real")
    conf.memory = conf_memory
    conf.load()
    return conf


def test_settings_differ_inside_and_are_the_very_same_afterwards(conf):
    before, snapshot = conf.current, conf.snapshot
    with conf.override(message="test", database={"pool_size": 1}):
        assert (conf.current.message, conf.current.port) == ("test", 8080)
        assert conf.current.database.pool_size == 1
        assert conf.current.database.url == before.database.url
        assert conf.explain("message").origin.kind == "override"
        assert conf.snapshot.generation == snapshot.generation + 1
        assert conf.snapshot.digest != snapshot.digest
    assert conf.current is before
    assert (conf.snapshot.generation, conf.snapshot.digest) == (snapshot.generation + 2, snapshot.digest)
    assert conf.explain("message").origin.kind == "source"


def test_they_nest_and_share_what_does_not_differ(conf):
    database = conf.current.database
    with conf.override(message="outer", port=1):
        with conf.override(message="inner"):
            assert (conf.current.message, conf.current.port) == ("inner", 1)
            assert conf.current.database is database
        assert conf.current.message == "outer"


def test_what_does_not_validate_raises_and_changes_nothing(conf):
    with pytest.raises(ConfigError, match=r"override: port: "):
        with conf.override(port="many"):
            pytest.fail("entered")
    assert conf.current.port == 8080
    with conf.override(port=1):
        assert conf.current.port == 1


def test_an_error_inside_restores(conf):
    with pytest.raises(ZeroDivisionError):
        with conf.override(port=1):
            raise ZeroDivisionError
    assert conf.current.port == 8080


def test_as_a_decorator(conf):
    @conf.override(port=1)
    def port(add):
        return conf.current.port + add

    assert [port(1), port(add=2)] == [2, 3]
    assert conf.current.port == 8080


async def test_as_a_decorator_of_a_coroutine_function():
    conf, _ = memory_conf()
    await asyncio.to_thread(conf.load)

    @conf.override(port=1)
    async def port():
        await asyncio.sleep(0)
        return conf.current.port

    assert await port() == 1
    assert conf.current.port == 8080


def test_what_runs_only_after_the_call_is_refused_as_a_function_to_decorate(conf):
    def later():
        yield conf.current.port

    async def later_still():
        yield conf.current.port

    for function in (later, later_still, type("Case", (), {})):
        with pytest.raises(TypeError, match="cannot be decorated with an override"):
            conf.override(port=1)(function)


async def test_it_stands_through_reloads_and_they_stand_afterwards():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        with conf.override(port=1):
            memory.set({"message": "new", "port": 2})
            assert (await conf.reload()).outcome == "applied"
            assert (conf.current.message, conf.current.port) == ("new", 1)
        assert (conf.current.message, conf.current.port) == ("new", 2)


def resource(conf):
    """A resource whose object is the size of the pool, and the sizes that were opened and closed."""
    events = []

    @conf.resource("database")
    @contextmanager
    def pool(candidate):
        size = candidate.settings.database.pool_size
        events.append(f"open {size}")
        yield size
        events.append(f"close {size}")

    return pool, events


def test_it_loads_by_itself_and_takes_back_what_was_valid_only_with_it():
    class Needs(Section):
        url: str
        port: int = 1

    conf = HotConf(Needs, sources=[Memory({})], options=QUIET)
    with conf.override(url="test"):
        assert (conf.current.url, conf.current.port) == ("test", 1)
        with conf.override(port=2):
            assert (conf.current.url, conf.current.port) == ("test", 2)
    assert not conf.loaded
    with pytest.raises(NotLoaded):
        _ = conf.current
    conf, _ = memory_conf(message="real")
    with conf.override(port=1):
        assert conf.current.port == 1
    assert (conf.current.message, conf.current.port) == ("real", 8080)


def test_one_that_alone_makes_the_settings_valid_may_be_left_before_another():
    class Needs(Section):
        url: str
        port: int = 1

    conf = HotConf(Needs, sources=[Memory({})], options=QUIET)
    first, second = conf.override(url="test"), conf.override(port=2)
    first.__enter__()
    second.__enter__()
    with pytest.raises(ConfigError, match="url"):
        first.__exit__(None, None, None)
    assert (conf.current.url, conf.current.port) == ("test", 2)
    second.__exit__(None, None, None)
    assert not conf.loaded


async def test_a_program_may_start_inside_one():
    conf, _ = memory_conf()
    pool, events = resource(conf)
    with conf.override(database={"pool_size": 1}):
        async with conf.running(signals=()):
            assert conf.current.database.pool_size == conf.snapshot[pool] == 1
    assert conf.current.database.pool_size == 10
    assert events == ["open 1", "close 1"]


async def test_I32_settings_and_resources_move_together_and_listeners_are_told():
    conf, _ = memory_conf()
    pool, events = resource(conf)
    heard = []
    async with conf.running(signals=()):
        conf.on_change("database")(lambda change: heard.append(change.new.database.pool_size))
        with conf.pin() as before:
            async with conf.override(database={"pool_size": 1}):
                with conf.pin() as snap:
                    assert snap.settings.database.pool_size == snap[pool] == 1
                assert before.settings.database.pool_size == before[pool] == 10
            with conf.pin() as snap:
                assert snap.settings.database.pool_size == snap[pool] == 10
        assert heard == [1, 10]
    assert [event for event in events if event.startswith("open")] == ["open 10", "open 1", "open 10"]


def test_I32_so_they_do_where_the_engine_has_a_thread_of_its_own():
    conf, _ = memory_conf()
    pool, _ = resource(conf)
    with conf.running(signals=()), conf.override(database={"pool_size": 1}), conf.pin() as snap:
        assert snap.settings.database.pool_size == snap[pool] == 1


async def test_on_the_engines_own_loop_a_plain_with_refuses_what_would_have_to_be_awaited():
    conf, _ = memory_conf()
    pool, _ = resource(conf)
    async with conf.running(signals=()):
        with pytest.raises(OperationRefused, match=r"resource .*pool has to be awaited: use `async with`"):
            with conf.override(database={"pool_size": 1}):
                pytest.fail("entered")
        assert (conf.current.database.pool_size, conf.snapshot[pool]) == (10, 10)
        with conf.override(port=1):
            assert conf.current.port == 1
        assert conf.current.port == 8080


async def test_a_participant_may_refuse_it():
    conf, _ = memory_conf()

    @conf.prepare("port")
    def never(change):
        if change.new.port == 13:
            raise Refuse("bad luck")

    async with conf.running(signals=()):
        for enter in (conf.override(port=13).__aenter__, lambda: asyncio.to_thread(conf.override(port=13).__enter__)):
            with pytest.raises(ConfigError, match="bad luck"):
                await enter()
        assert conf.current.port == 8080


async def test_the_engine_may_stop_inside_and_closed_resources_do_not_come_back():
    conf, _ = memory_conf()
    pool, _ = resource(conf)
    async with conf.running(signals=()):
        override = conf.override(port=1)
        await override.__aenter__()
    override.__exit__(None, None, None)
    assert conf.current.port == 8080
    with pytest.raises(NotBuilt):
        conf.snapshot[pool]


async def test_a_broken_source_is_rejected_beneath_one_too_and_the_override_ends_all_the_same():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        async with conf.override(port=1):
            memory.set({"port": "broken"})
            assert (await conf.reload()).outcome == "rejected"
            assert conf.current.port == 1
        assert conf.current.port == 8080
        memory.set({"port": 7})
        await conf.reload()
        assert conf.current.port == 7


async def test_one_that_begins_in_mid_reload_waits_for_its_end():
    conf, memory = memory_conf()
    entered, go_on = asyncio.Event(), asyncio.Event()
    async with conf.running(signals=()):

        @conf.prepare
        async def slow(_change):
            entered.set()
            await go_on.wait()

        memory.set({"message": "new"})
        reload = asyncio.create_task(conf.reload())
        await entered.wait()
        with pytest.raises(OperationRefused, match="another reload is under way"):
            with conf.override(port=1):
                pytest.fail("entered")
        override = conf.override(port=1)
        beginning = asyncio.create_task(override.__aenter__())
        go_on.set()
        assert (await reload).outcome == "applied"
        await beginning
        assert (conf.current.message, conf.current.port) == ("new", 1)
        await override.__aexit__(None, None, None)
        assert (conf.current.message, conf.current.port) == ("new", 8080)


async def test_inside_a_reload_it_is_refused():
    conf, memory = memory_conf()
    async with conf.running(signals=()):

        @conf.prepare
        def nested(_change):
            with conf.override(port=1):
                pytest.fail("entered")

        memory.set({"message": "new"})
        assert "ReentrantReload" in str((await conf.reload()).faults[0])


async def test_it_is_neither_last_known_good_nor_a_reason_to_defer(tmp_path):
    class App(Settings):
        port: Annotated[int, RestartRequired()] = 1

    good = tmp_path / "good.json"
    conf = HotConf(App, sources=[Memory({})], options=Options(watch=False, last_good=good))
    async with conf.running(signals=()):
        async with conf.override(port=9):
            assert (conf.current.port, conf.status.pending_restart) == (9, ())
            assert "9" not in json.loads(good.read_text())["content"]["values"]
            await conf.reload()
            assert json.loads(good.read_text())["content"]["values"] == {}
        assert conf.current.port == 1


async def test_it_does_not_stay_where_its_entry_is_cancelled():
    conf, _ = memory_conf()
    entered, go_on = asyncio.Event(), asyncio.Event()

    @conf.prepare("port")
    async def slow(change):
        if change.new.port == 1:
            entered.set()
            await go_on.wait()

    async with conf.running(signals=()):
        entry = asyncio.create_task(conf.override(port=1).__aenter__())
        await entered.wait()
        await cancel(entry)
        go_on.set()
        await conf.reload()
        assert conf.current.port == 8080


async def test_it_ends_in_its_turn_where_a_plain_exit_is_refused():
    conf, _ = memory_conf()
    async with conf.running(signals=()):
        with pytest.raises(OperationRefused), conf.override(port=1):
            conf.request_reload()
        await conf.reload()
        assert conf.current.port == 8080


async def test_one_whose_end_is_refused_goes_with_the_next_reload():
    conf, _ = memory_conf()
    refuses = False

    @conf.prepare("port")
    def refuse(_change):
        if refuses:
            raise Refuse("not now")

    async with conf.running(signals=()):
        override = conf.override(port=1)
        await override.__aenter__()
        refuses = True
        with pytest.raises(ConfigError, match="not now"):
            await override.__aexit__(None, None, None)
        refuses = False
        async with conf.override(message="another"):
            assert (conf.current.port, conf.current.message) == (8080, "another")
        assert conf.current.port == 8080
