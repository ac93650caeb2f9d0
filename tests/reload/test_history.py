"""History and rollback: back to a generation by the same way, and it holds while the sources say the same."""

import asyncio
from typing import Annotated

import pytest
from pydantic import Field

from hotconf import HotConf, Layer, Options, Refuse, RestartRequired, Settings
from hotconf.errors import Draining, UnknownGeneration
from hotconf.values.report import jsonable
from tests.heart import QUIET, App, Record, memory_conf


def outline(conf):
    return [(entry.generation, entry.settings.message) for entry in conf.history]


async def reload_with(conf, memory, **values):
    memory.set(values)
    return await conf.reload()


async def test_every_generation_is_in_the_history_and_rejected_ones_are_not():
    conf, memory = memory_conf()
    assert conf.history == ()
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="two")
        await reload_with(conf, memory, port="broken")
        await reload_with(conf, memory, message="two")
        await reload_with(conf, memory, message="three", port=1)
        assert outline(conf) == [(1, "hello"), (2, "two"), (3, "three")]
        entry = conf.history[-1]
        assert (entry.triggers, entry.changed) == (("call",), ("message", "port"))
        assert entry.digest == conf.snapshot.digest
        assert entry.document["message"] == "three"
        assert [report.outcome for report in conf.reports] == ["applied", "applied", "rejected", "unchanged", "applied"]


async def test_it_is_bounded_and_shares_what_did_not_change():
    conf, memory = memory_conf(options=Options(watch=False, history=3))
    async with conf.running(signals=()):
        for number in range(10):
            await reload_with(conf, memory, message=str(number))
        assert [entry.generation for entry in conf.history] == [9, 10, 11]
        assert conf.history[0].settings.database is conf.current.database


async def test_rollback_makes_a_new_generation_with_the_old_values_and_tells_everybody():
    conf, memory = memory_conf()
    record, heard = Record(), []
    conf.prepare(record.subscriber("one"))
    conf.on_change("message")(lambda change: heard.append((change.old.message, change.new.message)))
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="two")
        record.events.clear()
        report = await conf.rollback()
        assert (report.outcome, report.generation, report.triggers) == ("applied", 3, ("rollback",))
        assert report.note == conf.history[-1].note == "rolled back to generation 1"
        assert conf.current.message == "hello"
        assert record == ["prepare one", "commit one"]
        await asyncio.sleep(0)
        assert heard == [("hello", "two"), ("two", "hello")]


async def test_it_holds_until_the_sources_say_something_else():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="bad idea")
        await conf.rollback()
        held = await conf.reload(trigger="SIGHUP")
        assert (held.outcome, conf.current.message) == ("unchanged", "hello")
        assert held.note.startswith("generation 3 was rolled back to and is held")
        assert held.note == str(conf.status.held)
        assert (conf.status.held.generation, jsonable(conf.status)["held"]["generation"]) == (3, 3)
        assert (await reload_with(conf, memory, message="better")).outcome == "applied"
        assert conf.status.held is jsonable(conf.status)["held"] is None
        assert conf.current.message == "better"
        assert (await reload_with(conf, memory, message="bad idea")).outcome == "applied"


async def test_a_rejected_change_in_between_does_not_release_it():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        memory.set({"message": "bad idea"})
        away = memory._layer
        await conf.reload()
        await conf.rollback()
        assert (await reload_with(conf, memory, port="broken")).outcome == "rejected"
        memory._layer = away  # the very content again, as a file that was mended has
        assert "is held" in (await conf.reload()).note


async def test_force_releases_it():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="bad idea")
        await conf.rollback()
        assert (await conf.reload(force=True)).outcome == "applied"
        assert (conf.current.message, conf.status.held) == ("bad idea", None)
        assert (await conf.reload()).note == ""


async def test_back_and_forth():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="two")
        await reload_with(conf, memory, message="three")
        await conf.rollback(1)
        await conf.rollback(2)
        assert conf.current.message == "two"
        assert "is held" in (await conf.reload()).note
        assert (await conf.rollback(3)).outcome == "applied"
        assert conf.current.message == "three"
        assert (await conf.reload()).note == "", "what the sources say is in force: nothing is held"
        assert outline(conf)[-3:] == [(4, "hello"), (5, "two"), (6, "three")]


async def test_rollback_to_equal_values_changes_nothing():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="two")
        report = await conf.rollback(2)
        assert (report.outcome, conf.snapshot.generation) == ("unchanged", 2)


