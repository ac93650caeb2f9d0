"""Mutable models work. A reload puts the values of the sources into force, whatever the program changed in place."""

import logging

import pytest
from pydantic import BaseModel

import hotconf.reload.reloader
from hotconf import HotConf, Settings
from hotconf.sources import Memory
from tests.heart import QUIET


class Database(BaseModel):
    pool_size: int = 10


class Plain(BaseModel):
    message: str = "hello"
    port: int = 8080
    database: Database = Database()


class Frozen(Settings):
    message: str = "hello"
    hosts: list[str] = ["one"]


def conf_of(model, **values):
    memory = Memory(values)
    return HotConf(model, sources=[memory], options=QUIET), memory


@pytest.fixture(autouse=True)
def _first_in_this_process():
    hotconf.reload.reloader._advised.clear()


async def test_the_mutable_parts_are_named_once_in_a_process_and_quietly(caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        conf, memory = conf_of(Plain)
        async with conf.running(signals=()):
            memory.set({"message": "two"})
            await conf.reload()
    [record] = [record for record in caplog.records if "in place" in record.getMessage()]
    assert (record.levelname, record.args[0]) == ("INFO", "Plain, database")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_frozen_classes_are_not_named(caplog):
    caplog.set_level(logging.INFO)
    conf, _ = conf_of(Frozen)
    async with conf.running(signals=()):
        pass
    assert "in place" not in caplog.text


async def test_what_the_program_changed_in_place_is_replaced_by_the_next_reload():
    conf, _ = conf_of(Plain)
    async with conf.running(signals=()):
        conf.current.database.pool_size = 99
        report = await conf.reload()
        assert (report.outcome, report.changed) == ("applied", ("database.pool_size",))
        assert conf.current.database.pool_size == 10
