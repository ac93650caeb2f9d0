"""Values that the program holds."""

from types import MappingProxyType

import pytest

from hotconf import HotConf
from hotconf.sources import Memory
from tests.heart import QUIET, App, memory_conf


async def test_setting_values_asks_for_no_reload_and_the_next_one_sees_them():
    conf, memory = memory_conf(port=1)
    async with conf.running(signals=()):
        memory.set({"port": 2})
        assert conf.current.port == 1
        await conf.reload()
        assert conf.current.port == 2


async def test_values_are_replaced_as_a_whole():
    memory = Memory({"port": 1, "message": "a"})
    memory.set({"port": 2})
    assert (await memory.read()).values == {"port": 2}


async def test_what_happens_to_the_mapping_later_changes_nothing():
    given = {"database": {"url": "a"}, "list": [{"b": 1}]}
    memory = Memory(given)
    given["database"]["url"] = "b"
    given["list"][0]["b"] = 2
    assert (await memory.read()).values == {"database": {"url": "a"}, "list": [{"b": 1}]}


async def test_objects_of_the_program_are_kept_as_they_are():
    class Uncopied:
        def __deepcopy__(self, memo):
            pytest.fail("copied")

    value = Uncopied()
    held = (await Memory(MappingProxyType({"a": value})).read()).values
    assert held["a"] is value


async def test_each_setting_has_a_revision_of_its_own_and_reading_makes_none():
    memory = Memory()
    first = await memory.read()
    assert await memory.read() is first
    memory.set({})
    assert (await memory.read()).revision != first.revision


def test_a_value_is_blamed_on_the_source_by_name():
    conf = HotConf(App, sources=[Memory({"port": "many"}, name="feature flags")], options=QUIET)
    report = conf.reload_blocking()
    assert str(report.faults[0]).startswith("feature flags: port: ")
