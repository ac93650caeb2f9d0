"""The protocols of hotconf.abc: an object that implements one, and nothing more, takes part."""

import asyncio
import logging

import pytest

from hotconf import HotConf, Layer, Options, Origin
from hotconf.abc import Hinting, Observer, Settling, Source, WatchedFiles
from hotconf.errors import HotconfError, OperationRefused, SourceBusy, UnknownGeneration
from hotconf.testing import FakeSource
from hotconf.values.report import Fault, jsonable
from tests.heart import QUIET, App, Panic, memory_conf, until


class Pair:
    """A source of two layers that can only be read together."""

    name = "pair"
    required = True

    async def read(self):
        below = Layer("below", {"message": "below", "port": 1}, {(): Origin("source", "below")})
        return [below, Layer("above", {"message": "above"}, {(): Origin("source", "above")})]


async def test_a_source_of_several_layers_gives_its_layers_the_weakest_first():
    pair = Pair()
    assert isinstance(pair, Source)
    async with HotConf(App, sources=[pair], options=QUIET).running(signals=()) as conf:
        assert (conf.current.message, conf.current.port) == ("above", 1)
        assert [str(entry.origin) for entry in conf.explain("message").shadowed] == ["below"]


class Text:
    """A WatchedFiles and a Settling: a file whose whole text is the message. It is busy while it says so."""

    name = "text"
    required = True

    def __init__(self, path):
        self.path = path
        self.quiet = asyncio.Event()

    def paths(self):
        return [self.path]

    async def read(self):
        text = self.path.read_text()
        if text == "busy":
            raise SourceBusy([Fault("", "is busy", Origin("source", self.name))])
        return Layer(self.name, {"message": text})

    async def until_quiet(self):
        await self.quiet.wait()
        self.path.write_text("quiet")


async def test_the_files_of_a_source_are_watched_and_a_busy_source_says_when_to_read_again(tmp_path):
    text = Text(tmp_path / "text")
    text.path.write_text("one")
    assert isinstance(text, WatchedFiles)
    assert isinstance(text, Settling)
    assert not isinstance(text, Hinting)
    conf = HotConf(App, sources=[text], options=Options(poll=3600))
    async with conf.running(signals=()):
        text.path.write_text("two")
        await until(lambda: conf.current.message == "two")
    quiet = HotConf(App, sources=[text], options=QUIET)
    async with quiet.running(signals=()):
        text.path.write_text("busy")
        assert (await quiet.reload()).outcome == "rejected"
        text.quiet.set()
        await until(lambda: quiet.current.message == "quiet")  # without a request


class Witness:
    """An Observer."""

    def __init__(self):
        self.seen = []

    def reload_began(self, triggers):
        self.seen.append(tuple(triggers))

    def reload_ended(self, report):
        self.seen.append(report)


async def test_I9_each_trigger_is_answered_by_one_report_from_which_all_else_is_derived(caplog):
    caplog.set_level(logging.INFO, "hotconf")
    source = FakeSource()
    conf = HotConf(App, sources=[source], options=QUIET)
    witness: Observer = Witness()
    async with conf.running(signals=()):
        conf.observe(witness)
        source.hang()
        first = asyncio.create_task(conf.reload(trigger="t0"))
        await until(lambda: source.reads == 2)
        later = [asyncio.create_task(conf.reload(trigger=f"t{number}")) for number in range(1, 20)]
        await asyncio.sleep(0)
        source.release()
        reports = [await task for task in (first, *later)]

        assert len({id(report) for report in reports}) == 2
        assert all(f"t{number}" in report.triggers for number, report in enumerate(reports))
        assert sorted(name for report in set(reports) for name in report.triggers) == sorted(
            f"t{number}" for number in range(20)
        )
        assert witness.seen == [reports[0].triggers, reports[0], reports[1].triggers, reports[1]]
        assert conf.reports[-2:] == (reports[0], reports[1])
        assert conf.status.last_reload is reports[1]
        lines = [record for record in caplog.records if "(t" in record.getMessage()]
        assert [record.getMessage() for record in lines] == [str(reports[0]), str(reports[1])]
        assert [record.hotconf for record in lines] == [jsonable(reports[0]), jsonable(reports[1])]


@pytest.mark.parametrize("error", [ValueError(), Panic()])
async def test_an_observer_that_raises_fails_no_reload(caplog, error):
    class Broken:
        def reload_began(self, triggers):
            raise error

        reload_ended = reload_began

    conf, memory = memory_conf()
    witness = Witness()
    async with conf.running(signals=()):
        conf.observe(Broken())
        conf.observe(witness)
        memory.set({"message": "two"})
        assert (await conf.reload()).outcome == "applied"
    assert len(witness.seen) == 2
    assert "Broken raised" in caplog.text


async def test_a_hint_is_enough_for_a_source_and_its_name_is_the_trigger():
    class Once(FakeSource):
        async def changes(self):
            yield
            await asyncio.get_running_loop().create_future()

    source = Once({"message": "one"}, name="once")
    async with HotConf(App, sources=[source], options=QUIET).running(signals=()) as conf:
        await until(lambda: conf.status.last_reload.triggers == ("once",))


def test_refused_operations_have_one_base_class():
    assert issubclass(UnknownGeneration, OperationRefused)
    assert issubclass(OperationRefused, HotconfError)
