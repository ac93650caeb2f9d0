"""Plain mutable models work. What a program changes in place is found by the next reload, undone and reported."""

import logging
from typing import Annotated

import pytest
from pydantic import BaseModel, model_validator

from hotconf import HotConf, RestartRequired, Section, Settings
from hotconf.sources import Memory
from hotconf.values.report import jsonable
from tests.heart import QUIET


class Database(BaseModel):
    pool_size: int = 10


class Plain(BaseModel):
    message: str = "hello"
    port: Annotated[int, RestartRequired()] = 8080
    database: Database = Database()


class Frozen(Settings):
    message: str = "hello"
    hosts: list[str] = ["one"]


def conf_of(model, **values):
    memory = Memory(values)
    return HotConf(model, sources=[memory], options=QUIET), memory


async def test_the_mutable_parts_are_named_once(caplog):
    conf, memory = conf_of(Plain)
    async with conf.running(signals=()):
        memory.set({"message": "two"})
        await conf.reload()
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "these settings in place, past every reload: Plain, database;" in warning


async def test_frozen_classes_are_not_named(caplog):
    conf, _ = conf_of(Frozen)
    async with conf.running(signals=()):
        pass
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_what_the_program_changed_is_found_undone_and_reported(caplog):
    conf, _ = conf_of(Plain)
    async with conf.running(signals=()):
        conf.current.database.pool_size = 99
        report = await conf.reload()
        assert (report.outcome, report.mutated, report.changed) == ("applied", *[("database.pool_size",)] * 2)
        assert conf.current.database.pool_size == 10
        assert jsonable(report)["mutated"] == ["database.pool_size"]
        assert "the program had changed what was running, which is undone: database.pool_size" in caplog.text
        assert (await conf.reload()).mutated == ()


async def test_beside_a_change_of_the_sources():
    conf, memory = conf_of(Plain)
    async with conf.running(signals=()):
        conf.current.message = "changed in place"
        memory.set({"database": {"pool_size": 3}})
        report = await conf.reload()
        assert (report.mutated, report.changed) == (("message",), ("message", "database.pool_size"))
        assert (conf.current.message, conf.current.database.pool_size) == ("hello", 3)


async def test_what_waits_for_a_restart_does_not_become_what_the_program_made_of_it():
    conf, _ = conf_of(Plain)
    async with conf.running(signals=()):
        conf.current.port = 1
        report = await conf.reload()
        assert (report.mutated, report.pending_restart, conf.current.port) == (("port",), (), 8080)


async def test_a_list_within_a_frozen_class_too():
    conf, _ = conf_of(Frozen, hosts=["a"])
    async with conf.running(signals=()):
        conf.current.hosts.append("b")
        report = await conf.reload()
        assert (report.mutated, conf.current.hosts) == (("hosts.1",), ["a"])


@pytest.mark.parametrize("base", [BaseModel, Section])
async def test_a_validator_that_says_something_else_each_time_is_no_mutation(base):
    turns = iter(range(100))

    class Impure(base):
        turn: int = 0

        @model_validator(mode="before")
        @classmethod
        def count(cls, values):
            return {**values, "turn": next(turns)}

    conf, _ = conf_of(Impure)
    async with conf.running(signals=()):
        assert (await conf.reload()).mutated == ()
