"""`logging.follow`: a level, a mapping of levels, a dictConfig."""

import logging
from typing import Any

import pytest

from hotconf import HotConf, Options, Section
from hotconf.errors import ConfigError, SchemaError
from hotconf.integrations.logging import follow
from hotconf.sources import Memory


class App(Section):
    level: str = "WARNING"
    levels: dict[str, str | int] = {}
    log: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def root_as_it_was():
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def conf(memory):
    return HotConf(App, sources=[memory], options=Options(watch=False))


def test_the_root_logger_has_the_level_of_a_setting(conf, memory):
    follow(conf, "level")
    with conf.running(signals=()):
        assert logging.getLogger().level == logging.WARNING
        memory.set({"level": "DEBUG"})
        conf.reload_blocking(20)
        assert logging.getLogger().level == logging.DEBUG
        memory.set({"level": "LOUD"})
        (fault,) = conf.reload_blocking(20).faults
        assert "level: 'LOUD' is no level of logging: CRITICAL" in str(fault)
        assert logging.getLogger().level == logging.DEBUG


def test_loggers_have_their_levels_and_get_their_parents_back(conf, memory):
    follow(conf, "levels")
    shop, orders = logging.getLogger("shop"), logging.getLogger("shop.orders")
    memory.set({"levels": {"shop": "ERROR", "shop.orders": 10, "root": "INFO"}})
    with conf.running(signals=()):
        assert (logging.getLogger().level, shop.level, orders.level) == (20, 40, 10)
        memory.set({"levels": {"shop": "INFO"}})
        conf.reload_blocking(20)
        assert (shop.level, orders.level) == (20, logging.NOTSET)
        memory.set({"levels": {"shop": "INFO", "shop.orders": "loud"}})
        assert "levels.shop.orders: 'loud'" in str(conf.reload_blocking(20).faults)
        assert (shop.level, orders.level) == (20, logging.NOTSET)


def config(**handler):
    return {
        "version": 1,
        "handlers": {"out": {"class": "logging.StreamHandler", **handler}},
        "root": {"level": "INFO", "handlers": ["out"]},
    }


def test_a_dictconfig_is_applied_as_a_whole(conf, memory):
    follow(conf, "log")
    existing = logging.getLogger("shop.existing")
    memory.set({"log": config(level="ERROR")})
    with conf.running(signals=()):
        (handler,) = logging.getLogger().handlers
        assert (handler.level, logging.getLogger().level, existing.disabled) == (logging.ERROR, logging.INFO, False)
        memory.set({"log": config(level="LOUD")})
        assert "log.handlers.out.level: 'LOUD'" in str(conf.reload_blocking(20).faults)
        memory.set({"log": {**config(), "root": {"level": "quiet"}}})
        assert "log.root.level: 'quiet'" in str(conf.reload_blocking(20).faults)
        assert logging.getLogger().handlers == [handler]


def test_of_a_dictconfig_that_cannot_be_applied_the_former_one_is_put_back(conf, memory):
    follow(conf, "log")
    memory.set({"log": config(level="ERROR")})
    with conf.running(signals=()):
        memory.set({"log": config(**{"class": "no.such.Handler"})})
        report = conf.reload_blocking(20)
        assert "out" in report.commit_errors[0]
        assert [handler.level for handler in logging.getLogger().handlers] == [logging.ERROR]


def test_a_start_with_an_unknown_level_is_refused(conf, memory):
    follow(conf, "level")
    memory.set({"level": "LOUD"})
    with pytest.raises(ConfigError, match="no level of logging"), conf.running(signals=()):
        pass


def test_a_path_that_the_class_lacks_is_refused(conf):
    with pytest.raises(SchemaError):
        follow(conf, "nothing")


class Levels(Section):
    root: str = "INFO"
    shop: str | None = None


class Nested(Section):
    log: Levels = Levels()


def test_a_section_is_a_mapping_of_levels(memory):
    conf = HotConf(Nested, sources=[memory], options=Options(watch=False))
    follow(conf, "log")
    memory.set({"log": {"shop": "ERROR"}})
    with conf.running(signals=()):
        assert (logging.getLogger().level, logging.getLogger("shop").level) == (logging.INFO, logging.ERROR)
