"""Overrides: for tests, nested, validated, and gone afterwards."""

import asyncio
from contextlib import contextmanager

import pytest

from hotconf.errors import ConfigError, NotBuilt
from tests.heart import memory_conf


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
        assert conf.snapshot.generation == snapshot.generation
        assert conf.snapshot.digest != snapshot.digest
    assert (conf.current, conf.snapshot) == (before, snapshot)
    assert conf.current is before


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


async def test_before_the_first_load_it_waits_for_it():
    conf, _ = memory_conf()

    @conf.resource("port")
    @contextmanager
    def number(candidate):
        yield candidate.settings.port

    with conf.override(port=1):
        assert not conf.loaded
        async with conf.running(signals=()):
            assert conf.current.port == conf.snapshot[number] == 1
        with pytest.raises(ConfigError):
            with conf.override(port="many"):
                pass
    assert conf.current.port == 8080


def counted(conf):
    @conf.resource("database")
    @contextmanager
    def number(candidate):
        yield candidate.settings.database.pool_size

    return number


async def test_the_engine_may_stop_inside_and_closed_resources_do_not_come_back():
    conf, _ = memory_conf()
    number = counted(conf)
    async with conf.running(signals=()):
        override = conf.override(port=1)
        override.__enter__()
    override.__exit__(None, None, None)
    assert conf.current.port == 8080
    with pytest.raises(NotBuilt):
        conf.snapshot[number]


async def test_one_that_hid_a_broken_source_ends_loudly_and_the_next_good_reload_is_rid_of_it():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        with pytest.raises(ConfigError):
            with conf.override(port=1):
                memory.set({"port": "broken"})
                assert (await conf.reload()).outcome == "unchanged"
        assert (await conf.reload()).outcome == "rejected"
        memory.set({"port": 7})
        await conf.reload()
        assert conf.current.port == 7


@pytest.mark.parametrize("when", ["begins", "ends"])
async def test_one_that_begins_or_ends_in_mid_reload_holds_as_if_it_had_not(when):
    conf, memory = memory_conf()
    entered, go_on = asyncio.Event(), asyncio.Event()
    async with conf.running(signals=()):

        @conf.prepare
        async def slow(_change):
            entered.set()
            await go_on.wait()

        override = conf.override(port=1)
        if when == "ends":
            override.__enter__()
        memory.set({"message": "new"})
        reload = asyncio.create_task(conf.reload())
        await entered.wait()
        override.__enter__() if when == "begins" else override.__exit__(None, None, None)
        go_on.set()
        assert (await reload).outcome == "applied"
        assert (conf.current.message, conf.current.port) == ("new", 1 if when == "begins" else 8080)
        if when == "begins":
            override.__exit__(None, None, None)
        assert (conf.current.message, conf.current.port) == ("new", 8080)