async def test_a_subscriber_may_refuse_it():
    conf, memory = memory_conf()

    @conf.prepare("message")
    def never_back(change):
        if change.old is not None and change.new.message == "hello":
            raise Refuse("not back")

    async with conf.running(signals=()):
        await reload_with(conf, memory, message="two")
        report = await conf.rollback()
        assert (report.outcome, conf.current.message) == ("rejected", "two")
        assert (await conf.reload()).note == "", "and nothing is held"


async def test_an_unknown_generation_is_an_error_and_not_a_report(caplog):
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        with pytest.raises(UnknownGeneration, match="no earlier generation"):
            await conf.rollback()
        with pytest.raises(UnknownGeneration, match="has no generation 7"):
            await conf.rollback(7)
        assert (await reload_with(conf, memory, message="still alive")).outcome == "applied"


async def test_it_works_without_an_engine_and_is_refused_while_draining():
    conf, memory = memory_conf()
    await asyncio.to_thread(conf.load)
    await reload_with(conf, memory, message="two")
    assert (await conf.rollback()).outcome == "applied"
    assert conf.current.message == "hello"
    conf.begin_drain()
    with pytest.raises(Draining):
        await conf.rollback()


async def test_a_file_that_is_the_same_again_byte_for_byte_is_held(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("message = 'one'\n")
    conf = HotConf(App, files=[file], options=QUIET)
    async with conf.running(signals=()):
        file.write_text("message = 'two'\n")
        await conf.reload()
        await conf.rollback()
        file.write_text("message = 'two'\n")
        assert "is held" in (await conf.reload()).note
        file.write_text("message = 'two' # meant so\n")
        assert (await conf.reload()).outcome == "applied"
        assert conf.current.message == "two"


class Marked(Settings):
    message: str = "hello"
    workers: Annotated[int, RestartRequired()] = 2


class Watchdog:
    name = "the watchdog"

    def __init__(self):
        self.seen = []

    async def prepare(self, change):
        if change.new.port == 13:
            raise Refuse("bad luck")
        self.seen.append(change.new.port)


async def test_a_subscriber_may_be_an_object():
    conf, memory = memory_conf()
    watchdog = Watchdog()
    assert conf.prepare("port")(watchdog) is watchdog
    async with conf.running(signals=()):
        report = await reload_with(conf, memory, port=13)
        assert report.faults[0].message == "the watchdog refuses: bad luck"
        conf.unsubscribe(watchdog)
        assert (await reload_with(conf, memory, port=13)).outcome == "applied"
    assert watchdog.seen == [8080]


def test_what_is_neither_is_refused():
    conf, _ = memory_conf()
    with pytest.raises(TypeError, match="neither a function nor a Subscriber"):
        conf.prepare(7)


@pytest.mark.parametrize("restart", [False, True])
async def test_it_holds_when_the_engine_stops_and_starts_again(restart):
    conf, memory = memory_conf()
    record = Record()
    conf.prepare(record.subscriber("one"))
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="bad idea")
        await conf.rollback()
        record.events.clear()
    if restart:
        async with conf.running(signals=()):
            assert (conf.current.message, conf.snapshot.generation) == ("hello", 3)
            assert "is held" in conf.reports[-1].note
            assert record == ["prepare one", "commit one"], "everybody is asked at a start"
    report = await conf.reload()
    assert (report.outcome, conf.current.message) == ("unchanged", "hello")
    assert "is held" in report.note


async def test_what_is_pending_is_told_while_it_holds():
    conf, memory = memory_conf(Marked)
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="two", workers=4)
        await reload_with(conf, memory, message="bad idea", workers=4)
        await conf.rollback()
        report = await conf.reload()
        assert "is held" in report.note
        assert [entry.path for entry in report.pending_restart] == ["workers"]


class Unversioned:
    """A source that cannot tell whether its content is the same, and spells a field by its name."""

    name, required = "unversioned", True

    def __init__(self):
        self.port = 1

    async def read(self):
        return Layer(self.name, {"port": self.port})


class Aliased(Settings):
    model_config = {"populate_by_name": True}

    port: int = Field(1, alias="PORT")


async def test_what_a_source_without_revisions_says_is_compared_whatever_its_spelling():
    source = Unversioned()
    conf = HotConf(Aliased, sources=[source], options=QUIET)
    async with conf.running(signals=()):
        source.port = 2
        await conf.reload()
        await conf.rollback()
        assert "is held" in (await conf.reload()).note
        source.port = 3
        assert (await conf.reload()).outcome == "applied"
