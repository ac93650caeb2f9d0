"""What only a restart can apply, through the whole pipeline: the live half of a change goes on, the rest is pending."""

from typing import Annotated

import pytest
from pydantic import model_validator

from hotconf import HotConf, Options, RestartRequired, Section, Settings
from tests.heart import QUIET, memory_conf


class Listener(Section):
    host: str = "localhost"
    port: int = 80


class App(Settings):
    message: str = "hello"
    workers: Annotated[int, RestartRequired()] = 2
    listener: Annotated[Listener, RestartRequired()] = Listener()
    limit: int = 100

    @model_validator(mode="after")
    def enough(self):
        if self.limit < self.workers:
            raise ValueError("limit must not be below workers")
        return self


async def reload_with(conf, memory, **values):
    memory.set(values)
    return await conf.reload()


async def test_I8_the_live_half_is_applied_and_the_rest_is_pending():
    conf, memory = memory_conf(App)
    async with conf.running(signals=()):
        report = await reload_with(conf, memory, message="new", workers=4)
        assert (report.outcome, report.changed) == ("applied", ("message",))
        assert (conf.current.message, conf.current.workers) == ("new", 2)
        [entry] = report.pending_restart
        assert (entry.path, entry.running, entry.wanted, str(entry.origin)) == ("workers", 2, 4, "memory")
        assert conf.status.pending_restart == report.pending_restart
        assert conf.explain("workers").value == 2


async def test_I8_only_pending_changes_make_no_generation_and_a_revert_clears_them():
    conf, memory = memory_conf(App)
    async with conf.running(signals=()):
        report = await reload_with(conf, memory, workers=4)
        assert (report.outcome, conf.snapshot.generation, len(report.pending_restart)) == ("unchanged", 1, 1)
        again = await reload_with(conf, memory, workers=4, listener={"port": 81})
        assert [entry.path for entry in again.pending_restart] == ["workers", "listener.port"]
        assert "pending restart: workers, listener.port" in str(again)
        report = await reload_with(conf, memory, message="hello")
        assert (report.outcome, report.pending_restart, conf.status.pending_restart) == ("unchanged", (), ())


async def test_I8_it_stays_pending_while_other_things_change():
    conf, memory = memory_conf(App)
    async with conf.running(signals=()):
        await reload_with(conf, memory, workers=4)
        for number in range(3):
            report = await reload_with(conf, memory, workers=4, message=str(number))
            assert [entry.wanted for entry in report.pending_restart] == [4]
            assert conf.current.workers == 2


async def test_I8_a_mix_that_does_not_validate_is_rejected_and_names_the_deferred_field():
    conf, memory = memory_conf(App, workers=10)
    async with conf.running(signals=()):
        report = await reload_with(conf, memory, workers=1, limit=5)
        assert (report.outcome, report.stage) == ("rejected", "defer")
        assert "workers keeps its running value" in report.faults[0].message
        assert (conf.current.workers, conf.current.limit) == (10, 100)


async def test_I8_reject_refuses_at_once():
    conf, memory = memory_conf(App, options=Options(watch=False, on_restart_required="reject"))
    async with conf.running(signals=()):
        report = await reload_with(conf, memory, message="new", workers=4)
        assert (report.outcome, report.stage, conf.current.message) == ("rejected", "defer", "hello")
        assert report.faults[0].message.startswith("can only change with a restart (running 2, wanted 4)")


async def test_a_rollback_keeps_it_as_well():
    conf, memory = memory_conf(App)
    async with conf.running(signals=()):
        await reload_with(conf, memory, message="new", workers=4)
        report = await conf.rollback()
        assert (report.outcome, conf.current.workers, report.pending_restart) == ("applied", 2, ())


async def test_what_was_loaded_before_the_start_is_what_runs():
    conf, memory = memory_conf(App)
    assert (await conf.reload()).outcome == "applied"
    memory.set({"workers": 4})
    async with conf.running(signals=()):
        assert (conf.current.workers, conf.status.pending_restart[0].wanted) == (2, 4)


@pytest.mark.parametrize("text", ["workers = 4\n", "message = 'x'\nworkers = 4\n"])
async def test_the_origin_is_the_line_that_wants_it(tmp_path, text):
    file = tmp_path / "app.toml"
    file.write_text("workers = 2\n")
    conf = HotConf(App, files=[file], options=QUIET)
    async with conf.running(signals=()):
        file.write_text(text)
        report = await conf.reload()
        assert str(report.pending_restart[0].origin) == f"{file}:{text.count(chr(10))}:1"


async def test_I8_it_stays_pending_under_an_override():
    conf, memory = memory_conf(App)
    async with conf.running(signals=()):
        await reload_with(conf, memory, workers=4)
        with conf.override(message="test"):
            assert (conf.current.message, conf.current.workers) == ("test", 2)
            report = await reload_with(conf, memory, workers=4, limit=50)
            assert (report.changed, [entry.wanted for entry in report.pending_restart]) == (("limit",), [4])
        assert (conf.current.workers, conf.current.limit) == (2, 50)
        assert [entry.wanted for entry in conf.status.pending_restart] == [4]
        with conf.override(workers=9):
            assert conf.current.workers == 9
        assert conf.current.workers == 2


async def test_I8_what_its_source_says_while_an_override_has_it_is_pending_afterwards():
    conf, memory = memory_conf(App)
    async with conf.running(signals=()):
        with conf.override(workers=9):
            report = await reload_with(conf, memory, workers=4, message="new")
            assert (report.outcome, report.pending_restart, conf.current.workers) == ("applied", (), 9)
            with conf.override(limit=50):
                assert conf.current.workers == 9
            listener = conf.current.listener
        assert (conf.current.workers, conf.current.message) == (2, "new")
        assert conf.current.listener is listener
        assert [(entry.path, entry.wanted) for entry in conf.status.pending_restart] == [("workers", 4)]
        report = await reload_with(conf, memory, workers=4)
        assert (conf.current.workers, [entry.wanted for entry in report.pending_restart]) == (2, [4])


async def test_I8_an_override_that_is_there_at_the_start_was_never_running():
    conf, memory = memory_conf(App, workers=4)
    override = conf.override(workers=9)
    with override:
        async with conf.running(signals=()):
            await reload_with(conf, memory, workers=5)
            assert conf.current.workers == 9
            override.__exit__(None, None, None)
            assert conf.current.workers == 4
            assert [entry.wanted for entry in conf.status.pending_restart] == [5]
            override.__enter__()


class Derived(Settings):
    workers: int = 2
    threads: Annotated[int, RestartRequired()] = 0

    @model_validator(mode="before")
    @classmethod
    def double(cls, values):
        return {"threads": 2 * values.get("workers", 2), **values}


async def test_a_marked_field_that_is_made_from_an_overridden_one_goes_with_it():
    conf, _ = memory_conf(Derived)
    conf.load()
    with conf.override(workers=9):
        assert conf.current.threads == 18
    assert (conf.current.threads, conf.status.pending_restart) == (4, ())
